using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;

namespace MatFormer.Generators.Validation;

/// <content>Granularities and the size that each gives each layer.</content>
internal sealed partial class Validator
{
    // Returns null if a granularity is wrong. The granularity after a wrong one is not compared with it.
    private List<GranularitySpec>? CheckGranularities(int[]? hiddenWidths, EquatableArray<BlockSpec>? blocks)
    {
        var declared = _declaration.Granularities.GroupBy(g => g.Name.Value).ToList();
        if (declared.Count < 2)
        {
            var hidden = _declaration.FeedForwards.FirstOrDefault()?.Width.Value;
            var whole = hidden is null or < 1 or > MaxWidth ? "..." : Text(hidden.Value);
            var narrow = hidden is null or < 1 or > MaxWidth ? "..." : Text(Math.Max(1, hidden.Value / 8));
            var example = "[Granularity(\"S\", " + narrow + "), Granularity(\"XL\", " + whole + ")]";
            var count = declared.Count == 0 ? "no granularity" : "one granularity";
            Report(Descriptors.TooFewGranularities, _declaration.NameAt, ModelName, count, example);
            return null;
        }

        if (hiddenWidths is null) return null;
        var granularities = new List<GranularitySpec?>();
        GranularityDeclaration?[]? ofLayers = null;
        var areInOrder = true;
        foreach (var group in declared)
        {
            // CheckNames reports a name that is declared twice.
            var distinct = group.Where((g, i) => g.Layers is not null || group.Take(i).All(before => before.Layers is not null)).ToList();
            ofLayers = Assign(distinct, "granularity '" + group.Key + "'", isNeeded: true);
            var stream = CheckStream(distinct);
            var slices = ofLayers is null || stream is null ? null : CheckSlices(ofLayers, stream.Value, hiddenWidths, blocks);
            var before = granularities.Count > 0 ? granularities[granularities.Count - 1] : null;
            var isInOrder = slices is null || before is null || CheckIncrease(before, ofLayers!, slices);
            areInOrder &= isInOrder;
            granularities.Add(slices is not null && isInOrder ? new GranularitySpec(group.Key, slices.ToEquatableArray()) : null);
        }

        // The last granularity is the widest one only if all are in order.
        if (!areInOrder || granularities[granularities.Count - 1] is not { } widest) return null;
        if (!CheckWidest(widest, ofLayers!, hiddenWidths, blocks)) return null;
        return granularities.Any(g => g is null) ? null : granularities.ConvertAll(g => g!);
    }

    // Returns the width of a granularity's residual stream, or 0 for the whole stream. It returns null if the width is wrong. Any
    // declaration of the granularity may give it.
    private int? CheckStream(List<GranularityDeclaration> declarations)
    {
        var given = declarations.Where(g => g.Stream is not null).ToList();
        if (given.Count == 0) return 0;
        var (name, stream) = (given[0].Name.Value, given[0].Stream!);
        var whole = _declaration.Model.Width?.Value is { } all and >= 1 and <= MaxWidth ? all : MaxWidth;
        if (!CheckSize("Width of '" + name + "'", stream, whole)) return null;
        foreach (var other in given.Skip(1))
        {
            if (other.Stream!.Value == stream.Value) continue;
            Report(
                Descriptors.StreamDiffersByLayer, other.Stream.At.ReplacedBy(Text(stream.Value)), name, Text(other.Stream.Value),
                Text(stream.Value));
            return null;
        }

        if (stream.Value == _declaration.Model.Width?.Value) return 0;
        return CheckGroups(given[0], "", stream.At, stream.Value, int.MaxValue, 1, "channels") ? stream.Value : null;
    }

    private LayerSlice[]? CheckSlices(
        GranularityDeclaration?[] ofLayers, int stream, int[] hiddenWidths, EquatableArray<BlockSpec>? blocks)
    {
        var slices = new LayerSlice[ofLayers.Length];
        for (var layer = 0; layer < slices.Length; layer++)
        {
            if (CheckSlice(ofLayers[layer]!, layer, hiddenWidths[layer], blocks) is not { } slice) return null;
            slices[layer] = slice with { Width = stream };
        }

        return slices;
    }

    private LayerSlice? CheckSlice(GranularityDeclaration granularity, int layer, int hidden, EquatableArray<BlockSpec>? blocks)
    {
        var name = granularity.Name.Value;
        if (CheckWidth(granularity, hidden) is not { } width) return null;
        if (width > hidden)
        {
            var isLast = name == _declaration.Granularities[_declaration.Granularities.Count - 1].Name.Value;
            var at = granularity.WidthAt.ReplacedBy(isLast ? Text(hidden) : null);
            Report(Descriptors.GranularityTooWide, at, name, Text(width), Text(hidden), OfLayer(layer));
            return null;
        }

        if (!CheckGroups(granularity, OfLayer(layer), granularity.WidthAt, width, hidden, 1, "hidden units")) return null;
        if (granularity.Heads is not { } heads) return new LayerSlice(width, blocks?[layer].Heads ?? 1);
        if (blocks is null) return null;
        var block = blocks.Value[layer];
        if (!CheckSize("Heads of '" + name + "'", heads, block.Heads)) return null;
        if (heads.Value % block.Group == 0)
        {
            return CheckGroups(granularity, OfLayer(layer), heads.At, heads.Value, block.Heads, block.HeadWidth, "heads")
                ? new LayerSlice(width, heads.Value)
                : null;
        }

        var nearest = Math.Max(1, (int)Math.Round((double)heads.Value / block.Group)) * block.Group;
        Report(
            Descriptors.HeadsNotWholeGroups,
            heads.At.ReplacedBy(Text(nearest)),
            name,
            Text(heads.Value),
            Text(block.Group),
            Text(nearest),
            OfLayer(layer));
        return null;
    }

    private bool CheckIncrease(GranularitySpec before, GranularityDeclaration?[] ofLayers, LayerSlice[] slices)
    {
        for (var layer = 0; layer < slices.Length; layer++)
        {
            var (slice, least, granularity) = (slices[layer], before.Layers[layer], ofLayers[layer]!);
            if (slice.Holds(least) && (layer < slices.Length - 1 || !slices.SequenceEqual(before.Layers))) continue;
            var (name, of) = (granularity.Name.Value, OfLayer(layer));
            if (!slice.HoldsStream(least))
            {
                var stream = ofLayers.First(g => g!.Stream is not null)!.Stream!;
                var wide = least.Width == 0 ? _declaration.Model.Width!.Value : least.Width;
                Report(
                    Descriptors.GranularityStreamDecreases, stream.At.ReplacedBy(Text(wide)), name, Text(slice.Width), before.Name,
                    Text(wide));
                return false;
            }

            if (slice.HiddenWidth >= least.HiddenWidth && slice.Heads < least.Heads)
            {
                var at = granularity.Heads!.At.ReplacedBy(Text(least.Heads));
                Report(Descriptors.GranularityHeadsDecrease, at, name, Text(slice.Heads), before.Name, Text(least.Heads), of);
            }
            else
            {
                var (width, narrower) = (Text(slice.HiddenWidth), Text(least.HiddenWidth));
                Report(Descriptors.GranularitiesNotIncreasing, granularity.WidthAt, name, width, before.Name, narrower, of);
            }

            return false;
        }

        return true;
    }

    private bool CheckWidest(
        GranularitySpec widest, GranularityDeclaration?[] ofLayers, int[] hiddenWidths, EquatableArray<BlockSpec>? blocks)
    {
        for (var layer = 0; layer < hiddenWidths.Length; layer++)
        {
            var (slice, granularity, hidden) = (widest.Layers[layer], ofLayers[layer]!, hiddenWidths[layer]);
            if (slice.Width > 0)
            {
                var (whole, stream) = (Text(_declaration.Model.Width!.Value), ofLayers.First(g => g!.Stream is not null)!.Stream!);
                Report(
                    Descriptors.WidestIsNotWhole, stream.At.ReplacedBy(whole), widest.Name, Text(slice.Width), whole, "channels", "");
                return false;
            }

            var (at, kept, all, units) = slice.HiddenWidth < hidden ? (granularity.WidthAt, slice.HiddenWidth, hidden, "hidden units")
                : (granularity.Heads?.At ?? granularity.At, slice.Heads, blocks?[layer].Heads ?? slice.Heads, "heads");
            if (kept == all) continue;
            var written = granularity.Fraction is not null && units != "heads" ? "1.0" : Text(all);
            Report(Descriptors.WidestIsNotWhole, at.ReplacedBy(written), widest.Name, Text(kept), Text(all), units, OfLayer(layer));
            return false;
        }

        return true;
    }

    private int? CheckWidth(GranularityDeclaration granularity, int hidden)
    {
        if (granularity.Width is { } width)
            return CheckSize("The width of '" + granularity.Name.Value + "'", width, MaxWidth) ? width.Value : null;

        // A fraction such as 0.1 is not exact in binary, so the width may differ from a whole number by a rounding error.
        var fraction = granularity.Fraction!;
        var exact = fraction.Value * hidden;
        var nearest = Math.Round(exact);
        if (exact > 0 && nearest >= 1 && nearest <= hidden && Math.Abs(exact - nearest) <= 1e-9 * hidden) return (int)nearest;

        // The suggestion needs a decimal point, because a number without one would be a width.
        var suggested = double.IsNaN(exact) ? hidden : Math.Min(hidden, Math.Max(1, nearest));
        var suggestedFraction = suggested == hidden ? "1.0" : Text(suggested / hidden);
        Report(
            Descriptors.FractionNotWhole,
            fraction.At.ReplacedBy(suggestedFraction),
            granularity.Name.Value,
            Text(fraction.Value),
            Text(hidden),
            Text(exact),
            suggestedFraction,
            Text(suggested));
        return null;
    }

    // Messages name the layer only if layers differ.
    private string OfLayer(int layer)
    {
        var attributes = _declaration.FeedForwards.Concat<IOfLayers>(_declaration.Attentions).Concat(_declaration.Granularities);
        return attributes.Any(a => a.Layers is not null) ? " of layer " + Text(layer) : "";
    }
}
