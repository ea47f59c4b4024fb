using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes the network that decodes token by token with packed weights. It needs no tensors.</summary>
internal static class DecodingEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model)
    {
        var f = new CodeFile(spec.Type);
        var slices = $"global::System.Collections.Immutable.ImmutableArray<{f.LayerSlice}>";
        f.Write($$"""
            static {{f.DecodingNetwork}} global::MatFormer.IDecodable<{{f.Model}}>.CreateDecodingNetwork(
                {{slices}} layers, {{f.WeightPacker}} packer) => new Decoding(layers, packer);

            // The packed weights of one model, whole or sliced, and its decoding step, of which every thread computes a share.
            [Generated]
            private sealed class Decoding : {{f.DecodingNetwork}}
            {
            """);
        WriteNetwork(f, spec, model, slices);
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1) WriteAnyLayer(f, model, kinds);
        for (var i = 0; i < kinds.Count; i++)
        {
            if (i > 0) f.Write($"");
            WriteLayer(f, model, kinds[i], isAlone: kinds.Count == 1, spec.ElasticWidth);
        }

        f.Write($$"""
            }
            """);
        return f;
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec, Architecture model, string slices)
    {
        var layers = Literals.Of(spec.Layers);
        var (maybe, orNone) = spec.CanSkip ? ("?", "layers[layer].IsSkipped ? null : ") : (null, null);
        var create = spec.Kinds.Count() == 1
            ? "new Layer(layers[layer], packer, Declared.Prefix(layer))"
            : "Layer.Create(layer, layers[layer], packer)";
        var fields = model.Around.SelectMany(part => part.Packed(f)).ToList();
        var width = spec.ElasticWidth ? $"var width = {f.Model}.Spec.WidthOf(layers.AsSpan());\n" : null;
        f.Write($$"""
                private readonly Layer{{maybe}}[] _layers = new Layer{{maybe}}[{{layers}}];
                {{string.Join("\n", fields.Select(field => field.Declaration))}}

                public Decoding({{slices}} layers, {{f.WeightPacker}} packer)
                    : base({{f.Model}}.Spec, layers, packer)
                {
                    {{width}}{{string.Join("\n", fields.Select(field => field.Assignment))}}
                    for (var layer = 0; layer < {{layers}}; layer++) _layers[layer] = {{orNone}}{{create}};
                }

                public override void Run({{f.DecodingThread}} thread)
                {
                    thread.Embed(_embedTokens{{model.Positions.DecodingAdded}});
                    {{ForEachLayer(spec, model)}}
                    if (!thread.KeepLogitRows()) return;
                    {{model.Norm.DecodingLine("_norm")}}
                    {{string.Join("\n", model.Head.DecodingLines)}}
                }

            """);
    }

    private static void WriteAnyLayer(CodeFile f, Architecture model, IReadOnlyList<BlockKind> kinds)
    {
        var created = kinds.Select((kind, i) =>
            $"{(i == kinds.Count - 1 ? "_" : kind.LayerPattern)} => new {NameOf(kind)}(slice, packer, Declared.Prefix(layer)),");
        f.Write($$"""
                private abstract class Layer
                {
                    public static Layer Create(int layer, {{f.LayerSlice}} slice, {{f.WeightPacker}} packer) => layer switch
                    {
                        {{string.Join("\n", created)}}
                    };

                    public abstract void Run({{f.DecodingThread}} thread, int layer{{model.Positions.DecodingParameters(f)}});
                }

            """);
    }

    private static void WriteLayer(CodeFile f, Architecture model, BlockKind kind, bool isAlone, bool isElastic)
    {
        var fields = model.Block.SelectMany(part => part.Packed(f, kind.Block)).ToList();
        var run = $"void Run({f.DecodingThread} thread, int layer{model.Positions.DecodingParameters(f)})";
        var width = isElastic ? $"var width = {f.Model}.Spec.WidthOf(slice);\n" : null;
        f.Write($$"""
                {{(isAlone ? null : $"// {kind.LayersText}.")}}
                private sealed class {{NameOf(kind)}}{{(isAlone ? null : " : Layer")}}
                {
                    {{string.Join("\n", fields.Select(field => field.Declaration))}}

                    public {{NameOf(kind)}}({{f.LayerSlice}} slice, {{f.WeightPacker}} packer, string prefix)
                    {
                        {{width}}{{string.Join("\n", fields.Select(field => field.Assignment))}}
                    }

                    public {{(isAlone ? null : "override ")}}{{run}}
                    {
                        {{string.Join("\n", model.Block.SelectMany(part => part.DecodingLines(f, kind.Block)))}}
                    }
                }
            """);
    }

    private static string ForEachLayer(ModelSpec spec, Architecture model)
    {
        var (loop, positions) = ($"for (var layer = 0; layer < {Literals.Of(spec.Layers)}; layer++)", model.Positions.DecodingArguments);
        if (!spec.CanSkip) return $"{loop} _layers[layer].Run(thread, layer{positions});";
        return $$"""
            {{loop}}
            {
                if (!thread.Skips(layer)) _layers[layer]!.Run(thread, layer{{positions}});
            }

            """;
    }

    private static string NameOf(BlockKind kind) => kind.Name.Replace("Block", "Layer");
}
