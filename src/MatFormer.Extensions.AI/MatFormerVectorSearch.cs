using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.VectorData;

namespace MatFormer;

/// <summary>An entry of a <see cref="VectorIndex"/> that a <see cref="MatFormerVectorSearch"/> found.</summary>
/// <param name="Id">The entry's row in the index, from 0.</param>
/// <param name="Title">A line that names the entry.</param>
/// <param name="Text">The embedded text, or the part of it that a search should show. It may be empty.</param>
public sealed record IndexRecord(int Id, string Title, string Text)
{
    /// <summary>
    /// The entry's vector, exactly as it was added to the index, if <see cref="VectorSearchOptions{TRecord}.IncludeVectors"/> asks for it;
    /// else null.
    /// </summary>
    public ReadOnlyMemory<float>? Vector { get; init; }
}

/// <summary>
/// Searches a <see cref="VectorIndex"/> by text or by vector, as an <see cref="IVectorSearchable{TRecord}"/> of
/// Microsoft.Extensions.VectorData. Several threads may use it.
/// </summary>
/// <remarks>
/// <para>
/// A search takes a <see cref="string"/>, which the model embeds, or a vector of the index's width: a <c>float[]</c>, a
/// <c>ReadOnlyMemory&lt;float&gt;</c> or an <c>Embedding&lt;float&gt;</c>. The best hits come first.
/// </para>
/// <para>
/// The score of a result is that of the index (<see cref="SearchHit.Score"/>): the higher, the nearer. Of
/// <see cref="VectorSearchOptions{TRecord}"/>, a search reads <see cref="VectorSearchOptions{TRecord}.Skip"/>,
/// <see cref="VectorSearchOptions{TRecord}.ScoreThreshold"/> and <see cref="VectorSearchOptions{TRecord}.IncludeVectors"/>. It refuses a
/// filter, because an index has nothing to filter by, and a vector property, because an entry has only one vector.
/// </para>
/// </remarks>
/// <example>
/// <code>
/// using var index = VectorIndex.Open("index.safetensors");
/// using var generator = new MatFormerEmbeddingGenerator(TextEmbedder.Of(model, Finder.Profile.S, tokenizer));
/// var search = new MatFormerVectorSearch(index, generator);
/// await foreach (var found in search.SearchAsync("read all lines of a file", top: 5))
///     Console.WriteLine($"{found.Score:F3}  {found.Record.Title}");
/// </code>
/// </example>
public sealed class MatFormerVectorSearch : IVectorSearchable<IndexRecord>
{
    private readonly VectorIndex _index;
    private readonly SearchOptions _options;
    private readonly VectorStoreCollectionMetadata _metadata;
    private readonly MatFormerEmbeddingGenerator? _generator;
    private readonly EscalatingSearch<string>? _escalating;
    private readonly SemaphoreSlim _turn = new(1);

    /// <summary>Creates a search that embeds texts with one profile.</summary>
    /// <param name="index">The index. The caller disposes of it, after the last search.</param>
    /// <param name="generator">The generator that embeds texts. Any profile fits. The caller disposes of it, after the last search.</param>
    /// <param name="options">
    /// How the index is searched, such as by a prefix first; null for the defaults. Its count has no effect: each search says how many hits
    /// it wants. A shortlist that is too short for a search is made longer.
    /// </param>
    /// <exception cref="CheckpointException">The index was embedded by another model, or at another width.</exception>
    public MatFormerVectorSearch(VectorIndex index, MatFormerEmbeddingGenerator generator, SearchOptions? options = null)
        : this(index, options)
    {
        ArgumentNullException.ThrowIfNull(generator);
        generator.Embedder.CheckFits(index);
        _generator = generator;
    }

    /// <summary>
    /// Creates a search that embeds a text with the cheapest encoder first. A search by vector embeds nothing and goes to the index.
    /// </summary>
    /// <param name="escalating">The search by text. It answers one text at a time. The caller disposes of its index.</param>
    /// <param name="options">How the index is searched; null for the defaults, as for the other constructor.</param>
    public MatFormerVectorSearch(EscalatingSearch<string> escalating, SearchOptions? options = null)
        : this((escalating ?? throw new ArgumentNullException(nameof(escalating))).Index, options) => _escalating = escalating;

    private MatFormerVectorSearch(VectorIndex index, SearchOptions? options)
    {
        ArgumentNullException.ThrowIfNull(index);
        (_index, _options) = (index, options ?? new SearchOptions());
        _metadata = new VectorStoreCollectionMetadata { VectorStoreSystemName = "matformer", CollectionName = index.Path };
    }

    /// <summary>Finds the entries that are nearest to a text or a vector, the nearest first.</summary>
    /// <typeparam name="TInput">The type of what is searched for.</typeparam>
    /// <param name="searchValue">A text, or a vector of the index's width.</param>
    /// <param name="top">The largest number of results, 1 or more.</param>
    /// <param name="options">How many hits to skip, the lowest score, and whether to return vectors.</param>
    /// <param name="cancellationToken">Cancels the search before it reads the index.</param>
    /// <exception cref="ArgumentException">The vector has another width or is not finite, or a number is out of range.</exception>
    /// <exception cref="NotSupportedException">
    /// The search asks for something that is not supported, or searches for another type; the message names it.
    /// </exception>
    /// <exception cref="CheckpointException">The index is damaged.</exception>
    /// <exception cref="OperationCanceledException">The search was cancelled.</exception>
    public IAsyncEnumerable<VectorSearchResult<IndexRecord>> SearchAsync<TInput>(
        TInput searchValue, int top, VectorSearchOptions<IndexRecord>? options = null, CancellationToken cancellationToken = default)
        where TInput : notnull
    {
        ArgumentNullException.ThrowIfNull(searchValue);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(top);
        Refuse(options?.Filter is not null, nameof(options.Filter), "an index has no columns to filter by; filter the results");
        Refuse(options?.VectorProperty is not null, nameof(options.VectorProperty), "an entry has one vector; leave it out");
        var vector = searchValue switch
        {
            string => (ReadOnlyMemory<float>?)null,
            float[] numbers => numbers,
            ReadOnlyMemory<float> numbers => numbers,
            Embedding<float> embedding => embedding.Vector,
            _ => throw new NotSupportedException(
                $"'{_index.Path}' cannot be searched for a {typeof(TInput).Name}; give a string, a float[], a ReadOnlyMemory<float> or an "
                + "Embedding<float>."),
        };
        return Search(searchValue as string, vector, top, options ?? new(), cancellationToken);

        static void Refuse(bool isThere, string option, string why)
        {
            if (isThere) throw new NotSupportedException($"VectorSearchOptions has {option}, which this search does not support: {why}.");
        }
    }

    /// <summary>
    /// Returns the <see cref="VectorStoreCollectionMetadata"/>, the index, the generator or this search, depending on the type; null for
    /// other types.
    /// </summary>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : new object?[] { this, _metadata, _index, _generator, _escalating }.FirstOrDefault(serviceType.IsInstanceOfType);
    }

    private async IAsyncEnumerable<VectorSearchResult<IndexRecord>> Search(
        string? text, ReadOnlyMemory<float>? vector, int top, VectorSearchOptions<IndexRecord> options,
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var count = (int)Math.Min((long)top + options.Skip, _index.Count);
        var how = _options with { Count = count, Shortlist = _options.Shortlist == 0 ? 0 : Math.Max(_options.Shortlist, count) };
        if (text is not null && _generator is not null)
        {
            var embeddings = await _generator.GenerateAsync([text], null, cancellationToken).ConfigureAwait(false);
            vector = embeddings[0].Vector;
        }

        var hits = vector is { } query ? _index.Search(query.Span, how)
            : await Escalate(text!, how, cancellationToken).ConfigureAwait(false);
        foreach (var (row, score) in hits.Skip(options.Skip))
        {
            if (score < options.ScoreThreshold) yield break;
            var (title, payload) = _index.EntryOf(row);
            var found = new IndexRecord(row, title, payload);
            if (options.IncludeVectors)
            {
                var numbers = new float[_index.Width];
                _index.CopyVector(row, numbers);
                found = found with { Vector = numbers };
            }

            yield return new VectorSearchResult<IndexRecord>(found, score);
        }
    }

    // Encoders compute one request at a time.
    private async Task<SearchHit[]> Escalate(string text, SearchOptions how, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return await Task.Run(() => _escalating!.Search([text], how).Hits[0], cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }
    }
}
