using Microsoft.Extensions.AI;

namespace MatFormer;

/// <summary>
/// Embeds texts with one profile of a text encoder. Several threads may use a generator: it computes one request at a time, and the others
/// wait.
/// </summary>
/// <remarks>
/// Embeddings have length 1. Texts that are longer than the context are truncated. The generator reads Dimensions of
/// <see cref="EmbeddingGenerationOptions"/>, which must be a declared dimension of the model. It refuses other models.
/// </remarks>
/// <example>
/// <code>
/// using var generator = new MatFormerEmbeddingGenerator(TextEmbedder.Of(model, Finder.Profiles[0], tokenizer));
/// var vector = await generator.GenerateVectorAsync("read all lines of a file", new EmbeddingGenerationOptions { Dimensions = 32 });
/// </code>
/// </example>
public sealed class MatFormerEmbeddingGenerator : IEmbeddingGenerator<string, Embedding<float>>
{
    private readonly TextEmbedder _embedder;
    private readonly EmbeddingGeneratorMetadata _metadata;
    private readonly SemaphoreSlim _turn = new(1);
    private volatile bool _isDisposed;

    /// <summary>Creates a generator.</summary>
    /// <param name="embedder">
    /// The embedder. Its width is the number of dimensions where a request gives none. The caller disposes of its model, after the last
    /// request.
    /// </param>
    public MatFormerEmbeddingGenerator(TextEmbedder embedder)
    {
        ArgumentNullException.ThrowIfNull(embedder);
        _embedder = embedder;
        _metadata = new EmbeddingGeneratorMetadata(
            "matformer", defaultModelId: $"{embedder.Architecture.Name}/{embedder.ProfileName}", defaultModelDimensions: embedder.Width);
    }

    internal TextEmbedder Embedder => _embedder;

    /// <summary>Embeds texts. The usage of the result has the number of tokens that were embedded.</summary>
    /// <param name="values">The texts.</param>
    /// <param name="options">The number of dimensions.</param>
    /// <param name="cancellationToken">Cancels the request between batches.</param>
    /// <exception cref="ArgumentException">A text is null, or the model does not declare the dimensions.</exception>
    /// <exception cref="NotSupportedException">The options name another model.</exception>
    /// <exception cref="ObjectDisposedException">The generator was disposed of.</exception>
    /// <exception cref="OperationCanceledException">The request was cancelled.</exception>
    public async Task<GeneratedEmbeddings<Embedding<float>>> GenerateAsync(
        IEnumerable<string> values, EmbeddingGenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(values);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (options?.ModelId is { } model && model != _metadata.DefaultModelId)
        {
            throw new NotSupportedException(
                $"EmbeddingGenerationOptions has ModelId '{model}', but {_metadata.DefaultModelId} is the only model of this generator; "
                + "leave it out.");
        }

        var embedder = options?.Dimensions is { } width ? _embedder.WithWidth(width) : _embedder;
        int[][] tokens = [.. values.Select(embedder.Encode)];
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        float[] vectors;
        try
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            vectors = await Task.Run(() => embedder.EmbedTokens(tokens, cancellationToken), cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }

        var (count, created) = (tokens.Sum(t => (long)t.Length), DateTimeOffset.UtcNow);
        return new(Enumerable.Range(0, tokens.Length).Select(row =>
            new Embedding<float>(vectors.AsMemory(row * embedder.Width, embedder.Width))
            {
                CreatedAt = created,
                ModelId = _metadata.DefaultModelId,
            }))
        {
            Usage = new UsageDetails { InputTokenCount = count, TotalTokenCount = count },
        };
    }

    /// <summary>
    /// Returns the <see cref="EmbeddingGeneratorMetadata"/>, the embedder or this generator, depending on the type; null for other types.
    /// </summary>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : new object[] { this, _metadata, _embedder }.FirstOrDefault(serviceType.IsInstanceOfType);
    }

    /// <summary>Refuses further requests. Does not dispose of the model.</summary>
    public void Dispose() => _isDisposed = true;
}
