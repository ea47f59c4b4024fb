using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using Microsoft.CodeAnalysis;
using Block = MatFormer.Generators.Model.BlockSpec;
using Slice = MatFormer.Generators.Model.LayerSlice;
using Spec = MatFormer.Generators.Model.ModelSpec;

namespace MatFormer.Generators.Tests;

/// <summary>The value model without any source or compiler.</summary>
public sealed class ModelTests
{
    private static readonly Block s_block = new(40, Activation.SwiGlu, Bias: false, Heads: 3, KeyValueHeads: 3, HeadWidth: 8, Window: 0);

    private static readonly Spec s_spec = new(
        new TypeSpec("", default, "Lm", "Lm", default),
        Width: 24,
        HeadWidth: 8,
        Context: 16,
        Vocabulary: 50,
        NormKind.Rms,
        Epsilon: 1e-5,
        PositionKind.Rotary,
        RotaryBase: 10000,
        QkNorm: false,
        Tied: true,
        Stack(s_block, s_block, s_block, s_block),
        new([Uniform("S", 5), Uniform("M", 12), Uniform("L", 40)]),
        default);

    // The layers differ in both axes, and some granularities are equal in one of them.
    private static readonly Spec s_uneven = s_spec with
    {
        Blocks = Stack(s_block with { HiddenWidth = 20 }, s_block with { KeyValueHeads = 1 }, s_block with { Bias = true }, s_block),
        Granularities = new(
        [
            new("S", new([new(5, 1), new(8, 3), new(12, 2), new(2, 1)])),
            new("M", new([new(10, 1), new(8, 3), new(24, 2), new(30, 2)])),
            new("L", new([new(20, 3), new(40, 3), new(40, 3), new(40, 3)])),
        ]),
    };

    public static TheoryData<string, bool> Budgets
    {
        get
        {
            var data = new TheoryData<string, bool>();
            string[] budgets = ["MaxParameters", "MaxNonEmbeddingParameters", "MaxFlopsPerToken", "MaxWeightBytes", "FeedForwardShare"];
            foreach (var budget in budgets)
            {
                data.Add(budget, false);
                data.Add(budget, true);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Budgets))]
    public void TheSolverFindsTheLargestMixOfTwoAdjacentGranularities(string budget, bool isUneven)
    {
        var spec = isUneven ? s_uneven : s_spec;
        var costs = Costs.Of(spec);
        Func<Slice[], long> cost = budget switch
        {
            "MaxParameters" => costs.ParameterCount,
            "MaxNonEmbeddingParameters" => costs.NonEmbeddingParameterCount,
            "MaxFlopsPerToken" => costs.Flops,
            "MaxWeightBytes" => layers => costs.WeightBytes(layers, WeightType.Int8),
            _ => layers => layers.Sum(l => (long)l.HiddenWidth),
        };
        var solver = new BudgetSolver(spec);

        // All mixes that never narrow with depth. Of those, the method allows mixes of two adjacent granularities.
        var mixes = NeverNarrowing(3, 4).ToList();
        Assert.Equal(15, mixes.Count);
        var allowed = mixes.Where(mix => mix.Max() - mix.Min() <= 1).ToList();
        Assert.Equal(allowed.Count, solver.Count);
        var (smallest, largest) = (cost(spec.LayersOf([0, 0, 0, 0])), cost(spec.LayersOf([2, 2, 2, 2])));
        for (var most = smallest; most <= largest + 10; most += Math.Max(1, (largest - smallest) / 300))
        {
            var solved = solver.Solve([(cost, most)])!.Value;
            var spent = cost(spec.LayersOf(solved));
            Assert.Contains(allowed, mix => mix.SequenceEqual(solved));
            Assert.Equal(allowed.Select(mix => cost(spec.LayersOf(mix))).Where(c => c <= most).Max(), spent);

            // No mix that fits costs more than the next mix of the solver.
            var best = mixes.Select(mix => cost(spec.LayersOf(mix))).Where(c => c <= most).Max();
            var next = allowed.Select(mix => cost(spec.LayersOf(mix))).Where(c => c > spent).DefaultIfEmpty(long.MaxValue).Min();
            Assert.InRange(best, spent, next);
        }

        Assert.Null(solver.Solve([(cost, smallest - 1)]));
    }

    [Fact]
    public void TheSolverMeetsSeveralBudgetsTogether()
    {
        var costs = Costs.Of(s_spec);
        var solver = new BudgetSolver(s_spec);
        var middle = s_spec.LayersOf([0, 0, 1, 1]);
        var solved = solver.Solve([(costs.ParameterCount, costs.ParameterCount(middle)), (costs.Flops, long.MaxValue)]);
        Assert.Equal([0, 0, 1, 1], solved!.Value.ToArray());
        Assert.Null(solver.Solve([(costs.ParameterCount, long.MaxValue), (costs.Flops, 1)]));
    }

    [Fact]
    public void AGridHasTheNumberOfProfilesInGrowingOrderBetweenTheTwoEnds()
    {
        var costs = Costs.Of(s_spec);
        var solver = new BudgetSolver(s_spec);
        var all = Enumerable.Range(0, solver.Count).Select(i => costs.Flops(s_spec.LayersOf(solver[i]))).ToList();
        for (var count = 1; count <= solver.Count - 2; count++)
        {
            var grid = solver.Grid(costs, count).Select(mix => costs.Flops(s_spec.LayersOf(mix))).ToList();
            Assert.Equal(count, grid.Count);
            Assert.Equal(grid.Distinct().Order(), grid);
            Assert.All(grid, flops => Assert.InRange(flops, all[0] + 1, all[^1] - 1));
        }

    }

    [Fact]
    public void AGridHasNoMoreProfilesThanThereAreMixes()
    {
        var solver = new BudgetSolver(s_spec);
        Assert.Equal(solver.Count - 2, solver.Grid(Costs.Of(s_spec), 100).Count);
    }

    [Fact]
    public void AGridOfOneProfileIsTheMixNearestToTheMiddle()
    {
        var costs = Costs.Of(s_spec);
        var solver = new BudgetSolver(s_spec);
        var all = Enumerable.Range(0, solver.Count).Select(i => costs.Flops(s_spec.LayersOf(solver[i]))).ToList();
        var middle = (all[0] + all[^1]) / 2.0;
        var one = Assert.Single(solver.Grid(costs, 1));
        Assert.Equal(all.Min(flops => Math.Abs(flops - middle)), Math.Abs(costs.Flops(s_spec.LayersOf(one)) - middle));
    }

    [Fact]
    public void Int8WeightsHaveAScaleForEachRowOfAMatrix()
    {
        // Counted by hand: a layer has 2 norms of 24, 4 matrices of 24 x 24, gate and up of m x 24 and down of 24 x m. The model has the
        // embedding of 50 x 24 and a norm too.
        static long BytesOf(long m) => (2 * 24 * 4) + (4 * ((24 * 24) + (24 * 4))) + (2 * ((m * 24) + (m * 4))) + (24 * m) + (24 * 4);
        var expected = (50 * 24) + (50 * 4) + (24 * 4) + BytesOf(5) + BytesOf(5) + BytesOf(12) + BytesOf(40);
        Assert.Equal(expected, Costs.Of(s_spec).WeightBytes(s_spec.LayersOf([0, 0, 1, 2]), WeightType.Int8));
    }

    [Fact]
    public void TheFingerprintIs16HexadecimalDigits() => Assert.Matches("^[0-9a-f]{16}$", Fingerprint.Of(s_spec));

    [Fact]
    public void NamesAndProfilesDoNotChangeTheFingerprint()
    {
        var fingerprint = Fingerprint.Of(s_spec);
        Assert.Equal(fingerprint, Fingerprint.Of(s_spec with { Type = new TypeSpec("A", default, "B", "A.B", default) }));
        Assert.Equal(fingerprint, Fingerprint.Of(s_spec with { Profiles = new([new ProfileSpec("P", new([0, 0, 0, 0]), "")]) }));
        Assert.Equal(fingerprint, Fingerprint.Of(s_spec with { Precision = new([8, 4, 2]) }));
    }

    [Fact]
    public void EachChangeOfTheArchitectureChangesTheFingerprint()
    {
        Spec[] all =
        [
            s_spec,
            s_spec with
            {
                Blocks = Stack(s_block, s_block, s_block),
                Granularities = new([.. s_spec.Granularities.Select(g => g with { Layers = g.Layers.Take(3).ToEquatableArray() })]),
            },
            s_spec with { Width = 48 },
            All(s_block with { Heads = 6 }),
            All(s_block with { KeyValueHeads = 1 }),
            s_spec with { HeadWidth = 4 },
            s_spec with { Context = 17 },
            s_spec with { Vocabulary = 51 },
            All(s_block with { HiddenWidth = 41 }),
            All(s_block with { Activation = Activation.GeGlu }),
            All(s_block with { Bias = true }),
            All(s_block with { Window = 8 }),
            s_spec with { Norm = NormKind.Layer },
            s_spec with { Epsilon = 1e-6 },
            s_spec with { Position = PositionKind.Learned },
            s_spec with { RotaryBase = 500 },
            s_spec with { RotaryScaling = new(RotaryScalingKind.Linear, 8) },
            s_spec with { RotaryScaling = new(RotaryScalingKind.Linear, 4) },
            s_spec with { RotaryScaling = new(RotaryScalingKind.Llama3, 8, 8192, 1, 4) },
            s_spec with { RotaryScaling = new(RotaryScalingKind.Llama3, 8, 4096, 1, 4) },
            s_spec with { RotaryScaling = new(RotaryScalingKind.Llama3, 8, 8192, 2, 4) },
            s_spec with { RotaryScaling = new(RotaryScalingKind.Llama3, 8, 8192, 1, 5) },
            s_spec with { QkNorm = true },
            s_spec with { AttentionBias = true, OutputBias = true },
            s_spec with { AttentionBias = true },
            s_spec with { Tied = false },
            s_spec with { Granularities = new([Uniform("S", 5), Uniform("L", 40)]) },
            s_spec with { Granularities = new([Uniform("S", 5, heads: 1), Uniform("M", 12), Uniform("L", 40)]) },
            s_spec with { Blocks = Stack(s_block, s_block with { HiddenWidth = 80 }, s_block, s_block) },
            s_spec with { Blocks = Stack(s_block, s_block, s_block with { HiddenWidth = 80 }, s_block) },
            s_spec with { Blocks = Stack(s_block, s_block, s_block with { KeyValueHeads = 1 }, s_block) },
            s_spec with { Blocks = Stack(s_block, s_block, s_block with { Window = 8 }, s_block) },
            s_uneven,
        ];
        Assert.Equal(all.Length, all.Select(Fingerprint.Of).Distinct().Count());
    }

    [Fact]
    public void TheTextBehindTheFingerprintIsTheRecordedOne() =>
        Assert.Equal(
            "MatLM/1;layers=4;width=24;heads=3;key_value_heads=3;head_width=8;context=16;vocabulary=50;hidden=40;"
            + "activation=SwiGlu;bias=False;norm=Rms(1E-05);position=Rotary(10000);qk_norm=False;tied=True;granularities=S:5,M:12,L:40",
            Fingerprint.Canonical(s_spec));

    [Fact]
    public void TheFingerprintOfBiasesIsTheRecordedOne()
    {
        Assert.EndsWith("granularities=S:5,M:12,L:40;attention_bias=True", Canonical(hasOutputBias: true), StringComparison.Ordinal);
        Assert.EndsWith("L:40;attention_bias=QueryKeyValue", Canonical(hasOutputBias: false), StringComparison.Ordinal);

        static string Canonical(bool hasOutputBias) =>
            Fingerprint.Canonical(s_spec with { AttentionBias = true, OutputBias = hasOutputBias });
    }

    [Fact]
    public void SpecsWithEqualValuesAreEqual()
    {
        var same = s_spec with { Granularities = new([Uniform("S", 5), Uniform("M", 12), Uniform("L", 40)]) };
        Assert.Equal(s_spec, same);
        Assert.Equal(s_spec.GetHashCode(), same.GetHashCode());
        Assert.NotEqual(s_spec, s_spec with { Granularities = new([Uniform("S", 5), Uniform("M", 13), Uniform("L", 40)]) });
    }

    /// <summary>A symbol, a syntax node or a location in the model would keep a compilation alive.</summary>
    [Fact]
    public void TheModelHoldsNothingOfRoslyn()
    {
        var seen = new HashSet<Type>();
        Visit(typeof(Validation.Output.Whole));
        Visit(typeof(Validation.Output.Skeleton));
        Assert.Contains(typeof(GranularitySpec), seen);
        Assert.DoesNotContain(seen, type => type.FullName!.StartsWith(typeof(ISymbol).Namespace!, StringComparison.Ordinal));

        void Visit(Type type)
        {
            if (!seen.Add(type) || type.IsPrimitive || type == typeof(string)) return;
            foreach (var argument in type.GetGenericArguments()) Visit(argument);
            foreach (var field in type.GetFields(
                System.Reflection.BindingFlags.Instance | System.Reflection.BindingFlags.NonPublic | System.Reflection.BindingFlags.Public))
                Visit(field.FieldType);
            if (type.BaseType is { } parent && parent != typeof(object)) Visit(parent);
        }
    }

    private static EquatableArray<Block> Stack(params Block[] blocks) => new(blocks);

    private static Spec All(Block block) => s_spec with { Blocks = Stack(block, block, block, block) };

    private static GranularitySpec Uniform(string name, int width, int heads = 3) =>
        new(name, new([new(width, heads), new(width, heads), new(width, heads), new(width, heads)]));

    private static IEnumerable<int[]> NeverNarrowing(int granularities, int layers) => layers == 0
        ? [[]]
        : from rest in NeverNarrowing(granularities, layers - 1)
          from next in Enumerable.Range(rest.LastOrDefault(), granularities - rest.LastOrDefault())
          select rest.Append(next).ToArray();
}
