using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests that operands that do not fit are named in every form, before they reach native code.</summary>
public sealed class KernelOperandTests : KernelTestBase
{
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void ShapesThatDoNotFitAreNamed(string form)
    {
        Use(form);
        Tensor x = X(2, 3, 4), odd = Matrix(5, 6), up = Matrix(8, 4), down = Matrix(4, 8), tokens = Integers(4, 2, 3);
        AssertNamed("Embedding: weight is (2, 3, 4), but must be (V, W)", () => Kernels.Embedding(x, tokens, ScalarType.Float32));
        AssertNamed("Embedding: tokens is (3), but must be (B, T)", () => Kernels.Embedding(odd, tokens[0], ScalarType.Float32));
        AssertNamed("AddPositions: x is (8, 4), but must be (B, T, W)", () => Kernels.AddPositions(up, up, 0));
        AssertNamed("AddPositions: weight is (5, 6), but must be (5, 4)", () => Kernels.AddPositions(x, odd, 0));
        AssertNamed("AddPositions: positions 6 to 8 are outside the context of 8", () => Kernels.AddPositions(x, up, 6));
        AssertNamed("AddPositions: positions -1 to 1 are outside", () => Kernels.AddPositions(x, up, -1));
        AssertNamed("RmsNorm: weight is (5, 6), but must be (4)", () => Kernels.RmsNorm(x, odd, 1e-5));
        AssertNamed("RmsNorm: x is a scalar", () => Kernels.RmsNorm(tensor(1f), odd, 1e-5));
        AssertNamed("LayerNorm: bias is (3), but must be (4)", () => Kernels.LayerNorm(x, Vector(1, 4), Vector(1, 3), 1e-5));
        AssertNamed("Linear: weight is (5, 6), but must be (5, 4)", () => Kernels.Linear(x, odd));
        AssertNamed("Linear: weight is (4), but must be (out, in)", () => Kernels.Linear(x, Vector(1, 4)));
        AssertNamed("Linear: bias is (4), but must be (8)", () => Kernels.Linear(x, up, Vector(1, 4)));
        AssertNamed("Linear: x is a scalar", () => Kernels.Linear(tensor(1f), odd));
        AssertNamed("Fork: x is (8, 4), but must be (B, T, W)", () => Kernels.Fork(up, 2));
        AssertNamed("LinearCrossEntropy: head is (5, 6), but must be (5, 4)", () => Kernels.LinearCrossEntropy(x, odd, tokens, 1));
        AssertNamed("LinearCrossEntropy: targets is (2, 3), but must be (1, 3)", () => Kernels.LinearCrossEntropy(x, up, tokens, 2));
        AssertNamed("LinearCrossEntropy: x is (2, 3, 4), but must be (3*B, T, W)", () => Kernels.LinearCrossEntropy(x, up, tokens, 3));
        AssertNamed("LinearCrossEntropy: rows are (1, 2)", () => Kernels.LinearCrossEntropy(x, up, tokens, 2, [1, 2]));
        AssertNamed("LinearCrossEntropy: x is empty", () => Kernels.LinearCrossEntropy(zeros(0, 3, 4), up, tokens, 1));
        AssertNamed(
            "LinearDivergence: teacher is (1, 3, 4), but must be (2, 3, 4)",
            () => Kernels.LinearDivergence(x, x.narrow(0, 0, 1), up, 1, null, 0, 1));
        AssertNamed("LinearDivergence: head is (4, 8)", () => Kernels.LinearDivergence(x, x, down, 1, null, 0, 1));
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void AttentionOperandsThatDoNotFitAreNamed(string form)
    {
        Use(form);
        var (x, right) = (X(2, 3, 8), Attention(8, 4, 2, 6, isBiased: true, isLayerNorm: true, normsHeads: true));
        Tensor matrix = Matrix(5, 8), vector = Vector(1, 5), table = zeros(3, 2);
        foreach (var (name, wrong) in new (string, AttentionWeights)[]
        {
            ("norm is (5), but must be (8)", right with { Norm = new(vector, 1e-5) }),
            ("normBias is (5), but must be (8)", right with { Norm = right.Norm with { Bias = vector } }),
            ("query has 5 rows and key 12", right with { Query = matrix }),
            ("query has 24 rows and key 5", right with { Key = matrix }),
            ("query has 24 rows and key 24", right with { Key = right.Query, HeadWidth = 7 }),
            ("key is (12, 7), but must be (12, 8)", right with { Key = Matrix(12, 7) }),
            ("value is (5, 8), but must be (12, 8)", right with { Value = matrix }),
            ("output is (5, 8), but must be (8, 24)", right with { Output = matrix }),
            ("queryBias is (5), but must be (24)", right with { QueryBias = vector }),
            ("keyBias is (5), but must be (12)", right with { KeyBias = vector }),
            ("valueBias is (5), but must be (12)", right with { ValueBias = vector }),
            ("outputBias is (5), but must be (8)", right with { OutputBias = vector }),
            ("queryNorm is (5), but must be (6)", right with { QueryNorm = new(vector, 1e-5) }),
            ("keyNorm is (5), but must be (6)", right with { KeyNorm = new(vector, 1e-5) }),
        })
        {
            AssertNamed("Attend: " + name, () => Kernels.Attend(x, wrong));
        }

        AssertNamed("Attend: x is (5, 8), but must be (B, T, W)", () => Kernels.Attend(matrix, right));
        AssertNamed("Attend: cos is (3, 2), but must be (3, 3)", () => Kernels.Attend(x, right, table, table));
        AssertNamed("Attend: cos and sin go together", () => Kernels.Attend(x, right, zeros(3, 3)));
        AssertNamed("Attend: lengths is (3), but must be (L)", () => Kernels.Attend(x, right, lengths: tensor([1L, 1, 1])));
        AssertNamed("Attend: lengths is (1)", () => Kernels.Attend(x, right with { IsCausal = true }, lengths: tensor([1L])));
        AssertNamed("Attend: a stream keeps 6 heads", () => Kernels.Attend(x, right, heads: [6, 4]));
        AssertNamed("Attend: a stream keeps 3 heads, but it must be a multiple of 2", () => Kernels.Attend(x, right, heads: [4, 3]));
        AssertNamed("Attend: rows are (1, 2)", () => Kernels.Attend(x, right, heads: [4, 2], rows: [1, 2]));
        AssertNamed("Attend: x is (2, 3, 8), but must be (3*B, T, W)", () => Kernels.Attend(x, right, heads: [4, 2, 2]));
        Assert.Throws<ArgumentOutOfRangeException>("weights.Window", () => Kernels.Attend(x, right with { IsCausal = true, Window = -1 }));
        var odd = Attention(8, 4, 2, 3);
        AssertNamed("Attend: heads of 3 numbers cannot be rotated", () => Kernels.Attend(x, odd, zeros(3, 1), zeros(3, 1)));
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void FeedForwardOperandsThatDoNotFitAreNamed(string form)
    {
        Use(form);
        var (x, right, vector) = (X(2, 3, 4), FeedForward(4, 8, FeedForwardKind.SwiGlu), Vector(1, 5));
        foreach (var (name, wrong) in new (string, FeedForwardWeights)[]
        {
            ("norm is (5), but must be (4)", right with { Norm = new(vector, 1e-5) }),
            ("up is (8, 5), but must be (8, 4)", right with { Up = Matrix(8, 5) }),
            ("down is (8, 4), but must be (4, 8)", right with { Down = right.Up }),
            ("gate is (4, 8), but must be (8, 4)", right with { Gate = right.Down }),
            ("gateBias is (5), but must be (8)", right with { GateBias = vector }),
            ("upBias is (5), but must be (8)", right with { UpBias = vector }),
            ("downBias is (5), but must be (4)", right with { DownBias = vector }),
            ("SwiGlu needs a gate", right with { Gate = null }),
            ("Gelu has no gate, but one was given", right with { Kind = FeedForwardKind.Gelu }),
        })
        {
            AssertNamed("FeedForward: " + name, () => Kernels.FeedForward(x, wrong, [8]));
        }

        AssertNamed("FeedForward: x is (8, 4), but must be (N, T, W)", () => Kernels.FeedForward(right.Up, right, [8]));
        AssertNamed("FeedForward: widths are (4, 8)", () => Kernels.FeedForward(x, right, [4, 8]));
        AssertNamed("FeedForward: widths are (9)", () => Kernels.FeedForward(x, right, [9]));
        AssertNamed("FeedForward: widths are (0)", () => Kernels.FeedForward(x, right, [0]));
        AssertNamed("FeedForward: widths is empty", () => Kernels.FeedForward(x, right, []));
        AssertNamed("FeedForward: rows are (1, 0)", () => Kernels.FeedForward(x, right, [8, 4], [1, 0]));
        AssertNamed("FeedForward: rows are (2)", () => Kernels.FeedForward(x, right, [8, 4], [2]));
        AssertNamed("FeedForward: streams that part", () => Kernels.FeedForward(x, right, [8, 4], [1, 1], parting: true));
        AssertNamed("FeedForward: x is (2, 3, 4), but must be (3*B, T, W)", () => Kernels.FeedForward(x, right, [8, 4, 2]));
        AssertNamed("FeedForward: x is empty", () => Kernels.FeedForward(zeros(0, 3, 4), right, [8]));
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void DtypesThatDoNotFitAreNamed(string form)
    {
        Use(form);
        Tensor x = X(2, 3, 4), tokens = Integers(4, 2, 3), weight = Matrix(8, 4);
        Tensor half = x.to(ScalarType.Float16), rounded = weight.to(ScalarType.BFloat16), narrow = tokens.to(ScalarType.Int32);
        var (attention, feedForward) = (Attention(4, 2, 2, 4), FeedForward(4, 8, FeedForwardKind.Gelu));
        AssertNamed("Embedding: weight is BFloat16, but must be Float32", () => Kernels.Embedding(rounded, tokens, ScalarType.Float32));
        AssertNamed("Embedding: tokens is Int32, but must be Int64", () => Kernels.Embedding(weight, narrow, ScalarType.Float32));
        AssertNamed("Embedding: dtype is Float16", () => Kernels.Embedding(weight, tokens, ScalarType.Float16));
        AssertNamed("AddPositions: x is Float16, but must be Float32 or BFloat16", () => Kernels.AddPositions(half, weight, 0));
        AssertNamed("AddPositions: weight is BFloat16", () => Kernels.AddPositions(x, rounded, 0));
        AssertNamed("RmsNorm: x is Int64", () => Kernels.RmsNorm(tokens, weight, 1e-5));
        AssertNamed("RmsNorm: weight is Float64", () => Kernels.RmsNorm(x, ones(4, dtype: ScalarType.Float64), 1e-5));
        AssertNamed("LayerNorm: bias is Float64", () => Kernels.LayerNorm(x, ones(4), ones(4, dtype: ScalarType.Float64), 1e-5));
        AssertNamed("Linear: x is Float16", () => Kernels.Linear(half, weight));
        AssertNamed("Linear: weight is BFloat16", () => Kernels.Linear(x, rounded));
        AssertNamed("Linear: bias is BFloat16", () => Kernels.Linear(x, weight, rounded[0]));
        AssertNamed("Attend: x is Float16", () => Kernels.Attend(half, attention));
        AssertNamed("Attend: key is BFloat16", () => Kernels.Attend(x, attention with { Key = rounded }));
        AssertNamed("Attend: lengths is Int32", () => Kernels.Attend(x, attention, lengths: tensor([1])));
        AssertNamed("FeedForward: x is Float16", () => Kernels.FeedForward(half, feedForward, [8]));
        AssertNamed("FeedForward: up is BFloat16", () => Kernels.FeedForward(x, feedForward with { Up = rounded }, [8]));
        AssertNamed("LinearCrossEntropy: x is Float16", () => Kernels.LinearCrossEntropy(half, weight, tokens, 1));
        AssertNamed("LinearCrossEntropy: head is BFloat16", () => Kernels.LinearCrossEntropy(x, rounded, tokens, 1));
        AssertNamed("LinearCrossEntropy: targets is Int32", () => Kernels.LinearCrossEntropy(x, weight, narrow, 1));
        AssertNamed(
            "LinearDivergence: teacher is BFloat16, but x is Float32",
            () => Kernels.LinearDivergence(x, x.to(ScalarType.BFloat16), weight, 1, null, 0, 1));
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void OperandsOnAnotherDeviceAreNamed(string form)
    {
        Use(form);
        Tensor x = X(2, 3, 4), tokens = Integers(4, 2, 3), weight = Matrix(8, 4);
        Tensor metaX = Meta(x), metaTokens = Meta(tokens), metaWeight = Meta(weight);
        var (attention, feedForward) = (Attention(4, 2, 2, 4), FeedForward(4, 8, FeedForwardKind.Gelu));
        AssertNamed("Embedding: weight is on cpu, but the rest is on", () => Kernels.Embedding(weight, metaTokens, ScalarType.Float32));
        AssertNamed("AddPositions: weight is on meta", () => Kernels.AddPositions(x, metaWeight, 0));
        AssertNamed("RmsNorm: weight is on meta", () => Kernels.RmsNorm(x, metaWeight[0], 1e-5));
        AssertNamed("Linear: weight is on cpu", () => Kernels.Linear(metaX, weight));
        AssertNamed("Attend: query is on meta", () => Kernels.Attend(x, attention with { Query = metaWeight }));
        AssertNamed("Attend: lengths is on meta", () => Kernels.Attend(x, attention, lengths: Meta(tensor([1L]))));
        AssertNamed("FeedForward: up is on meta", () => Kernels.FeedForward(x, feedForward with { Up = metaWeight }, [8]));
        AssertNamed("LinearCrossEntropy: targets is on meta", () => Kernels.LinearCrossEntropy(x, weight, metaTokens, 1));
        AssertNamed("LinearDivergence: head is on meta", () => Kernels.LinearDivergence(x, x, metaWeight, 1, null, 0, 1));
        AssertNamed("LinearDivergence: teacher is on meta", () => Kernels.LinearDivergence(x, metaX, weight, 1, null, 0, 1));

        static Tensor Meta(Tensor tensor) => tensor.detach().to(META);
    }

    /// <summary>On the meta device nothing is computed, but results have shapes.</summary>
    [FusedFact]
    public void MetaTensorsGiveShapesOnly()
    {
        UseCpu();
        var (x, weight) = (zeros(2, 3, 4, device: META), zeros(8, 4, device: META));
        Assert.Equal([2L, 3, 8], Kernels.Linear(x, weight).shape);
        Assert.Equal([2L, 3, 4], Kernels.RmsNorm(x, weight[0], 1e-5).shape);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void NumbersOutsideTheirRangeAreNamed(string form)
    {
        Use(form);
        Tensor x = X(2, 3, 4), head = Matrix(8, 4);
        Assert.Throws<ArgumentOutOfRangeException>("n", () => Kernels.Fork(x, 0));
        Assert.Throws<ArgumentOutOfRangeException>("temperature", () => Kernels.LinearDivergence(x, x, head, 1, null, 0, 0));
        Assert.Throws<ArgumentOutOfRangeException>("student", () => Kernels.LinearDivergence(x, x, head, 1, null, 1, 1));
        Assert.Throws<ArgumentOutOfRangeException>("student", () => Kernels.LinearDivergence(x, x, head, 1, null, -1, 1));
    }

    /// <summary>The fused loops check the values of tokens. In the other forms libtorch throws its own error.</summary>
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void TokensOutsideTheVocabularyAreRefused(string form)
    {
        Use(form);
        Tensor x = X(1, 3, 4), weight = Matrix(8, 4);
        foreach (var token in new[] { 8L, -1 })
        {
            var tokens = tensor([0, token, 0], [1, 3]);
            AssertRefused($"Embedding: token {token} is outside 0..7", () => Kernels.Embedding(weight, tokens, ScalarType.Float32));
            AssertRefused($"LinearCrossEntropy: target {token} is outside 0..7", () => Kernels.LinearCrossEntropy(x, weight, tokens, 1));
        }

        void AssertRefused(string message, Func<Tensor> call)
        {
            if (IsCpu) AssertNamed(message, call);
            else Assert.Throws<ExternalException>(call);
        }
    }

    [FusedFact]
    public void LengthsOutsideTheSequenceAreRefused()
    {
        UseCpu();
        var (x, weights) = (X(2, 3, 4), Attention(4, 2, 2, 4));
        AssertNamed("length 0 is outside 1..3", () => Kernels.Attend(x, weights, lengths: tensor([0L])));
        AssertNamed("length 99 is outside 1..3", () => Kernels.Attend(x, weights, lengths: tensor([1L, 99])));
    }

    [FusedFact]
    public void AWeightWhoseRowsHaveGapsIsRefused()
    {
        UseCpu();
        AssertNamed("rows must be contiguous", () => Kernels.Linear(X(2, 3, 4), Matrix(4, 8).t()));
    }

    private static void AssertNamed(string message, Func<Tensor> call) =>
        Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(call).Message, StringComparison.Ordinal);
}
