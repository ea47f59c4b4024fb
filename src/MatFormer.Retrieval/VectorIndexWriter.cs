using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// Writes an index of vectors, batch by batch. Memory use does not grow with the index. The file appears, complete, when
/// <see cref="Complete"/> returns.
/// </summary>
public sealed class VectorIndexWriter : IDisposable
{
    private readonly string _path;
    private readonly Dictionary<string, string> _metadata;
    private readonly FileStream _vectors;
    private readonly FileStream _ends;
    private readonly FileStream _texts;
    private bool _completed;

    /// <summary>Begins an index.</summary>
    /// <param name="path">
    /// The file to write, usually with the extension <c>.safetensors</c>. Its folder is created if it does not exist. An existing file is
    /// replaced.
    /// </param>
    /// <param name="width">The number of dimensions of each vector.</param>
    /// <param name="prefixes">
    /// The lengths of the prefixes of a vector that are embeddings too, once normalised (nested embeddings), in any order. The full width
    /// is ignored.
    /// </param>
    /// <param name="identity">The model, weights and tokenizer that the vectors come from.</param>
    /// <exception cref="ArgumentException">A prefix is not between 1 and the width.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public VectorIndexWriter(string path, int width, IEnumerable<int> prefixes, VectorIndexIdentity identity)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        ArgumentNullException.ThrowIfNull(prefixes);
        ArgumentNullException.ThrowIfNull(identity);
        Prefixes = [.. prefixes.Distinct().Order().Where(p => p != width)];
        if (Prefixes.Any(p => p <= 0 || p > width))
        {
            throw new ArgumentException(
                $"The prefixes {string.Join(", ", Prefixes)} are not all between 1 and the width, {width}.", nameof(prefixes));
        }

        Width = width;
        _path = Path.GetFullPath(path);
        _metadata = VectorIndexFile.Metadata(Prefixes, identity);
        Directory.CreateDirectory(Path.GetDirectoryName(_path) ?? throw new IOException($"'{path}' is a folder; give the path of a file."));
        try
        {
            _vectors = Spill("vectors");
            _ends = Spill("ends");
            _texts = Spill("texts");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The number of dimensions of each vector.</summary>
    public int Width { get; }

    /// <summary>The declared prefixes, ascending, below the width.</summary>
    public ImmutableArray<int> Prefixes { get; }

    /// <summary>The data whose texts are indexed, which the file remembers; null if it is unknown.</summary>
    internal RememberedData? Indexed { get; init; }

    /// <summary>The number of vectors added so far.</summary>
    public int Count { get; private set; }

    /// <summary>Adds vectors, which are stored unchanged.</summary>
    /// <param name="vectors">The vectors, float32 (entries, width), row-major.</param>
    /// <param name="entries">The entry of each vector.</param>
    /// <exception cref="ArgumentException">
    /// The number of vectors is not the number of entries, a vector is not finite, or a text is not valid Unicode. No vector is added in
    /// this case.
    /// </exception>
    /// <exception cref="IOException">The vectors cannot be written.</exception>
    public void Add(ReadOnlySpan<float> vectors, IReadOnlyList<IndexEntry> entries)
    {
        ObjectDisposedException.ThrowIf(!_vectors.CanWrite, this);
        if (_completed) throw new InvalidOperationException($"The index '{_path}' is complete; begin another.");
        IndexEntry.Check(vectors, Width, entries, Count);
        if (entries.Count > int.MaxValue - Count)
            throw new ArgumentException($"An index holds at most {int.MaxValue} vectors.", nameof(entries));

        using var texts = new MemoryStream();
        var ends = new long[2 * entries.Count];
        for (var i = 0; i < entries.Count; i++)
        {
            texts.Write(Encoding.UTF8.GetBytes(entries[i].Title ?? string.Empty));
            ends[2 * i] = _texts.Position + texts.Position;
            texts.Write(Encoding.UTF8.GetBytes(entries[i].Text ?? string.Empty));
            ends[(2 * i) + 1] = _texts.Position + texts.Position;
        }

        _vectors.Write(MemoryMarshal.AsBytes(vectors));
        _ends.Write(MemoryMarshal.AsBytes(ends.AsSpan()));
        texts.WriteTo(_texts);
        Count += entries.Count;
    }

    /// <summary>Writes the file atomically.</summary>
    /// <exception cref="InvalidOperationException">No vectors were added, or the index is already complete.</exception>
    /// <exception cref="IOException">The file cannot be written. Nothing is left behind.</exception>
    public void Complete()
    {
        ObjectDisposedException.ThrowIf(!_vectors.CanWrite, this);
        if (_completed) throw new InvalidOperationException($"The index '{_path}' is complete already.");
        if (Count == 0) throw new InvalidOperationException($"The index '{_path}' would have no vectors; add some.");
        var metadata = new Dictionary<string, string>(_metadata, StringComparer.Ordinal);
        Indexed?.AddTo(metadata);
        SafetensorsWriter.Write(
            _path,
            [
                new(VectorIndexFile.TextEnds, SafetensorsType.Int64, [Count, 2]),
                new(VectorIndexFile.Vectors, SafetensorsType.Float32, [Count, Width]),
                new(VectorIndexFile.Texts, SafetensorsType.UInt8, [_texts.Length]),
            ],
            metadata,
            (tensor, stream) =>
            {
                var source = tensor.Name switch
                {
                    VectorIndexFile.Vectors => _vectors,
                    VectorIndexFile.TextEnds => _ends,
                    _ => _texts,
                };
                source.Position = 0;
                source.CopyTo(stream, 1 << 20);
            });
        _completed = true;
    }

    /// <summary>Deletes the temporary files. A completed index file stays.</summary>
    public void Dispose()
    {
        _vectors?.Dispose();
        _ends?.Dispose();
        _texts?.Dispose();
    }

    private FileStream Spill(string name) => new(
        $"{_path}.{Guid.NewGuid():N}.{name}.tmp",
        new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.ReadWrite,
            Share = FileShare.None,
            BufferSize = 1 << 16,
            Options = FileOptions.DeleteOnClose,
        });
}
