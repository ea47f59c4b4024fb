using MatFormer.Generators.Model;
using Microsoft.CodeAnalysis;
using Spec = MatFormer.Generators.Model.ModelSpec;

namespace MatFormer.Generators.Tests;

/// <summary>The value model by itself: no source, no compiler.</summary>
public sealed class ModelTests
{
    private static readonly Spec s_spec = new(
        new TypeSpec("", default, "Lm", "Lm", default),
        Layers: 4,
        Width: 24,
        Heads: 3,
        KeyValueHeads: 3,
        HeadWidth: 8,
        Context: 16,
        Vocabulary: 50,
        HiddenWidth: 40,
        Activation.SwiGlu,
        Bias: false,
        NormKind.Rms,
        Epsilon: 1e-5,
        PositionKind.Rotary,
        RotaryBase: 10000,
        QkNorm: false,
        Tied: true,
        new([new("S", 5), new("M", 12), new("L", 40)]),
        default);

    [Fact]
    public void The_solver_finds_the_largest_model_of_two_adjacent_granularities()
    {
        var costs = Costs.Of(s_spec);
        var smallest = costs.ParameterCount([5, 5, 5, 5]);
        var largest = costs.ParameterCount([40, 40, 40, 40]);

        // Every shape that the method allows: lo for the first k layers, hi for the rest.
        int[] widths = [5, 12, 40];
        var shapes = (from pair in Enumerable.Range(0, 2)
                      from k in Enumerable.Range(0, 5)
                      select Enumerable.Range(0, 4).Select(layer => layer < k ? widths[pair] : widths[pair + 1]).ToArray()).ToList();
        for (var budget = smallest; budget <= largest + 10; budget += 7)
        {
            var solved = BudgetSolver.Solve(costs, 4, [.. s_spec.Granularities], budget);
            var best = shapes.Where(shape => costs.ParameterCount(shape) <= budget).MaxBy(costs.ParameterCount)!;
            Assert.Equal(best, solved!.Value.ToArray());
        }

        Assert.Null(BudgetSolver.Solve(costs, 4, [.. s_spec.Granularities], smallest - 1));
    }

    [Fact]
    public void The_fingerprint_is_of_the_architecture_alone()
    {
        var fingerprint = Fingerprint.Of(s_spec);
        Assert.Matches("^[0-9a-f]{16}$", fingerprint);
        Assert.Equal(fingerprint, Fingerprint.Of(s_spec with { Type = new TypeSpec("A", default, "B", "A.B", default) }));
        Assert.Equal(fingerprint, Fingerprint.Of(s_spec with { Profiles = new([new ProfileSpec("P", new([5, 5, 5, 5]), 0)]) }));
        Spec[] others =
        [
            s_spec with { Layers = 5 },
            s_spec with { Width = 48 },
            s_spec with { Heads = 6 },
            s_spec with { KeyValueHeads = 1 },
            s_spec with { HeadWidth = 4 },
            s_spec with { Context = 17 },
            s_spec with { Vocabulary = 51 },
            s_spec with { HiddenWidth = 41 },
            s_spec with { Activation = Activation.GeGlu },
            s_spec with { Bias = true },
            s_spec with { Norm = NormKind.Layer },
            s_spec with { Epsilon = 1e-6 },
            s_spec with { Position = PositionKind.Learned },
            s_spec with { RotaryBase = 500 },
            s_spec with { QkNorm = true },
            s_spec with { Tied = false },
            s_spec with { Granularities = new([new("S", 5), new("L", 40)]) },
        ];
        Assert.Equal(others.Length + 1, others.Select(Fingerprint.Of).Append(fingerprint).Distinct().Count());
    }

    [Fact]
    public void The_fingerprint_of_a_model_never_changes() =>
        Assert.Equal(
            "MatLM/1;layers=4;width=24;heads=3;key_value_heads=3;head_width=8;context=16;vocabulary=50;hidden=40;"
            + "activation=SwiGlu;bias=False;norm=Rms(1E-05);position=Rotary(10000);qk_norm=False;tied=True;granularities=S:5,M:12,L:40",
            Fingerprint.Canonical(s_spec));

    [Fact]
    public void Specs_with_equal_values_are_equal()
    {
        var same = s_spec with { Granularities = new([new("S", 5), new("M", 12), new("L", 40)]) };
        Assert.Equal(s_spec, same);
        Assert.Equal(s_spec.GetHashCode(), same.GetHashCode());
        Assert.NotEqual(s_spec, s_spec with { Granularities = new([new("S", 5), new("M", 13), new("L", 40)]) });
    }

    /// <summary>A symbol, a syntax node or a location in it would keep a compilation alive.</summary>
    [Fact]
    public void The_model_holds_nothing_of_Roslyn()
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
}
