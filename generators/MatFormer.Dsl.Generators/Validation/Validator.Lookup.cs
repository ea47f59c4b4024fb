using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Validation;

/// <content>The compressed tokens.</content>
internal sealed partial class Validator
{
    // Returns null without compressed tokens, and if they are wrong.
    private LookupSpec? CheckLookup(ImageSpec? image, int width, int headWidth, Pooling pooling)
    {
        if (_declaration.Lookup is not { } lookup) return null;
        if (image is null)
        {
            Report(Descriptors.NotOfThisModel, lookup.At, "[Lookup]", "[MatViT]", Attribute, "remove it");
            return null;
        }

        var grids = new List<int>();
        foreach (var grid in lookup.Grids)
        {
            if (!CheckSize("The side of a grid", grid, image.Size / image.Patch)) return null;
            if (grids.Count > 0 && grid.Value <= grids[grids.Count - 1])
            {
                Report(Descriptors.GridsNotIncreasing, grid.At, Text(grid.Value), Text(grids[grids.Count - 1]));
                return null;
            }

            grids.Add(grid.Value);
        }

        if (grids.Count == 0) Report(Descriptors.NoGrid, lookup.At, ModelName, Text(image.Size / image.Patch));
        if (pooling != Pooling.Mean)
            Report(Descriptors.LookupPoolsCompressed, _declaration.Model.Pooling?.At ?? lookup.At, ModelName);
        if (width % headWidth != 0) Report(Descriptors.LookupHeads, lookup.At, Text(headWidth), Text(width), ModelName);
        if (lookup.Hidden is not null) CheckSize("Hidden of [Lookup]", lookup.Hidden, MaxWidth);
        if (_declaration.Routing is not null) Excluded("[Routing]", "the tokens that a router would choose among differ from grid to grid");
        if (_declaration.Precision is not null) Excluded("[Precision]", "only the nested part of the weights would be rounded in groups");
        if (_declaration.Granularities.FirstOrDefault(g => g.Stream is { } stream && stream.Value < width) is { } narrow)
            Excluded($"Width of '{narrow.Name.Value}'", "the cross-attention has the whole width of the model");
        return new LookupSpec(grids.ToEquatableArray(), lookup.Hidden?.Value ?? Math.Max(1, width / 2));

        void Excluded(string other, string reason) => Report(Descriptors.LookupExcludes, lookup.At, other, ModelName, reason);
    }
}
