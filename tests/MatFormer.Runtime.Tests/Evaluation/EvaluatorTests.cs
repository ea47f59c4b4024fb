using System.Collections.Immutable;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Evaluation;

public sealed class EvaluatorTests : IDisposable
{
    private static readonly EvaluationOptions s_tenWindows = new() { Windows = 10, Batch = 4 };

    private readonly TemporaryFolder _folder = new();
    private readonly TextCorpus _corpus;

    public EvaluatorTests() => _corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["data"]);

    public void Dispose()
    {
        _corpus.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void EveryGranularityAndProfileIsMeasured()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var live = Tensor.TotalCount;
        var evaluation = Evaluator.Run(model, _corpus, s_tenWindows);
        Assert.Equal(live, Tensor.TotalCount);
        Assert.Equal(["S", "M", "XL", "Phone"], evaluation.Rows.Select(r => r.Costs.Name));
        Assert.Equal((10 * 16, 10 * 16), (evaluation.Tokens, evaluation.Bytes));
        Assert.All(evaluation.Rows, r => Assert.Equal(r.NatsPerToken / Math.Log(2), r.BitsPerByte, 12));
        var texts = Windows.Fixed(_corpus.Validation, 16, 10).Select(w => Windows.Text(_corpus, w));
        Assert.Equal(BigramModel.Train(_corpus.Training).BitsPerByte(texts), evaluation.BigramBitsPerByte);
    }

    [Fact]
    public void TheWholeModelAgreesWithItselfAndSmallerOnesOnlyPartly()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var evaluation = Evaluator.Run(model, _corpus, s_tenWindows);
        Assert.Equal(new Consistency(1, 1, 0, 0), evaluation.Rows[2].Consistency);
        Assert.All(evaluation.Rows, r => Assert.InRange(r.Consistency!.Agreement, 0, 1));
        Assert.True(evaluation.Rows[0].Consistency!.Agreement < 1);
        Assert.True(evaluation.Rows[0].Consistency!.GeneratedAgreement < 1);
    }

    [Fact]
    public void AProfileIsMeasuredLikeItsExtractedModel()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var evaluation = Evaluator.Run(model, _corpus, s_tenWindows);

        // The expected values are computed window by window with the extracted model.
        using var phone = model.Extract(TinyModel.Profiles[0]);
        var (bits, agreeing, divergence, reverse) = (0.0, 0, 0.0, 0.0);
        foreach (var window in Windows.Fixed(_corpus.Validation, 16, 10))
        {
            using var scope = NewDisposeScope();
            var tokens = tensor([.. window[..16].Select(b => (long)b)], [1, 16]);
            var its = Floats(phone.call(tokens).log_softmax(-1));
            var whole = Floats(model.call(tokens).log_softmax(-1));
            for (var i = 0; i < its.Length; i++)
            {
                divergence += Math.Exp(its[i]) * (its[i] - whole[i]);
                reverse += Math.Exp(whole[i]) * (whole[i] - its[i]);
            }

            for (var t = 0; t < 16; t++)
            {
                bits -= its[(t * TinyModel.Vocabulary) + window[t + 1]] / Math.Log(2);
                if (Best(its, t) == Best(whole, t)) agreeing++;
            }
        }

        Assert.Equal(bits / 160, evaluation.Rows[3].BitsPerByte, 4);
        Assert.Equal(agreeing / 160.0, evaluation.Rows[3].Consistency!.Agreement, 12);
        Assert.Equal(divergence / 160, evaluation.Rows[3].Consistency!.Divergence, 5);
        Assert.Equal(reverse / 160, evaluation.Rows[3].Consistency!.ReverseDivergence, 5);
    }

    [Fact]
    public void EvaluationsAreEqualToTheLastBit()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var options = new EvaluationOptions { Windows = 40, Batch = 7 };
        var first = Evaluator.Run(model, _corpus, options);
        var held = new List<byte[]>();
        for (var run = 1; run <= 5; run++)
        {
            held.Add(new byte[(1 << 17) + (24 * run)]); // moves what is allocated later
            var again = Evaluator.Run(model, _corpus, options);
            Assert.Equal(first.Rows.Select(row => (row.BitsPerByte, row.NatsPerToken, row.Consistency)),
                again.Rows.Select(row => (row.BitsPerByte, row.NatsPerToken, row.Consistency)));
            Assert.Equal(first.BigramBitsPerByte, again.BigramBitsPerByte);
        }

        GC.KeepAlive(held);
    }

    [Fact]
    public void ASliceIsMeasuredWithoutTheWholeModel()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var evaluation = Evaluator.Run(model, _corpus, s_tenWindows);
        using var phone = model.Extract(TinyModel.Profiles[0]);
        var alone = Evaluator.RunSlice(
            phone, ProfileCosts.Of(TinyModel.Profiles[0], false), _corpus, new EvaluationOptions { Windows = 10 });
        Assert.Equal(evaluation.Rows[3].BitsPerByte, Assert.Single(alone.Rows).BitsPerByte, 5);
        Assert.Null(alone.Rows[0].Consistency);
    }

    [Fact]
    public void GeneratedAgreementIsMeasuredOnTheTextOfTheWholeModel()
    {
        manual_seed(3);
        using var model = TinyModel.Create();
        ImmutableArray<Profile<TinyModel>> phone = [TinyModel.Profiles[0]];
        var options = new EvaluationOptions { Windows = 6, Batch = 2, Continuations = 3 };
        var evaluation = Evaluator.Run(model, phone, _corpus, options);

        // For the expected agreement, three evenly spread windows are continued token by token, without a cache.
        var windows = Windows.Fixed(_corpus.Validation, 16, 6).Where((_, i) => i % 2 == 0);
        var agreeing = 0;
        foreach (var window in windows)
        {
            var text = window[..8].Select(t => (long)t).ToList();
            while (text.Count < 16)
            {
                using var scope = NewDisposeScope();
                var tokens = tensor([.. text], [1, text.Count]);
                var whole = Best(Floats(model.call(tokens)), text.Count - 1);
                if (Best(Floats(model.Forward(phone[0], tokens)), text.Count - 1) == whole) agreeing++;
                text.Add(whole);
            }
        }

        Assert.Equal(agreeing / 24.0, Assert.Single(evaluation.Rows).Consistency!.GeneratedAgreement);
        Assert.Null(Evaluator.Run(model, phone, _corpus, options with { Continuations = 0 }).Rows[0].Consistency!.GeneratedAgreement);
    }

    [Fact]
    public void AnotherModelCanBeTheReference()
    {
        manual_seed(4);
        using var model = TinyModel.Create();
        using var other = TinyModel.Create();
        var options = new EvaluationOptions { Windows = 8 };
        var its = Evaluator.Run(model, [TinyModel.Granularities[^1]], _corpus, options, other).Rows[0];
        var back = Evaluator.Run(other, [TinyModel.Granularities[^1]], _corpus, options, model).Rows[0];
        Assert.True(its.Consistency!.Agreement < 1);
        Assert.Equal(its.Consistency.Agreement, back.Consistency!.Agreement);
        Assert.Equal(its.Consistency.Divergence, back.Consistency.ReverseDivergence, 5);
        Assert.NotEqual(its.Consistency.Divergence, its.Consistency.ReverseDivergence, 3);
        Assert.Equal(Evaluator.Run(model, _corpus, options).Rows[2].BitsPerByte, its.BitsPerByte);
    }

    [Fact]
    public void AMixIsComparedWithTheLineBetweenItsNeighbours()
    {
        static EvaluationRow Row(string name, bool granularity, long flops, double bits) =>
            new(new ProfileCosts(name, granularity, MixShape.Other, name, [], 1, 1, flops, 1), bits, bits, null);
        var evaluation = new MatFormer.Evaluation([Row("S", true, 100, 2), Row("M", true, 200, 1.5), Row("L", true, 400, 1.4)], 4, 1, 1);
        Assert.Equal(0.05, evaluation.ExcessOf(Row("mix", false, 150, 1.8))!.Value, 12);
        Assert.Equal(-0.05, evaluation.ExcessOf(Row("mix", false, 300, 1.4))!.Value, 12);
        Assert.Equal(0.1, evaluation.ExcessOf(Row("mix", false, 400, 1.5))!.Value, 12);
        Assert.Null(evaluation.ExcessOf(Row("mix", false, 500, 1.5)));
    }

    private static float[] Floats(Tensor logits) => MemoryMarshal.Cast<byte, float>(logits.bytes).ToArray();

    private static int Best(float[] logits, int position)
    {
        var row = logits.AsSpan(position * TinyModel.Vocabulary, TinyModel.Vocabulary).ToArray();
        return Array.IndexOf(row, row.Max());
    }

    [Fact]
    public void ACancelledEvaluationStops()
    {
        using var model = TinyModel.Create();
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => Evaluator.Run(model, _corpus, cancellationToken: cancelled.Token));
    }
}
