using SkiaSharp;

namespace MatFormer;

/// <summary>Reads PNG, JPEG and WebP images.</summary>
/// <remarks>
/// <list type="bullet">
/// <item>Images stored in grey have one channel; all others have three (red, green, blue). Palettes become their colours.</item>
/// <item>Transparency is dropped: the stored colour counts, without a background.</item>
/// <item>Of samples of 16 bits, the upper 8 are taken. Colours stay as they are stored: colour profiles are not applied.</item>
/// <item>An image is turned and mirrored as its Exif data says, so that it has the side up that cameras mean.</item>
/// <item>Of an animation, the first image is taken.</item>
/// </list>
/// </remarks>
/// <example>
/// A program that trains on such images and classifies them:
/// <code>
/// ImageFiles.Register();
/// return await ModelProgram.RunAsync&lt;DigitsViT&gt;(args);
/// </code>
/// </example>
public static class ImageFiles
{
    /// <summary>
    /// The most pixels that an image may have: 100 million, or fewer where a program sets a limit of its own. An image with more is refused
    /// before memory is taken for it.
    /// </summary>
    public const int MaximumPixels = 100_000_000;

    private const int SampleBytes = 4; // an image is decoded to red, green, blue, alpha

    /// <summary>
    /// Lets <see cref="ImageCorpus"/>, <see cref="RasterImage"/> and all commands read PNG, JPEG and WebP images. Call it once, before
    /// images are opened.
    /// </summary>
    public static void Register() => ImageFormats.Add(Decode);

    private static unsafe RasterImage? Decode(ReadOnlySpan<byte> file, int maximumPixels)
    {
        if (!IsPng(file) && !IsJpeg(file) && !IsWebp(file)) return null;
        using var data = SKData.CreateCopy(file);
        using var codec = SKCodec.Create(data)
            ?? throw new InvalidDataException(
                "its header is damaged, or it is of an unsupported kind; copy it again, or convert it to PNG.");
        var (width, height) = (codec.Info.Width, codec.Info.Height);
        var most = Math.Min(maximumPixels, MaximumPixels);
        if (width <= 0 || height <= 0 || Math.BigMul(width, height) > most)
        {
            throw new InvalidDataException(
                $"it has {width} x {height} pixels, but at most {most} in all are read; make it smaller.");
        }

        var samples = new byte[width * height * SampleBytes];
        fixed (byte* start = samples)
        {
            var result = codec.GetPixels(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Unpremul), (nint)start);
            if (result != SKCodecResult.Success)
                throw new InvalidDataException($"its pixels are damaged or cut off ({result}); copy it again.");
        }

        return ToPlanes(samples, IsGrey(file, codec) ? 1 : 3, height, width, codec.EncodedOrigin);
    }

    private static bool IsPng(ReadOnlySpan<byte> file) => file is [0x89, (byte)'P', (byte)'N', (byte)'G', ..];

    private static bool IsJpeg(ReadOnlySpan<byte> file) => file is [0xFF, 0xD8, 0xFF, ..];

    private static bool IsWebp(ReadOnlySpan<byte> file) =>
        file.Length >= 12 && file.StartsWith("RIFF"u8) && file[8..].StartsWith("WEBP"u8);

    // The decoder says that grey PNG files with transparency are RGB. Byte 25 of a PNG file is its colour type, in which 2 means colour.
    private static bool IsGrey(ReadOnlySpan<byte> file, SKCodec codec) => IsPng(file)
        ? file.Length > 25 && (file[25] & 2) == 0
        : codec.Info.ColorType == SKColorType.Gray8;

    // The origin is where the first stored row and column belong, such as RightTop: the first row at the right, the first column at the
    // top.
    private static RasterImage ToPlanes(byte[] samples, int channels, int height, int width, SKEncodedOrigin origin)
    {
        var isTurned = origin is SKEncodedOrigin.LeftTop or SKEncodedOrigin.RightTop or SKEncodedOrigin.RightBottom
            or SKEncodedOrigin.LeftBottom;
        var fromRight = origin is SKEncodedOrigin.TopRight or SKEncodedOrigin.BottomRight or SKEncodedOrigin.RightBottom
            or SKEncodedOrigin.LeftBottom;
        var fromBottom = origin is SKEncodedOrigin.BottomRight or SKEncodedOrigin.BottomLeft or SKEncodedOrigin.RightTop
            or SKEncodedOrigin.RightBottom;
        var (rows, columns) = isTurned ? (width, height) : (height, width);
        var pixels = new byte[channels * rows * columns];
        for (var row = 0; row < rows; row++)
        {
            for (var column = 0; column < columns; column++)
            {
                var (y, x) = isTurned ? (column, row) : (row, column);
                if (fromRight) x = width - 1 - x;
                if (fromBottom) y = height - 1 - y;
                var from = ((y * width) + x) * SampleBytes;
                for (var c = 0; c < channels; c++) pixels[(((c * rows) + row) * columns) + column] = samples[from + c];
            }
        }

        return new RasterImage(channels, rows, columns, pixels);
    }
}
