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
    /// <summary>A matrix of a block or of a head.</summary>
    public static WeightSpec Matrix(string field, string name, Draw draw, Dimension rows, Dimension columns) =>
        new(field, name, draw, new EquatableArray<Dimension>([rows, columns]), IsMatrix: true);

    /// <summary>A bias, or the weights of a norm.</summary>
    public static WeightSpec Vector(string field, string name, Draw draw, Dimension size) =>
        new(field, name, draw, new EquatableArray<Dimension>([size]));

    /// <summary>A table of embeddings, or another weight that counts as one.</summary>
    public static WeightSpec Embedding(string field, string name, params int[] shape) => new(
        field, name, Draw.Normal, shape.Select(size => new Dimension(size, Axis.None)).ToEquatableArray(), IsEmbedding: true);

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
