namespace MatFormer;

/// <summary>An image with one channel (grey) or three (red, green, blue), with 8 bits per sample.</summary>
/// <param name="Channels">The number of channels, 1 or 3.</param>
/// <param name="Height">The number of rows.</param>
/// <param name="Width">The number of columns.</param>
/// <param name="Pixels">The pixels, (C, H, W), row-major.</param>
public readonly record struct RasterImage(int Channels, int Height, int Width, byte[] Pixels)
{
    /// <summary>
    /// Reads a PGM or PPM file, or one of another format (<see cref="ImageFormats"/>): PNG, JPEG and WebP with the package
    /// MatFormer.Extensions.Images. A file's content decides what it is, not its name.
    /// </summary>
    /// <exception cref="DataException">The file is not an image, is damaged, or is of a format whose package is missing.</exception>
    public static RasterImage Read(string path)
    {
        var file = File.ReadAllBytes(path);
        try
        {
            if (Decode(file, ImageFormats.MaximumPixels) is { } image) return image;
            if (ImageFormats.IsOfPackage(file))
                throw MissingPackage.For(path, "MatFormer.Extensions.Images", "ImageFiles.Register();");
            throw new InvalidDataException(
                "it is not a PNG, JPEG, WebP, PGM or PPM file; convert it to PNG (with ImageMagick: mogrify -format png FILES) and remove "
                + "the original.");
        }
        catch (InvalidDataException e)
        {
            throw new DataException($"The image '{path}' cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Decodes the bytes of a file. Returns null if it is of no format that the program reads.</summary>
    /// <param name="file">The whole file.</param>
    /// <param name="maximumPixels">The most pixels, rows times columns.</param>
    /// <exception cref="InvalidDataException">The file is damaged, or the image too large.</exception>
    internal static RasterImage? Decode(ReadOnlySpan<byte> file, int maximumPixels) =>
        Netpbm.IsNetpbm(file) ? Netpbm.Decode(file, maximumPixels) : ImageFormats.Decode(file, maximumPixels);

    /// <summary>Returns the image in grey, by the luma weights of ITU-R BT.601, or with three equal channels if it is grey.</summary>
    internal RasterImage WithChannels(int channels)
    {
        if (channels == Channels) return this;
        var plane = Height * Width;
        var pixels = new byte[channels * plane];
        for (var i = 0; i < plane; i++)
        {
            var red = Pixels[i];
            if (channels == 1) pixels[i] = (byte)(((299 * red) + (587 * Pixels[plane + i]) + (114 * Pixels[(2 * plane) + i]) + 500) / 1000);
            else for (var c = 0; c < channels; c++) pixels[(c * plane) + i] = red;
        }

        return new RasterImage(channels, Height, Width, pixels);
    }

    /// <summary>
    /// Returns the image in another size, by bilinear interpolation. If the image shrinks, a pixel averages all pixels that fall into it.
    /// </summary>
    internal RasterImage Resize(int height, int width)
    {
        if ((height, width) == (Height, Width)) return this;
        var (rows, columns) = (Weights(Height, height), Weights(Width, width));
        var narrow = new float[Height * width];
        var result = new byte[Channels * height * width];
        for (var channel = 0; channel < Channels; channel++)
        {
            var plane = Pixels.AsSpan(channel * Height * Width, Height * Width);
            for (var y = 0; y < Height; y++)
            {
                for (var x = 0; x < width; x++)
                {
                    var (start, weights) = columns[x];
                    var sum = 0f;
                    for (var i = 0; i < weights.Length; i++) sum += weights[i] * plane[(y * Width) + start + i];
                    narrow[(y * width) + x] = sum;
                }
            }

            for (var y = 0; y < height; y++)
            {
                var (start, weights) = rows[y];
                for (var x = 0; x < width; x++)
                {
                    var sum = 0f;
                    for (var i = 0; i < weights.Length; i++) sum += weights[i] * narrow[((start + i) * width) + x];
                    result[(((channel * height) + y) * width) + x] = (byte)Math.Clamp(MathF.Round(sum), 0, 255);
                }
            }
        }

        return new RasterImage(Channels, height, width, result);
    }

    // Returns, for each pixel of the result, the first pixel of the source and the weights from there on. The weights form a triangle,
    // which is two source pixels wide if the image grows and two result pixels wide if it shrinks.
    private static (int Start, float[] Weights)[] Weights(int from, int to)
    {
        var scale = (double)from / to;
        var support = Math.Max(1, scale);
        return [.. Enumerable.Range(0, to).Select(i =>
        {
            var centre = (i + 0.5) * scale;
            var start = Math.Max(0, (int)(centre - support + 0.5));
            var end = Math.Min(from, (int)(centre + support + 0.5));
            double[] weights = [.. Enumerable.Range(start, end - start).Select(k => 1 - (Math.Abs(k + 0.5 - centre) / support))];
            var sum = weights.Sum();
            return (start, Array.ConvertAll(weights, weight => (float)(weight / sum)));
        })];
    }
}
