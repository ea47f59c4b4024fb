namespace MatFormer.Generators.Model;

/// <summary>How a weight is initialized.</summary>
internal enum Draw
{
    /// <summary>
    /// Normal distribution with standard deviation 1 / sqrt(Width), with which a product of normed values has about their variance. With
    /// one number for all widths, such as GPT-2's 0.02, the feed-forwards of narrow models begin almost linear and learn late. In text
    /// encoders it is 0.02, because the cosines of random features are far apart, and the contrastive loss falls later.
    /// </summary>
    Normal,

    /// <summary>
    /// The same divided by sqrt(2 Layers), for weights that write to the residual stream (GPT-2).
    /// </summary>
    Residual,
    Ones,
    Zeros,
}

/// <summary>The units that a dimension of a weight counts. A slice keeps the first of them.</summary>
internal enum Axis
{
    /// <summary>The dimension is not sliced.</summary>
    None,

    /// <summary>Hidden units of the feed-forward.</summary>
    Hidden,

    /// <summary>Query heads.</summary>
    Heads,

    /// <summary>Key/value heads.</summary>
    KeyValueHeads,

    /// <summary>Channels of the residual stream.</summary>
    Channels,
}

/// <summary>
/// A dimension of <paramref name="Count"/> elements in all, or for each unit of its axis. Channels are counted in all.
/// </summary>
internal readonly record struct Dimension(int Count, Axis Axis)
{
    /// <summary>True if costs grow with the units of the axis. The width of the stream is fixed when costs are counted.</summary>
    public bool IsCounted => Axis is not (Axis.None or Axis.Channels);

    /// <summary>A dimension that is not sliced.</summary>
    public static implicit operator Dimension(int count) => new(count, Axis.None);
}

/// <summary>One weight of a block, or of the model around the blocks.</summary>
/// <param name="Field">The name of the field that holds it.</param>
/// <param name="Name">The name in a weight file. The name of a block's weight follows the prefix of the block.</param>
/// <param name="Draw">How the weight is initialized.</param>
/// <param name="Shape">The dimensions. At most one of them is along an axis other than the channels.</param>
/// <param name="IsMatrix">True if each token is multiplied by the weight, which takes 2 FLOPs for each element.</param>
/// <param name="IsEmbedding">True for the embeddings, an untied head and a classifier.</param>
internal sealed record WeightSpec(
    string Field, string Name, Draw Draw, EquatableArray<Dimension> Shape, bool IsMatrix = false, bool IsEmbedding = false)
{
    /// <summary>Returns a matrix of a block or of a head.</summary>
    public static WeightSpec Matrix(string field, string name, Draw draw, Dimension rows, Dimension columns) =>
        new(field, name, draw, new EquatableArray<Dimension>([rows, columns]), IsMatrix: true);

    /// <summary>Returns a bias, or the weights of a norm.</summary>
    public static WeightSpec Vector(string field, string name, Draw draw, Dimension size) =>
        new(field, name, draw, new EquatableArray<Dimension>([size]));

    /// <summary>Returns a table of embeddings, or another weight that counts as an embedding.</summary>
    public static WeightSpec Embedding(string field, string name, params Dimension[] shape) =>
        new(field, name, Draw.Normal, shape.ToEquatableArray(), IsEmbedding: true);

    /// <summary>True if also the lookup tokens are multiplied by the matrix, and not only the compressed ones.</summary>
    public bool IsOfAllTokens { get; init; }

    /// <summary>The axis with whose units the weight's costs grow.</summary>
    public Axis Axis => Shape.FirstOrDefault(d => d.IsCounted).Axis;

    /// <summary>The number of elements, in all or for each unit of <see cref="Axis"/>.</summary>
    public long Elements => Shape.Aggregate(1L, (product, d) => checked(product * d.Count));

    /// <summary>
    /// The number of bytes in int8, in all or for each unit of <see cref="Axis"/>. A matrix has a float32 scale for each row, and a vector
    /// is float32. If the axis counts columns, the scales are not included: see <see cref="SharedScaleBytes"/>.
    /// </summary>
    public long Int8Bytes => Shape.Count < 2 ? Elements * sizeof(float)
        : Elements + (SharedScaleBytes > 0 ? 0 : (long)Shape[0].Count * sizeof(float));

    /// <summary>True for a matrix that is rounded if the model is stored in fewer bits. Positions are added, so they are not.</summary>
    public bool IsRounded => Shape.Count == 2 && !Name.EndsWith("embed_positions.weight", StringComparison.Ordinal);

    /// <summary>The bytes of the int8 scales of a matrix that is sliced by columns. A slice keeps all of them.</summary>
    public long SharedScaleBytes => Shape.Count == 2 && Shape[1].IsCounted ? (long)Shape[0].Count * sizeof(float) : 0;
}
