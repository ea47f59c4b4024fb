using System.Text.Json;

namespace MatFormer;

/// <summary>Reads the images of requests for embeddings.</summary>
internal static class ImageInput
{
    private const string Forms =
        "give a file in base64, a data URL with it (data:image/png;base64,...), or an array of numbers from 0 to 255";

    /// <summary>Returns the pixels of an image, (C, H, W), in the model's size.</summary>
    /// <param name="entry">A string with a file, or an array of pixels.</param>
    /// <param name="name">The name of the entry in errors.</param>
    /// <param name="image">The images that the model takes.</param>
    /// <param name="pixelsLeft">The most pixels of the images to come, as they are stored. The ones of this image are taken off.</param>
    /// <exception cref="ApiException">The entry is not an image, or the image is damaged, too large or of an unknown format.</exception>
    public static byte[] Read(JsonElement entry, string name, ImageSpec image, ref int pixelsLeft)
    {
        if (entry.ValueKind == JsonValueKind.Array) return Pixels(entry, name, image);
        if (entry.ValueKind != JsonValueKind.String) throw ApiException.Malformed($"'{name}' is not an image; {Forms}.", name);
        var file = File(entry.GetString()!, name);
        try
        {
            if (RasterImage.Decode(file, pixelsLeft) is { } raster)
            {
                pixelsLeft -= raster.Height * raster.Width;
                return raster.WithChannels(image.Channels).Resize(image.Size, image.Size).Pixels;
            }
        }
        catch (InvalidDataException e)
        {
            throw ApiException.Malformed($"'{name}' cannot be read: {e.Message}", name);
        }

        throw ApiException.Malformed(
            ImageFormats.IsOfPackage(file)
                ? $"'{name}' is a PNG, JPEG or WebP file, which this server does not read: its program lacks the package "
                    + "MatFormer.Extensions.Images and the line ImageFiles.Register(); before it. PGM and PPM files are read."
                : $"'{name}' is not a file of an image; send a PNG, JPEG, WebP, PGM or PPM file.", name);
    }

    private static byte[] File(string text, string name)
    {
        if (text.StartsWith("http:", StringComparison.OrdinalIgnoreCase) || text.StartsWith("https:", StringComparison.OrdinalIgnoreCase))
            throw ApiException.Malformed($"'{name}' is an address, but the server fetches nothing; {Forms}.", name);
        var start = 0;
        if (text.StartsWith("data:", StringComparison.OrdinalIgnoreCase))
        {
            const string Mark = ";base64,";
            var comma = text.IndexOf(',', StringComparison.Ordinal);
            start = comma + 1;
            if (comma < 0 || !text.AsSpan(0, start).EndsWith(Mark, StringComparison.OrdinalIgnoreCase))
                throw ApiException.Malformed($"'{name}' is a data URL without '{Mark}'; {Forms}.", name);
        }

        var bytes = new byte[(text.Length - start) / 4 * 3 + 3];
        if (!Convert.TryFromBase64Chars(text.AsSpan(start), bytes, out var length) || length == 0)
            throw ApiException.Malformed($"'{name}' is not base64; {Forms}.", name);
        return bytes[..length];
    }

    private static byte[] Pixels(JsonElement entry, string name, ImageSpec image)
    {
        var count = image.Channels * image.Size * image.Size;
        if (entry.GetArrayLength() != count)
        {
            throw ApiException.Malformed(
                $"'{name}' has {Counted.Of(entry.GetArrayLength(), "number")}, but an image of {image.Channels} x {image.Size} x "
                + $"{image.Size} pixels (channels, rows, columns) has {count}.", name);
        }

        var pixels = new byte[count];
        foreach (var (i, pixel) in entry.EnumerateArray().Index())
        {
            if (pixel.ValueKind != JsonValueKind.Number || !pixel.TryGetByte(out pixels[i]))
                throw ApiException.Malformed($"'{name}[{i}]' is not a pixel: a whole number from 0 to 255.", $"{name}[{i}]");
        }

        return pixels;
    }
}
