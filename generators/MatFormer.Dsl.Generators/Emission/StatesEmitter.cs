using MatFormer.Generators.Model;
using static MatFormer.Generators.Emission.ForwardEmitter;

namespace MatFormer.Generators.Emission;

/// <summary>
/// A slice's pass through its layers, straight down: of a decoder to the normed states, of an encoder to the pooled ones. Layers in a row
/// that keep the same are a loop.
/// </summary>
internal static class StatesEmitter
{
    /// <summary>Writes the method of a profile's class, or of the class of any slice if <paramref name="profile"/> is null.</summary>
    public static void Write(CodeFile f, ModelSpec spec, ProfileSpec? profile)
    {
        var io = ModelText.Of(spec);
        var cache = spec.IsDecoder ? $", {f.KeyValueCache}? cache" : null;
        var gives = spec.IsDecoder
            ? $"the last hidden states, normed, {Shape("B", "T", spec.Width)}"
            : $"one vector of each, normed, {Shape("B", spec.Width)}";
        var takes = char.ToUpperInvariant(io.Takes[0]) + io.Takes.TrimEnd(',').Substring(1);
        f.Write($$"""
                // {{takes}} to {{gives}}.
                private protected {{(profile is null ? "virtual" : "override")}} {{f.Tensor}} States({{f.Tensor}} {{io.Input}}{{cache}})
                {
                    {{string.Join("\n", Beginning(f, spec))}}
                    {{string.Join("\n", profile is null ? AnyLayers(spec) : Layers(spec, profile))}}

                    using var last = x;
                    {{(spec.IsDecoder ? "cache?.Advance((int)tokens.shape[1]);" : null)}}
                    {{string.Join("\n", Ending(f, spec))}}
                }
            """);
    }

    // From the input to what goes into the first layer.
    private static IEnumerable<string> Beginning(CodeFile f, ModelSpec spec)
    {
        var states = Shape("B", "T", spec.Width);
        var classToken = spec.HasClassToken ? "Network.ClassToken" : "classToken: null";
        if (spec.IsVision)
        {
            var positions = spec.Sinusoidal ? "Network.Positions.Table" : "Network.EmbedPositions";
            yield return $"var x = {f.Kernels}.EmbedPatches(";
            yield return $"    pixels, Network.EmbedPatches, Network.EmbedPatchesBias, {classToken}, {positions}, ComputeType);  //| {states}";
            yield break;
        }

        if (!spec.IsDecoder) yield return $"using var lengths = {f.Kernels}.Lengths(tokens, {(spec.HasClassToken ? 1 : 0)});  //| (B)";
        var position = spec.IsDecoder ? "cache?.Length ?? 0" : "0";
        if (spec.Rotary)
        {
            var angles = Shape("T", spec.HeadWidth / 2);
            yield return $"var (cosines, sines) = Network.Rotary.Slice({position}, tokens.shape[1]{(spec.HasClassToken ? " + 1" : null)});";
            yield return $"using var cos = cosines;  //| {angles}";
            yield return $"using var sin = sines;  //| {angles}";
        }

        if (!spec.IsDecoder)
        {
            var positions = spec.Rotary ? "positions: null" : "Network.EmbedPositions";
            yield return $"var x = {f.Kernels}.EmbedText(";
            yield return $"    tokens, Network.EmbedTokens, {classToken}, {positions}, ComputeType);  //| {states}";
        }
        else if (spec.Rotary)
        {
            yield return $"var x = {f.Kernels}.Embedding(Network.EmbedTokens, tokens, ComputeType);  //| {states}";
        }
        else
        {
            yield return $"using var embedded = {f.Kernels}.Embedding(Network.EmbedTokens, tokens, ComputeType);  //| {states}";
            yield return $"var x = {f.Kernels}.AddPositions(embedded, Network.EmbedPositions, {position});  //| {states}";
        }
    }

    // Those of one profile, as loops of literal bounds; layers that are left out are not there.
    private static IEnumerable<string> Layers(ModelSpec spec, ProfileSpec profile)
    {
        var first = 0;
        var kept = profile.Choices.Zip(spec.LayersOf(profile.Choices), (choice, slice) => (Choice: choice, Slice: slice)).ToList();
        foreach (var (count, (choice, slice)) in Pattern.Runs(kept))
        {
            var (from, to) = (Literals.Of(first), Literals.Of(first + count));
            first += count;
            if (choice == ProfileSpec.Skip) continue;
            var heads = spec.ElasticHeads ? $", {Literals.Text(slice.Heads)} heads" : null;
            var what = $"{spec.Granularities[choice].Name}: {Literals.Text(slice.HiddenWidth)} hidden units{heads}";
            yield return $"for (var layer = {from}; layer < {to}; layer++)  //| {what}";
            yield return "{";
            yield return "    using var input = x;";
            yield return $"    x = Network.Blocks[layer]{(spec.CanSkip ? "!" : null)}.{Call(spec)}";
            yield return "}";
        }
    }

    // Those of any slice.
    private static IEnumerable<string> AnyLayers(ModelSpec spec)
    {
        yield return $"for (var layer = 0; layer < {Literals.Of(spec.Layers)}; layer++)";
        yield return "{";
        if (spec.CanSkip) yield return "    if (Network.Blocks[layer] is not { } block) continue;";
        yield return "    using var input = x;";
        yield return $"    x = {(spec.CanSkip ? "block" : "Network.Blocks[layer]")}.{Call(spec)}";
        yield return "}";
    }

    private static string Call(ModelSpec spec) => $"Forward(input{Angles(spec)}{Sight(spec)});  //| {Shape("B", "T", spec.Width)}";

    // From what comes out of the last layer to the states.
    private static IEnumerable<string> Ending(CodeFile f, ModelSpec spec)
    {
        var (states, pooled) = (Shape("B", "T", spec.Width), Shape("B", spec.Width));
        if (spec.IsDecoder)
        {
            yield return $"return {Norm(f, spec, "last", "Network.Norm")};  //| {states}";
        }
        else if (spec.HasClassToken)
        {
            yield return $"using var first = {f.Kernels}.FirstToken(last);  //| {pooled}";
            yield return $"return {Norm(f, spec, "first", "Network.Norm")};  //| {pooled}";
        }
        else
        {
            var lengths = spec.IsVision ? null : ", lengths";
            yield return $"using var normed = {Norm(f, spec, "last", "Network.Norm")};  //| {states}";
            yield return $"return {f.Kernels}.MeanToken(normed{lengths});  //| {pooled}";
        }
    }
}
