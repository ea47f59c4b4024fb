using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MatFormer;

/// <summary>Writes safetensors files.</summary>
public static class SafetensorsWriter
{
    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>
    /// Writes a file atomically: it writes a temporary file in the same folder, flushes it to disk and renames it. A missing folder is
    /// created. <paramref name="writeData"/> streams the bytes of each tensor, in the order given.
    /// </summary>
    /// <exception cref="ArgumentException">A name is used twice or is not valid Unicode, or the header is too long.</exception>
    /// <exception cref="InvalidOperationException"><paramref name="writeData"/> wrote more or fewer bytes than the tensor has.</exception>
    /// <exception cref="IOException">The file cannot be written; no temporary file remains.</exception>
    public static void Write(
        string path,
        IReadOnlyList<SafetensorsEntry> tensors,
        IReadOnlyDictionary<string, string> metadata,
        Action<SafetensorsEntry, Stream> writeData)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(tensors);
        ArgumentNullException.ThrowIfNull(metadata);
        ArgumentNullException.ThrowIfNull(writeData);
        var header = Header(tensors, metadata);
        AtomicFile.Write(path, stream =>
        {
            Span<byte> length = stackalloc byte[8];
            BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.Length);
            stream.Write(length);
            stream.Write(header);
            foreach (var tensor in tensors)
            {
                var start = stream.Position;
                writeData(tensor, stream);
                if (stream.Position - start != tensor.Length)
                {
                    throw new InvalidOperationException(
                        string.Create(CultureInfo.InvariantCulture, $"The tensor '{tensor.Name}' has {tensor.Length} bytes, but "
                            + $"{stream.Position - start} were written."));
                }
            }
        });
    }

    private static byte[] Header(IReadOnlyList<SafetensorsEntry> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata.Count > 0)
            {
                json.WriteStartObject(SafetensorsFormat.MetadataKey);
                foreach (var (key, value) in metadata.OrderBy(p => p.Key, StringComparer.Ordinal))
                    json.WriteString(Sound(key), Sound(value));
                json.WriteEndObject();
            }

            var names = new HashSet<string>(StringComparer.Ordinal) { SafetensorsFormat.MetadataKey };
            long offset = 0;
            foreach (var tensor in tensors)
            {
                if (!names.Add(Sound(tensor.Name)))
                    throw new ArgumentException($"The name '{tensor.Name}' is used twice or reserved.", nameof(tensors));
                json.WriteStartObject(tensor.Name);
                json.WriteString("dtype", SafetensorsFormat.Code(tensor.Type));
                json.WriteStartArray("shape");
                foreach (var dimension in tensor.Shape) json.WriteNumberValue(dimension);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset = checked(offset + tensor.Length));
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        // The header is padded with spaces, so that the data is aligned to 8 bytes.
        var padding = (8 - (buffer.WrittenCount % 8)) % 8;
        buffer.GetSpan(padding)[..padding].Fill((byte)' ');
        buffer.Advance(padding);
        if (buffer.WrittenCount > SafetensorsFormat.MaxHeaderLength)
            throw new ArgumentException(
                $"The header takes {buffer.WrittenCount} bytes, but {SafetensorsFormat.MaxHeaderLength} are allowed.", nameof(tensors));
        return buffer.WrittenSpan.ToArray();
    }

    // The JSON writer would replace an unpaired surrogate, so a name would be read back changed.
    private static string Sound(string text)
    {
        try
        {
            StrictUtf8.GetByteCount(text);
            return text;
        }
        catch (EncoderFallbackException e)
        {
            throw new ArgumentException(
                "A name or value of the header is not valid Unicode: it has an unpaired surrogate.", nameof(text), e);
        }
    }
}
