using System.Collections.Immutable;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace MatFormer;

/// <summary>How much is evaluated.</summary>
public sealed record EvaluationOptions
{
    /// <summary>The most windows of the validation text, each as long as the context, spread evenly over it.</summary>
    public int Windows { get; init; } = 256;

    /// <summary>Windows in one pass.</summary>
    public int Batch { get; init; } = 16;
}

/// <summary>How good a granularity or profile is.</summary>
/// <param name="Costs">What it is and costs.</param>
/// <param name="BitsPerByte">Cross-entropy on the validation text, in bits per byte of the text: comparable between tokenizers.</param>
/// <param name="NatsPerToken">The same in nats per token: comparable between models with the same tokenizer only.</param>
/// <param name="Agreement">The share of positions where its most likely next token is the whole model's; null for a slice, which has no
/// whole model.</param>
public sealed record EvaluationRow(ProfileCosts Costs, double BitsPerByte, double NatsPerToken, double? Agreement);

/// <summary>How good a model is.</summary>
/// <param name="Rows">Granularities, narrowest first, then profiles.</param>
/// <param name="BigramBitsPerByte">What a bigram model of bytes, trained on the same training text, reaches on the same text.</param>
/// <param name="Tokens">Tokens that were predicted.</param>
/// <param name="Bytes">Bytes of text that these tokens stand for.</param>
public sealed record Evaluation(ImmutableArray<EvaluationRow> Rows, double BigramBitsPerByte, long Tokens, long Bytes);

/// <summary>Measures models on the validation text of a corpus; the same windows every time.</summary>
public static class Evaluator
{
    /// <summary>Measures every granularity and declared profile of a universal model in one pass over the text.</summary>
    /// <param name="model">The model.</param>
    /// <param name="corpus">Its validation text is predicted, its training text counted for the bigrams.</param>
    /// <param name="options">How much.</param>
    /// <param name="progress">Told the share that is done, from 0 to 1.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not the corpus's.</exception>
    public static Evaluation Run<TModel>(
        TModel model, TextCorpus corpus, EvaluationOptions? options = null, Action<double>? progress = null,
            CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        var costs = ProfileCosts.Of<TModel>();
        var profiles = TModel.Granularities.Concat(TModel.Profiles).ToList();
        return Run(
            costs, profiles.ConvertAll(p => (Func<Tensor, Tensor>)(tokens => model.Forward(p, tokens))), TModel.Granularities.Count - 1,
            model, corpus, options ?? new EvaluationOptions(), progress, cancellationToken);
    }

    /// <summary>Measures a slice.</summary>
    /// <param name="slice">The model.</param>
    /// <param name="costs">What it is and costs.</param>
    /// <param name="corpus">Its validation text is predicted, its training text counted for the bigrams.</param>
    /// <param name="options">How much.</param>
    /// <param name="progress">Told the share that is done, from 0 to 1.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not the corpus's.</exception>
    public static Evaluation RunSlice(
        MatFormerModel slice,
        ProfileCosts costs,
        TextCorpus corpus,
        EvaluationOptions? options = null,
        Action<double>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(slice);
        return Run([costs], [slice.call], null, slice, corpus, options ?? new EvaluationOptions(), progress, cancellationToken);
    }

    private static Evaluation Run(
        ImmutableArray<ProfileCosts> costs,
        List<Func<Tensor, Tensor>> forwards,
        int? whole,
        MatFormerModel model,
        TextCorpus corpus,
        EvaluationOptions options,
        Action<double>? progress,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Windows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Batch, 1);
        corpus.Tokenizer.CheckFits(model);
        var context = model.Architecture.Context;
        var windows = Windows.Fixed(corpus.Validation, context, options.Windows).ToList();
        var texts = windows.ConvertAll(window => Windows.Text(corpus, window));
        var bytes = texts.Sum(text => text.Length - 1L);
        var bigram = BigramModel.Train(corpus.Training, cancellationToken).BitsPerByte(texts);
        var nats = new double[forwards.Count];
        var agreeing = new long[forwards.Count];
        using var unrecorded = no_grad();
        for (var start = 0; start < windows.Count; start += options.Batch)
        {
            cancellationToken.ThrowIfCancellationRequested();
            progress?.Invoke((double)start / windows.Count);
            var batch = windows.GetRange(start, Math.Min(options.Batch, windows.Count - start));
            using var scope = NewDisposeScope();
            var (tokens, targets) = Windows.ToTensors(batch, model.Device);
            var flatTargets = targets.view(-1);
            Tensor? best = null;

            // The whole model first, for the others to agree with.
            foreach (var i in whole is { } w ? Enumerable.Range(0, forwards.Count).OrderBy(i => i != w)
                : Enumerable.Range(0, forwards.Count))
            {
                using var inner = NewDisposeScope();
                var logits = forwards[i](tokens);
                var flat = logits.view(-1, logits.shape[^1]);
                nats[i] += functional.cross_entropy(flat, flatTargets).item<float>() * (double)flatTargets.numel();
                if (whole is null) continue;
                var choice = flat.argmax(-1);
                if (best is null) best = choice.MoveToOuterDisposeScope();
                agreeing[i] += choice.eq(best).sum().item<long>();
            }
        }

        progress?.Invoke(1);
        var count = (long)windows.Count * context;
        var rows = costs.Select(
            (cost, i) => new EvaluationRow(
                cost, nats[i] / bytes / Math.Log(2), nats[i] / count, whole is null ? null : (double)agreeing[i] / count));
        return new Evaluation([.. rows], bigram, count, bytes);
    }
}
