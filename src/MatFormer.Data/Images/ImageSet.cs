using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>Labelled images of one size, in memory as bytes.</summary>
public sealed class ImageSet
{
    private readonly byte[] _pixels;
    private readonly int[] _labels;
    private readonly Lazy<(ImmutableArray<double> Mean, ImmutableArray<double> StandardDeviation)> _statistics;

    /// <param name="source">A description of where the images come from.</param>
    /// <param name="channels">The number of channels.</param>
    /// <param name="height">The number of rows.</param>
    /// <param name="width">The number of columns.</param>
    /// <param name="pixels">The pixels, (N, C, H, W). The array is kept, not copied.</param>
    /// <param name="labels">The class of each image. The array is kept, not copied.</param>
    /// <param name="classes">The names of the classes.</param>
    /// <exception cref="DataException">A label is not the number of a class.</exception>
    internal ImageSet(string source, int channels, int height, int width, byte[] pixels, int[] labels, ImmutableArray<string> classes)
    {
        if (pixels.Length != (long)labels.Length * channels * height * width)
            throw new ArgumentException($"{pixels.Length} bytes do not hold {labels.Length} images.", nameof(pixels));
        var wrong = Array.FindIndex(labels, label => (uint)label >= (uint)classes.Length);
        if (wrong >= 0)
        {
            throw new DataException($"Image {wrong} of {source} has label {labels[wrong]}, but there are {classes.Length} classes, from 0 "
                + $"to {classes.Length - 1}; correct the label.");
        }

        Source = source;
        (Channels, Height, Width, Classes) = (channels, height, width, classes);
        (_pixels, _labels) = (pixels, labels);
        _statistics = new(Measure);
        Fingerprint = Hash();
    }

    /// <summary>A description of where the images come from.</summary>
    public string Source { get; }

    /// <summary>A hexadecimal hash of the images, the labels and the names of classes. A resumed run must see the same hash.</summary>
    public string Fingerprint { get; }

    /// <summary>The number of images.</summary>
    public int Count => _labels.Length;

    /// <summary>The number of channels of an image: 1 (grey) or 3 (red, green, blue).</summary>
    public int Channels { get; }

    /// <summary>The number of rows of an image.</summary>
    public int Height { get; }

    /// <summary>The number of columns of an image.</summary>
    public int Width { get; }

    /// <summary>The names of the classes. A label is an index into them.</summary>
    public ImmutableArray<string> Classes { get; }

    /// <summary>The mean of each channel over all images. Pixels count from 0 to 1 (the byte / 255).</summary>
    public ImmutableArray<double> Mean => _statistics.Value.Mean;

    /// <summary>
    /// The standard deviation of each channel over all images. Pixels count from 0 to 1 (the byte / 255). It is 0 if all pixels are equal.
    /// </summary>
    public ImmutableArray<double> StandardDeviation => _statistics.Value.StandardDeviation;

    /// <summary>Returns the pixels of an image, (C, H, W), row-major.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such image.</exception>
    public ReadOnlySpan<byte> Pixels(int image)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(image);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(image, Count);
        var size = Channels * Height * Width;
        return _pixels.AsSpan(image * size, size);
    }

    /// <summary>Returns the class of an image, an index into <see cref="Classes"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such image.</exception>
    public int Label(int image)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(image);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(image, Count);
        return _labels[image];
    }

    /// <summary>Returns the same images in another size.</summary>
    internal ImageSet Resize(int height, int width, CancellationToken cancellationToken)
    {
        if ((height, width) == (Height, Width)) return this;
        var size = Channels * height * width;
        var pixels = ImageCorpus.NewPixels(Source, Count, size);
        for (var i = 0; i < Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            new RasterImage(Channels, Height, Width, Pixels(i).ToArray()).Resize(height, width).Pixels.CopyTo(pixels, i * size);
        }

        return new ImageSet(Source, Channels, height, width, pixels, _labels, Classes);
    }

    private string Hash()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> numbers = stackalloc byte[5 * sizeof(int)];
        foreach (var (place, number) in new[] { Count, Channels, Height, Width, Classes.Length }.Index())
            BinaryPrimitives.WriteInt32LittleEndian(numbers[(place * sizeof(int))..], number);
        hash.AppendData(numbers);
        foreach (var name in Classes) hash.AppendData(Encoding.UTF8.GetBytes(name + "\n"));
        hash.AppendData(MemoryMarshal.AsBytes(_labels.AsSpan()));
        hash.AppendData(_pixels);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private (ImmutableArray<double> Mean, ImmutableArray<double> StandardDeviation) Measure()
    {
        // Counting how often each byte occurs is exact, so rounding does not add up over many images.
        var plane = Height * Width;
        var counts = new long[Channels, 256];
        for (var start = 0; start < _pixels.Length; start += plane)
        {
            var channel = start / plane % Channels;
            foreach (var value in _pixels.AsSpan(start, plane)) counts[channel, value]++;
        }

        var total = (double)Count * plane;
        var (means, deviations) = (new double[Channels], new double[Channels]);
        for (var channel = 0; channel < Channels; channel++)
        {
            double sum = 0;
            for (var value = 0; value < 256; value++) sum += value * (double)counts[channel, value];
            var mean = sum / total;
            double squares = 0;
            for (var value = 0; value < 256; value++) squares += (value - mean) * (value - mean) * counts[channel, value];
            (means[channel], deviations[channel]) = (mean / 255, Math.Sqrt(squares / total) / 255);
        }

        return ([.. means], [.. deviations]);
    }
}
