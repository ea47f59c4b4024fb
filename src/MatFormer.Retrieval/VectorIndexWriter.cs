using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// Writes an index of vectors, batch by batch; memory does not grow with the index. The file is there, whole, once <see cref="Complete"/>
/// has returned, and never before.
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
    /// <param name="path">The file to write, by custom <c>.safetensors</c>; its folder is made if need be, an older file replaced.</param>
    /// <param name="width">Dimensions of each vector.</param>
    /// <param name="prefixes">
    /// Numbers of first dimensions that are embeddings too, once normalised (nested embeddings), in any order; the full width among them
    /// is left out.
    /// </param>
    /// <param name="identity">Where the vectors come from.</param>
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

    /// <summary>Dimensions of each vector.</summary>
    public int Width { get; }

    /// <summary>The declared prefixes, ascending, below the width.</summary>
    public ImmutableArray<int> Prefixes { get; }

    /// <summary>Vectors that were added.</summary>
    public int Count { get; private set; }

    /// <summary>Adds vectors, which are kept as they are.</summary>
    /// <param name="vectors">float32 (entries, width), row by row.</param>
    /// <param name="entries">What each of them stands for.</param>
    /// <exception cref="ArgumentException">
    /// The vectors are not as many as the entries, one is not finite, or a text is not valid Unicode; then none was added.
    /// </exception>
    /// <exception cref="IOException">They cannot be written.</exception>
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

    /// <summary>Writes the file, atomically.</summary>
    /// <exception cref="InvalidOperationException">Nothing was added.</exception>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public void Complete()
    {
        ObjectDisposedException.ThrowIf(!_vectors.CanWrite, this);
        if (_completed) throw new InvalidOperationException($"The index '{_path}' is complete already.");
        if (Count == 0) throw new InvalidOperationException($"The index '{_path}' would have no vectors; add some.");
        SafetensorsWriter.Write(
            _path,
            [
                new(VectorIndexFile.TextEnds, SafetensorsType.Int64, [Count, 2]),
                new(VectorIndexFile.Vectors, SafetensorsType.Float32, [Count, Width]),
                new(VectorIndexFile.Texts, SafetensorsType.UInt8, [_texts.Length]),
            ],
            _metadata,
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

    /// <summary>Deletes what was kept so far; the file stays if it is complete.</summary>
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
