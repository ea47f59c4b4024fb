using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>
/// Writes the method <c>States</c>, which goes from the input to the input of the head. The network's method runs all stacked streams, for
/// training. A slice's method runs the layers of the slice.
/// </summary>
internal static class PassEmitter
{
    /// <summary>Writes the network's pass over all streams.</summary>
    public static void WriteStacked(CodeFile f, ModelSpec spec, Architecture model)
    {
        var pass = new Pass(f, IsStacked: true);
        var (mask, stacked) = (model.Mask, Shape.Stacked(spec));
        var (channels, measured) = spec.ElasticWidth ? ($", {f.Tensor}[]? channels = null", ", channels") : (null, null);
        f.Write($$"""
                // {{Comment(model, pass)}} If importance is not null, it receives the importance of each layer's hidden units.
                public {{f.Tensor}} States(
                    {{f.Tensor}} {{model.Input.Name}}, {{f.Streams}} streams{{mask.PassParameter(f)}}, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation = null, {{f.Tensor}}[]? importance = null{{channels}})
                {
                    {{Lines(Enter(model, pass))}}
                    for (var layer = 0; layer < {{Literals.Of(spec.Layers)}}; layer++)
                    {
                        if (streams.Skips(layer)) continue;
                        using var input = x;
                        x = recomputation is null
                            ? Layer(input{{model.Positions.LayerArguments}}, streams, {{mask.LayerArgument}}layer, importance{{measured}})
                            : recomputation.Run(input, Recomputed(streams, {{mask.RecomputedArgument}}layer));  //| {{stacked}}
                    }

                    using var last = x;
                    {{Lines(Leave(model, pass))}}
                }

            """);
        WriteLayer(f, spec, model);
    }

    /// <summary>Writes the pass of a profile's class, or the pass of any slice if <paramref name="profile"/> is null.</summary>
    public static void WriteSlice(CodeFile f, ModelSpec spec, Architecture model, ProfileSpec? profile)
    {
        var pass = new Pass(f, IsStacked: false);
        var modifier = profile is null ? "virtual" : "override";
        var grid = spec.Lookup is null ? null : ", int grid";
        f.Write($$"""
                // {{Comment(model, pass)}}
                private protected {{modifier}} {{f.Tensor}} States({{f.Tensor}} {{model.Input.Name}}{{model.Mask.PassParameter(f)}}{{grid}})
                {
                    {{Lines(Enter(model, pass))}}
                    {{Lines(profile is null ? AnyLayers(spec, model) : Layers(spec, model, profile))}}

                    using var last = x;
                    {{Lines(Leave(model, pass))}}
                }
            """);
    }

    // Writes one layer of all streams, and the same layer as a function of its input, for activation checkpointing.
    private static void WriteLayer(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (stacked, shared) = (Shape.Stacked(spec), Shape.States(spec));
        var (mask, positions) = (model.Mask, model.Positions);
        var block = $"Blocks[layer]{(spec.CanSkip ? "!" : null)}";
        var last = model.Block[model.Block.Count - 1].Result;
        var parameters = $"{f.Tensor} x{positions.LayerParameters(f)}, {f.Streams} streams, {mask.LayerParameter(f)}int layer";
        f.Write($$"""
                // One layer of all streams: {{stacked}} to the same shape. Up to the layer where the streams part, x is {{shared}}.
                private {{f.Tensor}} Layer(
                    {{parameters}}, {{f.Tensor}}[]? importance{{(spec.ElasticWidth ? $", {f.Tensor}[]? channels" : null)}})
                {
                    {{Lines(model.Block.SelectMany(part => part.StackedLines(f, block)))}}
                    if (!streams.IsScaled(layer)) return {{last}};
                    using ({{last}}) return streams.Scaled(layer, x, {{last}});  //| {{stacked}}
                }

                // Returns a layer as a function of its input, for activation checkpointing.
            """);
        var head = $"private global::System.Func<{f.Tensor}, {f.Tensor}> Recomputed("
            + $"{f.Streams} streams, {mask.RecomputedParameter(f)}int layer) =>";
        var notMeasured = spec.ElasticWidth ? ", null" : null;
        var call = $"Layer(x{positions.LayerArguments}, streams, {mask.RecomputedLayerArgument}layer, null{notMeasured});";
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

    // The parts' lines come in the order of execution: lengths, rotary angles, and then the input.
    private static IEnumerable<string> Enter(Architecture model, Pass pass) => model.Around.SelectMany(part => part.Enter(pass));

    private static IEnumerable<string> Leave(Architecture model, Pass pass) => model.Around.SelectMany(part => part.Leave(pass));

    // Returns the layers of one profile as loops with literal bounds. Layers that are left out have no loop.
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

    // Returns the loop over the layers of any slice.
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
        var gives = model.Pooling.KeepsTokens ? "the normed last hidden states" : "the normed and pooled last hidden states";
        var streams = pass.IsStacked ? " of all streams" : null;
        return $"Returns {gives} {model.Pooling.Result(pass.Rows)}{streams} for {model.Input.Takes.TrimEnd(',')}.";
    }

    private static string Lines(IEnumerable<string> lines) => string.Join("\n", lines);
}
