using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using System.IO.Compression;

namespace MatFormer;

/// <summary>
/// Reads images and labels in IDX files. A file has a magic number (0, 0, 8 for bytes, the number of dimensions), each dimension in 4 bytes
/// (big-endian), and the bytes. Source: yann.lecun.com/exdb/mnist.
/// </summary>
internal sealed class IdxFiles
{
    private const int ImageDimensions = 3;
    private const int LabelDimensions = 1;
    private const int LargestRatio = 1032; // the most bytes that a compressed byte can become (Deflate, RFC 1951: 258 bytes from 2 bits)
    private static readonly string[] s_names =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

    private readonly string _folder;
    private readonly string[] _paths;

    private IdxFiles(string folder, string[] paths) => (_folder, _paths) = (folder, paths);

    /// <summary>Finds the four files of a folder. Returns null if the folder has none of them.</summary>
    /// <exception cref="DataException">The folder has only some of the files.</exception>
    public static IdxFiles? Find(string folder)
    {
        var paths = Array.ConvertAll(s_names, name => new[] { name, name.Replace("-idx", ".idx", StringComparison.Ordinal) }
            .SelectMany(n => new[] { n, n + ".gz" })
            .Select(n => Path.Combine(folder, n))
            .FirstOrDefault(File.Exists));
        if (Array.TrueForAll(paths, path => path is null)) return null;
        var missing = Array.FindIndex(paths, path => path is null);
        return missing < 0
            ? new IdxFiles(folder, paths!)
            : throw new DataException($"The folder '{folder}' lacks '{s_names[missing]}' (or '{s_names[missing]}.gz'); the four files "
                + $"{string.Join(", ", s_names)} are needed.");
    }

    /// <summary>Reads the files.</summary>
    /// <exception cref="DataException">A file is damaged, or images and labels do not belong together.</exception>
    public (ImageSet Training, ImageSet Validation) Read(CancellationToken cancellationToken)
    {
        var training = ReadLabels(_paths[1]);
        var classes = ReadClasses() ?? [.. Enumerable.Range(0, training.Length == 0 ? 0 : training.Max() + 1)
            .Select(label => label.ToString(CultureInfo.InvariantCulture))];
        return (ReadSet(_paths[0], _paths[1], training), ReadSet(_paths[2], _paths[3], ReadLabels(_paths[3])));

        ImageSet ReadSet(string path, string labelPath, int[] labels)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (dimensions, pixels) = ReadFile(path, ImageDimensions);
            return dimensions[0] == labels.Length
                ? new ImageSet($"'{path}'", 1, dimensions[1], dimensions[2], pixels, labels, classes)
                : throw new DataException(
                    $"'{path}' has {Counted.Of(dimensions[0], "image")}, but '{labelPath}' has {Counted.Of(labels.Length, "label")}; "
                    + "take both from one source.");
        }
    }

    private ImmutableArray<string>? ReadClasses()
    {
        var path = Path.Combine(_folder, "classes.txt");
        return File.Exists(path) ? [.. File.ReadLines(path).Select(line => line.Trim()).Where(line => line.Length > 0)] : null;
    }

    private static int[] ReadLabels(string path) => Array.ConvertAll(ReadFile(path, LabelDimensions).Bytes, label => (int)label);

    private static (int[] Dimensions, byte[] Bytes) ReadFile(string path, int count)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);

            // The content decides, not the name, because some programs unpack files without renaming them.
            var zipped = file.ReadByte() == 0x1F && file.ReadByte() == 0x8B;
            file.Position = 0;
            if (!zipped) return Read(file, path, count, file.Length, file.Length);
            using var stream = new GZipStream(file, CompressionMode.Decompress);
            return Read(stream, path, count, null, file.Length * LargestRatio);
        }
        catch (InvalidDataException e)
        {
            throw new DataException($"The file '{path}' cannot be unpacked: {e.Message} Download it again.", e);
        }
    }

    // The length is that of the stream, if it is known. Unpacked, the file has at most the given number of bytes.
    private static (int[] Dimensions, byte[] Bytes) Read(Stream stream, string path, int count, long? length, long most)
    {
        var header = new byte[4 + (4 * count)];
        var read = stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false);
        if (read < header.Length || !header.AsSpan(0, 4).SequenceEqual((ReadOnlySpan<byte>)[0, 0, 8, (byte)count]))
        {
            throw new DataException($"'{path}' is not an IDX file of bytes in {count} dimensions: it begins with "
                + $"{Convert.ToHexString(header.AsSpan(0, Math.Min(read, 4)))} instead of 000008{count:X2}; download it again.");
        }

        var dimensions = new int[count];
        for (var i = 0; i < count; i++) dimensions[i] = BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(4 + (4 * i)));
        if (dimensions[0] < 0 || Array.Exists(dimensions[1..], dimension => dimension <= 0))
            throw new DataException($"'{path}' has the dimensions {string.Join(" x ", dimensions)}; download it again.");
        var size = count == ImageDimensions ? (long)dimensions[1] * dimensions[2] : 1;
        var total = Math.BigMul(dimensions[0], size); // three dimensions may need 93 bits
        if (length is { } known && known - header.Length != total) throw Wrong($"{known - header.Length}");
        if (total > most) throw Wrong($"at most {most}");
        var bytes = ImageCorpus.NewPixels($"'{path}'", dimensions[0], size);
        var found = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        if (found < bytes.Length) throw Wrong($"{found}");
        return stream.ReadByte() < 0 ? (dimensions, bytes) : throw Wrong("more");

        DataException Wrong(string has) => new(
            $"'{path}' is cut off or damaged: it should have {string.Join(" x ", dimensions)} bytes, but has {has}; download it again.");
    }
}
