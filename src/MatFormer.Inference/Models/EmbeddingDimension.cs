namespace MatFormer;

/// <summary>
/// A width at which the embeddings of <typeparamref name="TModel"/> are trained to be cut (Matryoshka representation learning, arXiv
/// 2205.13147): with a profile, an encoder of its own. The type parameter makes another model's width a type error.
/// </summary>
/// <typeparam name="TModel">The model that declares it.</typeparam>
public sealed class EmbeddingDimension<TModel>
    where TModel : IDeclaredModel<TModel>
{
    /// <summary>One of the declared widths.</summary>
    /// <exception cref="ArgumentException">The model declares no such width.</exception>
    public EmbeddingDimension(int width) => Width = TModel.Spec.CheckEmbeddingWidth(width);

    /// <summary>How many of its first numbers an embedding keeps.</summary>
    public int Width { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{TModel.Spec.Name}.D{Width}";
}
