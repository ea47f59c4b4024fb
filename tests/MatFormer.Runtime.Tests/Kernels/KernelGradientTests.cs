using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests which tensors get gradients, and what happens to gradients that were there before.</summary>
public sealed class KernelGradientTests : KernelTestBase
{
    /// <summary>
    /// Runs all operations of a language model. Two streams part in its only layer, and the table of embeddings is also the head.
    /// </summary>
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void AModelEqualsItsDefinition(string form)
    {
        Use(form);
        var model = new Model(this);
        AssertEqual(model.Losses, model.Definition, model.All);
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void ASecondBackwardPassAddsToTheGradients(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var model = new Model(this);
        model.Losses().sum().backward();
        Tensor[] once = [.. model.All.Select(weight => weight.grad!.clone())];
        model.Losses().sum().backward();
        for (var i = 0; i < once.Length; i++) AssertClose(model.All[i].grad!, once[i] * 2, $"weight {i}");
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void GradientsAreAddedToExistingOnesOfAnyLayout(string form)
    {
        Use(form);
        var (x, weights) = (X(2, 5, 8), FeedForward(8, 12, FeedForwardKind.Gelu));
        var expected = Gradients(Definitions.FeedForward(x, weights, [12], [2]), ones(2, 5, 8), All(weights));
        var before = Normal(1, 8, 12).t();
        weights.Up.grad = before.clone();
        weights.Down.grad = zeros(12, 8).t();
        Kernels.FeedForward(x, weights, [12]).sum().backward();
        AssertClose(weights.Up.grad!, expected[1]! + before, "up");
        AssertClose(weights.Down.grad!, expected[2]!, "down");
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void FrozenWeightsGetNoGradients(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var model = new Model(this);
        model.Losses().sum().backward();
        Tensor[] expected = [.. model.All.Select(weight => weight.grad!.clone())];
        for (var parity = 0; parity < 2; parity++)
        {
            Clear(model.All);
            for (var i = 0; i < expected.Length; i++) model.All[i].requires_grad = i % 2 == parity;
            model.Losses().sum().backward();
            for (var i = 0; i < expected.Length; i++)
            {
                if (i % 2 == parity) AssertClose(model.All[i].grad!, expected[i], $"weight {i}");
                else Assert.Null(model.All[i].grad);
            }
        }
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void TheInputAloneMayNeedAGradient(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, attention, feedForward) = (X(2, 5, 8), Attention(8, 2, 1, 4), FeedForward(8, 12, FeedForwardKind.SwiGlu));
        foreach (var weight in (Tensor[])[.. All(attention), .. All(feedForward)]) weight.requires_grad = false;
        AssertEqual(() => Kernels.Attend(x, attention), () => Definitions.Attend(x, attention, null, null, null, [2], [2]), x);
        AssertEqual(() => Kernels.FeedForward(x, feedForward, [12]), () => Definitions.FeedForward(x, feedForward, [12], [2]), x);
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void NothingIsRecordedIfNoGradientIsNeeded(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, weights) = (X(2, 5, 8), FeedForward(8, 12, FeedForwardKind.SwiGlu));
        foreach (var weight in All(weights)) weight.requires_grad = false;
        Assert.False(Kernels.FeedForward(x.detach(), weights, [12]).requires_grad);
        using (no_grad()) Assert.False(Kernels.FeedForward(x, weights, [12]).requires_grad);
        Assert.True(Kernels.FeedForward(x, weights, [12]).requires_grad);
    }

    /// <summary>If a weight is computed from parameters, its gradient flows on to the parameters.</summary>
    [Theory]
    [MemberData(nameof(MainForms))]
    public void GradientsFlowThroughComputedWeights(string form, ScalarType dtype)
    {
        Use(form, dtype);
        IsBitForBit = false; // the fused loops run only if no gradients are recorded
        var (attention, feedForward) = (Attention(8, 2, 1, 4), FeedForward(8, 12, FeedForwardKind.SwiGlu));
        Tensor x = X(2, 5, 8), query = Matrix(12, 8), up = Matrix(20, 8), table = Vector(1, 22, 8), tokens = Integers(11, 2, 5);
        AttentionWeights Attention2() => attention with { Query = query.narrow(0, 2, 8) };
        FeedForwardWeights FeedForward2() => feedForward with { Up = up.narrow(0, 5, 12) };
        AssertEqual(() => Kernels.Attend(x, Attention2()), () => Definitions.Attend(x, Attention2(), null, null, null, [2], [2]), x, query);
        AssertEqual(
            () => Kernels.FeedForward(x, FeedForward2(), [12]), () => Definitions.FeedForward(x, FeedForward2(), [12], [2]), x, up);
        AssertEqual(
            () => Kernels.Embedding(table.narrow(0, 11, 11), tokens, dtype),
            () => Definitions.Embedding(table.narrow(0, 11, 11), tokens), table);
        AssertEqual(
            () => Kernels.LinearCrossEntropy(x, table.narrow(0, 11, 11), tokens, 1),
            () => Definitions.LinearCrossEntropy(x, table.narrow(0, 11, 11), tokens, [2]), x, table);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void RepeatedPassesGiveTheSameBits(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var model = new Model(this, width: 64, time: 70);
        byte[][] Run()
        {
            Clear(model.All);
            model.Losses().sum().backward();
            return [.. model.All.Select(weight => Bits(weight.grad!))];
        }

        var first = Run();
        for (var i = 0; i < 3; i++) Assert.Equal(first, Run());
    }

    /// <summary>An optimizer may choose where a gradient is written, and what was there before does not matter.</summary>
    [FusedFact]
    public void AGradientIsWrittenToItsPlace()
    {
        UseCpu();
        var (x, weights) = (X(2, 5, 8), FeedForward(8, 12, FeedForwardKind.Gelu));
        var expected = Gradients(Definitions.FeedForward(x, weights, [12], [2]), ones(2, 5, 8), weights.Up)[0]!;
        var place = full(12, 8, float.NaN);
        MatFormer.Gradients.Place(weights.Up, place);
        Kernels.FeedForward(x, weights, [12]).sum().backward();
        AssertClose(place, expected, "place");
        Assert.Equal(TensorMemory.Of(place), TensorMemory.Of(weights.Up.grad!));
        Kernels.FeedForward(x, weights, [12]).sum().backward();
        AssertClose(place, expected * 2, "place, added to");
    }

    /// <summary>If only some rows of a weight are used, the gradient covers all rows, with zeros for the others.</summary>
    [FusedFact]
    public void UnusedRowsHaveZeroGradients()
    {
        UseCpu();
        var (x, feedForward, attention) = (X(2, 5, 8), FeedForward(8, 12, FeedForwardKind.SwiGlu), Attention(8, 4, 2, 4));
        foreach (var weight in (Tensor[])[.. All(feedForward), .. All(attention)])
            MatFormer.Gradients.Place(weight, full(weight.shape, float.NaN));
        Kernels.FeedForward(Kernels.Attend(x, attention, heads: [2]), feedForward, [5]).sum().backward();
        foreach (var rows in new[] { feedForward.Up, feedForward.Gate!, attention.Query })
        {
            var half = rows.shape[0] == 12 ? 5 : 8;
            Assert.All(Values(rows.grad!.narrow(0, half, rows.shape[0] - half)), gradient => Assert.Equal(0, gradient));
            Assert.All(Values(rows.grad!.narrow(0, 0, half)), gradient => Assert.True(float.IsFinite(gradient)));
        }

        Assert.All(Values(feedForward.Down.grad!.narrow(1, 5, 7)), gradient => Assert.Equal(0, gradient));
        Assert.All(Values(attention.Output.grad!.narrow(1, 8, 8)), gradient => Assert.Equal(0, gradient));
        var table = Vector(1, 11, 6);
        MatFormer.Gradients.Place(table, full(table.shape, float.NaN));
        Kernels.Embedding(table, tensor([1L, 1, 3], [1, 3]), ScalarType.Float32).sum().backward();
        Assert.Equal([0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0], Values(table.grad!.select(1, 2)));
    }

    private sealed class Model
    {
        private readonly ScalarType _dtype;
        private readonly AttentionWeights _attention;
        private readonly FeedForwardWeights _feedForward;
        private readonly Tensor _table;
        private readonly Tensor _positions;
        private readonly Tensor _norm;
        private readonly Tensor _projection;
        private readonly Tensor _tokens;
        private readonly Tensor _targets;

        public Model(KernelGradientTests test, long width = 16, long time = 9)
        {
            _dtype = test.Dtype;
            _table = test.Vector(1, 23, width);
            _positions = test.Vector(1, time + 2, width);
            _attention = test.Attention(width, 4, 2, 8, isBiased: true, normsHeads: true) with { IsCausal = true };
            _feedForward = test.FeedForward(width, 3 * width, FeedForwardKind.SwiGlu, isBiased: true, isLayerNorm: true);
            _norm = test.Norm(width).Weight;
            _projection = test.Matrix(width, width);
            (_tokens, _targets) = (test.Integers(23, 2, time), test.Integers(23, 2, time));
            All = [_table, _positions, .. All(_attention), .. All(_feedForward), _norm, _projection];
        }

        public Tensor[] All { get; }

        private int[] Widths => [(int)_feedForward.Up.shape[0], (int)_feedForward.Up.shape[0] / 3];

        public Tensor Losses()
        {
            var x = Kernels.AddPositions(Kernels.Embedding(_table, _tokens, _dtype), _positions, 1);
            x = Kernels.FeedForward(Kernels.Attend(x, _attention), _feedForward, Widths, parting: true);
            x = Kernels.Linear(Kernels.RmsNorm(x, _norm, 1e-5), _projection);
            return Kernels.LinearCrossEntropy(x, _table, _targets, 2);
        }

        public Tensor Definition()
        {
            var x = Definitions.AddPositions(Definitions.Embedding(_table, _tokens), _positions, 1);
            x = Definitions.FeedForward(Definitions.Attend(x, _attention, null, null, null, [4], [2]), _feedForward, Widths, null);
            x = Definitions.Linear(Definitions.RmsNorm(x, _norm, 1e-5), _projection);
            return Definitions.LinearCrossEntropy(x, _table, _targets, [2, 2]);
        }
    }
}
