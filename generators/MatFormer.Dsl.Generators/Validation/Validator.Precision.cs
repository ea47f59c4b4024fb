using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Parts;

namespace MatFormer.Generators.Validation;

/// <content>The bits that a model is trained for, and those of profiles.</content>
internal sealed partial class Validator
{
    private static readonly int[] s_bits = [8, 4, 2];

    // Returns the declared bits, widest first, or none if they are wrong.
    private EquatableArray<int> CheckPrecision()
    {
        if (_declaration.Precision is not { } precision) return default;
        var given = precision.Bits.Select(bits => bits.Value).ToList();
        var nested = s_bits.Where(bits => bits == 8 || given.Contains(bits)).ToList();
        if (given.SequenceEqual(nested)) return nested.ToEquatableArray();
        var at = precision.BitsAt.ReplacedBy(given.Count == 0 ? null : Choices(nested.Select(bits => Text(bits))));
        Report(Descriptors.BitsNotNested, at, ModelName, given.Count == 0 ? "no bits" : Choices(given.Select(bits => Text(bits))));
        return default;
    }

    // A slice keeps the first columns of some matrices. Only if it keeps whole groups do its weights have the scales of the whole model.
    private bool CheckGroups(
        GranularityDeclaration granularity, string ofLayer, LocationInfo at, int kept, int whole, int columnsOfEach, string units)
    {
        if (_declaration.Precision is null || kept == whole || kept * (long)columnsOfEach % Costs.Group == 0) return true;
        var multiple = Costs.Group;
        for (var divisor = columnsOfEach; divisor % 2 == 0 && multiple > 1; divisor /= 2) multiple /= 2;
        var nearest = Math.Max(1, (int)Math.Round((double)kept / multiple)) * multiple;
        var isWritten = granularity.Fraction is null || units != "hidden units";
        Report(
            Descriptors.SizeEndsInGroup, at.ReplacedBy(isWritten && nearest < whole ? Text(nearest) : null), Text(Costs.Group),
            granularity.Name.Value, Text(kept), units, ofLayer, Text(multiple));
        return false;
    }

    private void CheckBits(ProfileDeclaration profile)
    {
        if (profile.Bits is not { } bits) return;
        var declared = _declaration.Precision?.Bits.Select(b => b.Value).ToList();
        if (declared is null)
        {
            Mistake(bits.At, "'" + ModelName + "' has no [Precision]", "add [Precision(8, 4, 2)], or remove Bits");
        }
        else if (!declared.Contains(bits.Value))
        {
            var nearest = declared.OrderBy(b => Math.Abs((long)b - bits.Value)).Select(b => Text(b)).FirstOrDefault();
            var trained = "'" + ModelName + "' is trained for " + Choices(declared.Select(b => Text(b)));
            Mistake(bits.At.ReplacedBy(nearest), trained, "write one of these");
        }
        else if (profile.WeightType is { } type)
        {
            Mistake(type.At, "WeightType says that the weights are stored in another format", "remove WeightType");
        }

        void Mistake(Remedy at, string what, string remedy) =>
            Report(Descriptors.ProfileBits, at, profile.Name.Value, Text(bits.Value), what, remedy);
    }

    // A budget of bytes chooses the bits too, unless the declaration says how the weights are stored. Of the bits from 4 on, those win with
    // which the profile has the most parameters, and of equal ones the most bits. 2 bits lose so much that they win only where nothing else
    // fits.
    private ProfileSpec? SolveBudgets(ProfileDeclaration profile, ModelSpec spec, Lazy<Costs> costs)
    {
        if (profile.MaxWeightBytes is null || profile.WeightType is not null || profile.Bits is not null || spec.Precision.Count == 0)
            return Solve(profile.Bits?.Value ?? 0, isChosen: false);

        var (bits, most) = (spec.Precision[spec.Precision.Count - 1], -1L);
        var solver = new BudgetSolver(spec);
        foreach (var candidate in spec.Precision)
        {
            if (candidate < 4 && most >= 0) break;
            if (solver.Solve(BudgetsOf(profile, spec, costs, candidate).ConvertAll(b => (b.Cost, b.Most))) is not { } choices) continue;
            var parameters = costs.Value.ParameterCount(spec.LayersOf(choices));
            if (parameters > most) (bits, most) = (candidate, parameters);
        }

        return Solve(bits, isChosen: bits < spec.Precision[0]);

        ProfileSpec? Solve(int storedBits, bool isChosen) =>
            SolveBudgets(profile.Name.Value, BudgetsOf(profile, spec, costs, storedBits), spec, isChosen) is { } solved
                ? solved with { Bits = storedBits }
                : null;
    }
}
