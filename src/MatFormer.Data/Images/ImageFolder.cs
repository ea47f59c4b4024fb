using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>Reads images from folders, one for each class.</summary>
internal static class ImageFolder
{
    private const int HeldOut = 10; // one in 10 images is held out for validation
    private static readonly string[] s_validation = ["val", "validation", "test"];

    /// <summary>Reads the images of a folder that has a folder for each class, directly or below training and validation folders.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="resize">The height and width to resize images to, or null.</param>
    /// <param name="cancellationToken">Cancels the reading.</param>
    /// <exception cref="DataException">There are no images, or one cannot be read.</exception>
    public static (ImageSet Training, ImageSet Validation) Read(
        string folder, (int Height, int Width)? resize, CancellationToken cancellationToken)
    {
        var train = Path.Combine(folder, "train");
        var root = Directory.Exists(train) ? train : folder;
        var held = root == folder ? null : s_validation.Select(name => Path.Combine(folder, name)).FirstOrDefault(Directory.Exists);
        var files = Files(root);
        ImmutableArray<string> classes = [.. files.Select(file => file.Class).Distinct().Order(StringComparer.Ordinal)];
        if (classes.IsEmpty)
        {
            throw new DataException($"The folder '{root}' holds no supported images; give IDX files (train-images-idx3-ubyte, ...), the"
                + " binary files of CIFAR-10 (data_batch_1.bin, ...), or a folder with images for each class.");
        }

        List<(string Class, string Path)> training;
        List<(string Class, string Path)> validation;
        if (held is null)
        {
            (training, validation) = Split(root, files);
        }
        else
        {
            (training, validation) = (files, Files(held));
            if (validation.Count == 0) throw new DataException($"The folder '{held}' has no images; put some there, or remove it.");
            if (validation.Find(file => !classes.Contains(file.Class)).Path is { } stray)
            {
                throw new DataException($"The image '{stray}' is of a class that '{root}' does not have; move it to one of its classes: "
                    + $"{string.Join(", ", classes)}.");
            }
        }

        List<(string Class, string Path)> all = [.. training, .. validation];
        var images = Load(all, resize, cancellationToken);
        var first = images[0];

        // If some images have colour, grey ones become colour images with three equal channels, so nothing is lost.
        var channels = images.Max(image => image.Channels);
        return (Gather(root, 0, training), Gather(held ?? root, training.Count, validation));

        ImageSet Gather(string source, int start, List<(string Class, string Path)> part)
        {
            var plane = first.Height * first.Width;
            var pixels = ImageCorpus.NewPixels($"'{source}'", part.Count, (long)channels * plane);
            for (var i = 0; i < part.Count; i++)
            {
                var image = images[start + i];
                for (var c = 0; c < channels; c++)
                    image.Pixels.AsSpan(c % image.Channels * plane, plane).CopyTo(pixels.AsSpan(((i * channels) + c) * plane));
                images[start + i] = default; // frees the pixels, which are no longer needed
            }

            int[] labels = [.. part.Select(file => classes.IndexOf(file.Class))];
            return new ImageSet($"'{source}'", channels, first.Height, first.Width, pixels, labels, classes);
        }
    }

    private static RasterImage[] Load(
        List<(string Class, string Path)> files, (int Height, int Width)? resize, CancellationToken cancellationToken)
    {
        var images = new RasterImage[files.Count];
        for (var i = 0; i < images.Length; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            images[i] = RasterImage.Read(files[i].Path);
            if (resize is var (height, width)) images[i] = images[i].Resize(height, width);
            if ((images[i].Height, images[i].Width) != (images[0].Height, images[0].Width))
            {
                throw new DataException($"The image '{files[i].Path}' has {images[i].Height} x {images[i].Width} pixels, but "
                    + $"'{files[0].Path}' has {images[0].Height} x {images[0].Width}; resize all images to one size.");
            }
        }

        return images;
    }

    private static List<(string Class, string Path)> Files(string root) =>
        [.. Directory.GetDirectories(root)
            .Where(folder => !File.GetAttributes(folder).HasFlag(FileAttributes.Hidden))
            .Order(StringComparer.Ordinal)
            .SelectMany(folder => DataSources.Below(folder, recurse: true).Select(path => (Path.GetFileName(folder), path)))];

    // Of each class, the images whose names have the smallest hashes are for validation. Names are relative, so the place of the folder
    // does not matter.
    private static (List<(string Class, string Path)> Training, List<(string Class, string Path)> Validation) Split(
        string root, List<(string Class, string Path)> files)
    {
        var held = new HashSet<string>(StringComparer.Ordinal);
        foreach (var group in files.GroupBy(file => file.Class))
        {
            var paths = group.Select(file => file.Path).ToList();
            if (paths.Count < 2)
                throw new DataException($"'{paths[0]}' is the only image of class {group.Key}, so none can be held out; give more.");
            held.UnionWith(paths.OrderBy(Hash, StringComparer.Ordinal).Take(Math.Max(1, paths.Count / HeldOut)));
        }

        return (files.FindAll(file => !held.Contains(file.Path)), files.FindAll(file => held.Contains(file.Path)));

        string Hash(string path) =>
            Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(Path.GetRelativePath(root, path).Replace('\\', '/'))));
    }
}
