using System.Collections.Immutable;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The options of an evaluation.</summary>
public sealed record EvaluationOptions
{
    /// <summary>
    /// The largest number of windows of the validation text. Each is as long as the context, and they are spread evenly over the text.
    /// </summary>
    public int Windows { get; init; } = 256;

    /// <summary>
    /// The largest number of windows in one pass. There are fewer if their logits would take more than 128 MB.
    /// </summary>
    public int Batch { get; init; } = 16;

    /// <summary>
    /// The largest number of windows whose first half the whole model continues, to measure how far the submodels agree with the whole
    /// model's own text; 0 for none.
    /// </summary>
    public int Continuations { get; init; } = 16;
}

/// <summary>
/// How close a submodel is to the whole model (MatFormer, arXiv 2310.07707, section 4.1.2). The paper gives neither the direction of the
/// divergence nor its temperature. Here are both directions, at temperature 1.
/// </summary>
/// <param name="Agreement">
/// The share of positions of the validation text at which the submodel and the whole model have the same most likely next token.
/// </param>
/// <param name="GeneratedAgreement">
/// The same share on text that the whole model generated greedily from the first halves of windows. This is the share of a greedy draft's
/// tokens that the whole model would accept. Null if nothing was generated.
/// </param>
/// <param name="Divergence">KL(submodel || whole model) of the next token's distribution, in nats per token of the validation text.</param>
/// <param name="ReverseDivergence">KL(whole model || submodel), likewise.</param>
public sealed record Consistency(double Agreement, double? GeneratedAgreement, double Divergence, double ReverseDivergence);

/// <summary>The quality of a granularity or profile.</summary>
/// <param name="Costs">The granularity or profile and its costs.</param>
/// <param name="BitsPerByte">
/// The cross-entropy on the validation text, in bits per byte of the text. It is comparable between tokenizers.
/// </param>
/// <param name="NatsPerToken">The same in nats per token. It is comparable only between models with the same tokenizer.</param>
/// <param name="Consistency">How close it is to the whole model; null for a slice, which has no whole model.</param>
public sealed record EvaluationRow(ProfileCosts Costs, double BitsPerByte, double NatsPerToken, Consistency? Consistency)
{
    /// <summary>
    /// Routed passes only: the share of the hidden units of routed layers that a token of the validation text used on average. Tokens
    /// choose by thresholds that training found, so it is near the budget, but not equal to it.
    /// </summary>
    public double? UsedShare { get; init; }
}

/// <summary>The quality of a model.</summary>
/// <param name="Rows">
/// A row for each profile, in the order of the request; by default granularities, narrowest first, then profiles, then routing budgets.
/// </param>
/// <param name="BigramBitsPerByte">
/// The bits per byte on the same text of a bigram model of bytes that was trained on the same training text.
/// </param>
/// <param name="Tokens">The number of predicted tokens.</param>
/// <param name="Bytes">The number of bytes of text that the predicted tokens stand for.</param>
public sealed record Evaluation(ImmutableArray<EvaluationRow> Rows, double BigramBitsPerByte, long Tokens, long Bytes)
{
    /// <summary>
    /// Returns the bits per byte by which a mix lies above the straight line between the two granularities around its FLOPs. Positive is
    /// worse than the line, negative is better. Returns null if these granularities are not among the rows.
    /// </summary>
    public double? ExcessOf(EvaluationRow mix)
    {
        ArgumentNullException.ThrowIfNull(mix);
        return Mixes.Excess(Rows.Select(r => (r.Costs, r.BitsPerByte)), mix.Costs, mix.BitsPerByte);
    }
}

/// <summary>Measures models on the validation text of a corpus. Every evaluation uses the same windows.</summary>
public static class Evaluator
{
    private const long MaxLogits = 1 << 25;

    /// <summary>Measures every granularity, declared profile and declared routing budget of a universal model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="corpus">The validation text is evaluated. The training text trains the bigram model.</param>
    /// <param name="options">The options of the evaluation.</param>
    /// <param name="progress">Called with the share that is done, from 0 to 1.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static Evaluation Run<TModel>(
        TModel model, TextCorpus corpus, EvaluationOptions? options = null, Action<double>? progress = null,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ImmutableArray<Profile<TModel>> profiles = [.. TModel.Granularities, .. TModel.Profiles];
        var budgets = TModel.Spec.Routing?.Budgets ?? [];
        var evaluation = Run(
            ProfileCosts.Of<TModel>(),
            [
                .. profiles.Select(p => (Func<Tensor, Tensor>)(tokens => model.Forward(p, tokens))),
                .. budgets.Select(b => (Func<Tensor, Tensor>)(tokens => model.Forward(b, tokens))),
            ],
            model, model, corpus, options, progress, cancellationToken);
        return budgets.IsEmpty ? evaluation : evaluation with
        {
            Rows = [.. evaluation.Rows.Select(row => row.Costs.Budget is not { } budget ? row
                : row with { UsedShare = UsedShare(model, budget, corpus, options ?? new EvaluationOptions(), cancellationToken) })],
        };
    }

    /// <summary>Measures some profiles of a universal model in one pass over the text.</summary>
    /// <param name="model">The model.</param>
    /// <param name="profiles">The profiles to measure, such as the mixes of <see cref="Mixes.Sweep{TModel}"/>.</param>
    /// <param name="corpus">The validation text is evaluated. The training text trains the bigram model.</param>
    /// <param name="options">The options of the evaluation.</param>
    /// <param name="whole">The model whose largest granularity is the reference for consistency; the model itself if null.</param>
    /// <param name="progress">Called with the share that is done, from 0 to 1.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static Evaluation Run<TModel>(
        TModel model, ImmutableArray<Profile<TModel>> profiles, TextCorpus corpus, EvaluationOptions? options = null,
        TModel? whole = null, Action<double>? progress = null, CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        var costs = profiles.Select(p => ProfileCosts.Of(p, TModel.Granularities.Contains(p)));
        return Run(
            [.. costs], [.. profiles.Select(p => (Func<Tensor, Tensor>)(tokens => model.Forward(p, tokens)))], model, whole ?? model,
            corpus, options, progress, cancellationToken);
    }

    /// <summary>Measures a slice.</summary>
    /// <param name="slice">The slice.</param>
    /// <param name="costs">The slice's profile and its costs.</param>
    /// <param name="corpus">The validation text is evaluated. The training text trains the bigram model.</param>
    /// <param name="options">The options of the evaluation.</param>
    /// <param name="progress">Called with the share that is done, from 0 to 1.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static Evaluation RunSlice(
        MatFormerModel slice,
        ProfileCosts costs,
        TextCorpus corpus,
        EvaluationOptions? options = null,
        Action<double>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(slice);
        return Run([costs], [slice.call], slice, null, corpus, options, progress, cancellationToken);
    }

    private static Evaluation Run(
        ImmutableArray<ProfileCosts> costs,
        ImmutableArray<Func<Tensor, Tensor>> forwards,
        MatFormerModel model,
        MatFormerModel? whole,
        TextCorpus corpus,
        EvaluationOptions? options,
        Action<double>? progress,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        options ??= new EvaluationOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Windows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Batch, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(options.Continuations);
        corpus.Tokenizer.CheckFits(model);
        var context = model.Architecture.Context;
        var windows = Windows.Fixed(corpus.Validation, context, options.Windows).ToList();
        var texts = windows.ConvertAll(window => Windows.Text(corpus, window));
        var bytes = texts.Sum(text => text.Length - 1L);
        var bigram = BigramModel.Train(corpus.Training, cancellationToken).BitsPerByte(texts);
        var batches = windows.Chunk(BatchOf(model.Architecture, options.Batch)).ToList();
        var tallies = Array.ConvertAll([.. costs], _ => new Tally());
        using var unrecorded = no_grad();
        for (var i = 0; i < batches.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            progress?.Invoke((double)i / batches.Count);
            using var scope = NewDisposeScope();
            var (tokens, targets) = TokenBatch.Of(batches[i]).ToTensors(model.Device);
            var flatTargets = targets.view(-1, 1);
            var reference = whole is null ? null : LogProbabilities(whole.call(tokens));
            var choice = reference?.argmax(-1);
            for (var j = 0; j < forwards.Length; j++)
            {
                using var inner = NewDisposeScope();
                tallies[j].Add(LogProbabilities(forwards[j](tokens)), flatTargets, reference, choice);
            }
        }

        // The prompts are every n-th window, so they are spread over the text too.
        var continued = 0L;
        var every = Math.Max(1, windows.Count / Math.Max(1, options.Continuations));
        var prompts = whole is null || context < 2 ? [] : windows.Where((_, i) => i % every == 0).Take(options.Continuations).ToList();
        foreach (var batch in prompts.Chunk(batches[0].Length))
        {
            using var scope = NewDisposeScope();
            var (tokens, _) = TokenBatch.Of(batch).ToTensors(model.Device);
            var text = Continue(whole!, tokens.narrow(1, 0, context / 2), cancellationToken);
            var first = (context / 2) - 1; // the position that predicts the first generated token
            var wanted = Choices(whole!.call, text, first);
            continued += wanted.numel();
            for (var j = 0; j < forwards.Length; j++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                using var inner = NewDisposeScope();
                tallies[j].Generated += Choices(forwards[j], text, first).eq(wanted).sum().item<long>();
            }
        }

        progress?.Invoke(1);
        var count = (long)windows.Count * context;
        return new Evaluation(
            [.. costs.Zip(tallies, (cost, tally) => tally.Row(cost, bytes, count, continued, whole is not null))], bigram, count, bytes);
    }

    // Returns the share of the hidden units that the tokens of the windows use at a budget.
    private static double? UsedShare<TModel>(
        TModel model, double budget, TextCorpus corpus, EvaluationOptions options, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var unrecorded = no_grad();
        var streams = Streams.Routed<TModel>(budget, isCausal: true);
        var windows = Windows.Fixed(corpus.Validation, TModel.Spec.Context, options.Windows);
        foreach (var batch in windows.Chunk(BatchOf(TModel.Spec, options.Batch)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var (tokens, targets) = TokenBatch.Of(batch).ToTensors(model.Device);
            model.Losses(streams, tokens, targets);
        }

        return streams.UsedShare;
    }

    /// <summary>
    /// Returns the number of windows in one pass: <paramref name="most"/>, or fewer if the logits would take too much memory.
    /// </summary>
    internal static int BatchOf(ModelSpec spec, int most) => (int)Math.Clamp(MaxLogits / spec.Context / spec.Vocabulary, 1, most);

    // Turns logits (B, T, Vocabulary) into log-probabilities (B T, Vocabulary).
    private static Tensor LogProbabilities(Tensor logits) => logits.view(-1, logits.shape[^1]).log_softmax(-1);

    // Returns the most likely next token at each position from first on, except the last position: (B, T - 1 - first).
    private static Tensor Choices(Func<Tensor, Tensor> forward, Tensor text, int first)
    {
        using var scope = NewDisposeScope();
        var choices = forward(text.narrow(1, 0, text.shape[1] - 1)).argmax(-1);
        return choices.narrow(1, first, choices.shape[1] - first).contiguous().MoveToOuterDisposeScope();
    }

    // Returns prompts (B, T) with the model's greedy continuations up to the context: (B, Context).
    private static Tensor Continue(MatFormerModel model, Tensor prompts, CancellationToken cancellationToken)
    {
        using var scope = NewDisposeScope();
        using var cache = model.NewCache((int)prompts.shape[0]);
        var text = new List<Tensor> { prompts };
        for (var length = prompts.shape[1]; length < model.Architecture.Context; length++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var logits = model.forward(text[^1], cache);
            text.Add(logits.narrow(1, logits.shape[1] - 1, 1).argmax(-1).MoveToOuterDisposeScope());
        }

        return cat([.. text], 1).MoveToOuterDisposeScope();
    }

    /// <summary>The sums over the batches.</summary>
    private sealed class Tally
    {
        private double _nats;
        private double _divergence;
        private double _reverse;
        private long _agreeing;

        public long Generated { get; set; }

        /// <summary>
        /// Adds log-probabilities (rows, Vocabulary) for targets (rows, 1). Compares them with the log-probabilities of the whole model and
        /// with its most likely tokens (rows).
        /// </summary>
        public void Add(Tensor logs, Tensor targets, Tensor? whole, Tensor? choice)
        {
            _nats -= Sum(logs.gather(1, targets));
            if (whole is null || choice is null) return;
            _agreeing += logs.argmax(-1).eq(choice).sum().item<long>();
            var difference = logs - whole;
            _divergence += Sum(logs.exp() * difference);
            _reverse -= Sum(whole.exp() * difference);
        }

        public EvaluationRow Row(ProfileCosts costs, long bytes, long tokens, long continued, bool hasWhole) => new(
            costs, _nats / bytes / Math.Log(2), _nats / tokens,
            !hasWhole ? null
            : new Consistency(
                (double)_agreeing / tokens, continued == 0 ? null : (double)Generated / continued, _divergence / tokens,
                _reverse / tokens));

        private static double Sum(Tensor values) => values.sum(ScalarType.Float64).item<double>();
    }
}
