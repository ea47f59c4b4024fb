using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>
/// The method <c>States</c>, from the input to what the head takes: of the network, over all stacked streams, which training uses; and of
/// each slice, straight down its layers.
/// </summary>
internal static class PassEmitter
{
    /// <summary>Writes the network's pass over all streams.</summary>
    public static void WriteStacked(CodeFile f, ModelSpec spec, Architecture model)
    {
        var pass = new Pass(f, IsStacked: true);
        f.Write($$"""
                // {{Comment(model, pass)}} of all streams; if asked for, also the importance of each layer's hidden units.
                public {{f.Tensor}} States(
                    {{f.Tensor}} {{model.Input.Name}}, {{f.Streams}} streams{{model.Mask.PassParameter(f)}}, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation = null, {{f.Tensor}}[]? importance = null)
                {
                    {{Lines(Enter(model, pass))}}
                    for (var layer = 0; layer < {{Literals.Of(spec.Layers)}}; layer++)
                    {
                        if (streams.Skips(layer)) continue;
                        using var input = x;
                        x = recomputation is null
                            ? Layer(input{{model.Positions.LayerArguments}}, streams, {{model.Mask.LayerArgument}}layer, importance)
                            : recomputation.Run(input, Recomputed(streams, {{model.Mask.RecomputedArgument}}layer));  //| {{Shape.Stacked(spec)}}
                    }

                    using var last = x;
                    {{Lines(Leave(model, pass))}}
                }

            """);
        WriteLayer(f, spec, model);
    }

    /// <summary>Writes the pass of a profile's class, or of the class of any slice if <paramref name="profile"/> is null.</summary>
    public static void WriteSlice(CodeFile f, ModelSpec spec, Architecture model, ProfileSpec? profile)
    {
        var pass = new Pass(f, IsStacked: false);
        f.Write($$"""
                // {{Comment(model, pass)}}.
                private protected {{(profile is null ? "virtual" : "override")}} {{f.Tensor}} States({{f.Tensor}} {{model.Input.Name}}{{model.Mask.PassParameter(f)}})
                {
                    {{Lines(Enter(model, pass))}}
                    {{Lines(profile is null ? AnyLayers(spec, model) : Layers(spec, model, profile))}}

                    using var last = x;
                    {{Lines(Leave(model, pass))}}
                }
            """);
    }

    // One layer of all streams, and the same from its input alone.
    private static void WriteLayer(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (stacked, mask, positions) = (Shape.Stacked(spec), model.Mask, model.Positions);
        var block = $"Blocks[layer]{(spec.CanSkip ? "!" : null)}";
        var last = model.Block[model.Block.Count - 1].Result;
        f.Write($$"""
                // One layer of all streams: {{stacked}} to the same, or {{Shape.States(spec)}} where they part.
                private {{f.Tensor}} Layer(
                    {{f.Tensor}} x{{positions.LayerParameters(f)}}, {{f.Streams}} streams, {{mask.LayerParameter(f)}}int layer, {{f.Tensor}}[]? importance)
                {
                    {{Lines(model.Block.SelectMany(part => part.StackedLines(f, block)))}}
                    if (!streams.IsScaled(layer)) return {{last}};
                    using ({{last}}) return streams.Scaled(layer, x, {{last}});  //| {{stacked}}
                }

                // A layer as a function of its input alone, for activation checkpointing.
            """);
        var head = $"private global::System.Func<{f.Tensor}, {f.Tensor}> Recomputed({f.Streams} streams, {mask.RecomputedParameter(f)}int layer) =>";
        var call = $"Layer(x{positions.LayerArguments}, streams, {mask.RecomputedLayerArgument}layer, null);";
        var arguments = positions.Recomputed(f).ToList();
        if (arguments.Count == 0)
        {
            f.Write($$"""
                    {{head}}
                        x => {{call}}
                """);
            return;
        }

        f.Write($$"""
                {{head}} x =>
                {
                    {{Lines(arguments)}}
                    return {{call}}  //| {{stacked}}
                };
            """);
    }

    // Rotary angles and lengths come first: embeddings of positions follow those of the input.
    private static IEnumerable<string> Enter(Architecture model, Pass pass) => model.Around.SelectMany(part => part.Enter(pass));

    private static IEnumerable<string> Leave(Architecture model, Pass pass) => model.Around.SelectMany(part => part.Leave(pass));

    // The layers of one profile, as loops of literal bounds; layers that are left out are not there.
    private static IEnumerable<string> Layers(ModelSpec spec, Architecture model, ProfileSpec profile)
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
            yield return $"    x = Network.Blocks[layer]{(spec.CanSkip ? "!" : null)}.{Call(spec, model)}";
            yield return "}";
        }
    }

    // The layers of any slice.
    private static IEnumerable<string> AnyLayers(ModelSpec spec, Architecture model)
    {
        yield return $"for (var layer = 0; layer < {Literals.Of(spec.Layers)}; layer++)";
        yield return "{";
        if (spec.CanSkip) yield return "    if (Network.Blocks[layer] is not { } block) continue;";
        yield return "    using var input = x;";
        yield return $"    x = {(spec.CanSkip ? "block" : "Network.Blocks[layer]")}.{Call(spec, model)}";
        yield return "}";
    }

    private static string Call(ModelSpec spec, Architecture model) =>
        $"Forward(input{model.Positions.LayerArguments}{model.Mask.BlockArguments});  //| {Shape.States(spec)}";

    private static string Comment(Architecture model, Pass pass)
    {
        var takes = char.ToUpperInvariant(model.Input.Takes[0]) + model.Input.Takes.TrimEnd(',').Substring(1);
        var gives = model.Pooling.KeepsTokens ? "the last hidden states, normed" : "one vector of each, normed";
        return $"{takes} to {gives}, {model.Pooling.Result(pass.Rows)}";
    }

    private static string Lines(IEnumerable<string> lines) => string.Join("\n", lines);
}
