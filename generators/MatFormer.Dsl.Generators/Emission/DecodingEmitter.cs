using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>The steps that decode token by token, over packed weights and without tensors: straight code for what is declared.</summary>
internal static class DecodingEmitter
{
    public static CodeFile Emit(ModelSpec spec)
    {
        var f = new CodeFile(spec.Type);
        var slices = $"global::System.Collections.Immutable.ImmutableArray<{f.LayerSlice}>";
        f.Write($$"""
            static {{f.DecodingNetwork}} global::MatFormer.IDecodable<{{f.Model}}>.CreateDecodingNetwork(
                {{slices}} layers, {{f.WeightPacker}} packer) => new Decoding(layers, packer);

            // The packed weights of one model, whole or sliced, and its pass through them, in which every thread does its share of each step.
            [Generated]
            private sealed class Decoding : {{f.DecodingNetwork}}
            {
            """);
        WriteNetwork(f, spec, slices);
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1) WriteAnyLayer(f, spec, kinds);
        for (var i = 0; i < kinds.Count; i++)
        {
            if (i > 0) f.Write($"");
            WriteLayer(f, spec, kinds[i], isAlone: kinds.Count == 1);
        }

        f.Write($$"""
            }
            """);
        return f;
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec, string slices)
    {
        var (layers, width, vocabulary) = (Literals.Of(spec.Layers), Literals.Of(spec.Width), Literals.Of(spec.Vocabulary));
        var (maybe, orNone) = spec.CanSkip ? ("?", "layers[layer].IsSkipped ? null : ") : (null, null);
        var isAlone = spec.Kinds.Count() == 1;
        var create = isAlone ? "new Layer(layers[layer], packer, Declared.Prefix(layer))" : "Layer.Create(layer, layers[layer], packer)";
        var hasBias = spec.Norm == NormKind.Layer;
        f.Write($$"""
                private readonly Layer{{maybe}}[] _layers = new Layer{{maybe}}[{{layers}}];
                private readonly {{f.PackedMatrix}} _embedTokens;  //| ({{spec.Vocabulary}}, {{spec.Width}})
                {{(spec.Rotary ? null : $"private readonly {f.PackedTable} _embedPositions;  //| ({spec.Context}, {spec.Width})")}}
                {{(spec.Rotary ? $"private readonly {f.PackedTable} _cos;  //| ({spec.Context}, {spec.HeadWidth / 2})" : null)}}
                {{(spec.Rotary ? $"private readonly {f.PackedTable} _sin;  //| ({spec.Context}, {spec.HeadWidth / 2})" : null)}}
                private readonly {{f.PackedTable}} _norm;  //| ({{spec.Width}})
                {{(hasBias ? $"private readonly {f.PackedTable} _normBias;  //| ({spec.Width})" : null)}}
                {{(spec.Tied ? null : $"private readonly {f.PackedMatrix} _head;  //| ({spec.Vocabulary}, {spec.Width})")}}

                public Decoding({{slices}} layers, {{f.WeightPacker}} packer)
                    : base({{f.Model}}.Spec, layers, packer)
                {
                    _embedTokens = packer.Matrix("model.embed_tokens.weight", {{vocabulary}}, {{width}});
                    {{(spec.Rotary
                        ? $"(_cos, _sin) = packer.Rotary({Literals.Of(spec.Context)}, {Literals.Of(spec.HeadWidth)}, {Literals.Of(spec.RotaryBase)}{ParametersEmitter.Scaling(f, spec)});"
                        : $"_embedPositions = packer.Table(\"model.embed_positions.weight\", {Literals.Of(spec.Context)}, {width});")}}
                    for (var layer = 0; layer < {{layers}}; layer++) _layers[layer] = {{orNone}}{{create}};
                    _norm = packer.Vector("model.norm.weight", {{width}});
                    {{(hasBias ? $"_normBias = packer.Vector(\"model.norm.bias\", {width});" : null)}}
                    {{(spec.Tied ? null : $"_head = packer.Matrix(\"lm_head.weight\", {vocabulary}, {width});")}}
                }

                public override void Run({{f.DecodingThread}} thread)
                {
                    thread.Embed(_embedTokens{{(spec.Rotary ? null : ", _embedPositions")}});
                    {{ForEachLayer(spec)}}
                    if (!thread.KeepLogitRows()) return;
                    {{Norm(spec, "_norm")}}
                    thread.Logits({{(spec.Tied ? "_embedTokens" : "_head")}});
                }

            """);
    }

    private static void WriteAnyLayer(CodeFile f, ModelSpec spec, IReadOnlyList<BlockKind> kinds)
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

                    public abstract void Run({{f.DecodingThread}} thread, int layer{{Angles(f, spec)}});
                }

            """);
    }

    private static void WriteLayer(CodeFile f, ModelSpec spec, BlockKind kind, bool isAlone)
    {
        var block = kind.Block;
        var name = NameOf(kind);
        var (width, headWidth) = (Literals.Of(spec.Width), Literals.Of(spec.HeadWidth));
        var heads = spec.ElasticHeads ? "slice.Heads" : Literals.Of(block.Heads);
        var keyHeads = !spec.ElasticHeads ? Literals.Of(block.KeyValueHeads)
            : block.Group == 1 ? "slice.Heads" : $"slice.Heads / {Literals.Of(block.Group)}";
        var isLayerNorm = spec.Norm == NormKind.Layer;
        var tables = new List<(string Field, string Name, string Size)> { ("_inputNorm", "input_layernorm.weight", width) };
        if (isLayerNorm) tables.Add(("_inputNormBias", "input_layernorm.bias", width));
        if (spec.QkNorm) tables.AddRange([("_queryNorm", "self_attn.q_norm.weight", headWidth), ("_keyNorm", "self_attn.k_norm.weight", headWidth)]);
        tables.Add(("_postAttentionNorm", "post_attention_layernorm.weight", width));
        if (isLayerNorm) tables.Add(("_postAttentionNormBias", "post_attention_layernorm.bias", width));
        string? AttentionBias(string of) => spec.AttentionBias ? $", prefix + \"self_attn.{of}_proj.bias\"" : null;
        var (gateBias, upBias, downBias) = block.Bias
            ? (", prefix + \"mlp.gate_proj.bias\"", ", prefix + \"mlp.up_proj.bias\"", ", prefix + \"mlp.down_proj.bias\"")
            : (null, null, null);
        var expanding = block.Gated
            ? $"packer.Gated(prefix + \"mlp.gate_proj.weight\", prefix + \"mlp.up_proj.weight\", slice.HiddenWidth, {width}{gateBias}{upBias})"
            : $"packer.Matrix(prefix + \"mlp.up_proj.weight\", slice.HiddenWidth, {width}{upBias})";
        f.Write($$"""
                {{(isAlone ? null : $"// {kind.LayersText}.")}}
                private sealed class {{name}}{{(isAlone ? null : " : Layer")}}
                {
                    private readonly {{f.PackedMatrix}} _query;
                    private readonly {{f.PackedMatrix}} _key;
                    private readonly {{f.PackedMatrix}} _value;
                    private readonly {{f.PackedMatrix}} _output;
                    private readonly {{f.PackedMatrix}} _expanding;
                    private readonly {{f.PackedMatrix}} _down;
                    {{string.Join("\n", tables.Select(t => $"private readonly {f.PackedTable} {t.Field};"))}}

                    public {{name}}({{f.LayerSlice}} slice, {{f.WeightPacker}} packer, string prefix)
                    {
                        _query = packer.ToHeads(prefix + "self_attn.q_proj.weight", {{heads}}, {{headWidth}}, {{width}}{{AttentionBias("q")}});
                        _key = packer.ToHeads(prefix + "self_attn.k_proj.weight", {{keyHeads}}, {{headWidth}}, {{width}}{{AttentionBias("k")}});
                        _value = packer.ToHeads(prefix + "self_attn.v_proj.weight", {{keyHeads}}, {{headWidth}}, {{width}}{{AttentionBias("v")}});
                        _output = packer.FromHeads(prefix + "self_attn.o_proj.weight", {{width}}, {{heads}}, {{headWidth}}{{AttentionBias("o")}});
                        _expanding = {{expanding}};
                        _down = packer.Matrix(prefix + "mlp.down_proj.weight", {{width}}, slice.HiddenWidth{{downBias}});
                        {{string.Join("\n", tables.Select(t => $"{t.Field} = packer.Vector(prefix + \"{t.Name}\", {t.Size});"))}}
                    }

                    public {{(isAlone ? null : "override ")}}void Run({{f.DecodingThread}} thread, int layer{{Angles(f, spec)}})
                    {
                        {{Norm(spec, "_inputNorm")}}
                        thread.Heads(layer, _query, _key, _value{{(spec.Rotary ? ", cos, sin" : null)}}{{(
                            spec.QkNorm ? $", queryNorm: _queryNorm, keyNorm: _keyNorm, epsilon: {Literals.Of(spec.Epsilon)}" : null)}});
                        thread.Attend(layer{{(block.Window > 0 ? $", window: {Literals.Of(block.Window)}" : null)}});
                        thread.AddAttended(layer, _output);
                        {{Norm(spec, "_postAttentionNorm")}}
                        thread.Expand(layer, _expanding, {{f.FeedForwardKind}}.{{block.Activation}});
                        thread.AddHidden(layer, _down);
                    }
                }
            """);
    }

    private static string ForEachLayer(ModelSpec spec)
    {
        var (loop, angles) = ($"for (var layer = 0; layer < {Literals.Of(spec.Layers)}; layer++)", spec.Rotary ? ", _cos, _sin" : null);
        if (!spec.CanSkip) return $"{loop} _layers[layer].Run(thread, layer{angles});";
        return $$"""
            {{loop}}
            {
                if (!thread.Skips(layer)) _layers[layer]!.Run(thread, layer{{angles}});
            }

            """;
    }

    private static string NameOf(BlockKind kind) => kind.Name.Replace("Block", "Layer");

    private static string? Angles(CodeFile f, ModelSpec spec) => spec.Rotary ? $", {f.PackedTable} cos, {f.PackedTable} sin" : null;

    private static string Norm(ModelSpec spec, string field) => spec.Norm == NormKind.Rms
        ? $"thread.RmsNorm({field}, {Literals.Of(spec.Epsilon)});"
        : $"thread.LayerNorm({field}, {field}Bias, {Literals.Of(spec.Epsilon)});";
}
