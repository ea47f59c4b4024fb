using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>Labelled images for training, and others of the same size and classes for validation.</summary>
public sealed class ImageCorpus : TrainingData
{
    internal ImageCorpus(string source, ImageSet training, ImageSet validation)
    {
        foreach (var set in new[] { training, validation })
        {
            if (set.Count == 0) throw new DataException($"There are no images in {set.Source}; add some.");
        }

        if ((training.Channels, training.Height, training.Width) != (validation.Channels, validation.Height, validation.Width))
        {
            throw new DataException($"The images of {training.Source} are {Size(training)}, but those of {validation.Source} are "
                + $"{Size(validation)}; resize them to the same size.");
        }

        (Source, Training, Validation) = (source, training, validation);
        Fingerprint = Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(training.Fingerprint + validation.Fingerprint)));
    }

    /// <inheritdoc/>
    public override string Source { get; }

    /// <inheritdoc/>
    public override string Fingerprint { get; }

    /// <summary>The images for training.</summary>
    public ImageSet Training { get; }

    /// <summary>The images for validation.</summary>
    public ImageSet Validation { get; }

    /// <summary>Opens the images of a folder.</summary>
    /// <remarks>
    /// The folder holds one of the following, which is recognised by the names of the files:
    /// <list type="bullet">
    /// <item>MNIST, Fashion-MNIST or others in IDX files (yann.lecun.com/exdb/mnist): <c>train-images-idx3-ubyte</c>,
    /// <c>train-labels-idx1-ubyte</c>, <c>t10k-images-idx3-ubyte</c> and <c>t10k-labels-idx1-ubyte</c>, which may be gzipped (<c>.gz</c>)
    /// and have a dot before <c>idx</c>. The names of the classes are their numbers, or the lines of a file <c>classes.txt</c>.</item>
    /// <item>CIFAR-10, binary version (cs.toronto.edu/~kriz/cifar.html): <c>data_batch_1.bin</c> to <c>data_batch_5.bin</c>,
    /// <c>test_batch.bin</c>, and <c>batches.meta.txt</c> for the names of the classes.</item>
    /// <item>Images in a folder for each class, which has the class's name: PGM and PPM, and with the package MatFormer.Extensions.Images
    /// also PNG, JPEG and WebP. The folders are <c>train/CLASS/</c> and <c>val/CLASS/</c>, <c>validation/CLASS/</c> or, without these,
    /// <c>test/CLASS/</c>. If there is only <c>train/CLASS/</c>, or just <c>CLASS/</c>, a tenth of each class is held out, and at least one
    /// image: the images whose names have the smallest hashes. Grey images among colour images get three equal channels.</item>
    /// </list>
    /// </remarks>
    /// <param name="path">The folder.</param>
    /// <param name="resize">
    /// The height and width that all images are resized to (bilinear, averaged when an image shrinks), or null to keep their size, which
    /// must then be the same for all.
    /// </param>
    /// <param name="cancellationToken">Cancels the reading.</param>
    /// <exception cref="DataException">The images are missing, damaged, of different sizes, or of an unsupported kind.</exception>
    public static ImageCorpus Open(string path, (int Height, int Width)? resize = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (resize is var (height, width) && (height <= 0 || width <= 0))
            throw new ArgumentOutOfRangeException(nameof(resize), $"Images cannot be resized to {height} x {width} pixels.");
        if (File.Exists(path)) throw new DataException($"The images '{path}' are a file; give the folder that holds the images.");
        if (!Directory.Exists(path)) throw new DataException($"The folder of images '{path}' does not exist; give an existing folder.");
        try
        {
            var (training, validation) = IdxFiles.Find(path) is { } idx ? idx.Read(cancellationToken)
                : CifarFiles.IsIn(path) ? CifarFiles.Read(path, cancellationToken)
                : ImageFolder.Read(path, resize, cancellationToken);
            if (resize is var (rows, columns))
            {
                training = training.Resize(rows, columns, cancellationToken);
                validation = validation.Resize(rows, columns, cancellationToken);
            }

            return new ImageCorpus($"'{path}'", training, validation) { Place = PlaceOf(path) };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException && e is not DataException)
        {
            throw new DataException($"The images '{path}' cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Returns one line that says what the images are and how many there are.</summary>
    public string Describe()
    {
        var classes = Training.Classes;
        var names = classes.Length <= 10 ? string.Join(", ", classes) : $"{classes[0]}, {classes[1]}, ..., {classes[^1]}";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{Source}: {Counted.Of(Training.Count, "image")} to train on, {Validation.Count} to validate on, {Size(Training)}, "
            + $"{Counted.Of(classes.Length, "class", "classes")} ({names})");
    }

    /// <summary>Allocates the pixels of images.</summary>
    /// <exception cref="DataException">There are too many pixels for one array.</exception>
    internal static byte[] NewPixels(string source, long count, long size) => Math.BigMul(count, size) <= Array.MaxLength
        ? new byte[count * size]
        : throw new DataException(
            $"The {count} images of {source}, of {size} bytes each, exceed {Array.MaxLength} bytes; give fewer or smaller images.");

    internal static string Size(ImageSet set) => $"{set.Height} x {set.Width} pixels {(set.Channels == 1 ? "grey" : "RGB")}";
}
