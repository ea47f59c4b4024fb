using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// An index of embedded entries in a file that <see cref="VectorIndexWriter"/> wrote. Searches are exact. The file is memory-mapped, and
/// only the parts that searches use are read. Searches may run on several threads at once.
/// </summary>
/// <remarks>
/// The file is a safetensors file with float32 <c>vectors</c> (count, width), int64 <c>text_ends</c> (count, 2) and uint8 <c>texts</c>.
/// The hits and scores of a query do not depend on the number of queries per call or the number of threads.
/// </remarks>
/// <example>
/// <code>
/// using var index = VectorIndex.Open("index.safetensors");
/// embedder.CheckFits(index);
/// foreach (var hit in index.Search(embedder.Embed(["a query"])))
///     Console.WriteLine($"{hit.Score:0.000} {index.EntryOf(hit.Row).Title}");
/// </code>
/// </example>
public sealed unsafe class VectorIndex : IDisposable
{
    // Scores are computed for a block of rows before they are ranked. A block stays in the second-level cache while all queries use it.
    private const int MaxRowsAtOnce = 256;
    private const int FloatsAtOnce = 1 << 15;
    private const int MaxOnStack = 1024;

    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);
    private static readonly SearchOptions Default = new();
    private readonly MappedFile _file;
    private readonly VectorIndexFile.Header _header;
    private readonly InnerProducts _products;
    private readonly Lazy<float[]>[] _prefixes;

    private VectorIndex(string path, MappedFile file, VectorIndexFile.Header header, InnerProducts products)
    {
        Path = path;
        _file = file;
        _header = header;
        _products = products;
        _prefixes = [.. header.Prefixes.Select(prefix => new Lazy<float[]>(() => NormalisedPrefixes(prefix)))];
    }

    /// <summary>The path of the file.</summary>
    public string Path { get; }

    /// <summary>The number of vectors.</summary>
    public int Count => _header.Count;

    /// <summary>The number of dimensions of each vector.</summary>
    public int Width => _header.Width;

    /// <summary>
    /// The lengths of the prefixes of a vector that are embeddings too, ascending and below the width. There may be none.
    /// </summary>
    public ImmutableArray<int> Prefixes => _header.Prefixes;

    /// <summary>The model, weights and tokenizer that the vectors come from.</summary>
    public VectorIndexIdentity Identity => _header.Identity;

    /// <summary>The data whose texts are indexed; null if it is unknown.</summary>
    internal RememberedData? Indexed => _header.Indexed;

    /// <summary>Opens an index.</summary>
    /// <exception cref="CheckpointException">The file does not exist, is not an index, or is damaged.</exception>
    public static VectorIndex Open(string path) => Open(path, InnerProducts.Shared);

    internal static VectorIndex Open(string path, InnerProducts products)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        VectorIndexFile.Header header;
        using (var reader = SafetensorsReader.Open(path)) header = VectorIndexFile.ReadHeader(reader);
        MappedFile file;
        try
        {
            file = new MappedFile(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(path, $"cannot be read: {e.Message}", e);
        }

        if (file.Length == header.FileLength) return new VectorIndex(path, file, header, products);
        file.Dispose();
        throw new CheckpointException(path, "changed while it was opened; open it again.");
    }

    /// <summary>Throws unless the embeddings of queries can be compared with these vectors. Any profile of the same model fits.</summary>
    /// <param name="queries">The identity of the queries' embeddings.</param>
    /// <exception cref="CheckpointException">
    /// The queries' embeddings come from another model, other weights or another tokenizer.
    /// </exception>
    public void CheckFits(VectorIndexIdentity queries)
    {
        ArgumentNullException.ThrowIfNull(queries);
        Identity.CheckFits(Path, queries);
    }

    /// <summary>Returns the entry of a row.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    /// <exception cref="CheckpointException">The texts are damaged.</exception>
    public IndexEntry EntryOf(int row)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Count);

        // The end of the previous row's text, then the ends of this row's title and text.
        Span<byte> ends = stackalloc byte[3 * sizeof(long)];
        ends.Clear();
        var own = _header.TextEnds.Offset + ((long)row * 2 * sizeof(long));
        if (row == 0) _file.Read(own, ends[sizeof(long)..]);
        else _file.Read(own - sizeof(long), ends);
        var start = BinaryPrimitives.ReadInt64LittleEndian(ends);
        var title = BinaryPrimitives.ReadInt64LittleEndian(ends[sizeof(long)..]);
        var text = BinaryPrimitives.ReadInt64LittleEndian(ends[(2 * sizeof(long))..]);
        if (start < 0 || title < start || text < title || text > _header.Texts.Length || text - start > Array.MaxLength)
        {
            throw new CheckpointException(
                Path, $"names bytes {start} to {title} and {text} as the title and text of row {row}, but has {_header.Texts.Length} bytes "
                    + "of text; it is damaged, so write the index again.");
        }

        var bytes = new byte[text - start];
        _file.Read(_header.Texts.Offset + start, bytes);
        try
        {
            var cut = (int)(title - start);
            return new IndexEntry(StrictUtf8.GetString(bytes, 0, cut), StrictUtf8.GetString(bytes, cut, bytes.Length - cut));
        }
        catch (DecoderFallbackException e)
        {
            throw new CheckpointException(Path, $"has texts of row {row} that are not UTF-8; it is damaged, so write the index again.", e);
        }
    }

    /// <summary>Copies the vector of a row, float32 (width), exactly as it was added.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    /// <exception cref="ArgumentException">The length of the destination is not the width.</exception>
    public void CopyVector(int row, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, Count);
        if (destination.Length != Width)
            throw new ArgumentException($"The span has room for {destination.Length} numbers, not {Width}.", nameof(destination));
        using var lease = _file.Borrow();
        new ReadOnlySpan<float>(VectorsIn(lease) + ((nint)row * Width), Width).CopyTo(destination);
    }

    /// <summary>Finds the vectors nearest to a query, the nearest first. Of equal scores, the lower row comes first.</summary>
    /// <param name="query">
    /// The query, float32 (width). It must be finite. It need not be normalised: its length only scales the scores.
    /// </param>
    /// <param name="options">The options of the search. If null, 10 hits are found at full width.</param>
    /// <exception cref="ArgumentException">
    /// The query has another width or is not finite, its prefix is zero, or an option is not possible for this index.
    /// </exception>
    /// <exception cref="CheckpointException">A vector of the file is not finite.</exception>
    /// <exception cref="ObjectDisposedException">The index is disposed.</exception>
    public SearchHit[] Search(ReadOnlySpan<float> query, SearchOptions? options = null)
    {
        if (query.Length != Width)
        {
            throw new ArgumentException(
                $"The query has {query.Length} dimensions, but the vectors of '{Path}' have {Width}; embed it with the model of the index "
                + "at full width.", nameof(query));
        }

        SearchHit[] hits = [];
        Search(query, options ?? Default, new Span<SearchHit[]>(ref hits));
        return hits;
    }

    /// <summary>
    /// Finds the vectors nearest to each of several queries. The result is that of one search per query, but takes one pass over memory.
    /// </summary>
    /// <param name="queries">The queries, float32 (count, width), row-major.</param>
    /// <param name="options">The options of the search. If null, 10 hits are found at full width.</param>
    /// <inheritdoc cref="Search(ReadOnlySpan{float}, SearchOptions)" path="/exception"/>
    public SearchHit[][] SearchBatch(ReadOnlySpan<float> queries, SearchOptions? options = null)
    {
        if (queries.Length % Width != 0)
        {
            throw new ArgumentException(
                $"The queries have {queries.Length} numbers in all, which is not a multiple of the {Width} dimensions of the vectors of "
                + $"'{Path}'; embed them with the model of the index at full width.", nameof(queries));
        }

        var hits = new SearchHit[queries.Length / Width][];
        if (hits.Length > 0) Search(queries, options ?? Default, hits);
        return hits;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private void Search(ReadOnlySpan<float> queries, SearchOptions options, Span<SearchHit[]> results)
    {
        Check(queries, options);
        var count = Math.Min(options.Count, Count);
        using var lease = _file.Borrow();
        if (options.Prefix is not { } prefix)
        {
            Rank(VectorsIn(lease), Width, queries, count, options.Threads, results);
            return;
        }

        var vectors = _prefixes[Prefixes.IndexOf(prefix)].Value;
        var length = results.Length * prefix;
        var rented = length > MaxOnStack ? ArrayPool<float>.Shared.Rent(length) : null;
        var shortened = rented is null ? stackalloc float[length] : rented.AsSpan(0, length);
        Shorten(queries, prefix, shortened);
        fixed (float* first = vectors)
        {
            if (options.Shortlist == 0)
                Rank(first, prefix, shortened, count, options.Threads, results);
            else
                RankTwice(first, prefix, shortened, VectorsIn(lease), queries, options, results);
        }

        if (rented is not null) ArrayPool<float>.Shared.Return(rented);
    }

    private void RankTwice(
        float* prefixes, int prefix, ReadOnlySpan<float> shortened, float* vectors, ReadOnlySpan<float> queries, SearchOptions options,
        Span<SearchHit[]> results)
    {
        var depth = Math.Min(options.Shortlist, Count);
        TopHits single = default;
        var firsts = results.Length == 1 ? new Span<TopHits>(ref single) : new TopHits[results.Length];
        foreach (ref var first in firsts) first = new TopHits(ArrayPool<SearchHit>.Shared.Rent(depth), depth);
        Scan(prefixes, prefix, shortened, options.Threads, firsts);
        fixed (float* query = queries)
        {
            for (var q = 0; q < results.Length; q++)
            {
                results[q] = new SearchHit[Math.Min(options.Count, Count)];
                var best = new TopHits(results[q], results[q].Length);
                foreach (var (row, _) in firsts[q].Hits)
                    best.Offer(new SearchHit(row, _products.Dot(vectors + ((nint)row * Width), query + ((nint)q * Width), Width)));
                CheckFinite(best);
                best.Sort();
            }
        }

        foreach (ref var first in firsts) ArrayPool<SearchHit>.Shared.Return(first.Memory);
    }

    private void Rank(float* vectors, int width, ReadOnlySpan<float> queries, int count, int threads, Span<SearchHit[]> results)
    {
        TopHits single = default;
        var best = results.Length == 1 ? new Span<TopHits>(ref single) : new TopHits[results.Length];
        for (var q = 0; q < results.Length; q++)
        {
            results[q] = new SearchHit[count];
            best[q] = new TopHits(results[q], count);
        }

        Scan(vectors, width, queries, threads, best);
        foreach (ref var hits in best) hits.Sort();
    }

    // Scores all vectors (Count, width) against all queries (best.Length, width).
    private void Scan(float* vectors, int width, ReadOnlySpan<float> queries, int threads, Span<TopHits> best)
    {
        fixed (float* query = queries)
        {
            if (threads == 1) Scan(vectors, 0, Count, width, query, best);
            else ScanInParts(vectors, width, query, threads, best);
        }

        foreach (ref var hits in best) CheckFinite(hits);
    }

    // Each thread keeps the best hits of its own rows. Afterwards they are merged into the overall best hits.
    private void ScanInParts(float* vectors, int width, float* queries, int threads, Span<TopHits> best)
    {
        var rows = ((long)Count + threads - 1) / threads;
        var parts = new TopHits[threads][];
        for (var part = 0; part < threads; part++) parts[part] = Array.ConvertAll(best.ToArray(), hits => hits.Anew());
        Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, part =>
        {
            var (first, last) = (part * rows, Math.Min((part + 1) * rows, Count));
            if (first < last) Scan(vectors, (int)first, (int)last, width, queries, parts[part]);
        });
        foreach (var part in parts)
        {
            for (var q = 0; q < best.Length; q++) best[q].Offer(part[q]);
        }
    }

    private void Scan(float* vectors, int first, int last, int width, float* queries, Span<TopHits> best)
    {
        var step = Math.Clamp(FloatsAtOnce / width / 4 * 4, 4, MaxRowsAtOnce);
        var scores = stackalloc float[InnerProducts.MaxQueries * MaxRowsAtOnce];
        for (var row = first; row < last; row += step)
        {
            var rows = Math.Min(step, last - row);
            for (var q = 0; q < best.Length; q += InnerProducts.MaxQueries)
            {
                var count = Math.Min(InnerProducts.MaxQueries, best.Length - q);
                _products.Compute(
                    vectors + ((nint)row * width), rows, width, queries + ((nint)q * width), count, scores, MaxRowsAtOnce);
                for (var i = 0; i < count; i++) best[q + i].Add(new ReadOnlySpan<float>(scores + (i * MaxRowsAtOnce), rows), row);
            }

            if (last - row <= step) break; // row + step might overflow
        }
    }

    private void CheckFinite(in TopHits hits)
    {
        if (hits.BadRow < 0) return;
        throw new CheckpointException(
            Path, $"has a vector, row {hits.BadRow}, whose scores are not finite numbers, because it has NaN, infinities or too large "
                + "values; write the index again from normalised vectors.");
    }

    private void Check(ReadOnlySpan<float> queries, SearchOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Count, nameof(options));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Threads, nameof(options));
        if (options.Prefix is { } prefix)
        {
            if (!Prefixes.Contains(prefix))
            {
                var choice = Prefixes.IsEmpty ? "it has none, so search at full width" : $"choose one of {string.Join(", ", Prefixes)}";
                throw new ArgumentException($"'{Path}' has no prefix of {prefix} dimensions; {choice}.", nameof(options));
            }

            if (options.Shortlist < 0 || (options.Shortlist > 0 && options.Shortlist < options.Count))
            {
                throw new ArgumentException(
                    $"A shortlist of {options.Shortlist} cannot give {options.Count} hits; give at least {options.Count}, or 0 to rank by "
                    + "the prefix alone.", nameof(options));
            }
        }

        VectorScan.CheckFinite(queries, Width);
    }

    // Copies the first dimensions of each query and normalises them.
    private void Shorten(ReadOnlySpan<float> queries, int prefix, Span<float> result)
    {
        for (var q = 0; q < result.Length / prefix; q++)
        {
            if (!Normalise(queries.Slice(q * Width, prefix), result.Slice(q * prefix, prefix)))
            {
                throw new ArgumentException(
                    $"The first {prefix} dimensions of query {q} are zero, so they have no direction to compare; search at full width.",
                    nameof(queries));
            }
        }
    }

    // Copies the prefixes of all vectors into contiguous memory and normalises them, once for all searches. Their inner product with a
    // normalised query is then the cosine.
    private float[] NormalisedPrefixes(int prefix)
    {
        if ((long)Count * prefix > Array.MaxLength)
        {
            throw new ArgumentException(
                $"'{Path}' has too many vectors for a first pass over {prefix} dimensions; choose a smaller prefix.");
        }

        var result = GC.AllocateUninitializedArray<float>(Count * prefix);
        using var lease = _file.Borrow();
        var vectors = VectorsIn(lease);
        for (var row = 0; row < Count; row++)
        {
            var target = result.AsSpan(row * prefix, prefix);
            if (!Normalise(new ReadOnlySpan<float>(vectors + ((nint)row * Width), prefix), target)) target.Clear();
        }

        return result;
    }

    // Returns false if the vector is zero. The norm is computed in double precision, so that it neither overflows nor underflows.
    private static bool Normalise(ReadOnlySpan<float> vector, Span<float> result)
    {
        double squares = 0;
        foreach (var value in vector) squares += (double)value * value;
        if (squares == 0) return false;
        var scale = 1 / Math.Sqrt(squares);
        for (var i = 0; i < vector.Length; i++) result[i] = (float)(vector[i] * scale);
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private float* VectorsIn(in MappedFile.Lease lease) => (float*)(lease.Start + _header.Vectors.Offset);
}
