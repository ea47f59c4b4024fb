using MatFormer;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>Measures how many images a model classifies correctly.</summary>
internal static class DigitAccuracy
{
    /// <summary>Returns the accuracy in percent on a number of validation images, spread evenly over all.</summary>
    public static double Of(ImageCorpus corpus, int images, Func<Tensor, Tensor> forward, CancellationToken cancellationToken)
    {
        using var unrecorded = no_grad();
        var (set, right) = (corpus.Validation, 0L);
        var count = Math.Min(images, set.Count);
        var chosen = Enumerable.Range(0, count).Select(i => (int)((long)i * set.Count / count)).ToList();
        foreach (var part in chosen.Chunk(250))
        {
            cancellationToken.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using var pixels = Pixels(set, part);
            var labels = tensor(part.Select(i => (long)set.Label(i)).ToArray());
            right += forward(pixels).argmax(-1).eq(labels).sum().item<long>();
        }

        return 100.0 * right / chosen.Count;
    }

    /// <summary>Returns images as models of one channel take them, from -1 to 1: (B, 1, Height, Width).</summary>
    public static Tensor Pixels(ImageSet set, IReadOnlyCollection<int> images)
    {
        float[] values = [.. images.SelectMany(i => set.Pixels(i).ToArray()).Select(value => (value / 127.5f) - 1)];
        return tensor(values, [images.Count, 1, set.Height, set.Width]);
    }
}
