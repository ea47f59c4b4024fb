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
        var io = ModelText.Of(spec);
        var ofWhole = spec.IsDecoder ? " of the whole model" : ", by the whole model";
        f.Write($$"""
            /// <summary>{{io.Gives}}{{ofWhole}}: {{io.Takes}} to {{io.Result}}.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
            public override {{f.Tensor}} forward({{f.Tensor}} {{io.Input}}) => Forward(Profile.{{spec.Widest.Name}}, {{io.Input}});

            """);
        if (!spec.IsDecoder)
        {
            WriteEmbedding(f, spec, io);
            return;
        }

        f.Write($$"""
            /// <summary>
            /// Logits {{io.Result}} of tokens (B, T) int64 that follow those in the cache, which then holds them too.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or more tokens than the cache has room for.</exception>
            public override {{f.Tensor}} forward({{f.Tensor}} tokens, {{f.KeyValueCache}} cache)
            {
                CheckTokens(tokens, cache);
                return _network.Logits(tokens, {{f.Streams}}.Of(Profile.{{spec.Widest.Name}}), cache, ComputeType);
            }

            /// <summary>Logits of a submodel, computed with this model's weights: {{io.Takes}} to {{io.Result}}.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
            public {{f.Tensor}} Forward({{f.Profile}} profile, {{f.Tensor}} tokens)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                CheckTokens(tokens);
                return _network.Logits(tokens, {{f.Streams}}.Of(profile), null, ComputeType);
            }

            """);
    }

    private static void WriteEmbedding(CodeFile f, ModelSpec spec, ModelText io)
    {
        f.Write($$"""
            /// <summary>{{io.Gives}}, by a submodel, computed with this model's weights: {{io.Takes}} to {{io.Result}}.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
            public {{f.Tensor}} Forward({{f.Profile}} profile, {{f.Tensor}} {{io.Input}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                {{io.Check}}({{io.Input}});
                return _network.{{io.Method}}({{io.Input}}, {{f.Streams}}.Of(profile), ComputeType);
            }

            /// <inheritdoc/>
            public override {{f.Tensor}} Embed({{f.Tensor}} {{io.Input}}, int? width = null) => Embed(Profile.{{spec.Widest.Name}}, {{io.Input}}, width);

            /// <summary>
            /// Embeddings of length 1 by a submodel, cut to their first numbers before: {{io.Takes}} to (B, width) float32.
            /// </summary>
            /// <param name="profile">The submodel.</param>
            /// <param name="{{io.Input}}">{{io.Takes.TrimEnd(',')}}.</param>
            /// <param name="width">One of the dimensions; all if null.</param>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}, or no such dimension is declared.</exception>
            public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.Tensor}} {{io.Input}}, int? width = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                {{io.Check}}({{io.Input}});
                return _network.Embed({{io.Input}}, {{f.Streams}}.Of(profile), EmbeddingWidth(width), ComputeType);
            }

            /// <summary>Embeddings of this width, of length 1, by a submodel: {{io.Takes}} to (B, dimension) float32.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
            public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.EmbeddingDimension}} dimension, {{f.Tensor}} {{io.Input}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(dimension);
                return Embed(profile, {{io.Input}}, dimension.Width);
            }

            """);
        if (!spec.IsVision) return;
        f.Write($$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Classify({{f.Tensor}} pixels, int? width = null) => Classify(Profile.{{spec.Widest.Name}}, pixels, width);

            /// <summary>
            /// Logits that a submodel finds in the first numbers of its embeddings alone: {{io.Takes}} to {{io.Result}}.
            /// </summary>
            /// <param name="profile">The submodel.</param>
            /// <param name="pixels">{{io.Takes.TrimEnd(',')}}.</param>
            /// <param name="width">One of the dimensions; all, as Forward, if null.</param>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}, or no such dimension is declared.</exception>
            public {{f.Tensor}} Classify({{f.Profile}} profile, {{f.Tensor}} pixels, int? width = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                CheckPixels(pixels);
                return _network.Classify(pixels, {{f.Streams}}.Of(profile), EmbeddingWidth(width), ComputeType);
            }

            """);
    }

    private static void WriteBlocks(CodeFile f, ModelSpec spec)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1)
        {
            f.Write($$"""
                internal abstract partial class Block
                {
                    {{AttendComment(spec)}}
                    public abstract {{f.Tensor}} Attend({{f.Tensor}} x{{AngleParameters(f, spec)}}{{HeadsParameter(spec)}}{{SightParameters(f, spec)}});

                    {{ForwardComment(spec)}}
                    public abstract {{f.Tensor}} Forward({{f.Tensor}} x{{AngleParameters(f, spec)}}{{SightParameters(f, spec)}});

                    {{FeedForwardComment(spec)}}
                    public abstract {{f.Tensor}} FeedForward({{f.Tensor}} x, int[] widths, int[]? rows{{PartingParameter(spec)}});
                }

                """);
        }

        foreach (var kind in kinds) WriteBlock(f, spec, kind, isAlone: kinds.Count == 1);
    }

    private static void WriteBlock(CodeFile f, ModelSpec spec, BlockKind kind, bool isAlone)
    {
        var block = kind.Block;
        var overrides = isAlone ? null : "override ";
        var bias = spec.AttentionBias;
        f.Write($$"""
            internal sealed partial class {{kind.Name}}
            {
                {{ForwardComment(spec)}}
                public {{overrides}}{{f.Tensor}} Forward({{f.Tensor}} x{{AngleParameters(f, spec)}}{{SightParameters(f, spec)}})
                {
                    using var attended = {{f.Kernels}}.Attend(x, AttentionWeights{{Angles(spec)}}{{NamedSight(spec)}});  //| x + attention(norm(x))
                    return {{f.Kernels}}.FeedForward(attended, FeedForwardWeights);  //| and to that feed-forward(norm(that))
                }

                {{AttendComment(spec)}}
                public {{overrides}}{{f.Tensor}} Attend({{f.Tensor}} x{{AngleParameters(f, spec)}}{{HeadsParameter(spec)}}{{SightParameters(f, spec)}}) =>
                    {{f.Kernels}}.Attend(x, AttentionWeights{{Angles(spec)}}{{NamedSight(spec)}}{{(spec.ElasticHeads ? ", heads: heads, rows: rows" : null)}});

                {{FeedForwardComment(spec)}}
                public {{overrides}}{{f.Tensor}} FeedForward({{f.Tensor}} x, int[] widths, int[]? rows{{PartingParameter(spec)}}) =>
                    {{f.Kernels}}.FeedForward(x, FeedForwardWeights, widths, rows{{(spec.ElasticHeads ? null : ", parting")}});

                private {{f.AttentionWeights}} AttentionWeights => new()
                {
                    Norm = {{NormWeights(spec, "InputLayerNorm")}},
                    Query = QueryProjection,
                    Key = KeyProjection,
                    Value = ValueProjection,
                    Output = OutputProjection,
                    {{(bias ? "QueryBias = QueryBias," : null)}}
                    {{(bias ? "KeyBias = KeyBias," : null)}}
                    {{(bias ? "ValueBias = ValueBias," : null)}}
                    {{(bias ? "OutputBias = OutputBias," : null)}}
                    {{(spec.QkNorm ? $"QueryNorm = new(QueryNorm, {Literals.Of(spec.Epsilon)})," : null)}}
                    {{(spec.QkNorm ? $"KeyNorm = new(KeyNorm, {Literals.Of(spec.Epsilon)})," : null)}}
                    HeadWidth = {{Literals.Of(spec.HeadWidth)}},
                    {{(spec.IsDecoder ? "IsCausal = true," : null)}}
                    {{(block.Window > 0 ? $"Window = {Literals.Of(block.Window)}," : null)}}
                };

                private {{f.FeedForwardWeights}} FeedForwardWeights => new()
                {
                    Norm = {{NormWeights(spec, "PostAttentionLayerNorm")}},
                    Kind = {{f.FeedForwardKind}}.{{block.Activation}},
                    {{(block.Gated ? "Gate = GateProjection," : null)}}
                    {{(block.Gated && block.Bias ? "GateBias = GateBias," : null)}}
                    Up = UpProjection,
                    {{(block.Bias ? "UpBias = UpBias," : null)}}
                    Down = DownProjection,
                    {{(block.Bias ? "DownBias = DownBias," : null)}}
                };
            }

            """);
    }

    private static string ForwardComment(ModelSpec spec) =>
        $"// One layer of a slice, of all its hidden units and heads: {Shape("B", "T", spec.Width)} to the same.";

    private static string AttendComment(ModelSpec spec) => spec.ElasticHeads
        ? $"// x + attention(norm(x)) of R stacked streams, stream r with its first heads[r] heads: {Stacked(spec)} to the same."
        : $"// x + attention(norm(x)): {Stacked(spec)} to the same.";

    private static string FeedForwardComment(ModelSpec spec) =>
        "// x + feed-forward(norm(x)) of R stacked streams, stream r with its first widths[r] hidden units:\n"
        + $"// {Stacked(spec)} to the same{OrParting(spec)}.";

    private static string NormWeights(ModelSpec spec, string field) => spec.Norm == NormKind.Rms
        ? $"new({field}, {Literals.Of(spec.Epsilon)})"
        : $"new({field}, {field}Bias, {Literals.Of(spec.Epsilon)})";

    private static void WriteNetwork(CodeFile f, ModelSpec spec)
    {
        if (!spec.IsDecoder)
        {
            WriteEncoder(f, spec);
            return;
        }

        var states = Shape("B", "T", spec.Width);
        var stacked = Shape("N", "T", spec.Width);
        var logits = Shape("B", "T", spec.Vocabulary);
        f.Write($$"""
            internal sealed partial class Network
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
                    var (cosines, sines) = Rotary.Slice(position, time);
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
                        if (streams.Skips(layer)) continue;
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
                    {{f.Tensor}} x{{AngleParameters(f, spec)}}, {{f.Streams}} streams, {{LayerSight(f, spec)}}int layer, {{f.Tensor}}[]? importance)
                {
            """);
        if (spec.ElasticHeads)
        {
            f.Write($$"""
                    // Up to where they part the streams are all alike, and were computed once.
                    using var forked = layer == streams.Fork ? {{f.Kernels}}.Fork(x, streams.Count) : null;  //| {{stacked}}
                    using var attended = Blocks[layer]{{bang}}.Attend(
                        forked ?? x{{Angles(spec)}}, streams.Heads(layer), streams.Rows(layer){{Sight(spec)}});  //| {{stacked}}
            """);
        }
        else
        {
            f.Write($$"""
                    using var attended = Blocks[layer]{{bang}}.Attend(x{{Angles(spec)}}{{Sight(spec)}});  //| {{stacked}}
            """);
        }

        var parting = spec.ElasticHeads ? null : ", layer == streams.Fork";
        f.Write($$"""
                    if (importance is not null) importance[layer] = Blocks[layer]{{bang}}.Importance(attended);  //| (m)
                    {{(spec.ElasticHeads ? null : "// Up to where they part the streams are all alike, and were computed once.")}}
                    var fed = Blocks[layer]{{bang}}.FeedForward(
                        attended, streams.HiddenWidths(layer), streams.Rows(layer){{parting}});  //| {{stacked}}
                    if (!streams.IsScaled(layer)) return fed;
                    using (fed) return streams.Scaled(layer, x, fed);  //| {{stacked}}
                }

                // A layer from its input alone, for who keeps that and nothing else for the gradients.
            """);
        var lengths = spec.Kind == ModelKind.TextEncoder ? $"{f.Tensor} lengths, " : null;
        var function = $"private global::System.Func<{f.Tensor}, {f.Tensor}> Alone({f.Streams} streams, {lengths}int layer) =>";
        var sight = spec.Kind switch { ModelKind.TextEncoder => "lengths, ", ModelKind.LanguageModel => "null, ", _ => null };
        if (spec.Rotary)
        {
            f.Write($$"""
                {{function}} x =>
                {
                    var (cosines, sines) = Rotary.Slice(0, x.shape[1]);
                    using var cos = cosines;  //| {{Shape("T", spec.HeadWidth / 2)}}
                    using var sin = sines;  //| {{Shape("T", spec.HeadWidth / 2)}}
                    return Layer(x, cos, sin, streams, {{sight}}layer, null);  //| {{stacked}}
                };
            """);
        }
        else
        {
            f.Write($$"""
                {{function}}
                    x => Layer(x, streams, {{sight}}layer, null);
            """);
        }
    }

    private static void WriteEncoder(CodeFile f, ModelSpec spec)
    {
        var states = Shape("B", "T", spec.Width);
        var stacked = Shape("N", "T", spec.Width);
        var pooled = Shape("N", spec.Width);
        var io = ModelText.Of(spec);
        var isText = spec.Kind == ModelKind.TextEncoder;
        var embedding = spec.Embedding!;
        f.Write($$"""
            internal sealed partial class Network
            {
            """);
        if (isText)
        {
            f.Write($$"""
                // Embeddings of one stream, of length 1: tokens (B, T) to {{io.Result}}.
                public {{f.Tensor}} Forward({{f.Tensor}} tokens, {{f.Streams}} streams, {{f.ScalarType}} type) =>
                    Embed(tokens, streams, {{Literals.Of(embedding.Width)}}, type);

            """);
        }
        else
        {
            f.Write($$"""
                // Logits of one stream: pixels to {{io.Result}}.
                public {{f.Tensor}} Logits({{f.Tensor}} pixels, {{f.Streams}} streams, {{f.ScalarType}} type)
                {
                    using var pooled = Pooled(pixels, streams, type);  //| {{Shape("B", spec.Width)}}
                    using var logits = {{f.Kernels}}.Linear(pooled, Classifier, ClassifierBias);  //| {{io.Shape}}
                    return logits.to({{f.ScalarType}}.Float32);  //| {{io.Shape}}
                }

                // Logits of one stream by the first numbers alone: pixels to {{io.Result}}.
                public {{f.Tensor}} Classify({{f.Tensor}} pixels, {{f.Streams}} streams, int width, {{f.ScalarType}} type)
                {
                    using var pooled = Pooled(pixels, streams, type);  //| {{Shape("B", spec.Width)}}
                    return {{f.Kernels}}.ClassLogits(pooled, Classifier, ClassifierBias, width);  //| {{io.Shape}}
                }

            """);
        }

        f.Write($$"""
                // Embeddings of one stream, of length 1 after the cut: (B, width) float32.
                public {{f.Tensor}} Embed({{f.Tensor}} {{io.Input}}, {{f.Streams}} streams, int width, {{f.ScalarType}} type)
                {
                    using var whole = Embedded({{io.Input}}, streams, type);  //| {{Shape("B", embedding.Width)}}
                    return {{f.Kernels}}.UnitPrefix(whole, width);  //| (B, width)
                }

                // What embeddings are cut from, of all streams: {{Shape("N", embedding.Width)}}.
                public {{f.Tensor}} Embedded({{f.Tensor}} {{io.Input}}, {{f.Streams}} streams, {{f.ScalarType}} type, {{f.Recomputation}}? recomputation = null)
            """);
        if (isText)
        {
            f.Write($$"""
                {
                    using var pooled = Pooled({{io.Input}}, streams, type, recomputation);  //| {{pooled}}
                    return {{f.Kernels}}.Linear(pooled, Projection);  //| {{Shape("N", embedding.Width)}}
                }

            """);
        }
        else
        {
            f.Write($$"""
                    => Pooled({{io.Input}}, streams, type, recomputation);

            """);
        }

        f.Write($$"""
                // One vector of each sequence, normed, of all streams: {{pooled}}; if asked for, also the importance of each layer's hidden units.
                public {{f.Tensor}} Pooled(
                    {{f.Tensor}} {{io.Input}}, {{f.Streams}} streams, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation = null, {{f.Tensor}}[]? importance = null)
                {
            """);
        var classToken = spec.HasClassToken ? "ClassToken" : "classToken: null";
        if (isText)
        {
            f.Write($$"""
                    var lengths = {{f.Kernels}}.Lengths(tokens, {{(spec.HasClassToken ? 1 : 0)}});  //| (B)
                    using var released = recomputation is null ? lengths : null;
                    recomputation?.Keep(lengths);
                    {{(spec.Rotary ? $"var (cosines, sines) = Rotary.Slice(0, tokens.shape[1]{(spec.HasClassToken ? " + 1" : null)});" : null)}}
                    {{(spec.Rotary ? $"using var cos = cosines;  //| {Shape("T", spec.HeadWidth / 2)}" : null)}}
                    {{(spec.Rotary ? $"using var sin = sines;  //| {Shape("T", spec.HeadWidth / 2)}" : null)}}
                    var x = {{f.Kernels}}.EmbedText(tokens, EmbedTokens, {{classToken}}, {{(spec.Rotary ? "positions: null" : "EmbedPositions")}}, type);  //| {{states}}
            """);
        }
        else
        {
            var positions = spec.Sinusoidal ? "Positions.Table" : "EmbedPositions";
            f.Write($$"""
                    var x = {{f.Kernels}}.EmbedPatches(pixels, EmbedPatches, EmbedPatchesBias, {{classToken}}, {{positions}}, type);  //| {{states}}
            """);
        }

        var lengths = isText ? "lengths, " : null;
        f.Write($$"""
                    for (var layer = 0; layer < {{Literals.Of(spec.Layers)}}; layer++)
                    {
                        if (streams.Skips(layer)) continue;
                        using var input = x;
                        x = recomputation is null
                            ? Layer(input{{Angles(spec)}}, streams, {{lengths}}layer, importance)
                            : recomputation.Run(input, Alone(streams, {{lengths}}layer));  //| {{stacked}}
                    }

                    using var last = x;
            """);
        if (spec.HasClassToken)
        {
            f.Write($$"""
                    using var first = {{f.Kernels}}.FirstToken(last);  //| {{pooled}}
                    return {{Norm(f, spec, "first", "Norm")}};  //| {{pooled}}
                }

            """);
        }
        else
        {
            f.Write($$"""
                    using var normed = {{Norm(f, spec, "last", "Norm")}};  //| {{stacked}}
                    return {{f.Kernels}}.MeanToken(normed{{(isText ? ", lengths" : null)}});  //| {{pooled}}
                }

            """);
        }

        WriteLayer(f, spec);
        f.Write($$"""
            }
            """);
    }

    /// <summary>The field whose weight gives the logits.</summary>
    public static string Head(ModelSpec spec) => spec.Tied ? "EmbedTokens" : "Head";

    // What attention needs to know of the sequences beside their positions: a decoder's cache, the lengths of an encoder's texts.
    private static string? SightParameters(CodeFile f, ModelSpec spec) => spec.Kind switch
    {
        ModelKind.LanguageModel => $", {f.KeyValueCache}? cache, int layer",
        ModelKind.TextEncoder => $", {f.Tensor} lengths",
        _ => null,
    };

    private static string? NamedSight(ModelSpec spec) => spec.Kind switch
    {
        ModelKind.LanguageModel => ", cache: cache, layer: layer",
        ModelKind.TextEncoder => ", lengths: lengths",
        _ => null,
    };

    /// <summary>The same, as arguments.</summary>
    public static string? Sight(ModelSpec spec) => spec.Kind switch
    {
        ModelKind.LanguageModel => ", cache, layer",
        ModelKind.TextEncoder => ", lengths",
        _ => null,
    };

    private static string? LayerSight(CodeFile f, ModelSpec spec) => spec.Kind switch
    {
        ModelKind.LanguageModel => $"{f.KeyValueCache}? cache, ",
        ModelKind.TextEncoder => $"{f.Tensor} lengths, ",
        _ => null,
    };

    private static string Stacked(ModelSpec spec) => Shape("N", "T", spec.Width);

    // Streams that keep different heads part before they attend.
    private static string? PartingParameter(ModelSpec spec) => spec.ElasticHeads ? null : ", bool parting";

    private static string? OrParting(ModelSpec spec) => spec.ElasticHeads ? null : $", or {Shape("B", "T", spec.Width)} where they part";

    /// <summary>The rotary angles, as arguments.</summary>
    public static string? Angles(ModelSpec spec) => spec.Rotary ? ", cos, sin" : null;

    private static string? AngleParameters(CodeFile f, ModelSpec spec) => spec.Rotary ? $", {f.Tensor} cos, {f.Tensor} sin" : null;

    private static string? HeadsParameter(ModelSpec spec) => spec.ElasticHeads ? ", int[] heads, int[]? rows" : null;

    /// <summary>The norm of something, by its field's weight.</summary>
    public static string Norm(CodeFile f, ModelSpec spec, string x, string field) => spec.Norm == NormKind.Rms
        ? $"{f.Kernels}.RmsNorm({x}, {field}, {Literals.Of(spec.Epsilon)})"
        : $"{f.Kernels}.LayerNorm({x}, {field}, {field}Bias, {Literals.Of(spec.Epsilon)})";

    /// <summary>A shape, for comments.</summary>
    public static string Shape(params object[] sizes) =>
        "(" + string.Join(", ", sizes.Select(size => Convert.ToString(size, CultureInfo.InvariantCulture))) + ")";
}
