using System.Buffers.Binary;
using MatFormer;

namespace Elasticity;

/// <summary>
/// Makes images of 4 x 4 cells, most of which are empty, from MNIST. A few random cells hold a digit of 7 x 7 pixels, upright or turned by
/// a quarter, and the class of an image is its largest digit. So to read an image, each digit must be read, and nothing is to be done for
/// the other cells.
/// </summary>
internal static class DigitGrids
{
    public const int Digits = 4;
    public const int Cell = 7;
    public const int Side = 4 * Cell;

    private const int Training = 30_000;
    private const int Validation = 5_000;

    /// <summary>Opens the images, which it writes into a folder of its own within the given one.</summary>
    public static ImageCorpus Open(string mnist, string folder, CancellationToken cancellationToken)
    {
        using var digits = ImageCorpus.Open(mnist, (Cell, Cell), cancellationToken);
        var path = Path.Combine(folder, "digit-grids");
        Directory.CreateDirectory(path);
        Write(path, "train", digits.Training, Training, seed: 1);
        Write(path, "t10k", digits.Validation, Validation, seed: 2);
        return ImageCorpus.Open(path, cancellationToken: cancellationToken);
    }

    // As MNIST's own files: yann.lecun.com/exdb/mnist.
    private static void Write(string folder, string name, ImageSet digits, int count, int seed)
    {
        var random = new Random(seed);
        var upTo = Enumerable.Range(0, 10)
            .Select(largest => Enumerable.Range(0, digits.Count).Where(i => digits.Label(i) <= largest).ToArray()).ToArray();
        var images = new byte[16 + (count * Side * Side)];
        var labels = new byte[8 + count];
        Header(images, 0x803, count, Side, Side);
        Header(labels, 0x801, count);
        for (var i = 0; i < count; i++)
        {
            // All classes are equally frequent.
            var label = random.Next(10);
            var pixels = images.AsSpan(16 + (i * Side * Side), Side * Side);
            var cells = random.GetItems(upTo[label], Digits);
            while (digits.Label(cells[0]) != label) cells[0] = upTo[label][random.Next(upTo[label].Length)];
            foreach (var (digit, cell) in cells.Zip(random.Shuffled(16)))
            {
                var its = digits.Pixels(digit);
                var isTurned = random.Next(2) == 1;
                for (var row = 0; row < Cell; row++)
                {
                    var target = pixels.Slice(((((cell / 4) * Cell) + row) * Side) + ((cell % 4) * Cell), Cell);
                    for (var column = 0; column < Cell; column++)
                        target[column] = its[isTurned ? ((Cell - 1 - column) * Cell) + row : (row * Cell) + column];
                }
            }

            labels[8 + i] = (byte)label;
        }

        File.WriteAllBytes(Path.Combine(folder, name + "-images-idx3-ubyte"), images);
        File.WriteAllBytes(Path.Combine(folder, name + "-labels-idx1-ubyte"), labels);
    }

    private static void Header(byte[] file, params ReadOnlySpan<int> numbers)
    {
        for (var i = 0; i < numbers.Length; i++) BinaryPrimitives.WriteInt32BigEndian(file.AsSpan(4 * i), numbers[i]);
    }

    private static int[] Shuffled(this Random random, int count)
    {
        int[] all = [.. Enumerable.Range(0, count)];
        random.Shuffle(all);
        return all;
    }
}
