namespace MatFormer;

/// <summary>
/// A width to which embeddings of <typeparamref name="TModel"/> may be cut, because they are trained for it (Matryoshka representation
/// learning, arXiv 2205.13147). The type parameter makes another model's width a type error.
/// </summary>
/// <typeparam name="TModel">The model that declares it.</typeparam>
public sealed class EmbeddingDimension<TModel>
    where TModel : IDeclaredModel<TModel>
{
    /// <summary>Creates one of the declared widths.</summary>
    /// <exception cref="ArgumentException">The model declares no such width.</exception>
    public EmbeddingDimension(int width) => Width = TModel.Spec.CheckEmbeddingWidth(width);

    /// <summary>How many of its first values an embedding keeps.</summary>
    public int Width { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{TModel.Spec.Name}.D{Width}";
}
