using System.Collections.Immutable;

namespace MatFormer;

/// <summary>Decodes an image.</summary>
/// <param name="file">The whole file.</param>
/// <param name="maximumPixels">The most pixels, rows times columns. A larger image is refused before memory is taken for it.</param>
/// <returns>The image, or null if the file is of another format.</returns>
/// <exception cref="InvalidDataException">
/// The file is damaged, or the image too large. The message follows the name of the file, so it says what is wrong and what to do.
/// </exception>
public delegate RasterImage? ImageDecoder(ReadOnlySpan<byte> file, int maximumPixels);

/// <summary>The formats of images. PGM and PPM are always there; a package or a program adds others.</summary>
public static class ImageFormats
{
    /// <summary>The most pixels of an image that a program opens: 100 million.</summary>
    internal const int MaximumPixels = 100_000_000;

    private static ImmutableArray<ImageDecoder> s_decoders = [];

    /// <summary>Adds a format. Call it before images are opened. If it is there already, nothing happens.</summary>
    /// <param name="decode">Decodes an image. A file's content decides whether it is of the format, not its name.</param>
    public static void Add(ImageDecoder decode)
    {
        ArgumentNullException.ThrowIfNull(decode);
        ImmutableInterlocked.Update(ref s_decoders, (decoders, added) => decoders.Contains(added) ? decoders : decoders.Add(added), decode);
    }

    /// <summary>Takes all added formats out again, for tests.</summary>
    internal static void Clear() => s_decoders = [];

    /// <summary>Decodes an image of an added format. Returns null if it is of none.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or the decoder did not give an image.</exception>
    internal static RasterImage? Decode(ReadOnlySpan<byte> file, int maximumPixels)
    {
        foreach (var decode in s_decoders)
        {
            if (decode(file, maximumPixels) is not { } image) continue;
            return image is { Channels: 1 or 3, Height: > 0, Width: > 0 }
                && image.Pixels.Length == Math.BigMul(image.Channels * (long)image.Height, (long)image.Width)
                ? image
                : throw new InvalidDataException($"its decoder gave {image.Pixels.Length} bytes for {image.Channels} channels, "
                    + $"{image.Height} rows and {image.Width} columns; mend the decoder.");
        }

        return null;
    }

    /// <summary>True if a file begins as PNG, JPEG or WebP files do, which the package MatFormer.Extensions.Images reads.</summary>
    internal static bool IsOfPackage(ReadOnlySpan<byte> file) =>
        file is [0x89, (byte)'P', (byte)'N', (byte)'G', ..] or [0xFF, 0xD8, 0xFF, ..]
            or [(byte)'R', (byte)'I', (byte)'F', (byte)'F', _, _, _, _, (byte)'W', (byte)'E', (byte)'B', (byte)'P', ..];
}
