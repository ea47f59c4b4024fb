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
        WriteBlock(file, spec);
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

    private static void WriteBlock(CodeFile f, ModelSpec spec)
    {
        var states = Shape("B", "T", spec.Width);
        var stacked = Shape("R*B", "T", spec.Width);
        var queries = Shape("B", "T", spec.Heads, spec.HeadWidth);
        var keys = Shape("B", "T", spec.KeyValueHeads, spec.HeadWidth);
        var cachedKeys = Shape("B", "S", spec.KeyValueHeads, spec.HeadWidth);
        var angles = spec.Rotary ? ", cos, sin" : null;
        var angleParameters = spec.Rotary ? $", {f.Tensor} cos, {f.Tensor} sin" : null;
        var shapesHeads = spec.Rotary || spec.QkNorm;
        var query = shapesHeads ? $"Query(normed{angles})" : $"Heads(normed, QueryProjection, {Literals.Of(spec.Heads)})";
        var key = shapesHeads ? $"Key(normed{angles})" : $"Heads(normed, KeyProjection, {Literals.Of(spec.KeyValueHeads)})";
        f.Write($$"""
            private sealed partial class Block
            {
                // x + attention(norm(x)): {{states}} to the same.
                public {{f.Tensor}} Attend({{f.Tensor}} x{{angleParameters}}, {{f.KeyValueCache}}? cache, int layer)
                {
                    using var attended = Attention(x{{angles}}, cache, layer);  //| {{Shape("B", "T", spec.QueryWidth)}}
                    using var projected = {{f.Kernels}}.Linear(attended, OutputProjection);  //| {{states}}
                    return x.add(projected);  //| {{states}}
                }

                // x + feed-forward(norm(x)) of R stacked streams, stream r with its first widths[r] hidden units: {{stacked}} to the same.
                public {{f.Tensor}} FeedForward({{f.Tensor}} x, int[] widths)
                {
                    using var normed = {{Norm(f, spec, "x", "PostAttentionLayerNorm")}};  //| {{stacked}}
                    using var fed = {{f.Kernels}}.FeedForward(
                        normed,
                        {{(spec.Gated ? "GateProjection" : "gate: null")}}, {{(spec.Gated && spec.Bias ? "GateBias" : "gateBias: null")}},
                        UpProjection, {{(spec.Bias ? "UpBias" : "upBias: null")}},
                        DownProjection, {{(spec.Bias ? "DownBias" : "downBias: null")}},
                        {{f.FeedForwardKind}}.{{spec.Activation}}, widths);  //| {{stacked}}
                    return x.add(fed);  //| {{stacked}}
                }

            """);
        f.Write($$"""
                private {{f.Tensor}} Attention({{f.Tensor}} x{{angleParameters}}, {{f.KeyValueCache}}? cache, int layer)
                {
                    var normed = {{Norm(f, spec, "x", "InputLayerNorm")}};  //| {{states}}
                    using var query = {{query}};  //| {{queries}}
                    using var key = {{key}};  //| {{keys}}
                    using var value = Heads(normed, ValueProjection, {{Literals.Of(spec.KeyValueHeads)}});  //| {{keys}}
                    normed.Dispose();
                    if (cache is null) return {{f.Kernels}}.CausalAttention(query, key, value);  //| {{Shape("B", "T", spec.QueryWidth)}}

                    var (keys, values) = cache.Append(layer, key, value);  //| {{cachedKeys}} each
                    using (keys)
                    using (values)
                        return {{f.Kernels}}.CausalAttention(query, keys, values);  //| {{Shape("B", "T", spec.QueryWidth)}}
                }

            """);
        if (shapesHeads)
        {
            WriteHeads(f, spec, "Query", "queries", spec.Heads, queries, angles, angleParameters);
            WriteHeads(f, spec, "Key", "keys", spec.KeyValueHeads, keys, angles, angleParameters);
        }

        var heads = Shape("B", "T", "heads", spec.HeadWidth);
        f.Write($$"""
                // One projection, split into heads: {{states}} to {{heads}}.
                private static {{f.Tensor}} Heads({{f.Tensor}} normed, {{f.Parameter}} projection, long heads)
                {
                    using var projected = {{f.Kernels}}.Linear(normed, projection);  //| {{Shape("B", "T", $"heads * {spec.HeadWidth}")}}
                    var shape = projected.shape;
                    return projected.view(shape[0], shape[1], heads, {{Literals.Of(spec.HeadWidth)}});  //| {{heads}}
                }
            }

            """);
    }

    private static void WriteHeads(
        CodeFile f, ModelSpec spec, string name, string plural, int heads, string shape, string? angles, string? angleParameters)
    {
        var what = (spec.QkNorm, spec.Rotary) switch
        {
            (true, true) => ", normed head by head and turned by their positions",
            (true, false) => ", normed head by head",
            _ => ", turned by their positions",
        };
        var normedHeads = $"{f.Kernels}.RmsNorm(heads, {name}Norm, {Literals.Of(spec.Epsilon)})";
        var result = spec.Rotary ? $"{f.Kernels}.Rotary({(spec.QkNorm ? "scaled" : "heads")}{angles})" : normedHeads;
        f.Write($$"""
                // The {{plural}}{{what}}: {{shape}}.
                private {{f.Tensor}} {{name}}({{f.Tensor}} normed{{angleParameters}})
                {
                    using var heads = Heads(normed, {{name}}Projection, {{Literals.Of(heads)}});  //| {{shape}}
                    {{(spec.QkNorm && spec.Rotary ? $"using var scaled = {normedHeads};  //| {shape}" : null)}}
                    return {{result}};  //| {{shape}}
                }

            """);
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec)
    {
        var states = Shape("B", "T", spec.Width);
        var stacked = Shape("R*B", "T", spec.Width);
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

                // The last hidden states, normed, of R = streams.Count streams: tokens (B, T) to {{stacked}}.
                private {{f.Tensor}} Hidden({{f.Tensor}} tokens, {{f.Streams}} streams, {{f.KeyValueCache}}? cache, {{f.ScalarType}} type)
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
                        var attended = Blocks[layer].Attend(x{{(spec.Rotary ? ", cos, sin" : null)}}, cache, layer);  //| {{stacked}}
                        x.Dispose();
                        if (layer == 0 && streams.Count > 1)
                        {
                            // What precedes the first feed-forward is the same for all streams, and was computed once.
                            var forked = {{f.Kernels}}.Fork(attended, streams.Count);  //| {{states}} to {{stacked}}
                            attended.Dispose();
                            attended = forked;
                        }

                        x = Blocks[layer].FeedForward(attended, streams[layer]);  //| {{stacked}}
                        attended.Dispose();
                    }

                    using var last = x;
                    cache?.Advance((int)time);
                    return {{Norm(f, spec, "last", "Norm")}};  //| {{stacked}}
                }
            }
            """);
    }

    /// <summary>The field whose weight gives the logits.</summary>
    public static string Head(ModelSpec spec) => spec.Tied ? "EmbedTokens" : "Head";

    private static string Norm(CodeFile f, ModelSpec spec, string x, string field) => spec.Norm == NormKind.Rms
        ? $"{f.Kernels}.RmsNorm({x}, {field}, {Literals.Of(spec.Epsilon)})"
        : $"{f.Kernels}.LayerNorm({x}, {field}, {field}Bias, {Literals.Of(spec.Epsilon)})";

    private static string Shape(params object[] sizes) =>
        "(" + string.Join(", ", sizes.Select(size => Convert.ToString(size, CultureInfo.InvariantCulture))) + ")";
}
