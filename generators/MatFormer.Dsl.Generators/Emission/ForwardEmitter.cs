using System.Globalization;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>The forward pass: straight code for what is declared, each temporary released behind its last use.</summary>
internal static class ForwardEmitter
{
    public static CodeFile Emit(ModelSpec spec)
    {
        var file = new CodeFile(spec.Type);
        WriteModel(file, spec);
        WriteBlocks(file, spec);
        WriteNetwork(file, spec);
        return file;
    }

    private static void WriteModel(CodeFile f, ModelSpec spec)
    {
        var logits = Shape("B", "T", spec.Vocabulary);
        var context = Literals.Text(spec.Context);
        f.Write($$"""
            /// <summary>Logits of the whole model: tokens (B, T) int64 to {{logits}} float32.</summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or longer than {{context}} tokens.</exception>
            [Generated]
            public override {{f.Tensor}} forward({{f.Tensor}} tokens) => Forward(Profile.{{spec.Widest.Name}}, tokens);

            /// <summary>
            /// Logits {{logits}} float32 of tokens (B, T) int64 that follow those in the cache, which then holds them too.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or more tokens than the cache has room for.</exception>
            [Generated]
            public override {{f.Tensor}} forward({{f.Tensor}} tokens, {{f.KeyValueCache}} cache)
            {
                CheckTokens(tokens, cache);
                return _network.Logits(tokens, Profile.{{spec.Widest.Name}}.Streams, cache, ComputeType);
            }

            /// <summary>Logits of a submodel, computed with this model's weights: tokens (B, T) int64 to {{logits}} float32.</summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or longer than {{context}} tokens.</exception>
            [Generated]
            public {{f.Tensor}} Forward({{f.Profile}} profile, {{f.Tensor}} tokens)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                CheckTokens(tokens);
                return _network.Logits(tokens, profile.Streams, null, ComputeType);
            }

            """);
    }

    private static void WriteBlocks(CodeFile f, ModelSpec spec)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1)
        {
            f.Write($$"""
                private abstract partial class Block
                {
                    // x + attention(norm(x)): {{Stacked(spec)}} to the same.
                    public abstract {{f.Tensor}} Attend({{f.Tensor}} x{{AngleParameters(f, spec)}}{{HeadsParameter(spec)}}, {{f.KeyValueCache}}? cache, int layer);

                    // x + feed-forward(norm(x)) of R stacked streams, stream r with its first widths[r] hidden units: {{Stacked(spec)}} to the same.
                    public abstract {{f.Tensor}} FeedForward({{f.Tensor}} x, int[] widths, int[]? rows);
                }

                """);
        }

        foreach (var kind in kinds) WriteBlock(f, spec, kind, isAlone: kinds.Count == 1);
    }

    private static void WriteBlock(CodeFile f, ModelSpec spec, BlockKind kind, bool isAlone)
    {
        var block = kind.Block;
        var overrides = isAlone ? null : "override ";
        f.Write($$"""
            private sealed partial class {{kind.Name}}
            {
            """);
        if (spec.ElasticHeads) WriteElasticAttend(f, spec, overrides);
        else WriteAttend(f, spec, overrides);
        f.Write($$"""
                // x + feed-forward(norm(x)) of R stacked streams, stream r with its first widths[r] hidden units: {{Stacked(spec)}} to the same.
                public {{overrides}}{{f.Tensor}} FeedForward({{f.Tensor}} x, int[] widths, int[]? rows)
                {
                    using var normed = {{Norm(f, spec, "x", "PostAttentionLayerNorm")}};  //| {{Stacked(spec)}}
                    var fed = {{f.Kernels}}.FeedForward(
                        normed,
                        {{ExpandingWeights(block)}},
                        DownProjection, {{(block.Bias ? "DownBias" : "downBias: null")}},
                        {{f.FeedForwardKind}}.{{block.Activation}}, widths, rows);  //| {{Stacked(spec)}}
                    return fed.add_(x);  //| {{Stacked(spec)}}
                }

            """);
        WriteAttention(f, spec, block);
        f.Write($$"""
            }

            """);
    }

    private static void WriteAttend(CodeFile f, ModelSpec spec, string? overrides)
    {
        var states = Shape("B", "T", spec.Width);
        f.Write($$"""
                // x + attention(norm(x)): {{states}} to the same.
                public {{overrides}}{{f.Tensor}} Attend({{f.Tensor}} x{{AngleParameters(f, spec)}}, {{f.KeyValueCache}}? cache, int layer)
                {
                    using var attended = Attention(x{{Angles(spec)}}, cache, layer);  //| {{Shape("B", "T", spec.Blocks[0].Heads * spec.HeadWidth)}}
                    var projected = {{f.Kernels}}.Linear(attended, OutputProjection);  //| {{states}}
                    return projected.add_(x);  //| {{states}}
                }

            """);
    }

    // Streams that keep different heads attend one after the other.
    private static void WriteElasticAttend(CodeFile f, ModelSpec spec, string? overrides)
    {
        var states = Shape("B", "T", spec.Width);
        f.Write($$"""
                // x + attention(norm(x)) of R stacked streams, stream r with its first heads[r] heads: {{Stacked(spec)}} to the same.
                public {{overrides}}{{f.Tensor}} Attend({{f.Tensor}} x{{AngleParameters(f, spec)}}, int[] heads, int[]? rows, {{f.KeyValueCache}}? cache, int layer)
                {
                    if (heads.Length == 1) return AttendOne(x{{Angles(spec)}}, heads[0], cache, layer);  //| {{states}}
                    var attended = new {{f.Tensor}}[heads.Length];
                    var start = 0L;
                    for (var stream = 0; stream < heads.Length; stream++)
                    {
                        var count = rows is null ? x.shape[0] / heads.Length : rows[stream];
                        using var one = x.narrow(0, start, count);  //| {{states}}
                        attended[stream] = AttendOne(one{{Angles(spec)}}, heads[stream], cache, layer);  //| {{states}}
                        start += count;
                    }

                    var stacked = global::TorchSharp.torch.cat(attended, 0);  //| {{Stacked(spec)}}
                    foreach (var one in attended) one.Dispose();
                    return stacked;
                }

                // x + attention(norm(x)) with the first heads: {{states}} to the same.
                private {{f.Tensor}} AttendOne({{f.Tensor}} x{{AngleParameters(f, spec)}}, int heads, {{f.KeyValueCache}}? cache, int layer)
                {
                    using var attended = Attention(x{{Angles(spec)}}, heads, cache, layer);  //| {{Shape("B", "T", $"heads * {spec.HeadWidth}")}}
                    var projected = {{f.Kernels}}.LinearColumns(attended, OutputProjection, heads * {{Literals.Of(spec.HeadWidth)}});  //| {{states}}
                    return projected.add_(x);  //| {{states}}
                }

            """);
    }

    private static void WriteAttention(CodeFile f, ModelSpec spec, BlockSpec block)
    {
        var elastic = spec.ElasticHeads;
        var states = Shape("B", "T", spec.Width);
        var keyHeads = !elastic ? Literals.Of(block.KeyValueHeads) : block.Group == 1 ? "heads" : $"heads / {Literals.Of(block.Group)}";
        var shapeHeads = elastic ? "heads" : Literals.Digits(block.Heads);
        var shapeKeyHeads = elastic ? keyHeads : Literals.Digits(block.KeyValueHeads);
        var queries = Shape("B", "T", shapeHeads, spec.HeadWidth);
        var keys = Shape("B", "T", shapeKeyHeads, spec.HeadWidth);
        var cachedKeys = Shape("B", "S", shapeKeyHeads, spec.HeadWidth);
        var attended = Shape("B", "T", elastic ? $"heads * {spec.HeadWidth}" : Literals.Digits(block.Heads * spec.HeadWidth));
        var shapesHeads = spec.Rotary || spec.QkNorm;
        var (queryCount, keyCount) = elastic ? (", heads", ", " + keyHeads) : (null, null);
        var query = shapesHeads ? $"Query(normed{Angles(spec)}{queryCount})"
            : $"Heads(normed, QueryProjection, {(elastic ? "heads" : Literals.Of(block.Heads))})";
        var key = shapesHeads ? $"Key(normed{Angles(spec)}{keyCount})" : $"Heads(normed, KeyProjection, {keyHeads})";
        var window = block.Window > 0 ? $", window: {Literals.Of(block.Window)}" : null;
        f.Write($$"""
                private {{f.Tensor}} Attention({{f.Tensor}} x{{AngleParameters(f, spec)}}{{(elastic ? ", int heads" : null)}}, {{f.KeyValueCache}}? cache, int layer)
                {
                    var normed = {{Norm(f, spec, "x", "InputLayerNorm")}};  //| {{states}}
                    using var query = {{query}};  //| {{queries}}
                    using var key = {{key}};  //| {{keys}}
                    using var value = Heads(normed, ValueProjection, {{keyHeads}});  //| {{keys}}
                    normed.Dispose();
                    if (cache is null) return {{f.Kernels}}.CausalAttention(query, key, value{{window}});  //| {{attended}}

                    var (keys, values) = cache.Append(layer, key, value);  //| {{cachedKeys}} each
                    using (keys)
                    using (values)
                        return {{f.Kernels}}.CausalAttention(query, keys, values{{window}});  //| {{attended}}
                }

            """);
        if (shapesHeads)
        {
            WriteHeads(f, spec, "Query", "queries", Literals.Of(block.Heads));
            WriteHeads(f, spec, "Key", "keys", Literals.Of(block.KeyValueHeads));
        }

        var heads = Shape("B", "T", "heads", spec.HeadWidth);
        var projection = elastic
            ? $"LinearRows(normed, projection, heads * {Literals.Of(spec.HeadWidth)})"
            : "Linear(normed, projection)";
        f.Write($$"""
                // One projection, split into heads: {{states}} to {{heads}}.
                private static {{f.Tensor}} Heads({{f.Tensor}} normed, {{f.Parameter}} projection, long heads)
                {
                    using var projected = {{f.Kernels}}.{{projection}};  //| {{Shape("B", "T", $"heads * {spec.HeadWidth}")}}
                    var shape = projected.shape;
                    return projected.view(shape[0], shape[1], heads, {{Literals.Of(spec.HeadWidth)}});  //| {{heads}}
                }
            """);
    }

    private static void WriteHeads(CodeFile f, ModelSpec spec, string name, string plural, string all)
    {
        var (count, parameter) = spec.ElasticHeads ? ("count", ", int count") : (all, null);
        var shape = Shape("B", "T", count.Replace("_", ""), spec.HeadWidth);
        var what = (spec.QkNorm, spec.Rotary) switch
        {
            (true, true) => ", normed head by head and turned by their positions",
            (true, false) => ", normed head by head",
            _ => ", turned by their positions",
        };
        var normedHeads = $"{f.Kernels}.RmsNorm(heads, {name}Norm, {Literals.Of(spec.Epsilon)})";
        var result = spec.Rotary ? $"{f.Kernels}.Rotary({(spec.QkNorm ? "scaled" : "heads")}{Angles(spec)})" : normedHeads;
        f.Write($$"""
                // The {{plural}}{{what}}: {{shape}}.
                private {{f.Tensor}} {{name}}({{f.Tensor}} normed{{AngleParameters(f, spec)}}{{parameter}})
                {
                    using var heads = Heads(normed, {{name}}Projection, {{count}});  //| {{shape}}
                    {{(spec.QkNorm && spec.Rotary ? $"using var scaled = {normedHeads};  //| {shape}" : null)}}
                    return {{result}};  //| {{shape}}
                }

            """);
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec)
    {
        var states = Shape("B", "T", spec.Width);
        var stacked = Shape("N", "T", spec.Width);
        var logits = Shape("B", "T", spec.Vocabulary);
        f.Write($$"""
            private sealed partial class Network
            {
                // Logits of one stream: tokens (B, T) to {{logits}} float32.
                public {{f.Tensor}} Logits({{f.Tensor}} tokens, {{f.Streams}} streams, {{f.KeyValueCache}}? cache, {{f.ScalarType}} type)
                {
                    using var hidden = Hidden(tokens, streams, cache, type);  //| {{states}}
                    using var logits = {{f.Kernels}}.Linear(hidden, {{Head(spec)}});  //| {{logits}}
                    return logits.to({{f.ScalarType}}.Float32);  //| {{logits}}
                }

                // The last hidden states, normed, of all streams: tokens (B, T) to {{stacked}}; if asked for, also the importance of each
                // layer's hidden units.
                public {{f.Tensor}} Hidden(
                    {{f.Tensor}} tokens, {{f.Streams}} streams, {{f.KeyValueCache}}? cache, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation = null, {{f.Tensor}}[]? importance = null)
                {
                    var position = cache?.Length ?? 0;
                    var time = tokens.shape[1];
            """);
        if (spec.Rotary)
        {
            f.Write($$"""
                    var (cosines, sines) = _rotary.Slice(position, time);
                    using var cos = cosines;  //| {{Shape("T", spec.HeadWidth / 2)}}
                    using var sin = sines;  //| {{Shape("T", spec.HeadWidth / 2)}}
                    var x = {{f.Kernels}}.Embedding(EmbedTokens, tokens, type);  //| {{states}}
            """);
        }
        else
        {
            f.Write($$"""
                    var embedded = {{f.Kernels}}.Embedding(EmbedTokens, tokens, type);  //| {{states}}
                    var x = {{f.Kernels}}.AddPositions(embedded, EmbedPositions, position);  //| {{states}}
                    embedded.Dispose();
            """);
        }

        f.Write($$"""
                    for (var layer = 0; layer < {{Literals.Of(spec.Layers)}}; layer++)
                    {
                        {{(spec.CanSkip ? "if (streams.Skips(layer)) continue;" : null)}}
                        using var input = x;
                        x = recomputation is null
                            ? Layer(input{{Angles(spec)}}, streams, cache, layer, importance)
                            : recomputation.Run(input, Alone(streams, layer));  //| {{stacked}}
                    }

                    using var last = x;
                    cache?.Advance((int)time);
                    return {{Norm(f, spec, "last", "Norm")}};  //| {{stacked}}
                }

            """);
        WriteLayer(f, spec);
        f.Write($$"""
            }
            """);
    }

    private static void WriteLayer(CodeFile f, ModelSpec spec)
    {
        var states = Shape("B", "T", spec.Width);
        var stacked = Stacked(spec);
        var bang = spec.CanSkip ? "!" : null;
        f.Write($$"""
                // One layer of all streams: {{stacked}} to the same, or {{states}} where they part.
                private {{f.Tensor}} Layer(
                    {{f.Tensor}} x{{AngleParameters(f, spec)}}, {{f.Streams}} streams, {{f.KeyValueCache}}? cache, int layer, {{f.Tensor}}[]? importance)
                {
            """);
        string fed;
        if (spec.ElasticHeads)
        {
            fed = "attended";
            f.Write($$"""
                    // Up to where they part the streams are all alike, and were computed once.
                    using var forked = layer == streams.Fork ? {{f.Kernels}}.Fork(x, streams.Count) : null;  //| {{stacked}}
                    using var attended = Blocks[layer]{{bang}}.Attend(
                        forked ?? x{{Angles(spec)}}, streams.Heads(layer), streams.Rows(layer), cache, layer);  //| {{stacked}}
            """);
        }
        else
        {
            fed = "forked ?? attended";
            f.Write($$"""
                    using var attended = Blocks[layer]{{bang}}.Attend(x{{Angles(spec)}}, cache, layer);  //| {{stacked}}

                    // Up to where they part the streams are all alike, and were computed once.
                    using var forked = layer == streams.Fork ? {{f.Kernels}}.Fork(attended, streams.Count) : null;  //| {{stacked}}
            """);
        }

        f.Write($$"""
                    if (importance is not null) importance[layer] = Blocks[layer]{{bang}}.Importance(attended);  //| (m)
                    return Blocks[layer]{{bang}}.FeedForward({{fed}}, streams.HiddenWidths(layer), streams.Rows(layer));  //| {{stacked}}
                }

                // A layer from its input alone, for who keeps that and nothing else for the gradients.
            """);
        var function = $"private global::System.Func<{f.Tensor}, {f.Tensor}> Alone({f.Streams} streams, int layer) => ";
        if (spec.Rotary)
        {
            f.Write($$"""
                {{function}}x =>
                {
                    var (cosines, sines) = _rotary.Slice(0, x.shape[1]);
                    using var cos = cosines;  //| {{Shape("T", spec.HeadWidth / 2)}}
                    using var sin = sines;  //| {{Shape("T", spec.HeadWidth / 2)}}
                    return Layer(x, cos, sin, streams, null, layer, null);  //| {{stacked}}
                };
            """);
        }
        else
        {
            f.Write($$"""
                {{function}}x => Layer(x, streams, null, layer, null);
            """);
        }
    }

    /// <summary>The field whose weight gives the logits.</summary>
    public static string Head(ModelSpec spec) => spec.Tied ? "EmbedTokens" : "Head";

    /// <summary>The weights that a feed-forward takes to its hidden units, as arguments, on two lines.</summary>
    public static string ExpandingWeights(BlockSpec block) =>
        $"{(block.Gated ? "GateProjection" : "gate: null")}, {(block.Gated && block.Bias ? "GateBias" : "gateBias: null")},\n"
        + $"UpProjection, {(block.Bias ? "UpBias" : "upBias: null")}";

    private static string Stacked(ModelSpec spec) => Shape("N", "T", spec.Width);

    private static string? Angles(ModelSpec spec) => spec.Rotary ? ", cos, sin" : null;

    private static string? AngleParameters(CodeFile f, ModelSpec spec) => spec.Rotary ? $", {f.Tensor} cos, {f.Tensor} sin" : null;

    private static string? HeadsParameter(ModelSpec spec) => spec.ElasticHeads ? ", int[] heads, int[]? rows" : null;

    /// <summary>The norm of something, by its field's weight.</summary>
    public static string Norm(CodeFile f, ModelSpec spec, string x, string field) => spec.Norm == NormKind.Rms
        ? $"{f.Kernels}.RmsNorm({x}, {field}, {Literals.Of(spec.Epsilon)})"
        : $"{f.Kernels}.LayerNorm({x}, {field}, {field}Bias, {Literals.Of(spec.Epsilon)})";

    private static string Shape(params object[] sizes) =>
        "(" + string.Join(", ", sizes.Select(size => Convert.ToString(size, CultureInfo.InvariantCulture))) + ")";
}
