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
/// Reads a safetensors file. The header is checked strictly when it is opened; data is read piece by piece, when asked for.
/// </summary>
public sealed class SafetensorsReader : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly Dictionary<string, SafetensorsEntry> _byName;

    private SafetensorsReader(
        string path, SafeFileHandle handle, Dictionary<string, string> metadata, ImmutableArray<SafetensorsEntry> tensors)
    {
        Path = path;
        _handle = handle;
        Metadata = metadata;
        Tensors = tensors;
        _byName = tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>What the header says beside the tensors.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensors in the order of their data.</summary>
    public ImmutableArray<SafetensorsEntry> Tensors { get; }

    /// <summary>Opens a file and checks all of its header.</summary>
    /// <exception cref="CheckpointException">There is no such file, or it is not a sound safetensors file.</exception>
    public static SafetensorsReader Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        SafeFileHandle handle;
        try
        {
            handle = File.OpenHandle(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            var problem = e switch
            {
                FileNotFoundException or DirectoryNotFoundException => "does not exist; give the path of a .safetensors file.",
                _ when Directory.Exists(path) => "is a folder; give the path of a .safetensors file.",
                _ => $"cannot be read: {e.Message}",
            };
            throw new CheckpointException(path, problem, e);
        }

        try
        {
            var fileLength = RandomAccess.GetLength(handle);
            Span<byte> prefix = stackalloc byte[8];
            if (fileLength < 8)
                throw Bad(path, $"has {fileLength} bytes, which is too short for a safetensors file; it may be cut off, so copy or write "
                    + "it again.");
            ReadExactly(handle, path, 0, prefix);
            var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
            if (headerLength > SafetensorsFormat.MaxHeaderLength)
            {
                throw Bad(path, $"names a header of {headerLength} bytes, but at most {SafetensorsFormat.MaxHeaderLength} are allowed; "
                    + "it is damaged, or no safetensors file.");
            }

            if (8 + (long)headerLength > fileLength)
                throw Bad(path, $"names a header of {headerLength} bytes, but the file has only {fileLength}; it is cut off, so copy or "
                    + "write it again.");
            var header = new byte[(int)headerLength];
            ReadExactly(handle, path, 8, header);
            var (metadata, tensors) = new Header(path, 8 + (long)headerLength, fileLength).Parse(header);
            return new SafetensorsReader(path, handle, metadata, tensors);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>The tensor of that name, or null.</summary>
    public SafetensorsEntry? Find(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Reads data of a tensor, from <paramref name="offset"/> bytes after its start.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The tensor has fewer bytes.</exception>
    /// <exception cref="CheckpointException">The file was cut off since it was opened.</exception>
    public void Read(SafetensorsEntry entry, long offset, Span<byte> destination)
    {
        ArgumentNullException.ThrowIfNull(entry);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, entry.Length - destination.Length);
        ReadExactly(_handle, Path, entry.Offset + offset, destination);
    }

    /// <summary>Reads float32, float16 or bfloat16 values of a tensor, from value <paramref name="first"/> on, as float32.</summary>
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

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

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
                throw Bad(path, "has a header that is not a JSON object; it is no safetensors file, or damaged.");
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
                // InvalidOperationException: a string with half a surrogate pair, or a token of another kind than asked for.
                throw Bad(path, $"has a header that is not sound JSON ({e.Message}); it is damaged.", e);
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
                                + "F16, BF16 or I64.");
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
                $"has a header whose '{key}' of the tensor '{name}' is no list of at most {limit} whole numbers; it is damaged."));
        }

        // The format wants data without holes and overlaps, so that nothing can hide in a file.
        private ImmutableArray<SafetensorsEntry> InFileOrder()
        {
            var ordered = _tensors.Values.OrderBy(t => t.Entry.Offset).ThenBy(t => t.End).ToArray();
            var position = dataStart;
            foreach (var (entry, end) in ordered)
            {
                if (entry.Offset != position)
                {
                    throw Bad(path, $"holds the tensor '{entry.Name}' at byte {entry.Offset - dataStart} of the data, but the one before "
                        + "it ends at "
                        + $"{position - dataStart}: tensors may neither overlap nor leave holes; it is damaged.");
                }

                position = end;
            }

            if (position != fileLength)
                throw Bad(path, $"has {fileLength - position} bytes after the last tensor; it is damaged.");
            return [.. ordered.Select(t => t.Entry)];
        }
    }
}
