using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// Reads CIFAR-10 in its binary version. The files consist of records: a label and 32 x 32 pixels of red, green and blue, (C, H, W).
/// Source: cs.toronto.edu/~kriz/cifar.html.
/// </summary>
internal static class CifarFiles
{
    private const int Channels = 3;
    private const int Side = 32;
    private const int Size = Channels * Side * Side;
    private const int Classes = 10;
    private static readonly string[] s_training = [.. Enumerable.Range(1, 5).Select(i => $"data_batch_{i}.bin")];
    private static readonly string[] s_validation = ["test_batch.bin"];

    /// <summary>True if a folder has one of the files.</summary>
    public static bool IsIn(string folder) => s_training.Concat(s_validation).Any(name => File.Exists(Path.Combine(folder, name)));

    /// <summary>Reads the files.</summary>
    /// <exception cref="DataException">A file is missing or damaged.</exception>
    public static (ImageSet Training, ImageSet Validation) Read(string folder, CancellationToken cancellationToken)
    {
        var classes = ReadClasses(folder);
        return (ReadSet(s_training, $"'{Path.Combine(folder, "data_batch_*.bin")}'"),
            ReadSet(s_validation, $"'{Path.Combine(folder, s_validation[0])}'"));

        ImageSet ReadSet(string[] names, string source)
        {
            var paths = Array.ConvertAll(names, name => Path.Combine(folder, name));
            var total = paths.Sum(Records);
            var (pixels, labels) = (ImageCorpus.NewPixels(source, total, Size), new int[total]);
            var image = 0;
            foreach (var path in paths)
            {
                cancellationToken.ThrowIfCancellationRequested();
                ReadOnlySpan<byte> records = File.ReadAllBytes(path);
                for (; !records.IsEmpty; records = records[(Size + 1)..], image++)
                {
                    labels[image] = records[0];
                    records.Slice(1, Size).CopyTo(pixels.AsSpan(image * Size));
                }
            }

            return new ImageSet(source, Channels, Side, Side, pixels, labels, classes);
        }
    }

    private static long Records(string path)
    {
        if (!File.Exists(path)) throw new DataException($"The file '{path}' of CIFAR-10 is missing; unpack the binary version as a whole.");
        var length = new FileInfo(path).Length;
        return length > 0 && length % (Size + 1) == 0 ? length / (Size + 1) : throw new DataException(
            $"'{path}' has {length} bytes, but CIFAR-10's binary version consists of records of {Size + 1} bytes; download it again.");
    }

    private static ImmutableArray<string> ReadClasses(string folder)
    {
        var path = Path.Combine(folder, "batches.meta.txt");
        if (!File.Exists(path)) return [.. Enumerable.Range(0, Classes).Select(label => label.ToString(CultureInfo.InvariantCulture))];
        string[] names = [.. File.ReadLines(path).Select(line => line.Trim()).Where(line => line.Length > 0)];
        return names.Length == Classes ? [.. names] : throw new DataException(
            $"'{path}' has {Counted.Of(names.Length, "name")} of classes, but CIFAR-10 has {Classes}; download it again.");
    }
}
