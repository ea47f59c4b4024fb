using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;

namespace MatFormer.Runtime.Tests.Data;

public sealed class ImageCorpusTests : IDisposable
{
    private const string TrainingImages = "train-images-idx3-ubyte";
    private const string TrainingLabels = "train-labels-idx1-ubyte";
    private const string ValidationImages = "t10k-images-idx3-ubyte";
    private const string ValidationLabels = "t10k-labels-idx1-ubyte";

    private readonly TemporaryFolder _folder = new();

    public ImageCorpusTests() => ImageFiles.Register();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void IdxFilesAreRead()
    {
        WriteIdx();
        var corpus = ImageCorpus.Open(_folder.Path);
        var (training, validation) = (corpus.Training, corpus.Validation);
        Assert.Equal((5, 2), (training.Count, validation.Count));
        Assert.Equal((1, 2, 3), (training.Channels, training.Height, training.Width));
        Assert.Equal(["0", "1", "2"], training.Classes.ToArray());
        Assert.Equal([0, 1, 2, 1, 0], Enumerable.Range(0, 5).Select(training.Label));
        Assert.Equal([2, 1], Enumerable.Range(0, 2).Select(validation.Label));
        Assert.Equal([6, 7, 8, 9, 10, 11], training.Pixels(1).ToArray());
        Assert.Equal([106, 107, 108, 109, 110, 111], validation.Pixels(1).ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => training.Pixels(5).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => training.Label(-1));
        Assert.Equal(
            $"'{_folder.Path}': 5 images to train on, 2 to validate on, 2 x 3 pixels grey, 3 classes (0, 1, 2)", corpus.Describe());
    }

    [Fact]
    public void IdxFilesMayBeCompressedAndHaveADotInTheirNames()
    {
        WriteIdx();
        var fingerprint = ImageCorpus.Open(_folder.Path).Fingerprint;
        foreach (var (from, to) in new[] { (TrainingImages, "train-images.idx3-ubyte.gz"), (ValidationLabels, ValidationLabels + ".gz") })
        {
            using (var stream = new GZipStream(File.Create(_folder[to]), CompressionLevel.Fastest))
                stream.Write(File.ReadAllBytes(_folder[from]));
            File.Delete(_folder[from]);
        }

        File.Move(_folder[ValidationImages], _folder[ValidationImages + ".gz"]); // unpacked, but not renamed
        Assert.Equal(fingerprint, ImageCorpus.Open(_folder.Path).Fingerprint);

        var zipped = File.ReadAllBytes(_folder[ValidationLabels + ".gz"]);
        File.WriteAllBytes(_folder[ValidationLabels + ".gz"], zipped[..^10]);
        Fails(ValidationLabels + ".gz");
        zipped[^6] ^= 1; // damages the checksum
        File.WriteAllBytes(_folder[ValidationLabels + ".gz"], zipped);
        Fails(ValidationLabels + ".gz", "cannot be unpacked");
    }

    [Fact]
    public void ClassNamesAreReadFromAFile()
    {
        WriteIdx();
        var fingerprint = ImageCorpus.Open(_folder.Path).Fingerprint;
        File.WriteAllText(_folder["classes.txt"], "shirt\n trouser\r\ncoat\n\n");
        var corpus = ImageCorpus.Open(_folder.Path);
        Assert.Equal(["shirt", "trouser", "coat"], corpus.Validation.Classes.ToArray());
        Assert.NotEqual(fingerprint, corpus.Fingerprint);
        File.WriteAllText(_folder["classes.txt"], "shirt\ntrouser\n");
        Fails("Image 2", TrainingImages, "label 2", "2 classes");
    }

    [Fact]
    public void DamagedIdxFilesAreRefused()
    {
        WriteIdx();
        var images = File.ReadAllBytes(_folder[TrainingImages]);
        void Damaged(byte[] bytes, params string[] says)
        {
            File.WriteAllBytes(_folder[TrainingImages], bytes);
            Fails([TrainingImages, .. says]);
        }

        Damaged(images[..^1], "5 x 2 x 3", "has 29");
        Damaged([.. images, 0], "has 31");
        Damaged(images[..10], "not an IDX file");
        Damaged([], "not an IDX file");
        Damaged([0, 0, 0x0D, 3, .. images[4..]], "00000D03 instead of 00000803");
        Damaged([.. images[..8], 0xFF, .. images[9..]], "dimensions");
        Damaged(Idx(3, [4, 2, 3], 0), "has 4 images", TrainingLabels, "5 labels");
        Damaged(Idx(3, [5, 2, 2], 0), "2 x 2 pixels", "2 x 3 pixels");
        File.WriteAllBytes(_folder[TrainingImages], images);
        File.WriteAllBytes(_folder[ValidationLabels], [0, 0, 8, 1, 0, 0, 0, 2, 1, 7]);
        Fails("Image 1", ValidationImages, "label 7");
        File.Delete(_folder[ValidationLabels]);
        Fails("lacks", ValidationLabels);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void IdxSizesThatOverflowAreRefused(bool zipped)
    {
        // 16 x 2^30 x 2^30 is 0 modulo 2^64.
        WriteIdx();
        byte[] file = [0, 0, 8, 3, 0, 0, 0, 16, 0x40, 0, 0, 0, 0x40, 0, 0, 0];
        Stream stream = File.Create(_folder[TrainingImages]);
        if (zipped) stream = new GZipStream(stream, CompressionLevel.Fastest);
        using (stream) stream.Write(file);
        File.WriteAllBytes(_folder[TrainingLabels], [0, 0, 8, 1, 0, 0, 0, 16, .. new byte[16]]);
        Fails(TrainingImages, "16 x 1073741824 x 1073741824");
    }

    [Fact]
    public void IdxSizesBeyondWhatAZippedFileCanHoldAreRefused()
    {
        WriteIdx();
        using (var zip = new GZipStream(File.Create(_folder[TrainingImages]), CompressionLevel.Fastest))
            zip.Write([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0x4E, 0x20, 0, 0, 0x4E, 0x20]);
        Fails(TrainingImages, "5 x 20000 x 20000", "has at most");
    }

    [Fact]
    public void CifarFilesAreRead()
    {
        WriteCifar();
        var corpus = ImageCorpus.Open(_folder.Path);
        Assert.Equal((10, 2), (corpus.Training.Count, corpus.Validation.Count));
        Assert.Equal((3, 32, 32), (corpus.Training.Channels, corpus.Training.Height, corpus.Training.Width));
        Assert.Equal([1, 9, 2, 9, 3, 9, 4, 9, 5, 9], Enumerable.Range(0, 10).Select(corpus.Training.Label));
        Assert.Equal(3072, corpus.Training.Pixels(4).Length);
        Assert.Equal([3, 3, 0], new[] { 0, 1023, 1024 }.Select(i => (int)corpus.Training.Pixels(4)[i]));
        Assert.Equal("9", corpus.Training.Classes[^1]);
    }

    [Fact]
    public void CifarClassNamesAreReadFromAFile()
    {
        WriteCifar();
        File.WriteAllText(_folder["batches.meta.txt"], "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
        Assert.Equal("j", ImageCorpus.Open(_folder.Path).Training.Classes[^1]);
        File.WriteAllText(_folder["batches.meta.txt"], "a\nb\n");
        Fails("batches.meta.txt", "2 names");
    }

    [Fact]
    public void DamagedCifarFilesAreRefused()
    {
        WriteCifar();
        WriteCifar("data_batch_3.bin", 10);
        Fails("Image 4", "label 10");
        File.WriteAllBytes(_folder["data_batch_3.bin"], new byte[3072]);
        Fails("data_batch_3.bin", "3072 bytes");
        File.Delete(_folder["data_batch_3.bin"]);
        Fails("data_batch_3.bin", "missing");
    }

    [Fact]
    public void FoldersOfImagesAreRead()
    {
        WriteImage("train/dog/a.png", 10);
        WriteImage("train/cat/more/b.png", 20);
        WriteImage("train/cat/a.png", 30);
        WriteImage("val/cat/a.png", 40);
        WriteImage("test/cat/a.png", 50);
        WriteImage("train/.hidden/a.png", 60);
        var corpus = ImageCorpus.Open(_folder.Path);
        Assert.Equal(["cat", "dog"], corpus.Training.Classes.ToArray());
        Assert.Equal([(0, 30), (0, 20), (1, 10)], Images(corpus.Training));
        Assert.Equal([(0, 40)], Images(corpus.Validation));
        Directory.Delete(_folder["val"], recursive: true);
        corpus = ImageCorpus.Open(_folder.Path);
        Assert.Equal([(0, 50)], Images(corpus.Validation));
        Assert.Equal($"'{_folder["test"]}'", corpus.Validation.Source);
        WriteImage("test/bird/a.png", 70);
        Fails("bird", "cat, dog");
        Directory.Delete(_folder["test"], recursive: true);
        Directory.CreateDirectory(_folder["test/cat"]);
        Fails("test", "no images");
    }

    [Fact]
    public void ATenthOfEachClassIsHeldOut()
    {
        for (byte i = 0; i < 40; i++) WriteImage($"cat/{i}.png", i);
        for (byte i = 0; i < 5; i++) WriteImage($"dog/{i}.png", (byte)(100 + i));
        var corpus = ImageCorpus.Open(_folder.Path);
        Assert.Equal([0, 0, 0, 0, 1], Images(corpus.Validation).Select(image => image.Label));
        Assert.Equal(45, Images(corpus.Training).Concat(Images(corpus.Validation)).Distinct().Count());

        // The same images are held out if they are elsewhere, and below a folder for training.
        Directory.CreateDirectory(_folder["moved/train"]);
        foreach (var name in new[] { "cat", "dog" }) Directory.Move(_folder[name], _folder[$"moved/train/{name}"]);
        Assert.Equal(corpus.Fingerprint, ImageCorpus.Open(_folder["moved"]).Fingerprint);
        WriteImage("moved/train/bird/1.png", 1);
        Fails("moved", "bird", "only image");
    }

    [Fact]
    public void GreyImagesAmongColourImagesGetThreeChannels()
    {
        WriteImage("train/a/1.png", 10);
        File.WriteAllBytes(_folder["train/a/2.png"], Png.Encode([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 3, 2, 2));
        WriteImage("test/a/1.png", 20);
        var corpus = ImageCorpus.Open(_folder.Path);
        Assert.Equal((3, 3), (corpus.Training.Channels, corpus.Validation.Channels));
        Assert.Equal([10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13], corpus.Training.Pixels(0).ToArray());
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], corpus.Training.Pixels(1).ToArray());
        Assert.Equal([20, 21, 22, 23, 20, 21, 22, 23, 20, 21, 22, 23], corpus.Validation.Pixels(0).ToArray());
    }

    [Fact]
    public void ImagesMustHaveOneSizeUnlessTheyAreResized()
    {
        WriteImage("train/a/1.png", 10);
        File.WriteAllBytes(_folder["train/a/2.png"], Png.Encode(Enumerable.Repeat((byte)9, 12).ToArray(), 1, 3, 4));
        WriteImage("test/a/1.png", 20);
        Fails("2.png", "3 x 4", "1.png", "2 x 2");
        var corpus = ImageCorpus.Open(_folder.Path, resize: (1, 2));
        Assert.Equal((1, 2), (corpus.Validation.Height, corpus.Validation.Width));
        Assert.Equal([11, 12], corpus.Training.Pixels(0).ToArray());
        Assert.Equal([9, 9], corpus.Training.Pixels(1).ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => ImageCorpus.Open(_folder.Path, resize: (0, 2)));

        Directory.Delete(_folder["train"], recursive: true);
        WriteIdx();
        corpus = ImageCorpus.Open(_folder.Path, resize: (4, 6));
        Assert.Equal((5, 4, 6), (corpus.Training.Count, corpus.Training.Height, corpus.Training.Width));
        Assert.Equal((6, 11), (corpus.Training.Pixels(1)[0], corpus.Training.Pixels(1)[^1]));
    }

    [Fact]
    public void FilesThatAreNotImagesAreRefused()
    {
        Fails(_folder.Path, "train-images-idx3-ubyte");
        Fails("nowhere", "does not exist");
        WriteImage("a/1.png", 10);
        var file = Assert.Throws<DataException>(() => ImageCorpus.Open(_folder["a/1.png"]));
        Assert.Contains("are a file; give the folder", file.Message, StringComparison.Ordinal);
        File.WriteAllBytes(_folder["a/2.jpg"], [0xFF, 0xD8, 0xFF, 0xE0]);
        Fails("2.jpg", "its header is damaged");
        File.Delete(_folder["a/2.jpg"]);
        File.WriteAllText(_folder["a/notes.txt"], "notes");
        Fails("notes.txt", "not a PNG");
    }

    [Fact]
    public void MeanAndDeviationAreMeasuredPerChannel()
    {
        byte[] pixels = [0, 255, 10, 10, 51, 51, 255, 255, 10, 10, 51, 153];
        var set = new ImageSet("a test", 3, 1, 2, pixels, [0, 0], ["a"]);
        double[] mean = [0.75, 10 / 255.0, 0.3];
        double[] deviation = [Math.Sqrt(3) / 4, 0, Math.Sqrt(3) / 10];
        for (var c = 0; c < 3; c++)
        {
            Assert.Equal(mean[c], set.Mean[c], 12);
            Assert.Equal(deviation[c], set.StandardDeviation[c], 12);
        }
    }

    [Fact]
    public void TheFingerprintDependsOnTheContent()
    {
        ImageSet Set(byte pixel = 1, int label = 0, int height = 2, string name = "a") =>
            new("a test", 1, height, 2 / height, [pixel, 2], [label], [name, "b"]);
        var sets = new[] { Set(), Set(pixel: 3), Set(label: 1), Set(height: 1), Set(name: "c") };
        Assert.Equal(5, sets.Select(set => set.Fingerprint).Distinct().Count());
        Assert.Equal(Set().Fingerprint, sets[0].Fingerprint);
        Assert.NotEqual(new ImageCorpus("it", sets[0], sets[1]).Fingerprint, new ImageCorpus("it", sets[1], sets[0]).Fingerprint);
    }

    private static IEnumerable<(int Label, int First)> Images(ImageSet set) =>
        Enumerable.Range(0, set.Count).Select(i => (set.Label(i), (int)set.Pixels(i)[0]));

    private void Fails(params string[] says)
    {
        var folder = says[0] is "nowhere" or "moved" ? _folder[says[0]] : _folder.Path;
        var e = Assert.Throws<DataException>(() => ImageCorpus.Open(folder));
        Assert.All(says, text => Assert.Contains(text, e.Message, StringComparison.Ordinal));
    }

    // Writes five training images and two validation images of 2 x 3 pixels.
    private void WriteIdx()
    {
        File.WriteAllBytes(_folder[TrainingImages], Idx(3, [5, 2, 3], 0));
        File.WriteAllBytes(_folder[ValidationImages], Idx(3, [2, 2, 3], 100));
        File.WriteAllBytes(_folder[TrainingLabels], [0, 0, 8, 1, 0, 0, 0, 5, 0, 1, 2, 1, 0]);
        File.WriteAllBytes(_folder[ValidationLabels], [0, 0, 8, 1, 0, 0, 0, 2, 2, 1]);
    }

    private static byte[] Idx(byte dimensions, int[] sizes, byte first)
    {
        var header = new byte[4 + (4 * dimensions)];
        (header[2], header[3]) = (8, dimensions);
        for (var i = 0; i < dimensions; i++) BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4 + (4 * i)), sizes[i]);
        return [.. header, .. Enumerable.Range(first, sizes.Aggregate((a, b) => a * b)).Select(value => (byte)value)];
    }

    // Writes five training files and a validation file of two images each.
    private void WriteCifar()
    {
        for (var batch = 1; batch <= 5; batch++) WriteCifar($"data_batch_{batch}.bin", (byte)batch);
        WriteCifar("test_batch.bin", 6);
    }

    // Writes two images. The first has one value in its red channel.
    private void WriteCifar(string name, byte value) => File.WriteAllBytes(
        _folder[name], [value, .. Enumerable.Repeat(value, 1024), .. new byte[2048], 9, .. new byte[3072]]);

    // Writes a grey image of 2 x 2 pixels.
    private void WriteImage(string name, byte first)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_folder[name])!);
        File.WriteAllBytes(_folder[name], Png.Encode([first, (byte)(first + 1), (byte)(first + 2), (byte)(first + 3)], 1, 2, 2));
    }
}
