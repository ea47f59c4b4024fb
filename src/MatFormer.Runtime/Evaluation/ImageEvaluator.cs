using System.Collections.Immutable;
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How well a granularity or profile tells images apart.</summary>
/// <param name="Costs">What it is and costs.</param>
/// <param name="Accuracy">The share of images whose likeliest class is theirs.</param>
/// <param name="NatsPerImage">Cross-entropy, in nats per image.</param>
/// <param name="Agreement">The share of images of which it says what the whole model says; null for a slice, which has no whole model.</param>
/// <param name="Divergence">KL(whole model || submodel) of the classes, in nats per image; null for a slice.</param>
/// <param name="MicrosecondsPerImage">Time of its forward pass over a batch, by image: the median over the batches.</param>
public sealed record ImageRow(
    ProfileCosts Costs, double Accuracy, double NatsPerImage, double? Agreement, double? Divergence, double MicrosecondsPerImage);

/// <summary>An image that a model takes for another.</summary>
/// <param name="Image">Its place in the set.</param>
/// <param name="Label">Its class.</param>
/// <param name="Taken">What it is taken for.</param>
/// <param name="Probability">How sure the model is of that.</param>
public sealed record Confusion(int Image, int Label, int Taken, double Probability);

/// <summary>How well a model tells images apart.</summary>
/// <param name="Rows">What was measured, in the order asked for.</param>
/// <param name="Images">How many images.</param>
/// <param name="Confusions">What the last granularity takes for another, the surest first.</param>
public sealed record ImageEvaluation(ImmutableArray<ImageRow> Rows, int Images, ImmutableArray<Confusion> Confusions);

/// <summary>Measures vision transformers on the validation images of a corpus.</summary>
public static class ImageEvaluator
{
    /// <summary>Measures every granularity and declared profile of a universal model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="corpus">Its validation images are classified.</param>
    /// <param name="batch">Images in one pass.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="DataException">The images are not of the model's size and classes.</exception>
    public static ImageEvaluation Run<TModel>(
        TModel model, ImageCorpus corpus, int batch = 100, CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        var profiles = TModel.Granularities.Concat(TModel.Profiles).ToList();
        return Run(
            model, [.. profiles.Select(p => ProfileCosts.Of(p, TModel.Granularities.Contains(p)))],
            profiles.ConvertAll(p => (Func<Tensor, Tensor>)(pixels => model.Forward(p, pixels))), TModel.Granularities.Count - 1, hasWhole: true,
            corpus, batch, cancellationToken);
    }

    /// <summary>Measures a slice.</summary>
    /// <inheritdoc cref="Run{TModel}"/>
    public static ImageEvaluation RunSlice(
        MatFormerModel slice, ProfileCosts costs, ImageCorpus corpus, int batch = 100, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(slice);
        return Run(slice, [costs], [slice.call], 0, hasWhole: false, corpus, batch, cancellationToken);
    }

    // The whole model is one of those measured, so that all are timed alike.
    private static ImageEvaluation Run(
        MatFormerModel model, ImmutableArray<ProfileCosts> costs, List<Func<Tensor, Tensor>> forwards, int whole, bool hasWhole,
        ImageCorpus corpus, int batch, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentOutOfRangeException.ThrowIfLessThan(batch, 1);
        corpus.CheckFits(model);
        var images = corpus.Validation.Count;
        using var unrecorded = no_grad();
        var (right, agreeing) = (new long[costs.Length], new long[costs.Length]);
        var (nats, divergence) = (new double[costs.Length], new double[costs.Length]);
        var times = costs.Select(_ => new List<double>()).ToList();
        var confusions = new List<Confusion>();
        foreach (var examples in Enumerable.Range(0, images).Chunk(batch))
        {
            cancellationToken.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var (pixels, labels) = ImageBatch.Of(corpus.Validation, examples).ToTensors(model.Device);
            var logs = new Tensor[costs.Length];
            for (var i = 0; i < costs.Length; i++)
            {
                var watch = Stopwatch.StartNew();
                var logits = forwards[i](pixels);
                if (model.Device.type == DeviceType.CUDA) cuda.synchronize();
                if (examples.Length == batch || images < batch) times[i].Add(watch.Elapsed.TotalMicroseconds / examples.Length);
                logs[i] = logits.log_softmax(-1);
            }

            var wanted = labels.unsqueeze(1);
            var choice = logs[whole].argmax(-1);
            for (var i = 0; i < costs.Length; i++)
            {
                var its = logs[i].argmax(-1);
                right[i] += Count(its.eq(labels));
                agreeing[i] += Count(its.eq(choice));
                nats[i] -= Sum(logs[i].gather(1, wanted));
                divergence[i] += Sum(logs[whole].exp() * (logs[whole] - logs[i]));
            }

            AddConfusions(confusions, corpus.Validation, examples, choice, logs[whole]);
        }

        return new ImageEvaluation(
            [.. costs.Select((cost, i) => new ImageRow(
                cost, (double)right[i] / images, nats[i] / images, hasWhole ? (double)agreeing[i] / images : null,
                hasWhole ? divergence[i] / images : null, times[i].Order().ElementAt(times[i].Count / 2)))],
            images, [.. confusions.OrderByDescending(c => c.Probability)]);
    }

    private static void AddConfusions(List<Confusion> confusions, ImageSet set, int[] examples, Tensor choice, Tensor logs)
    {
        var taken = choice.cpu().data<long>().ToArray();
        var chances = logs.exp().amax([1]).cpu().data<float>().ToArray();
        for (var row = 0; row < examples.Length; row++)
        {
            var label = set.Label(examples[row]);
            if (taken[row] != label) confusions.Add(new Confusion(examples[row], label, (int)taken[row], chances[row]));
        }
    }

    private static long Count(Tensor truths) => truths.sum().item<long>();

    private static double Sum(Tensor values) => values.sum(ScalarType.Float64).item<double>();
}
