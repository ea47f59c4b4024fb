using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace MatFormer;

/// <summary>
/// Reads and writes PNG images of 8 bits per sample that are not interlaced. Images are grey, RGB, or have a palette, which is read as
/// RGB. Transparency is dropped: the stored colour counts, without a background. Source: Portable Network Graphics (PNG) Specification,
/// W3C.
/// </summary>
internal static class Png
{
    /// <summary>The largest number of bytes that one compressed byte can become (Deflate, RFC 1951: 258 bytes from 2 bits).</summary>
    public const int LargestRatio = 1032;

    private static readonly uint[] s_crc = CrcTable();

    private static ReadOnlySpan<byte> Signature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];

    /// <summary>True if a file begins with PNG's signature.</summary>
    public static bool IsPng(ReadOnlySpan<byte> file) => file.StartsWith(Signature);

    /// <summary>Returns an image, (C, H, W) with one channel (grey) or three (RGB), as a PNG file.</summary>
    public static byte[] Encode(ReadOnlySpan<byte> pixels, int channels, int height, int width)
    {
        if (channels is not (1 or 3) || height <= 0 || width <= 0 || pixels.Length != (long)channels * height * width)
            throw new ArgumentException($"{pixels.Length} bytes do not hold {channels} channels, {height} rows and {width} columns.");
        Span<byte> header = stackalloc byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header[4..], height);
        header[8] = 8;
        header[9] = (byte)(channels == 1 ? ColourType.Grey : ColourType.Rgb);

        using var data = new MemoryStream();
        using (var compressed = new ZLibStream(data, CompressionLevel.Optimal, leaveOpen: true))
        {
            var row = new byte[1 + (width * channels)]; // the first byte is the row's filter: none
            for (var y = 0; y < height; y++)
            {
                for (var x = 0; x < width; x++)
                {
                    for (var c = 0; c < channels; c++) row[1 + (x * channels) + c] = pixels[(((c * height) + y) * width) + x];
                }

                compressed.Write(row);
            }
        }

        using var file = new MemoryStream();
        file.Write(Signature);
        WriteChunk(file, "IHDR"u8, header);
        WriteChunk(file, "IDAT"u8, data.GetBuffer().AsSpan(0, (int)data.Length));
        WriteChunk(file, "IEND"u8, []);
        return file.ToArray();
    }

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or of an unsupported kind.</exception>
    public static RasterImage Decode(ReadOnlySpan<byte> file)
    {
        var rest = file[Signature.Length..];
        ReadOnlySpan<byte> header = [];
        ReadOnlySpan<byte> palette = [];
        using var data = new MemoryStream();
        string type;
        do
        {
            if (rest.Length < 12 || BinaryPrimitives.ReadUInt32BigEndian(rest) is var size && size > rest.Length - 12)
                throw new InvalidDataException("it ends in the middle of a chunk; copy it again.");
            var end = 8 + (int)size;
            var chunk = rest[8..end];
            type = Encoding.Latin1.GetString(rest[4..8]);
            if (Crc(rest[4..end]) != BinaryPrimitives.ReadUInt32BigEndian(rest[end..]))
                throw new InvalidDataException($"the checksum of its chunk {type} is wrong, so it is damaged; copy it again.");
            switch (type)
            {
                case "IHDR" when chunk.Length == 13:
                    header = chunk;
                    break;
                case "PLTE":
                    palette = chunk;
                    break;
                case "IDAT":
                    data.Write(chunk);
                    break;
                case "IEND":
                    break;
                case var _ when char.IsAsciiLetterUpper(type[0]): // an upper-case letter marks a chunk that readers must understand
                    throw new InvalidDataException($"its chunk {type} is unknown; convert it to PNG again.");
            }

            rest = rest[(end + 4)..];
        }
        while (type != "IEND");

        if (header.IsEmpty) throw new InvalidDataException("it has no header (IHDR); convert it to PNG again.");
        var (width, height) = (BinaryPrimitives.ReadInt32BigEndian(header), BinaryPrimitives.ReadInt32BigEndian(header[4..]));
        if (header[8] != 8)
        {
            throw new InvalidDataException(
                $"it has {header[8]} bits per sample, but only 8 are supported; convert it (mogrify -define png:bit-depth=8 FILES).");
        }

        if (header[12] != 0) throw new InvalidDataException("it is interlaced; convert it (mogrify -interlace none FILES).");
        var kind = (ColourType)header[9];
        var samples = kind switch
        {
            ColourType.Grey or ColourType.Palette => 1,
            ColourType.GreyAlpha => 2,
            ColourType.Rgb => 3,
            ColourType.RgbAlpha => 4,
            _ => throw new InvalidDataException($"its colour type {header[9]} is unknown; convert it to PNG again."),
        };
        if (width <= 0 || height <= 0 || Math.BigMul(((long)width * Math.Max(samples, 3)) + 1, (long)height) > Array.MaxLength)
            throw new InvalidDataException($"its size, {width} x {height} pixels, is impossible or too large; make it smaller.");
        if (kind == ColourType.Palette && (palette.IsEmpty || palette.Length % 3 != 0))
            throw new InvalidDataException("its palette (PLTE) is missing or damaged; convert it to PNG again.");

        data.Position = 0;
        var length = ((width * samples) + 1) * height;
        if (length > data.Length * LargestRatio)
        {
            throw new InvalidDataException(
                $"{width} x {height} pixels cannot be in {data.Length} compressed bytes, so it is damaged; copy it again.");
        }

        var rows = Inflate(data, length);
        Unfilter(rows, height, width * samples, samples);
        return kind switch
        {
            ColourType.Palette => new RasterImage(3, height, width, Colours(rows, height, width, palette)),
            ColourType.Grey or ColourType.GreyAlpha => new RasterImage(1, height, width, Planes(rows, height, width, samples, 1)),
            _ => new RasterImage(3, height, width, Planes(rows, height, width, samples, 3)),
        };
    }

    private enum ColourType : byte
    {
        Grey = 0,
        Rgb = 2,
        Palette = 3,
        GreyAlpha = 4,
        RgbAlpha = 6,
    }

    private static byte[] Inflate(Stream data, int length)
    {
        var rows = new byte[length];
        int count;
        try
        {
            using var stream = new ZLibStream(data, CompressionMode.Decompress);
            count = stream.ReadAtLeast(rows, length, throwOnEndOfStream: false);
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            throw new InvalidDataException("its compressed pixels are damaged; copy it again.", e);
        }

        return count == length ? rows : throw new InvalidDataException($"it has {count} of {length} bytes of pixels; copy it again.");
    }

    // The first byte of each row is its filter. A sample is stored as the difference to a prediction from the samples left, above and above
    // left.
    private static void Unfilter(Span<byte> rows, int height, int length, int samples)
    {
        ReadOnlySpan<byte> above = new byte[length];
        for (var y = 0; y < height; y++)
        {
            var filter = rows[y * (length + 1)];
            var row = rows.Slice((y * (length + 1)) + 1, length);
            for (var x = 0; x < length; x++)
            {
                var (left, aboveLeft) = x < samples ? (0, 0) : (row[x - samples], above[x - samples]);
                row[x] += (byte)(filter switch
                {
                    0 => 0,
                    1 => left,
                    2 => above[x],
                    3 => (left + above[x]) / 2,
                    4 => Paeth(left, above[x], aboveLeft),
                    _ => throw new InvalidDataException($"row {y} has the unknown filter {filter}; convert it to PNG again."),
                });
            }

            above = row;
        }
    }

    // Returns the one of the three that is nearest to left + above - aboveLeft.
    private static int Paeth(int left, int above, int aboveLeft)
    {
        var toLeft = Math.Abs(above - aboveLeft);
        var toAbove = Math.Abs(left - aboveLeft);
        var toAboveLeft = Math.Abs(left + above - (2 * aboveLeft));
        return toLeft <= toAbove && toLeft <= toAboveLeft ? left : toAbove <= toAboveLeft ? above : aboveLeft;
    }

    private static byte[] Planes(ReadOnlySpan<byte> rows, int height, int width, int samples, int channels)
    {
        var pixels = new byte[channels * height * width];
        for (var c = 0; c < channels; c++)
        {
            for (var y = 0; y < height; y++)
            {
                var row = rows[((y * ((width * samples) + 1)) + 1)..];
                for (var x = 0; x < width; x++) pixels[(((c * height) + y) * width) + x] = row[(x * samples) + c];
            }
        }

        return pixels;
    }

    private static byte[] Colours(ReadOnlySpan<byte> rows, int height, int width, ReadOnlySpan<byte> palette)
    {
        var pixels = new byte[3 * height * width];
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                var colour = rows[(y * (width + 1)) + 1 + x] * 3;
                if (colour >= palette.Length)
                    throw new InvalidDataException($"a pixel has colour {colour / 3} of {palette.Length / 3}; convert it to PNG again.");
                for (var c = 0; c < 3; c++) pixels[(((c * height) + y) * width) + x] = palette[colour + c];
            }
        }

        return pixels;
    }

    private static void WriteChunk(MemoryStream file, ReadOnlySpan<byte> type, ReadOnlySpan<byte> data)
    {
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
        file.Write(number);
        var start = (int)file.Position;
        file.Write(type);
        file.Write(data);
        BinaryPrimitives.WriteUInt32BigEndian(number, Crc(file.GetBuffer().AsSpan(start, type.Length + data.Length)));
        file.Write(number);
    }

    private static uint Crc(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        foreach (var value in bytes) crc = s_crc[(byte)(crc ^ value)] ^ (crc >> 8);
        return ~crc;
    }

    private static uint[] CrcTable()
    {
        var table = new uint[256];
        for (uint i = 0; i < table.Length; i++)
        {
            table[i] = i;
            for (var bit = 0; bit < 8; bit++) table[i] = (table[i] & 1) != 0 ? 0xEDB88320 ^ (table[i] >> 1) : table[i] >> 1;
        }

        return table;
    }
}
