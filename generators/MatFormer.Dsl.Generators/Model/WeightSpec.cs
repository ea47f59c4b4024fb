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

/// <summary>What a slice of a model keeps of a weight.</summary>
internal enum Nesting
{
    Whole,

    /// <summary>The first rows, one for each hidden unit.</summary>
    Rows,

    /// <summary>The first columns, one for each hidden unit.</summary>
    Columns,
}

/// <summary>One weight of a block, or of the model around the blocks.</summary>
/// <param name="Field">The name of the field that holds it.</param>
/// <param name="Name">Its name in a weight file, within the block if it is a block's (Hugging Face's Llama).</param>
/// <param name="Draw">How it is drawn.</param>
/// <param name="Nesting">What a slice keeps.</param>
/// <param name="Shape">Its shape; <see cref="Hidden"/> stands for the hidden units of the layer.</param>
/// <param name="IsMatrix">True if each token multiplies it: 2 FLOPs an element.</param>
/// <param name="IsEmbedding">True for the embeddings and an untied head.</param>
internal sealed record WeightSpec(
    string Field, string Name, Draw Draw, Nesting Nesting, EquatableArray<int> Shape, bool IsMatrix = false, bool IsEmbedding = false)
{
    public const int Hidden = -1;

    /// <summary>Elements, or elements per hidden unit if <see cref="Nesting"/> is not <see cref="Nesting.Whole"/>.</summary>
    public long Elements => Shape.Where(size => size != Hidden).Aggregate(1L, (product, size) => checked(product * size));
}

/// <summary>The weights of a model, in the order in which they are drawn.</summary>
internal static class Weights
{
    /// <summary>Those of one block.</summary>
    public static IEnumerable<WeightSpec> OfBlock(ModelSpec spec)
    {
        const int hidden = WeightSpec.Hidden;
        foreach (var norm in Norm(spec, "InputLayerNorm", "input_layernorm")) yield return norm;
        yield return Matrix("QueryProjection", "self_attn.q_proj.weight", Draw.Normal, Nesting.Whole, spec.QueryWidth, spec.Width);
        yield return Matrix("KeyProjection", "self_attn.k_proj.weight", Draw.Normal, Nesting.Whole, spec.KeyValueWidth, spec.Width);
        yield return Matrix("ValueProjection", "self_attn.v_proj.weight", Draw.Normal, Nesting.Whole, spec.KeyValueWidth, spec.Width);
        yield return Matrix("OutputProjection", "self_attn.o_proj.weight", Draw.Residual, Nesting.Whole, spec.Width, spec.QueryWidth);
        if (spec.QkNorm)
        {
            yield return Vector("QueryNorm", "self_attn.q_norm.weight", Draw.Ones, spec.HeadWidth);
            yield return Vector("KeyNorm", "self_attn.k_norm.weight", Draw.Ones, spec.HeadWidth);
        }

        foreach (var norm in Norm(spec, "PostAttentionLayerNorm", "post_attention_layernorm")) yield return norm;
        if (spec.Gated)
        {
            yield return Matrix("GateProjection", "mlp.gate_proj.weight", Draw.Normal, Nesting.Rows, hidden, spec.Width);
            if (spec.Bias) yield return Vector("GateBias", "mlp.gate_proj.bias", Draw.Zeros, hidden);
        }

        yield return Matrix("UpProjection", "mlp.up_proj.weight", Draw.Normal, Nesting.Rows, hidden, spec.Width);
        if (spec.Bias) yield return Vector("UpBias", "mlp.up_proj.bias", Draw.Zeros, hidden);
        yield return Matrix("DownProjection", "mlp.down_proj.weight", Draw.Residual, Nesting.Columns, spec.Width, hidden);
        if (spec.Bias) yield return Vector("DownBias", "mlp.down_proj.bias", Draw.Zeros, spec.Width);
    }

    /// <summary>Those in front of the blocks.</summary>
    public static IEnumerable<WeightSpec> BeforeBlocks(ModelSpec spec)
    {
        yield return new WeightSpec(
            "EmbedTokens", "model.embed_tokens.weight", Draw.Normal, Nesting.Whole, Shape(spec.Vocabulary, spec.Width), IsEmbedding: true);
        if (!spec.Rotary)
        {
            var shape = Shape(spec.Context, spec.Width);
            yield return new WeightSpec(
                "EmbedPositions", "model.embed_positions.weight", Draw.Normal, Nesting.Whole, shape, IsEmbedding: true);
        }
    }

    /// <summary>Those behind the blocks.</summary>
    public static IEnumerable<WeightSpec> AfterBlocks(ModelSpec spec)
    {
        foreach (var norm in Norm(spec, "Norm", "model.norm")) yield return norm;
        if (!spec.Tied)
        {
            yield return new WeightSpec(
                "Head", "lm_head.weight", Draw.Normal, Nesting.Whole, Shape(spec.Vocabulary, spec.Width), IsEmbedding: true);
        }
    }

    private static IEnumerable<WeightSpec> Norm(ModelSpec spec, string field, string name)
    {
        yield return Vector(field, name + ".weight", Draw.Ones, spec.Width);
        if (spec.Norm == NormKind.Layer) yield return Vector(field + "Bias", name + ".bias", Draw.Zeros, spec.Width);
    }

    private static WeightSpec Matrix(string field, string name, Draw draw, Nesting nesting, int rows, int columns) =>
        new(field, name, draw, nesting, Shape(rows, columns), IsMatrix: true);

    private static WeightSpec Vector(string field, string name, Draw draw, int size) =>
        new(field, name, draw, size == WeightSpec.Hidden ? Nesting.Rows : Nesting.Whole, Shape(size));

    private static EquatableArray<int> Shape(params int[] sizes) => new(sizes);
}
