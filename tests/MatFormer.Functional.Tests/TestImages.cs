using System.Buffers.Binary;

namespace MatFormer.Functional.Tests;

/// <summary>Writes images to train on, as IDX files. The brightness depends on the class, so that shifts do not matter.</summary>
internal static class TestImages
{
    public const int Size = 8;
    public const int Classes = 5;

    public static ImageCorpus Open(string folder, int noise = 60)
    {
        var path = Path.Combine(folder, "images");
        Write(path, noise);
        return ImageCorpus.Open(path);
    }

    public static void Write(string folder, int noise = 60)
    {
        Directory.CreateDirectory(folder);
        WriteIdx(folder, "train", 400, seed: 1, noise);
        WriteIdx(folder, "t10k", 100, seed: 2, noise);
    }

    private static void WriteIdx(string folder, string name, int count, int seed, int noise)
    {
        var random = new Random(seed);
        var images = new byte[16 + (count * Size * Size)];
        var labels = new byte[8 + count];
        foreach (var (place, number) in new[] { 0x803, count, Size, Size }.Index())
            BinaryPrimitives.WriteInt32BigEndian(images.AsSpan(4 * place), number);
        foreach (var (place, number) in new[] { 0x801, count }.Index())
            BinaryPrimitives.WriteInt32BigEndian(labels.AsSpan(4 * place), number);
        for (var i = 0; i < count; i++)
        {
            // All classes occur.
            var label = i % Classes;
            labels[8 + i] = (byte)label;
            var pixels = images.AsSpan(16 + (i * Size * Size), Size * Size);
            for (var p = 0; p < pixels.Length; p++) pixels[p] = (byte)((45 * label * (255 - noise) / 195) + random.Next(noise));
        }

        File.WriteAllBytes(Path.Combine(folder, name + "-images-idx3-ubyte"), images);
        File.WriteAllBytes(Path.Combine(folder, name + "-labels-idx1-ubyte"), labels);
    }
}
