using System.Buffers.Binary;
using System.Text;
using MatFormer.Tests;
using SkiaSharp;
using TorchSharp;

namespace MatFormer.Runtime.Tests.Data;

public sealed class RasterImageTests : IDisposable
{
    // The images below were written by libpng. They have 6 rows and 7 columns.
    private const int Height = 6;
    private const int Width = 7;
    private const string Grey =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGCAAAAAAqZduqAAAAOElEQVQImWNkYBdVNrT3ZeHmEhQRl5JlUeSV1tQ1MGYxF5DTsXILY9hw+IlwwOwvjMJiKkYOfjEA"
        + "rRsJriSzvBkAAAAASUVORK5CYII=";

    private const string Rgb =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGCAIAAACAbBMhAAAAjElEQVQImWNkiNrCzs4uKiqqrKxsaGhob2/v6+vLxM3NzcfHJygoKCIiIi4uLiUlJSsry6KoqMjLyyst"
        + "La2pqaWrq2vgamBsbMxibm4uICAgJ2ero6Nj5Wzl5uYW5unJuIErRVhYWFFRUV9f39bW1tvbOzIyklE497iYmJiKioqRkZGDg4Ofn19MTAwAJuYXRp4twFIAAAAASUVORK5C"
        + "YII=";

    private const string Palette =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGCAMAAAA40HREAAAAD1BMVEUA/wAy1wpkryiWh1rIX6AvYstUAAAAJElEQVQImT3KsQ0AMAzDMMn2/zd3KBDOBNMhZJZAXSiskXH+"
        + "ewZnAD63/JU3AAAAAElFTkSuQmCC";

    private const string GreyAlpha =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGCAQAAAClB0z9AAAAYklEQVQImWNhiGJnFxVVVjY0tLf39WXh5ubiEhQUEREXl5KSlWVRVOTllZbW1NTVNXA1NmYxNxcQkJPT0bFy"
        + "dnML82Tx9RUWVlTUD7O1jfGOjGRJThYTU1HJMXJw8Nt7rhQAPHYQXvkosCYAAAAASUVORK5CYII=";

    private const string RgbAlpha =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGCAYAAAAPDoR2AAAAsElEQVQImQXBwQqCMBgA4IxASDY2phMcCj/zYijTeRCE4SCSZOglCAyPXXu3Dp279lp9n7d7fLDv+34URZGU"
        + "UjZN0wzDMMzzPO+DIAgwxphSSsMwDOM4jpMkSdI0TQ8AAAghJIQQRXEqqqqq6ktdt217O3Rd1xFCSJaZrCzLsj/3/TiO1/s0Td77+PwyxhgAgFJKGWOMc86t67p67PUDzjnP"
        + "8zzXWmtrrV2WZdm2bfsD6n8e02/izEUAAAAASUVORK5CYII=";

    private const string SixteenBits =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGEAAAAAB69QfpAAAAZUlEQVQImQFaAKX/AABaB2Ecdj+ZcMqvCfxWAAtlFW8th1Oth+HJIxlzACyGOZNUrn3XtA75U0ymAGO9c82R"
        + "670X91E/mZXvALAKwx3kPhNtUKqb9fROABNtKYNNp3/ZvxkNZ2nDhtonGcadU1kAAAAASUVORK5CYII=";

    private const string Interlaced =
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAGCAAAAAFdYus8AAAAQUlEQVQImQE2AMn/AAAAcACwUAAc/ADk9AAsVLRMAAc/rwA5ffkAwxObAAsVLVOHyRkAY3ORvfc/lQATKU1/"
        + "vw1p1LMSK0DpHVIAAAAASUVORK5CYII=";

    private readonly TemporaryFolder _folder = new();

    public RasterImageTests() => ImageFiles.Register();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(Grey, 1)]
    [InlineData(GreyAlpha, 1)]
    [InlineData(Rgb, 3)]
    [InlineData(RgbAlpha, 3)]
    public void ImagesWrittenByLibpngAreRead(string file, int channels)
    {
        var image = Read(Convert.FromBase64String(file));
        Assert.Equal((channels, Height, Width), (image.Channels, image.Height, image.Width));
        Assert.Equal(Pattern(channels), image.Pixels);
    }

    [Fact]
    public void APaletteIsReadAsItsColours()
    {
        var image = Read(Convert.FromBase64String(Palette));
        byte[] expected =
            [.. Samples(3, (c, y, x) => (((x * y) + x) % 5) is var k && c == 0 ? k * 50 : c == 1 ? 255 - (k * 40) : k * k * 10)];
        Assert.Equal((3, Height, Width), (image.Channels, image.Height, image.Width));
        Assert.Equal(expected, image.Pixels);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void EveryFilterIsUndone(byte filter)
    {
        // The rows are filtered here by the definition of each filter.
        var pixels = Pattern(3);
        const int Length = Width * 3;
        var rows = new byte[Height, Length];
        for (var i = 0; i < pixels.Length; i++) rows[i / Width % Height, (i % Width * 3) + (i / (Width * Height))] = pixels[i];
        var filtered = new List<byte>();
        for (var y = 0; y < Height; y++)
        {
            filtered.Add(filter);
            for (var x = 0; x < Length; x++)
            {
                int a = x < 3 ? 0 : rows[y, x - 3], b = y == 0 ? 0 : rows[y - 1, x], c = x < 3 || y == 0 ? 0 : rows[y - 1, x - 3];
                var p = a + b - c;
                int[] nearest = [.. new[] { a, b, c }.OrderBy(value => Math.Abs(p - value))];
                filtered.Add((byte)(rows[y, x] - new[] { 0, a, b, (a + b) / 2, nearest[0] }[filter]));
            }
        }

        Assert.Equal(pixels, Read(Chunks(("IHDR", Header(2)), ("IDAT", Compress([.. filtered])), ("IEND", []))).Pixels);
    }

    [Theory]
    [InlineData(1, 6, 7)]
    [InlineData(3, 6, 7)]
    [InlineData(3, 1, 1)]
    [InlineData(1, 300, 200)]
    public void WrittenImagesAreReadBack(int channels, int height, int width)
    {
        var pixels = new byte[channels * height * width];
        new Random(1).NextBytes(pixels);
        var image = Read(Png.Encode(pixels, channels, height, width));
        Assert.Equal((channels, height, width), (image.Channels, image.Height, image.Width));
        Assert.Equal(pixels, image.Pixels);
        Assert.Throws<ArgumentException>(() => Png.Encode(pixels, channels, height, width + 1));
    }

    [Theory]
    [InlineData(SixteenBits)]
    [InlineData(Interlaced)]
    public void OtherKindsOfPngAreRead(string file)
    {
        var image = Read(Convert.FromBase64String(file));
        Assert.Equal((1, Height, Width), (image.Channels, image.Height, image.Width));
        Assert.Equal(Pattern(1), image.Pixels);
    }

    [Fact]
    public void DamagedPngFilesAreRefused()
    {
        var file = Convert.FromBase64String(Grey);
        foreach (var length in new[] { 10, 20 }) Refuses(file[..length], "its header is damaged");
        Refuses(file[..45], "its pixels are damaged or cut off");
        var rows = new byte[Height * (Width + 1)];
        Refuses(Chunks(("IDAT", Compress(rows)), ("IEND", [])), "its header is damaged");
        Refuses(Chunks(("IHDR", Header(0)), ("IDAT", Compress(rows[..20])), ("IEND", [])), "damaged or cut off");
        Refuses(Chunks(("IHDR", Header(0)), ("IDAT", [1, 2, 3]), ("IEND", [])), "damaged or cut off");
        Refuses(Chunks(("IHDR", Header(3)), ("IDAT", Compress(rows)), ("IEND", [])), "damaged");
        Refuses(Chunks(("IHDR", Header(5)), ("IDAT", Compress(rows)), ("IEND", [])), "its header is damaged");
        rows[1] = 2;
        Assert.Equal(rows[1..8], Read(Chunks(("IHDR", Header(0)), ("abCd", [1]), ("IDAT", Compress(rows)), ("IEND", []))).Pixels[..7]);
    }

    [Theory]
    [InlineData(int.MaxValue, int.MaxValue, "its header is damaged")]
    [InlineData(1 << 19, 1 << 10, "524288 x 1024 pixels, but at most 100000000 in all")]
    [InlineData(10001, 10000, "10001 x 10000 pixels, but at most 100000000 in all")]
    public void SizesThatAreTooLargeAreRefused(int width, int height, string says)
    {
        var header = Header(2);
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), height);
        Refuses(Chunks(("IHDR", header), ("IDAT", Compress(new byte[100])), ("IEND", [])), says);
    }

    [Theory]
    [InlineData(SKEncodedImageFormat.Jpeg, 1)]
    [InlineData(SKEncodedImageFormat.Jpeg, 3)]
    [InlineData(SKEncodedImageFormat.Webp, 3)]
    public void JpegAndWebpAreRead(SKEncodedImageFormat format, int channels)
    {
        var file = Encode(format, channels);
        var image = Read(file);
        Assert.Equal((channels, Rows, Columns), (image.Channels, image.Height, image.Width));
        for (var i = 0; i < image.Pixels.Length; i++)
        {
            var expected = Block(i / (Rows * Columns), i / Columns % Rows, i % Columns);
            Assert.InRange(image.Pixels[i] - expected, -6, 6);
        }

        Refuses(file[..(file.Length / 2)], "damaged");
    }

    // The corners that the first stored pixel and the last one of the first row have on the screen, by the Exif standard.
    [Theory]
    [InlineData(1, "top left", "top right")]
    [InlineData(2, "top right", "top left")]
    [InlineData(3, "bottom right", "bottom left")]
    [InlineData(4, "bottom left", "bottom right")]
    [InlineData(5, "top left", "bottom left")]
    [InlineData(6, "top right", "bottom right")]
    [InlineData(7, "bottom right", "top right")]
    [InlineData(8, "bottom left", "top left")]
    public void ExifSaysWhichSideIsUp(byte orientation, string first, string endOfFirstRow)
    {
        var file = Encode(SKEncodedImageFormat.Jpeg, 1);
        byte[] exif =
        [
            0xFF, 0xE1, 0, 34, .. "Exif\0\0"u8, .. "MM"u8, 0, 42, 0, 0, 0, 8, // big-endian; the directory is at byte 8
            0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0,
        ];
        var image = Read([.. file[..2], .. exif, .. file[2..]]);
        Assert.Equal(orientation < 5 ? (Rows, Columns) : (Columns, Rows), (image.Height, image.Width));
        Assert.InRange(At(first), Block(0, 0, 0) - 6, Block(0, 0, 0) + 6);
        Assert.InRange(At(endOfFirstRow), Block(0, 0, Columns - 1) - 6, Block(0, 0, Columns - 1) + 6);

        int At(string corner) => image.Pixels[((corner.StartsWith("top", StringComparison.Ordinal) ? 0 : image.Height - 1) * image.Width)
            + (corner.EndsWith("left", StringComparison.Ordinal) ? 0 : image.Width - 1)];
    }

    [Fact]
    public void TorchSharpWorksWithThisVersionOfSkia()
    {
        // TorchSharp was built for an older version. This calls what it uses of it, which shrinks an image and writes it as PNG.
        var writer = torch.utils.tensorboard.SummaryWriter(_folder["log"]);
        using var pixels = torch.full([3, 8, 8], 0.5f);
        writer.add_img("image", pixels, 1);
        var log = Directory.GetFiles(_folder["log"], "*", SearchOption.AllDirectories).SelectMany(File.ReadAllBytes).ToArray();
        Assert.True(log.AsSpan().IndexOf("PNG\r\n"u8) > 0);
    }

    [Fact]
    public void WithoutThePackageTheErrorNamesIt()
    {
        ImageFormats.Clear();
        var webp = Encode(SKEncodedImageFormat.Webp, 3);
        foreach (var file in new byte[][] { Convert.FromBase64String(Grey), [0xFF, 0xD8, 0xFF, 0xE0], webp })
        {
            Refuses(file, "dotnet add package MatFormer.Extensions.Images");
            Refuses(file, "ImageFiles.Register(); before ModelProgram.RunAsync");
        }
    }

    [Fact]
    public void ADecoderMustGiveAsManyPixelsAsItSays()
    {
        ImageFormats.Add((file, _) => file.StartsWith("two"u8) ? new RasterImage(1, 1, 2, new byte[2]) : null);
        ImageFormats.Add((file, _) => file.StartsWith("too few"u8) ? new RasterImage(1, 2, 2, new byte[2]) : null);
        Assert.Equal((1, 1, 2), Read("two"u8) is var image ? (image.Channels, image.Height, image.Width) : default);
        Refuses("too few"u8, "its decoder gave 2 bytes for 1 channels, 2 rows and 2 columns");
        ImageFormats.Clear();
    }

    [Fact]
    public void NetpbmSizesThatOverflowAreRefused() =>
        Refuses("P6 2147483647 2147483647 255 "u8, "take 13835058042397261827 bytes, but it has 0");

    [Fact]
    public void OtherFilesAreRefused()
    {
        Refuses("text"u8, "not a PNG, JPEG, WebP, PGM or PPM");
        Refuses([], "not a PNG, JPEG, WebP, PGM or PPM");
    }

    [Fact]
    public void NetpbmFilesAreRead()
    {
        var image = Netpbm.Decode(GreyNetpbm(), ImageFormats.MaximumPixels);
        Assert.Equal((1, 2, 3), (image.Channels, image.Height, image.Width));
        Assert.Equal([10, 32, 3, 4, 5, 6], image.Pixels);
        image = Netpbm.Decode([.. "P6 2 1 255 "u8, 1, 2, 3, 4, 5, 6], ImageFormats.MaximumPixels);
        Assert.Equal((3, 1, 2), (image.Channels, image.Height, image.Width));
        Assert.Equal([1, 4, 2, 5, 3, 6], image.Pixels);
    }

    [Fact]
    public void DamagedNetpbmFilesAreRefused()
    {
        var grey = GreyNetpbm();
        Refuses(grey[..^1], "take 6 bytes, but it has 5");
        Refuses([.. grey, 1], "take 6 bytes, but it has 7");
        Refuses("P5 3 2 65535 "u8, "largest sample is 65535");
        Refuses("P5 3"u8, "its header lacks");
        Refuses("P5 99999999999 1 255 "u8, "its header lacks");
    }

    [Theory]
    [InlineData(3, 4, new[] { 15, 64, 138, 109, 60, 117, 135, 107, 146, 181, 120, 99 })]
    [InlineData(6, 3, new[] { 14, 94, 96, 24, 110, 118, 47, 140, 155, 85, 124, 59, 136, 182, 123, 202, 134, 92 })]
    [InlineData(9, 10, new[]
    {
        0, 6, 19, 42, 80, 126, 168, 58, 73, 140, 4, 10, 25, 49, 87, 134, 178, 69, 85, 152, 11, 18, 34, 60, 100, 148, 193, 85, 103, 172,
        25, 34, 51, 78, 119, 169, 215, 109, 128, 198, 46, 56, 74, 102, 145, 152, 122, 107, 102, 102, 71, 82, 102, 132, 176, 139, 35, 111,
        81, 12, 104, 116, 137, 169, 214, 179, 75, 153, 125, 57, 144, 157, 180, 212, 176, 142, 117, 106, 105, 108, 175, 189, 213, 247, 128,
        95, 148, 48, 74, 149,
    })]
    public void ResizingEqualsThatOfPyTorch(int height, int width, int[] expected)
    {
        // PyTorch 1.13 gives these with interpolate(mode="bilinear", antialias=True), rounded. Sums in another order may round differently.
        byte[] pixels = [.. Samples(1, (_, y, x) => (y * y * 7) + (x * x * 11) + (x * y * 3))];
        var image = new RasterImage(1, Height, Width, pixels).Resize(height, width);
        Assert.Equal((height, width), (image.Height, image.Width));
        Assert.Equal(expected.Length, image.Pixels.Length);
        Assert.All(image.Pixels.Zip(expected), pair => Assert.InRange(pair.First - pair.Second, -1, 1));
        Oracles.Compared("PyTorch: resized pixels", expected.Length);
    }

    [Fact]
    public void ResizingKeepsChannelsApart()
    {
        var image = new RasterImage(3, 2, 2, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]).Resize(1, 3);
        Assert.Equal([1, 1, 1, 2, 2, 2, 3, 3, 3], image.Pixels);
    }

    private RasterImage Read(ReadOnlySpan<byte> file)
    {
        File.WriteAllBytes(_folder["image"], file);
        return RasterImage.Read(_folder["image"]);
    }

    private const int Rows = 16;
    private const int Columns = 32;

    // Samples of an image of 8 blocks of 8 x 8 pixels, which JPEG keeps almost as they are.
    private static int Block(int channel, int y, int x) => 20 + (((y / 8 * 4) + (x / 8)) * 30) - (channel * 5);

    private static byte[] Encode(SKEncodedImageFormat format, int channels)
    {
        using var bitmap = new SKBitmap(Columns, Rows, channels == 1 ? SKColorType.Gray8 : SKColorType.Rgba8888, SKAlphaType.Opaque);
        for (var y = 0; y < Rows; y++)
        {
            for (var x = 0; x < Columns; x++)
            {
                var c = channels == 1 ? 0 : 1;
                bitmap.SetPixel(x, y, new SKColor((byte)Block(0, y, x), (byte)Block(c, y, x), (byte)Block(2 * c, y, x)));
            }
        }

        using var data = bitmap.Encode(format, 100);
        return data.ToArray();
    }

    private void Refuses(ReadOnlySpan<byte> file, string says)
    {
        File.WriteAllBytes(_folder["image.png"], file);
        var e = Assert.Throws<DataException>(() => RasterImage.Read(_folder["image.png"]));
        Assert.Contains(_folder["image.png"], e.Message, StringComparison.Ordinal);
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
    }

    private static IEnumerable<byte> Samples(int channels, Func<int, int, int, int> sample) =>
        Enumerable.Range(0, channels * Height * Width)
            .Select(i => (byte)sample(i / (Width * Height), i / Width % Height, i % Width));

    private static byte[] Pattern(int channels) => [.. Samples(channels, (c, y, x) => (x * x * 7) + (y * y * 11) + (c * 90) + (x * y * 3))];

    // Returns a PGM file of 2 rows and 3 columns.
    private static byte[] GreyNetpbm() => [.. "P5\n# a comment 1 2\n3 2 # another\n255\n"u8, 10, 32, 3, 4, 5, 6];

    private static byte[] Header(byte colourType) => [0, 0, 0, Width, 0, 0, 0, Height, 8, colourType, 0, 0, 0];

    private static byte[] Compress(byte[] rows)
    {
        using var data = new MemoryStream();
        using (var stream = new System.IO.Compression.ZLibStream(data, System.IO.Compression.CompressionLevel.Fastest)) stream.Write(rows);
        return data.ToArray();
    }

    private static byte[] Chunks(params (string Type, byte[] Data)[] chunks)
    {
        var file = new List<byte> { 0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A };
        foreach (var (type, data) in chunks)
        {
            byte[] body = [.. Encoding.ASCII.GetBytes(type), .. data];
            var number = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
            file.AddRange(number);
            file.AddRange(body);

            // Computes the checksum bit by bit, as the specification defines it.
            var crc = uint.MaxValue;
            foreach (var value in body)
            {
                crc ^= value;
                for (var bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320);
            }

            BinaryPrimitives.WriteUInt32BigEndian(number, ~crc);
            file.AddRange(number);
        }

        return [.. file];
    }
}
