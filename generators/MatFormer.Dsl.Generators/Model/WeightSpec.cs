namespace MatFormer.Generators.Model;

/// <summary>How a weight is drawn.</summary>
internal enum Draw
{
    /// <summary>Normal, std 0.02.</summary>
    Normal,

    /// <summary>Normal, std 0.02 / sqrt(2 Layers): it writes to the residual stream (GPT-2).</summary>
    Residual,
    Ones,
    Zeros,
}

/// <summary>What a dimension of a weight counts, of which a slice keeps the first.</summary>
internal enum Axis
{
    /// <summary>Nothing that is sliced.</summary>
    None,

    /// <summary>Hidden units of the feed-forward.</summary>
    Hidden,

    /// <summary>Attention heads of the queries.</summary>
    Heads,

    /// <summary>Attention heads of the keys and values.</summary>
    KeyValueHeads,
}

/// <summary>A dimension: <paramref name="Count"/> elements, or as many for each unit of its axis.</summary>
internal readonly record struct Dimension(int Count, Axis Axis);

/// <summary>One weight of a block, or of the model around the blocks.</summary>
/// <param name="Field">The name of the field that holds it.</param>
/// <param name="Name">Its name in a weight file, within the block if it is a block's.</param>
/// <param name="Draw">How it is drawn.</param>
/// <param name="Shape">Its dimensions, at most one of them along an axis.</param>
/// <param name="IsMatrix">True if each token multiplies it: 2 FLOPs an element.</param>
/// <param name="IsEmbedding">True for the embeddings, an untied head and a classifier.</param>
internal sealed record WeightSpec(
    string Field, string Name, Draw Draw, EquatableArray<Dimension> Shape, bool IsMatrix = false, bool IsEmbedding = false)
{
    /// <summary>The axis along which it is sliced.</summary>
    public Axis Axis => Shape.Select(d => d.Axis).FirstOrDefault(axis => axis != Axis.None);

    /// <summary>Elements, or elements per unit of <see cref="Axis"/>.</summary>
    public long Elements => Shape.Aggregate(1L, (product, d) => checked(product * d.Count));

    /// <summary>
    /// Bytes in int8: a matrix has a float32 scale for each row, all else is float32. Per unit of <see cref="Axis"/>, if that counts rows;
    /// the scales of other rows are left to <see cref="SharedScaleBytes"/>.
    /// </summary>
    public long Int8Bytes => Shape.Count < 2 ? Elements * sizeof(float)
        : Elements + (SharedScaleBytes > 0 ? 0 : (long)Shape[0].Count * sizeof(float));

    /// <summary>Bytes of int8 scales that do not depend on how many columns are kept.</summary>
    public long SharedScaleBytes => Shape.Count == 2 && Shape[1].Axis != Axis.None ? (long)Shape[0].Count * sizeof(float) : 0;
}

/// <summary>What the weights of a block are called in weight files: as in Hugging Face's checkpoints of that architecture.</summary>
internal sealed record BlockNames(
    string Prefix, string AttentionNorm, string Query, string Key, string Value, string Output, string QueryNorm, string KeyNorm,
    string FeedForwardNorm, string Gate, string Up, string Down)
{
    public static readonly BlockNames Llama = new(
        "model.layers.", "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj");

    // It has neither norms of heads nor gates.
    public static readonly BlockNames ViT = new(
        "vit.encoder.layer.", "layernorm_before", "attention.attention.query", "attention.attention.key", "attention.attention.value",
        "attention.output.dense", "attention.attention.query_norm", "attention.attention.key_norm", "layernorm_after",
        "intermediate.gate", "intermediate.dense", "output.dense");

    public static BlockNames Of(ModelSpec spec) => spec.IsVision ? ViT : Llama;
}

/// <summary>The weights of a model, in the order in which they are drawn.</summary>
internal static class Weights
{
    /// <summary>Those of one block.</summary>
    public static IEnumerable<WeightSpec> OfBlock(ModelSpec spec, BlockSpec block)
    {
        var names = BlockNames.Of(spec);
        var width = new Dimension(spec.Width, Axis.None);
        var hidden = new Dimension(1, Axis.Hidden);
        var queries = new Dimension(block.HeadWidth, Axis.Heads);
        var keys = new Dimension(block.HeadWidth, Axis.KeyValueHeads);
        foreach (var norm in Norm(spec, "InputLayerNorm", names.AttentionNorm)) yield return norm;
        foreach (var (field, name, rows) in new[] { ("Query", names.Query, queries), ("Key", names.Key, keys), ("Value", names.Value, keys) })
        {
            yield return Matrix(field + "Projection", name + ".weight", Draw.Normal, rows, width);
            if (spec.AttentionBias) yield return Vector(field + "Bias", name + ".bias", Draw.Zeros, rows);
        }

        yield return Matrix("OutputProjection", names.Output + ".weight", Draw.Residual, width, queries);
        if (spec.AttentionBias) yield return Vector("OutputBias", names.Output + ".bias", Draw.Zeros, width);
        if (spec.QkNorm)
        {
            var head = new Dimension(block.HeadWidth, Axis.None);
            yield return Vector("QueryNorm", names.QueryNorm + ".weight", Draw.Ones, head);
            yield return Vector("KeyNorm", names.KeyNorm + ".weight", Draw.Ones, head);
        }

        foreach (var norm in Norm(spec, "PostAttentionLayerNorm", names.FeedForwardNorm)) yield return norm;
        if (block.Gated)
        {
            yield return Matrix("GateProjection", names.Gate + ".weight", Draw.Normal, hidden, width);
            if (block.Bias) yield return Vector("GateBias", names.Gate + ".bias", Draw.Zeros, hidden);
        }

        yield return Matrix("UpProjection", names.Up + ".weight", Draw.Normal, hidden, width);
        if (block.Bias) yield return Vector("UpBias", names.Up + ".bias", Draw.Zeros, hidden);
        yield return Matrix("DownProjection", names.Down + ".weight", Draw.Residual, width, hidden);
        if (block.Bias) yield return Vector("DownBias", names.Down + ".bias", Draw.Zeros, width);
    }

    /// <summary>Those in front of the blocks.</summary>
    public static IEnumerable<WeightSpec> BeforeBlocks(ModelSpec spec)
    {
        if (spec.Image is { } image)
        {
            const string at = "vit.embeddings.";
            var patches = at + "patch_embeddings.projection";
            if (spec.HasClassToken) yield return Embedding("ClassToken", at + "cls_token", 1, 1, spec.Width);
            if (spec.Position == PositionKind.Learned)
                yield return Embedding("EmbedPositions", at + "position_embeddings", 1, spec.Sequence, spec.Width);
            yield return Embedding("EmbedPatches", patches + ".weight", spec.Width, image.Channels, image.Patch, image.Patch);
            yield return Vector("EmbedPatchesBias", patches + ".bias", Draw.Zeros, new Dimension(spec.Width, Axis.None)) with { IsEmbedding = true };
            yield break;
        }

        yield return Embedding("EmbedTokens", "model.embed_tokens.weight", spec.Vocabulary, spec.Width);
        if (spec.HasClassToken) yield return Embedding("ClassToken", "model.class_token", 1, 1, spec.Width);
        if (!spec.Rotary) yield return Embedding("EmbedPositions", "model.embed_positions.weight", spec.Sequence, spec.Width);
    }

    /// <summary>Those behind the blocks.</summary>
    public static IEnumerable<WeightSpec> AfterBlocks(ModelSpec spec)
    {
        foreach (var norm in Norm(spec, "Norm", spec.IsVision ? "vit.layernorm" : "model.norm")) yield return norm;
        switch (spec.Kind)
        {
            case ModelKind.VisionTransformer:
                yield return Embedding("Classifier", "classifier.weight", spec.Image!.Classes, spec.Width);
                yield return Vector("ClassifierBias", "classifier.bias", Draw.Zeros, new Dimension(spec.Image.Classes, Axis.None)) with { IsEmbedding = true };
                break;
            case ModelKind.TextEncoder:
                yield return Matrix(
                    "Projection", "projection.weight", Draw.Normal, new Dimension(spec.Embedding!.Width, Axis.None),
                    new Dimension(spec.Width, Axis.None));
                break;
            default:
                if (!spec.Tied) yield return Embedding("Head", "lm_head.weight", spec.Vocabulary, spec.Width);
                break;
        }
    }

    private static IEnumerable<WeightSpec> Norm(ModelSpec spec, string field, string name)
    {
        var width = new Dimension(spec.Width, Axis.None);
        yield return Vector(field, name + ".weight", Draw.Ones, width);
        if (spec.Norm == NormKind.Layer) yield return Vector(field + "Bias", name + ".bias", Draw.Zeros, width);
    }

    private static WeightSpec Matrix(string field, string name, Draw draw, Dimension rows, Dimension columns) =>
        new(field, name, draw, new EquatableArray<Dimension>([rows, columns]), IsMatrix: true);

    private static WeightSpec Vector(string field, string name, Draw draw, Dimension size) =>
        new(field, name, draw, new EquatableArray<Dimension>([size]));

    private static WeightSpec Embedding(string field, string name, params int[] shape) => new(
        field, name, Draw.Normal, shape.Select(size => new Dimension(size, Axis.None)).ToEquatableArray(), IsEmbedding: true);
}
