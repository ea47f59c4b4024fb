using System.Collections.Immutable;

namespace MatFormer;

/// <summary>The quality of a model whose weights are rounded to some bits.</summary>
/// <param name="Bits">8, 4 or 2; 32 for weights that are not rounded.</param>
/// <param name="Evaluation">The quality of each profile at these bits.</param>
/// <param name="WeightBytes">The bytes of each profile's weights at these bits, in the order of the rows.</param>
public sealed record PrecisionRow(int Bits, Evaluation Evaluation, ImmutableArray<long> WeightBytes);

/// <summary>Measures language models at fewer bits. The weights are float32 again afterwards.</summary>
public static class PrecisionEvaluator
{
    /// <summary>Measures every granularity and declared profile of a universal model at each of some bits.</summary>
    /// <param name="model">The model.</param>
    /// <param name="corpus">The validation text is evaluated.</param>
    /// <param name="bits">The bits: 32, 8, 4 or 2.</param>
    /// <param name="options">The options of the evaluation.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static ImmutableArray<PrecisionRow> Run<TModel>(
        TModel model, TextCorpus corpus, IEnumerable<int> bits, EvaluationOptions? options = null,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ImmutableArray<Profile<TModel>> profiles = [.. TModel.Granularities, .. TModel.Profiles];
        return Run(model, bits, width => new PrecisionRow(
            width, Evaluator.Run(model, profiles, corpus, options, cancellationToken: cancellationToken),
            [.. profiles.Select(profile => BytesOf(profile, width))]));
    }

    /// <summary>Measures a slice at each of some bits.</summary>
    /// <param name="slice">The slice.</param>
    /// <param name="costs">The slice's profile and its costs.</param>
    /// <param name="corpus">The validation text is evaluated.</param>
    /// <param name="bits">The bits: 32, 8, 4 or 2.</param>
    /// <param name="options">The options of the evaluation.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static ImmutableArray<PrecisionRow> RunSlice(
        MatFormerModel slice, ProfileCosts costs, TextCorpus corpus, IEnumerable<int> bits, EvaluationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        Run(slice, bits, width => new PrecisionRow(
            width, Evaluator.RunSlice(slice, costs, corpus, options, cancellationToken: cancellationToken),
            [RoundedWeights.BytesOf(slice, width)]));

    private static ImmutableArray<PrecisionRow> Run(MatFormerModel model, IEnumerable<int> bits, Func<int, PrecisionRow> measure)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(bits);
        using var rounded = new RoundedWeights(model);
        var rows = ImmutableArray.CreateBuilder<PrecisionRow>();
        foreach (var width in bits)
        {
            rounded.Round(width);
            rows.Add(measure(width));
        }

        return rows.ToImmutable();
    }

    // A model on the meta device has shapes and no numbers.
    private static long BytesOf<TModel>(Profile<TModel> profile, int bits)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var shapes = TModel.CreateSubmodel(profile, TorchSharp.torch.META);
        return RoundedWeights.BytesOf(shapes, bits);
    }
}
