using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Unicode;
using Microsoft.Win32.SafeHandles;

namespace MatFormer;

/// <summary>
/// Reads a safetensors file, or a set of files with an index as if it were one file. The headers are checked strictly when the files are
/// opened. Data is read only when you ask for it.
/// </summary>
public sealed class SafetensorsReader : IDisposable
{
    private const string FileName = "model.safetensors";
    private readonly ImmutableArray<(string Path, SafeFileHandle Handle)> _files;
    private readonly Dictionary<string, SafetensorsEntry> _byName;

    private SafetensorsReader(
        string path, ImmutableArray<(string Path, SafeFileHandle Handle)> files, IReadOnlyDictionary<string, string> metadata,
        ImmutableArray<SafetensorsEntry> tensors)
    {
        Path = path;
        _files = files;
        Metadata = metadata;
        Tensors = tensors;
        _byName = tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    /// <summary>The file, or the index of the set.</summary>
    public string Path { get; }

    /// <summary>The metadata of the header; of a set, the metadata that is the same in all headers.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensors in the order of their data, those of the first file first.</summary>
    public ImmutableArray<SafetensorsEntry> Tensors { get; }

    /// <summary>Opens weights and checks all headers.</summary>
    /// <param name="path">
    /// A safetensors file; or the index of a set of files (<c>model.safetensors.index.json</c>) that lie beside it; or a folder with a
    /// <c>model.safetensors</c> or an index, as Hugging Face's transformers writes it.
    /// </param>
    /// <exception cref="CheckpointException">The file does not exist or is damaged, or the set is incomplete.</exception>
    public static SafetensorsReader Open(string path)
    {
        var located = Locate(path);
        return located.EndsWith(".json", StringComparison.Ordinal) ? OpenSet(located) : OpenSet(located, [located]);
    }

    /// <summary>Returns the file or index that holds the weights of a folder; returns any other path unchanged.</summary>
    /// <exception cref="CheckpointException">The folder has no weights.</exception>
    internal static string Locate(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!Directory.Exists(path)) return path;
        foreach (var name in (string[])[FileName, SafetensorsIndex.FileName])
        {
            if (System.IO.Path.Combine(path, name) is var file && File.Exists(file)) return file;
        }

        throw new CheckpointException(path, Directory.EnumerateFiles(path, "*.bin").Any()
            ? "is a folder without safetensors files; save the model again with save_pretrained(..., safe_serialization=True)."
            : $"is a folder with neither {FileName} nor {SafetensorsIndex.FileName}; give a folder with one of them, or the path of a "
                + ".safetensors file.");
    }

    private static SafetensorsReader OpenSet(string index)
    {
        var fileOf = SafetensorsIndex.Read(index);
        var folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(index))!;
        var names = fileOf.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal).ToList();
        var missing = names.Where(name => !File.Exists(System.IO.Path.Combine(folder, name))).ToList();
        if (missing.Count > 0)
        {
            throw new CheckpointException(index, $"names the file '{missing[0]}', which is not beside it"
                + $"{(missing.Count > 1 ? $", nor are {missing.Count - 1} others" : string.Empty)}; copy or download the whole set.");
        }

        var reader = OpenSet(index, [.. names.Select(name => System.IO.Path.Combine(folder, name))]);
        try
        {
            foreach (var entry in reader.Tensors)
            {
                var name = names[entry.File];
                if (!fileOf.Remove(entry.Name, out var expected) || expected != name)
                {
                    throw Bad(index, $"does not name the tensor '{entry.Name}' as one of '{name}', which holds it; the files are not of "
                        + "one set, so copy or download them again.");
                }
            }

            if (fileOf.Count == 0) return reader;
            var (tensor, file) = fileOf.First();
            throw Bad(index, $"names the tensor '{tensor}' as one of '{file}', which does not have it; the files are not of one set, so "
                + "copy or download them again.");
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    private static SafetensorsReader OpenSet(string path, ImmutableArray<string> files)
    {
        var opened = new List<(string Path, SafeFileHandle Handle)>();
        try
        {
            var tensors = ImmutableArray.CreateBuilder<SafetensorsEntry>();
            var names = new HashSet<string>(StringComparer.Ordinal);
            Dictionary<string, string>? metadata = null;
            foreach (var file in files)
            {
                opened.Add((file, OpenFile(file)));
                var (its, entries) = ReadHeader(file, opened[^1].Handle);
                foreach (var entry in entries)
                {
                    if (!names.Add(entry.Name))
                        throw Bad(file, $"has the tensor '{entry.Name}', as another file of its set does; it is damaged.");
                    tensors.Add(entry with { File = opened.Count - 1 });
                }

                metadata = metadata is null
                    ? its
                    : metadata.Where(its.Contains).ToDictionary(StringComparer.Ordinal);
            }

            return new SafetensorsReader(path, [.. opened], metadata!, tensors.ToImmutable());
        }
        catch
        {
            foreach (var (_, handle) in opened) handle.Dispose();
            throw;
        }
    }

    private static SafeFileHandle OpenFile(string path)
    {
        try
        {
            return File.OpenHandle(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            var problem = e is FileNotFoundException or DirectoryNotFoundException
                ? "does not exist; give the path of a .safetensors file."
                : $"cannot be read: {e.Message}";
            throw new CheckpointException(path, problem, e);
        }
    }

    private static (Dictionary<string, string> Metadata, ImmutableArray<SafetensorsEntry> Tensors) ReadHeader(
        string path, SafeFileHandle handle)
    {
        var fileLength = RandomAccess.GetLength(handle);
        Span<byte> prefix = stackalloc byte[8];
        if (fileLength < 8)
            throw Bad(path, $"has {fileLength} bytes, which is too short for a safetensors file; it may be cut off, so copy or write "
                + "it again.");
        ReadExactly(handle, path, 0, prefix);
        if (prefix.StartsWith("GGUF"u8))
        {
            throw Bad(path, "is a GGUF file, which llama.cpp reads, but the format of weights here is safetensors; give the .safetensors "
                + "file of the model.");
        }

        var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (headerLength > SafetensorsFormat.MaxHeaderLength)
        {
            throw Bad(path, $"names a header of {headerLength} bytes, but at most {SafetensorsFormat.MaxHeaderLength} are allowed; "
                + "it is damaged, or not a safetensors file.");
        }

        if (8 + (long)headerLength > fileLength)
            throw Bad(path, $"names a header of {headerLength} bytes, but the file has only {fileLength}; it is cut off, so copy or "
                + "write it again.");
        var header = new byte[(int)headerLength];
        ReadExactly(handle, path, 8, header);
        return new Header(path, 8 + (long)headerLength, fileLength).Parse(header);
    }

    /// <summary>Returns the tensor with a name, or null if there is none.</summary>
    public SafetensorsEntry? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Reads bytes of a tensor, beginning <paramref name="offset"/> bytes after its start.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The tensor ends before the requested bytes do.</exception>
    /// <exception cref="CheckpointException">The file has been truncated since it was opened.</exception>
    public void Read(SafetensorsEntry entry, long offset, Span<byte> destination)
    {
        ArgumentNullException.ThrowIfNull(entry);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, entry.Length - destination.Length);
        var (path, handle) = _files[entry.File];
        ReadExactly(handle, path, entry.Offset + offset, destination);
    }

    /// <summary>Reads float32, float16 or bfloat16 values of a tensor as float32, beginning with value <paramref name="first"/>.</summary>
    internal void ReadValues(SafetensorsEntry entry, long first, Span<float> values)
    {
        if (entry.Type == SafetensorsType.Float32)
        {
            Read(entry, first * sizeof(float), MemoryMarshal.AsBytes(values));
            return;
        }

        var rented = ArrayPool<ushort>.Shared.Rent(values.Length);
        var halves = rented.AsSpan(0, values.Length);
        Read(entry, first * sizeof(ushort), MemoryMarshal.AsBytes(halves));
        for (var i = 0; i < halves.Length; i++)
        {
            values[i] = entry.Type == SafetensorsType.Float16
                ? (float)BitConverter.UInt16BitsToHalf(halves[i])
                : BitConverter.UInt32BitsToSingle((uint)halves[i] << 16);
        }

        ArrayPool<ushort>.Shared.Return(rented);
    }

    /// <summary>Returns the file that holds a tensor.</summary>
    internal string PathOf(SafetensorsEntry entry) => _files[entry.File].Path;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (_, handle) in _files) handle.Dispose();
    }

    private static void ReadExactly(SafeFileHandle handle, string path, long offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            var read = RandomAccess.Read(handle, destination, offset);
            if (read == 0) throw Bad(path, $"ends at byte {offset} while it is read; it was cut off, so copy or write it again.");
            destination = destination[read..];
            offset += read;
        }
    }

    private static CheckpointException Bad(string path, string problem, Exception? inner = null) => new(path, problem, inner);

    /// <summary>Parses and checks a header.</summary>
    private sealed class Header(string path, long dataStart, long fileLength)
    {
        private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);
        private readonly Dictionary<string, (SafetensorsEntry Entry, long End)> _tensors = new(StringComparer.Ordinal);

        public (Dictionary<string, string> Metadata, ImmutableArray<SafetensorsEntry> Tensors) Parse(ReadOnlySpan<byte> json)
        {
            if (json.IsEmpty || json[0] != (byte)'{')
                throw Bad(path, "has a header that is not a JSON object; it is damaged, or not a safetensors file.");
            if (!Utf8.IsValid(json)) throw Bad(path, "has a header that is not UTF-8; it is damaged.");
            try
            {
                var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 8 });
                reader.Read();
                ReadObject(ref reader);
                reader.Read(); // only white space may follow
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException)
            {
                // An unpaired surrogate in a string, or a token of an unexpected kind, throws InvalidOperationException.
                throw Bad(path, $"has a header that is not valid JSON ({JsonProblem.Of(e)}); it is damaged.", e);
            }

            return (_metadata, InFileOrder());
        }

        private void ReadObject(ref Utf8JsonReader reader)
        {
            var metadataSeen = false;
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
            {
                var name = reader.GetString()!;
                reader.Read();
                if (reader.TokenType != JsonTokenType.StartObject)
                    throw Bad(path, $"has a header whose '{name}' is not a JSON object; it is damaged.");
                if (name != SafetensorsFormat.MetadataKey)
                {
                    ReadTensor(ref reader, name);
                    continue;
                }

                if (metadataSeen) throw Bad(path, $"has a header with '{name}' twice; it is damaged.");
                metadataSeen = true;
                ReadMetadata(ref reader);
            }
        }

        private void ReadMetadata(ref Utf8JsonReader reader)
        {
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
            {
                var key = reader.GetString()!;
                reader.Read();
                if (reader.TokenType != JsonTokenType.String) throw Bad(path, $"has metadata '{key}' that is not a string; it is damaged.");
                if (!_metadata.TryAdd(key, reader.GetString()!)) throw Bad(path, $"has the metadata '{key}' twice; it is damaged.");
            }
        }

        private void ReadTensor(ref Utf8JsonReader reader, string name)
        {
            SafetensorsType? type = null;
            List<long>? shape = null;
            List<long>? offsets = null;
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
            {
                var key = reader.GetString()!;
                reader.Read();
                switch (key)
                {
                    case "dtype" when type is null && reader.TokenType == JsonTokenType.String:
                        var code = reader.GetString()!;
                        type = SafetensorsFormat.TypeOf(code)
                            ?? throw Bad(path, $"holds the tensor '{name}' with the dtype {code}, which is not supported; save it as F32, "
                                + "F16, BF16, I64 or U8.");
                        break;
                    case "shape" when shape is null:
                        shape = ReadNumbers(ref reader, name, key, SafetensorsFormat.MaxDimensions);
                        break;
                    case "data_offsets" when offsets is null:
                        offsets = ReadNumbers(ref reader, name, key, 2);
                        break;
                    default:
                        throw Bad(path, $"has a header whose entry for the tensor '{name}' has an unexpected, repeated or malformed "
                            + $"'{key}'; it is damaged.");
                }
            }

            if (type is null || shape is null || offsets is not [var begin, var end])
                throw Bad(path, $"has a header whose entry for the tensor '{name}' lacks dtype, shape or two data_offsets; it is damaged.");
            var entry = new SafetensorsEntry(name, type.Value, [.. shape]) { Offset = dataStart };
            long length;
            try
            {
                length = entry.Length;
            }
            catch (OverflowException e)
            {
                throw Bad(path, $"holds the tensor '{name}' of the impossible shape ({string.Join(", ", shape)}); it is damaged.", e);
            }

            if (begin > end || end - begin != length)
            {
                throw Bad(path, $"holds the tensor '{name}' of shape ({string.Join(", ", shape)}) and dtype "
                    + $"{SafetensorsFormat.Code(type.Value)}, "
                    + $"which takes {length} bytes, at data_offsets {begin} to {end}; it is damaged.");
            }

            if (end > fileLength - dataStart)
            {
                throw Bad(path, $"holds the tensor '{name}' up to byte {end} of the data, but there are only {fileLength - dataStart}; "
                    + "it is cut off, so copy or write it again.");
            }

            if (!_tensors.TryAdd(name, (entry with { Offset = dataStart + begin }, dataStart + end)))
                throw Bad(path, $"has the tensor '{name}' twice; it is damaged.");
        }

        private List<long> ReadNumbers(ref Utf8JsonReader reader, string name, string key, int limit)
        {
            var numbers = new List<long>();
            if (reader.TokenType == JsonTokenType.StartArray)
            {
                while (reader.Read() && reader.TokenType == JsonTokenType.Number && numbers.Count < limit
                       && reader.TryGetInt64(out var number) && number >= 0)
                {
                    numbers.Add(number);
                }

                if (reader.TokenType == JsonTokenType.EndArray) return numbers;
            }

            throw Bad(path, string.Create(
                CultureInfo.InvariantCulture,
                $"has a header whose '{key}' of the tensor '{name}' is not a list of at most {limit} whole numbers; it is damaged."));
        }

        // The format forbids holes and overlaps, so that nothing can be hidden in a file.
        private ImmutableArray<SafetensorsEntry> InFileOrder()
        {
            var ordered = _tensors.Values.OrderBy(t => t.Entry.Offset).ThenBy(t => t.End).ToArray();
            var position = dataStart;
            foreach (var (entry, end) in ordered)
            {
                if (entry.Offset != position)
                {
                    throw Bad(path, $"holds the tensor '{entry.Name}' at byte {entry.Offset - dataStart} of the data, but the tensor "
                        + "before it ends at "
                        + $"{position - dataStart}: tensors may neither overlap nor leave holes; the file is damaged.");
                }

                position = end;
            }

            if (position != fileLength)
                throw Bad(path, $"has {fileLength - position} bytes after the last tensor; it is damaged.");
            return [.. ordered.Select(t => t.Entry)];
        }
    }
}
