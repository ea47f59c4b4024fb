using System.Globalization;

namespace MatFormer;

/// <summary>
/// Finds the file's entries for a model's tensors. For the first one that does not fit, it says which part of the declaration is
/// contradicted.
/// </summary>
internal sealed class Misfits(SafetensorsReader reader, ModelSpec spec)
{
    private static readonly string[] s_layerPrefixes = ["model.layers.", "vit.encoder.layer."];
    private const string Embedding = "model.embed_tokens.weight";
    private const string Head = "lm_head.weight";
    private const int CompareBytes = 1 << 16;

    /// <summary>Returns the entry that fits a tensor of this name and shape.</summary>
    /// <exception cref="CheckpointException">The file has no entry that fits.</exception>
    public SafetensorsEntry Find(string name, ReadOnlySpan<long> shape)
    {
        var entry = reader.Find(name) ?? throw new CheckpointException(reader.Path, $"lacks the tensor '{name}'; {WhyMissing(name)}.");
        if (!SafetensorsFormat.IsFloatingPoint(entry.Type))
        {
            throw new CheckpointException(
                reader.PathOf(entry), $"holds the tensor '{name}' as whole numbers ({SafetensorsFormat.Code(entry.Type)}); weights are "
                    + "F32, F16 or BF16.");
        }

        if (!entry.Shape.AsSpan().SequenceEqual(shape))
        {
            var instead = Declared(name, entry.Shape.AsSpan(), shape);
            throw new CheckpointException(
                reader.PathOf(entry), $"holds the tensor '{name}' of shape ({string.Join(", ", entry.Shape)}), but "
                    + $"({string.Join(", ", shape.ToArray())}) fits {spec.Name}; it belongs to another model"
                    + $"{(instead.Count > 0 ? $", or declare {string.Join(" and ", instead)}" : string.Empty)}.");
        }

        return entry;
    }

    /// <summary>Checks that a file holds only these tensors, an optimizer's tensors, and tensors that carry no information.</summary>
    /// <exception cref="CheckpointException">The file holds another tensor.</exception>
    public void CheckNoOthers(IEnumerable<string> names)
    {
        var known = names.ToHashSet(StringComparer.Ordinal);
        var others = reader.Tensors.Where(entry => !known.Contains(entry.Name) && !SaysNothing(entry)).ToList();
        if (others is not [var first, ..]) return;
        var more = others.Count > 1 ? $" (and {Counted.Of(others.Count - 1, "other")})" : string.Empty;
        throw new CheckpointException(
            reader.PathOf(first), $"holds the tensor '{first.Name}'{more}, which {spec.Name} does not have; {WhyMore(first.Name)}.");
    }

    // Examples are the frequencies of rotary positions, which old checkpoints have, and a tied head that is stored a second time.
    private bool SaysNothing(SafetensorsEntry entry) =>
        entry.Name.StartsWith(CheckpointHeader.OptimizerPrefix, StringComparison.Ordinal)
        || entry.Name.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal)
        || (entry.Name == Head && reader.Find(Embedding) is { } embedding && AreEqual(entry, embedding));

    private bool AreEqual(SafetensorsEntry one, SafetensorsEntry other)
    {
        if (one.Type != other.Type || !one.Shape.AsSpan().SequenceEqual(other.Shape.AsSpan())) return false;
        Span<byte> ones = new byte[CompareBytes], others = new byte[CompareBytes];
        for (long offset = 0; offset < one.Length; offset += CompareBytes)
        {
            var length = (int)Math.Min(CompareBytes, one.Length - offset);
            reader.Read(one, offset, ones[..length]);
            reader.Read(other, offset, others[..length]);
            if (!ones[..length].SequenceEqual(others[..length])) return false;
        }

        return true;
    }

    // Returns the arguments to declare so that a tensor gets the shape that the file has.
    private List<string> Declared(string name, ReadOnlySpan<long> shape, ReadOnlySpan<long> declared)
    {
        var (layer, part) = Place(name);
        var sizes = part.Split('.') switch
        {
            ["model", "embed_tokens", ..] or ["lm_head", ..] => (string[])["Vocabulary", "Width"],
            ["model", "embed_positions", ..] => ["Context", "Width"],
            ["vit", "embeddings", "position_embeddings"] => ["One", "Image or Patch", "Width"],
            ["vit", "embeddings", "patch_embeddings", ..] => ["Width", "Channels", "Patch", "Patch"],
            ["model", "class_token"] or ["vit", "embeddings", "cls_token"] => ["One", "One", "Width"],
            ["classifier", ..] => ["Classes", "Width"],
            ["projection", ..] => ["Embedding", "Width"],
            ["self_attn", "q_proj", ..] or ["attention", "attention", "query", ..] => ["Heads", "Width"],
            ["self_attn", "k_proj" or "v_proj", ..] or ["attention", "attention", "key" or "value", ..] => ["KeyValueHeads", "Width"],
            ["self_attn", "o_proj", ..] or ["attention", "output", ..] => ["Width", "Heads"],
            ["self_attn", "q_norm" or "k_norm", ..] or ["attention", "attention", "query_norm" or "key_norm", ..] => ["HeadWidth"],
            ["mlp", "gate_proj" or "up_proj", ..] or ["intermediate", ..] => ["Hidden", "Width"],
            ["mlp", "down_proj", "weight"] or ["output", "dense", "weight"] => ["Width", "Hidden"],
            ["model", "norm", ..] or ["vit", "layernorm", ..] or ["mlp", ..] or ["output", ..] => ["Width"],
            ["input_layernorm" or "post_attention_layernorm" or "layernorm_before" or "layernorm_after", ..] => ["Width"],
            _ => [],
        };
        var arguments = new List<string>();
        if (sizes.Length < shape.Length || shape.Length != declared.Length) return arguments;
        for (var i = 0; i < shape.Length; i++)
        {
            // A patch is a square, so its two equal sizes are reported once.
            if (shape[i] == declared[i] || sizes[i] == "One" || (i > 0 && sizes[i] == sizes[i - 1])) continue;
            arguments.Add(sizes[i] switch
            {
                "Hidden" => Invariant($"[FeedForward({shape[i]}, ...)] in layer {layer}"),
                "Heads" => OfHeads(Attribute + "(Heads", shape[i]),
                "KeyValueHeads" => OfHeads("Attention(KeyValueHeads", shape[i]),
                "HeadWidth" => Invariant($"[Attention(HeadWidth = {shape[i]})]"),
                "Image or Patch" => Invariant($"an Image and a Patch of {shape[i] - (spec.Pooling == Pooling.ClassToken ? 1 : 0)} patches"),
                var size => Invariant($"[{Attribute}({size} = {shape[i]})]"),
            });
        }

        return arguments;
    }

    private string OfHeads(string argument, long rows) => rows % spec.HeadWidth == 0
        ? Invariant($"[{argument} = {rows / spec.HeadWidth})], or another HeadWidth than {spec.HeadWidth}")
        : Invariant($"[{argument})] and HeadWidth so that their product is {rows}");

    private string WhyMissing(string name)
    {
        var (layer, part) = Place(name);
        var layers = LayersInFile;
        if (layer >= layers && layers > 0) return Invariant($"it has {layers} layers, so declare [{Attribute}(Layers = {layers})]");
        return part.Split('.') switch
        {
            ["lm_head", ..] => "its head is its embedding's weight, so leave [Embedding(Tied = false)] out",
            ["model", "embed_positions", ..] => "it has no learned positions, so leave [Position(PositionKind.Learned)] out",
            ["vit", "embeddings", "position_embeddings"] => "it has no learned positions, so declare [Position(PositionKind.Sinusoidal)]",
            ["lookup", ..] => "it has no compressed tokens, so leave [Lookup] out",
            ["model", "class_token"] or ["vit", "embeddings", "cls_token"] =>
                $"it has no class token, so declare [{Attribute}(Pooling = Pooling.Mean)]",
            ["self_attn", "q_norm" or "k_norm", ..] or ["attention", "attention", "query_norm" or "key_norm", ..] =>
                "it does not norm queries and keys, so leave [Attention(QkNorm = true)] out",
            [.., "o_proj", "bias"] or ["attention", "output", "dense", "bias"]
                when Has("self_attn.q_proj.bias", "attention.attention.query.bias") =>
                "the output of its attention has no bias, so declare [Attention(Bias = true, OutputBias = false)]",
            ["self_attn" or "attention", .., "bias"] => "its attention has no biases, so leave [Attention(Bias = true)] out",
            ["mlp", "gate_proj", "weight"] or ["intermediate", "gate", "weight"] =>
                "its feed-forward is not gated, so declare Activation.Gelu or Activation.SquaredRelu",
            ["mlp", _, "bias"] or ["intermediate" or "output", _, "bias"] =>
                "its feed-forward has no biases, so leave [FeedForward(..., Bias = true)] out",
            [.., "norm" or "input_layernorm" or "post_attention_layernorm", "bias"]
                or [.., "layernorm" or "layernorm_before" or "layernorm_after", "bias"] =>
                "its norms have no biases, so declare [Norm(NormKind.Rms)]",
            _ when IsPartOfSet => "it is one of several files, so give the folder with all of them, or their " + SafetensorsIndex.FileName,
            _ => "it was written by another program, or is damaged",
        };
    }

    private string WhyMore(string name)
    {
        var (layer, part) = Place(name);
        if (layer >= spec.Layers) return Invariant($"it has {LayersInFile} layers, so declare [{Attribute}(Layers = {LayersInFile})]");
        return part.Split('.') switch
        {
            ["router", ..] => "its tokens are routed, so declare [Routing]",
            ["lookup", ..] => "it has compressed tokens, so declare [Lookup]",
            ["lm_head", "weight"] => "its head is not its embedding's weight, so declare [Embedding(Tied = false)]",
            ["model", "embed_positions", "weight"] or ["vit", "embeddings", "position_embeddings"] =>
                "it has learned positions, so declare [Position(PositionKind.Learned)]",
            ["model", "class_token"] or ["vit", "embeddings", "cls_token"] =>
                $"it has a class token, so declare [{Attribute}(Pooling = Pooling.ClassToken)]",
            ["self_attn", "q_norm" or "k_norm", "weight"] or ["attention", "attention", "query_norm" or "key_norm", "weight"] =>
                "it norms queries and keys, so declare [Attention(QkNorm = true)]",
            ["self_attn" or "attention", .., "bias"] when !Has("self_attn.o_proj.bias", "attention.output.dense.bias") =>
                "its attention has biases, but not of the output, so declare [Attention(Bias = true, OutputBias = false)]",
            ["self_attn" or "attention", .., "bias"] => "its attention has biases, so declare [Attention(Bias = true)]"
                + (spec.AttentionBias ? " without OutputBias = false" : string.Empty),
            ["mlp", "gate_proj", "weight"] or ["intermediate", "gate", "weight"] =>
                "its feed-forward is gated, so declare Activation.SwiGlu or Activation.GeGlu",
            ["mlp", "gate_proj" or "up_proj" or "down_proj", "bias"] or ["intermediate" or "output", _, "bias"] =>
                "its feed-forward has biases, so declare [FeedForward(..., Bias = true)]",
            [.., "norm" or "input_layernorm" or "post_attention_layernorm", "bias"]
                or [.., "layernorm" or "layernorm_before" or "layernorm_after", "bias"] =>
                "its norms have biases, so declare [Norm(NormKind.Layer)]",
            _ => "it belongs to another model, or has a part that cannot be declared",
        };
    }

    private bool IsPartOfSet => System.IO.Path.GetFileNameWithoutExtension(reader.Path).Split('-') is [.., _, "of", var count]
        && int.TryParse(count, NumberStyles.None, CultureInfo.InvariantCulture, out var files) && files > 1;

    private string Attribute => spec.Kind switch
    {
        ModelKind.VisionTransformer => "MatViT",
        ModelKind.TextEncoder => "MatEncoder",
        _ => "MatLM",
    };

    // True if a layer in the file has a tensor of one of these names.
    private bool Has(params string[] names) => reader.Tensors.Any(entry => names.Contains(Place(entry.Name).Part));

    private int LayersInFile => reader.Tensors.Select(entry => Place(entry.Name).Layer + 1).Max() ?? 0;

    /// <summary>Returns the layer that a tensor belongs to, or null, and its name within the layer.</summary>
    public static (int? Layer, string Part) Place(string name)
    {
        if (s_layerPrefixes.FirstOrDefault(p => name.StartsWith(p, StringComparison.Ordinal)) is not { } prefix) return (null, name);
        var parts = name[prefix.Length..].Split('.', 2);
        return parts.Length == 2 && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out var layer)
            ? (layer, parts[1])
            : (null, name);
    }

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
