using System.Collections.Immutable;
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How well a granularity or profile classifies images.</summary>
/// <param name="Costs">The granularity or profile and its costs.</param>
/// <param name="Dimension">The number of dimensions of the embedding that the classifier sees: all, or a declared prefix.</param>
/// <param name="Accuracy">The share of images whose most likely class is correct.</param>
/// <param name="NatsPerImage">The cross-entropy, in nats per image.</param>
/// <param name="Agreement">
/// The share of images that get the same class from the whole model; null for a slice, which has no whole model.
/// </param>
/// <param name="Divergence">KL(whole model || submodel) of the classes, in nats per image; null for a slice.</param>
/// <param name="MicrosecondsPerImage">The time of the forward pass over a batch per image: the median over the batches.</param>
public sealed record ImageRow(
    ProfileCosts Costs, int Dimension, double Accuracy, double NatsPerImage, double? Agreement, double? Divergence,
    double MicrosecondsPerImage);

/// <summary>An image that a model classifies wrongly.</summary>
/// <param name="Image">The image's index in the set.</param>
/// <param name="Label">The image's true class.</param>
/// <param name="Taken">The class that the model predicts.</param>
/// <param name="Probability">The probability that the model gives to this class.</param>
public sealed record Confusion(int Image, int Label, int Taken, double Probability);

/// <summary>How well a model classifies images.</summary>
/// <param name="Rows">
/// Rows for each profile, in the order of the request. A profile has a row for each declared dimension, the narrowest first.
/// </param>
/// <param name="Images">The number of images.</param>
/// <param name="Confusions">The images that the whole model classifies wrongly, the most confident first.</param>
public sealed record ImageEvaluation(ImmutableArray<ImageRow> Rows, int Images, ImmutableArray<Confusion> Confusions)
{
    /// <summary>The rows whose classifier sees the whole embedding.</summary>
    public IEnumerable<ImageRow> Whole => Rows.Where(row => row.Dimension == Rows[^1].Dimension);
}

/// <summary>Measures vision transformers on the validation images of a corpus.</summary>
public static class ImageEvaluator
{
    /// <summary>
    /// Measures every granularity and declared profile of a universal model, at every declared grid of compressed tokens, and every
    /// declared routing budget, at every dimension of its embedding.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="corpus">The corpus whose validation images are classified.</param>
    /// <param name="batch">The number of images in one pass.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="DataException">The images do not have the model's size and classes.</exception>
    public static ImageEvaluation Run<TModel>(
        TModel model, ImageCorpus corpus, int batch = 100, CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var budgets = TModel.Spec.Routing?.Budgets ?? [];
        ImmutableArray<Profile<TModel>> profiles = [.. TModel.Granularities, .. TModel.Profiles];
        var smaller = ProfileCosts.SmallerGrids(TModel.Spec).SelectMany(grid => profiles.Select(profile => profile.At(grid)));
        return Run(model, [.. profiles, .. smaller], budgets, corpus, batch, cancellationToken);
    }

    /// <summary>Measures some profiles of a universal model, such as the mixes of <see cref="Mixes.Sweep{TModel}"/>.</summary>
    /// <inheritdoc cref="Run{TModel}(TModel, ImageCorpus, int, CancellationToken)"/>
    /// <param name="model">The model.</param>
    /// <param name="profiles">
    /// The profiles to measure. They are compared with the whole model, which need not be among them.
    /// </param>
    /// <param name="corpus">The corpus whose validation images are classified.</param>
    /// <param name="batch">The number of images in one pass.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    public static ImageEvaluation Run<TModel>(
        TModel model, ImmutableArray<Profile<TModel>> profiles, ImageCorpus corpus, int batch = 100,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        return Run(model, profiles, [], corpus, batch, cancellationToken);
    }

    private static ImageEvaluation Run<TModel>(
        TModel model, ImmutableArray<Profile<TModel>> profiles, ImmutableArray<double> budgets, ImageCorpus corpus, int batch,
        CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        var whole = TModel.Granularities[^1];
        ImmutableArray<Profile<TModel>> more = profiles.Contains(whole) ? [] : [whole];
        var costs = profiles.Select(Costs).Concat(budgets.Select(ProfileCosts.Of<TModel>)).Concat(more.Select(Costs)).ToImmutableArray();
        var evaluation = Run(
            model, costs, [.. profiles.Select(Classify), .. budgets.Select(Routed), .. more.Select(Classify)],
            more.IsEmpty ? profiles.IndexOf(whole) : costs.Length - 1, hasWhole: true, corpus, batch, cancellationToken);
        var asked = (profiles.Length + budgets.Length) * TModel.Spec.EmbeddingDimensions.Length;
        return evaluation with { Rows = evaluation.Rows[..asked] };

        ProfileCosts Costs(Profile<TModel> profile) => ProfileCosts.Of(profile, TModel.Granularities.Any(g => g.Name == profile.Name));

        Func<Tensor, int, Tensor> Classify(Profile<TModel> profile) => (pixels, width) => model.Classify(profile, pixels, width);

        Func<Tensor, int, Tensor> Routed(double budget) => (pixels, width) => model.Classify(budget, pixels, width);
    }

    /// <summary>Measures a slice, at every declared grid of compressed tokens.</summary>
    /// <inheritdoc cref="Run{TModel}(TModel, ImageCorpus, int, CancellationToken)"/>
    public static ImageEvaluation RunSlice(
        MatFormerModel slice, ProfileCosts costs, ImageCorpus corpus, int batch = 100, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(slice);
        ArgumentNullException.ThrowIfNull(costs);
        var smaller = ProfileCosts.SmallerGrids(slice.Architecture).Select(grid => costs.At(slice.Architecture, grid));
        return RunSlice(slice, [costs, .. smaller], corpus, batch, cancellationToken);
    }

    /// <summary>Measures a slice at the grids of compressed tokens that the costs name.</summary>
    internal static ImageEvaluation RunSlice(
        MatFormerModel slice, ImmutableArray<ProfileCosts> costs, ImageCorpus corpus, int batch, CancellationToken cancellationToken)
    {
        return Run(
            slice, costs, [.. costs.Select(its => Classify(its.Grid))], 0, hasWhole: false, corpus, batch, cancellationToken);

        Func<Tensor, int, Tensor> Classify(int? grid) => grid is { } side
            ? (pixels, width) => slice.Classify(side, pixels, width)
            : (pixels, width) => slice.Classify(pixels, width);
    }

    // The whole model is one of the forward functions, so that all are timed in the same way.
    private static ImageEvaluation Run(
        MatFormerModel model, ImmutableArray<ProfileCosts> profiles, List<Func<Tensor, int, Tensor>> forwards, int whole, bool hasWhole,
        ImageCorpus corpus, int batch, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentOutOfRangeException.ThrowIfLessThan(batch, 1);
        Feed.Of(corpus).CheckFits(model);
        var images = corpus.Validation.Count;
        using var unrecorded = no_grad();
        var dimensions = model.Architecture.EmbeddingDimensions;
        var costs = profiles.SelectMany(profile => Enumerable.Repeat(profile, dimensions.Length)).ToImmutableArray();
        whole = (whole * dimensions.Length) + dimensions.Length - 1;
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
            if (examples[0] == 0)
            {
                // First uses allocate and compile, so the first batch is not timed the first time.
                using var unused = NewDisposeScope();
                for (var i = 0; i < costs.Length; i++) forwards[i / dimensions.Length](pixels, dimensions[i % dimensions.Length]);
            }

            // The first passes after the comparisons take longer, because threads were asleep. So each batch begins with another size.
            for (var turn = 0; turn < costs.Length; turn++)
            {
                var i = (turn + (examples[0] / batch)) % costs.Length;
                var watch = Stopwatch.StartNew();
                var logits = forwards[i / dimensions.Length](pixels, dimensions[i % dimensions.Length]);
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
                cost, dimensions[i % dimensions.Length], (double)right[i] / images, nats[i] / images,
                hasWhole ? (double)agreeing[i] / images : null,
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
