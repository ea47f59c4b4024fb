namespace MatFormer;

/// <summary>
/// Reads binary PGM (P5) and PPM (P6) images of 8 bits per sample. Source: netpbm.sourceforge.net/doc/pgm.html and ppm.html.
/// </summary>
internal static class Netpbm
{
    /// <summary>True if a file begins with P5 or P6.</summary>
    public static bool IsNetpbm(ReadOnlySpan<byte> file) => file is [(byte)'P', (byte)'5' or (byte)'6', ..];

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidDataException">The file is damaged or too large, or its largest sample is not 255.</exception>
    public static RasterImage Decode(ReadOnlySpan<byte> file, int maximumPixels)
    {
        var channels = file[1] == '5' ? 1 : 3;
        var at = 2;
        var (width, height, largest) = (Number(file, ref at), Number(file, ref at), Number(file, ref at));
        if (largest != 255) throw new InvalidDataException($"its largest sample is {largest}, but it must be 255; convert it to PNG.");
        var expected = Math.BigMul((long)width * height, (long)channels);
        var samples = file[Math.Min(at + 1, file.Length)..]; // one white-space character ends the header
        if (width <= 0 || height <= 0 || samples.Length != expected)
        {
            throw new InvalidDataException(
                $"{width} x {height} pixels take {expected} bytes, but it has {samples.Length}; copy it again, or convert it to PNG.");
        }

        if ((long)width * height > maximumPixels)
        {
            throw new InvalidDataException(
                $"it has {width} x {height} pixels, but at most {maximumPixels} in all are read; make it smaller.");
        }

        var pixels = new byte[samples.Length];
        for (var i = 0; i < pixels.Length; i++) pixels[(i % channels * width * height) + (i / channels)] = samples[i];
        return new RasterImage(channels, height, width, pixels);
    }

    // Reads the next number of the header. White space and comments (from # to the end of the line) may come before it.
    private static int Number(ReadOnlySpan<byte> file, ref int at)
    {
        for (var comment = false; at < file.Length && (comment || file[at] == '#' || char.IsWhiteSpace((char)file[at])); at++)
            comment = file[at] == '#' || (comment && file[at] != '\n');
        long number = -1;
        for (; at < file.Length && char.IsAsciiDigit((char)file[at]) && number <= int.MaxValue; at++)
            number = (Math.Max(number, 0) * 10) + file[at] - '0';
        return number is >= 0 and <= int.MaxValue
            ? (int)number
            : throw new InvalidDataException("its header lacks width, height or the largest sample; convert it to PNG.");
    }
}
