using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;

namespace MatFormer.Generators.Validation;

/// <content>Warnings and hints about valid declarations.</content>
internal sealed partial class Validator
{
    private void Advise(ModelSpec spec)
    {
        foreach (var granularity in _declaration.Granularities)
        {
            // Vector units process eight or more numbers at a time, and matrix units 64.
            if (granularity.Width is not { } width) continue;
            var multiple = width.Value < 64 ? 8 : 64;
            if (width.Value % multiple == 0) continue;
            var nearest = Math.Max(1, (int)Math.Round((double)width.Value / multiple)) * multiple;
            Report(Descriptors.WidthNotAligned, width.At, granularity.Name.Value, Text(width.Value), Text(multiple), Text(nearest));
        }

        foreach (var granularity in _declaration.Granularities)
        {
            // The whole stream has the width of the model.
            if (granularity.Stream is not { } stream || stream.Value % 32 == 0 || stream.Value == spec.Width) continue;
            var nearest = Math.Min(spec.Width, Math.Max(1, (int)Math.Round(stream.Value / 32.0)) * 32);
            Report(Descriptors.StreamNotAligned, stream.At, granularity.Name.Value, Text(stream.Value), Text(nearest));
        }

        var known = new Dictionary<(EquatableArray<LayerSlice>, int), string>();
        foreach (var granularity in spec.GranularityProfiles) known[KeyOf(granularity)] = granularity.Name;
        foreach (var profile in spec.Profiles)
        {
            var declared = _declaration.Profiles.FirstOrDefault(p => p.Name.Value == profile.Name);
            var at = declared?.Name.At ?? _declaration.Grid!.At;
            var key = KeyOf(profile);
            if (known.TryGetValue(key, out var twin))
            {
                // If the budget is above the whole model, a warning has been reported already.
                if (!_diagnostics.Any(d => d.Descriptor == Descriptors.BudgetTooLarge && d.Arguments[0] == profile.Name))
                    Report(Descriptors.SameAsAnother, at, profile.Name, twin, Pattern.Format(spec, profile.Choices));
            }
            else
            {
                known.Add(key, profile.Name);
            }

            if (NarrowsAt(profile, spec) is not { } layer) continue;
            var patternAt = declared?.Pattern?.Characters ?? declared?.Pattern?.At ?? at;
            Report(Descriptors.NarrowsWithDepth, patternAt, profile.Name, Text(layer));
        }

        if (!spec.HasOwnPasses)
            Report(Descriptors.ManyProfiles, _declaration.NameAt, ModelName, Text(spec.Profiles.Count), Text(ModelSpec.MaxOwnPasses));

        (EquatableArray<LayerSlice>, int) KeyOf(ProfileSpec profile) => (new(spec.LayersOf(profile.Choices)), profile.Bits);
    }

    // Returns the first layer whose granularity is narrower than that of an earlier layer.
    private static int? NarrowsAt(ProfileSpec profile, ModelSpec spec)
    {
        var widest = ProfileSpec.Skip;
        for (var layer = 0; layer < spec.Layers; layer++)
        {
            var choice = profile.Choices[layer];
            if (choice == ProfileSpec.Skip) continue;
            if (choice < widest) return layer;
            widest = choice;
        }

        return null;
    }
}
