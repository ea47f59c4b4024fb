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
/// <param name="Name">Its name in a weight file, within the block if it is a block's (Hugging Face's Llama).</param>
/// <param name="Draw">How it is drawn.</param>
/// <param name="Shape">Its dimensions, at most one of them along an axis.</param>
/// <param name="IsMatrix">True if each token multiplies it: 2 FLOPs an element.</param>
/// <param name="IsEmbedding">True for the embeddings and an untied head.</param>
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

/// <summary>The weights of a model, in the order in which they are drawn.</summary>
internal static class Weights
{
    /// <summary>Those of one block.</summary>
    public static IEnumerable<WeightSpec> OfBlock(ModelSpec spec, BlockSpec block)
    {
        var width = new Dimension(spec.Width, Axis.None);
        var hidden = new Dimension(1, Axis.Hidden);
        var queries = new Dimension(block.HeadWidth, Axis.Heads);
        var keys = new Dimension(block.HeadWidth, Axis.KeyValueHeads);
        foreach (var norm in Norm(spec, "InputLayerNorm", "input_layernorm")) yield return norm;
        yield return Matrix("QueryProjection", "self_attn.q_proj.weight", Draw.Normal, queries, width);
        yield return Matrix("KeyProjection", "self_attn.k_proj.weight", Draw.Normal, keys, width);
        yield return Matrix("ValueProjection", "self_attn.v_proj.weight", Draw.Normal, keys, width);
        yield return Matrix("OutputProjection", "self_attn.o_proj.weight", Draw.Residual, width, queries);
        if (spec.QkNorm)
        {
            var head = new Dimension(block.HeadWidth, Axis.None);
            yield return Vector("QueryNorm", "self_attn.q_norm.weight", Draw.Ones, head);
            yield return Vector("KeyNorm", "self_attn.k_norm.weight", Draw.Ones, head);
        }

        foreach (var norm in Norm(spec, "PostAttentionLayerNorm", "post_attention_layernorm")) yield return norm;
        if (block.Gated)
        {
            yield return Matrix("GateProjection", "mlp.gate_proj.weight", Draw.Normal, hidden, width);
            if (block.Bias) yield return Vector("GateBias", "mlp.gate_proj.bias", Draw.Zeros, hidden);
        }

        yield return Matrix("UpProjection", "mlp.up_proj.weight", Draw.Normal, hidden, width);
        if (block.Bias) yield return Vector("UpBias", "mlp.up_proj.bias", Draw.Zeros, hidden);
        yield return Matrix("DownProjection", "mlp.down_proj.weight", Draw.Residual, width, hidden);
        if (block.Bias) yield return Vector("DownBias", "mlp.down_proj.bias", Draw.Zeros, width);
    }

    /// <summary>Those in front of the blocks.</summary>
    public static IEnumerable<WeightSpec> BeforeBlocks(ModelSpec spec)
    {
        yield return Embedding("EmbedTokens", "model.embed_tokens.weight", spec.Vocabulary, spec.Width);
        if (!spec.Rotary) yield return Embedding("EmbedPositions", "model.embed_positions.weight", spec.Context, spec.Width);
    }

    /// <summary>Those behind the blocks.</summary>
    public static IEnumerable<WeightSpec> AfterBlocks(ModelSpec spec)
    {
        foreach (var norm in Norm(spec, "Norm", "model.norm")) yield return norm;
        if (!spec.Tied) yield return Embedding("Head", "lm_head.weight", spec.Vocabulary, spec.Width);
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

    private static WeightSpec Embedding(string field, string name, int rows, int columns) => new(
        field,
        name,
        Draw.Normal,
        new EquatableArray<Dimension>([new Dimension(rows, Axis.None), new Dimension(columns, Axis.None)]),
        IsEmbedding: true);
}
