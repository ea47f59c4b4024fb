using static TorchSharp.torch;

namespace MatFormer;

/// <summary>A batch of images and their classes.</summary>
/// <param name="rows">The number of images, B.</param>
/// <param name="image">The size of an image: C, H and W.</param>
/// <param name="classes">The number of classes if the targets are class probabilities; 0 if the targets are class numbers.</param>
internal sealed class ImageBatch(int rows, (int Channels, int Height, int Width) image, int classes = 0) : Batch
{
    /// <inheritdoc/>
    public override int Examples => rows;

    /// <summary>The pixels, (B, C, H, W), from -1 to 1.</summary>
    public float[] Pixels { get; } = new float[rows * image.Channels * image.Height * image.Width];

    /// <summary>The class of each image.</summary>
    public long[] Labels { get; } = new long[rows];

    /// <summary>The target probabilities of the classes, (B, classes).</summary>
    public float[] Probabilities { get; } = new float[rows * classes];

    /// <summary>Creates a batch of images of a set, without augmentation.</summary>
    public static ImageBatch Of(ImageSet set, IReadOnlyList<int> images)
    {
        var batch = new ImageBatch(images.Count, (set.Channels, set.Height, set.Width));
        for (var row = 0; row < images.Count; row++)
        {
            batch.Set(row, set.Pixels(images[row]), 0, 0);
            batch.Labels[row] = set.Label(images[row]);
        }

        return batch;
    }

    /// <summary>Fills a row with an image, moved down and to the right. Pixels that move in from outside are black.</summary>
    public void Set(int row, ReadOnlySpan<byte> pixels, int down, int right)
    {
        var size = image.Channels * image.Height * image.Width;
        var to = Pixels.AsSpan(row * size, size);
        for (var line = 0; line < image.Channels * image.Height; line++)
        {
            var (channel, y) = Math.DivRem(line, image.Height);
            var source = y - down;
            for (var x = 0; x < image.Width; x++)
            {
                var inside = source >= 0 && source < image.Height && x - right >= 0 && x - right < image.Width;
                var value = inside ? pixels[(((channel * image.Height) + source) * image.Width) + x - right] : (byte)0;
                to[(line * image.Width) + x] = (value / 127.5f) - 1;
            }
        }
    }

    /// <inheritdoc/>
    public override (Tensor Input, Tensor Targets) ToTensors(Device device)
    {
        long[] shape = [rows, image.Channels, image.Height, image.Width], soft = [rows, classes];
        return (
            tensor(Pixels, shape, device: device),
            classes == 0 ? tensor(Labels, device: device) : tensor(Probabilities, soft, device: device));
    }
}

/// <summary>
/// The training batches of images. Each epoch takes each image once, in shuffled order. The options decide how images are moved and mixed
/// and how their labels are smoothed. A batch depends only on the options, which include the seed, and the step.
/// </summary>
internal sealed class ImageBatches(ImageSet images, TrainerOptions options) : IBatches
{
    private readonly EpochOrder _order = new(images.Count, options.Seed);
    private readonly bool _isSoft = options.LabelSmoothing > 0 || options.Mixup > 0;

    /// <inheritdoc/>
    public Batch NewBatch() =>
        new ImageBatch(options.Batch, (images.Channels, images.Height, images.Width), _isSoft ? images.Classes.Length : 0);

    /// <inheritdoc/>
    public void Fill(long step, Batch batch)
    {
        var its = (ImageBatch)batch;
        var random = new CounterRandom(options.Seed, RandomPurpose.Augmentation, step);
        for (var row = 0; row < options.Batch; row++)
        {
            var (image, _) = _order.At(((step - 1) * options.Batch) + row);
            var (down, right) = (Moved(2L * row), Moved((2L * row) + 1));
            its.Set(row, images.Pixels(image), down, right);
            its.Labels[row] = images.Label(image);
        }

        if (!_isSoft) return;
        var share = options.Mixup > 0 ? Share(random, 2L * options.Batch) : 1;
        if (share < 1) Mix(its.Pixels, share);
        Soften(its, share);

        int Moved(long counter) => options.Shift == 0 ? 0 : (int)random.Below((2 * options.Shift) + 1, counter) - options.Shift;
    }

    // Mixup (arXiv 1710.09412): mixes each image with its counterpart, counted from the other end of the batch.
    private void Mix(float[] pixels, float share)
    {
        var size = pixels.Length / options.Batch;
        for (var row = 0; row < (options.Batch + 1) / 2; row++)
        {
            var one = pixels.AsSpan(row * size, size);
            var other = pixels.AsSpan((options.Batch - 1 - row) * size, size);
            for (var i = 0; i < size; i++)
                (one[i], other[i]) = ((share * one[i]) + ((1 - share) * other[i]), (share * other[i]) + ((1 - share) * one[i]));
        }
    }

    private void Soften(ImageBatch batch, float share)
    {
        var classes = images.Classes.Length;
        var (rest, whole) = ((float)(options.LabelSmoothing / classes), (float)(1 - options.LabelSmoothing));
        Array.Fill(batch.Probabilities, rest);
        for (var row = 0; row < options.Batch; row++)
        {
            var its = batch.Probabilities.AsSpan(row * classes, classes);
            its[(int)batch.Labels[row]] += whole * share;
            its[(int)batch.Labels[options.Batch - 1 - row]] += whole * (1 - share);
        }
    }

    // Draws from Beta(alpha, alpha) by Jöhnk's method. For large alphas nearly every try is rejected and the share is near 0.5.
    private float Share(CounterRandom random, long counter)
    {
        for (var attempt = 0; attempt < 1000; attempt++, counter += 2)
        {
            var (x, y) = (Math.Pow(random.Unit(counter), 1 / options.Mixup), Math.Pow(random.Unit(counter + 1), 1 / options.Mixup));
            if (x + y is > 0 and <= 1) return (float)(x / (x + y));
        }

        return 0.5f;
    }
}
