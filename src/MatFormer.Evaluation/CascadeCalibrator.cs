using System.Collections.Immutable;

namespace MatFormer;

/// <summary>The options of <see cref="CascadeCalibrator"/>.</summary>
public sealed record CascadeCalibrationOptions
{
    /// <summary>The bits per byte that a cascade may lose against its widest submodel.</summary>
    public double Tolerance { get; init; } = 0.005;

    /// <summary>
    /// The thresholds to measure, within 0 and 1. 0 and 1 are always measured too: the narrowest and the widest submodel alone.
    /// </summary>
    public ImmutableArray<double> Thresholds { get; init; } = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99];

    /// <summary>The largest number of windows of the validation text. Each is as long as the context.</summary>
    public int Windows { get; init; } = 16;

    internal void Validate()
    {
        Check(Tolerance >= 0 && double.IsFinite(Tolerance), nameof(Tolerance), Tolerance, "0 or more");
        Check(Windows >= 1, nameof(Windows), Windows, "1 or more");
        Check(!Thresholds.IsDefault, nameof(Thresholds), "default", "an array; use [] for 0 and 1 only");
        foreach (var threshold in Thresholds) Check(threshold is >= 0 and <= 1, nameof(Thresholds), threshold, "within 0 and 1");

        static void Check(bool holds, string name, object value, string wanted)
        {
            if (holds) return;
            throw new ArgumentException(FormattableString.Invariant($"The calibration option {name} is {value}; it must be {wanted}."));
        }
    }
}

/// <summary>The measurements of a cascade at one threshold.</summary>
/// <param name="Threshold">The threshold of all narrower submodels.</param>
/// <param name="BitsPerByte">The cross-entropy of the answers' distributions, in bits per byte of the text.</param>
/// <param name="Agreement">
/// The share of positions at which the cascade and its widest submodel have the same most likely next token.
/// </param>
/// <param name="Asked">The share of tokens that each submodel was asked for, narrowest first.</param>
/// <param name="Answered">The share of tokens that each submodel answered, likewise.</param>
/// <param name="Flops">The mean FLOPs (a multiply-add is two) of a token: those of all submodels that were asked.</param>
public sealed record CascadeRow(
    double Threshold, double BitsPerByte, double Agreement, ImmutableArray<double> Asked, ImmutableArray<double> Answered, double Flops);

/// <summary>The measurements of a cascade.</summary>
/// <param name="Rows">A row for each threshold, in ascending order: the narrowest submodel alone first, the widest alone last.</param>
/// <param name="Best">
/// The row with the fewest FLOPs among those within the tolerance. It is the last one if no cascade pays off.
/// </param>
/// <param name="Tokens">The number of predicted tokens.</param>
/// <param name="Bytes">The number of bytes of text that they stand for.</param>
public sealed record CascadeCalibration(ImmutableArray<CascadeRow> Rows, CascadeRow Best, long Tokens, long Bytes);

/// <summary>Measures a cascade (<see cref="GenerationOptions.Cascade"/>) on validation text, and chooses its threshold.</summary>
/// <remarks>
/// The text is decoded as generation decodes: the first half of each window is the prompt, and the tokens of the second half are fed one by
/// one, whatever the cascade would have chosen. So the loss includes what approximate keys and values cost.
/// </remarks>
public static class CascadeCalibrator
{
    /// <summary>Measures a cascade of some profiles at several thresholds.</summary>
    /// <param name="engine">
    /// The engine; the part that it holds is the widest submodel. It computes as many windows at once as it has sequences, whose tokens are
    /// dropped.
    /// </param>
    /// <param name="narrower">The smaller profiles, narrowest first; at least one.</param>
    /// <param name="corpus">The text. Only its validation text is used.</param>
    /// <param name="options">The options; the defaults if null.</param>
    /// <param name="progress">Called with the share that is done, from 0 to 1.</param>
    /// <param name="cancellationToken">Cancels the measurements.</param>
    /// <exception cref="ArgumentException">An option is out of range, or the profiles are no cascade of the engine's model.</exception>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    /// <exception cref="DecodingException">The model's logits are damaged.</exception>
    public static CascadeCalibration Run<TModel>(
        DecodingEngine engine, ImmutableArray<Profile<TModel>> narrower, TextCorpus corpus, CascadeCalibrationOptions? options = null,
        Action<double>? progress = null, CancellationToken cancellationToken = default)
        where TModel : IDeclaredModel<TModel>
    {
        ArgumentNullException.ThrowIfNull(engine);
        ArgumentNullException.ThrowIfNull(corpus);
        options ??= new CascadeCalibrationOptions();
        options.Validate();
        if (TModel.Spec.Fingerprint != engine.Architecture.Fingerprint)
            throw new ArgumentException($"The engine holds {engine.Architecture.Name}, not {TModel.Spec.Name}.", nameof(engine));
        if (narrower.IsDefaultOrEmpty) throw new ArgumentException("A cascade needs at least one smaller profile.", nameof(narrower));
        DecodingEngine.CheckCascade(LevelsAt(0), engine.Layers, engine.Architecture);
        corpus.Tokenizer.CheckFits(engine.Architecture, engine.TokenizerFingerprint);
        var windows = Windows.Fixed(corpus.Validation, engine.Capacity, options.Windows).ToList();
        if (engine.Capacity < 2) throw new ArgumentException("A window needs at least two tokens.", nameof(engine));

        // The widest submodel alone comes first, because the others are compared with its choices.
        var thresholds = options.Thresholds.Append(0).Append(1).Distinct().OrderDescending().ToList();
        var tallies = thresholds.ConvertAll(_ => new Tally(narrower.Length + 1));
        var done = 0;
        foreach (var batch in windows.Chunk(engine.Sequences))
        {
            var choices = new int[batch.Length, engine.Capacity];
            for (var i = 0; i < thresholds.Count; i++)
            {
                Measure(
                    engine, batch, LevelsAt(thresholds[i]), corpus.Tokenizer.VocabularySize, choices, i == 0, tallies[i],
                    cancellationToken);
                progress?.Invoke((done + ((double)batch.Length * (i + 1) / thresholds.Count)) / windows.Count);
            }

            done += batch.Length;
        }

        var prompt = PromptOf(engine);
        var bytes = windows.Sum(window => window.Skip(prompt).Sum(token => (long)corpus.TextOf(token).Length));
        ImmutableArray<ImmutableArray<LayerSlice>> submodels = [.. narrower.Select(p => p.Layers), engine.Layers];
        ImmutableArray<long> flops = [.. submodels.Select(layers => engine.Architecture.Flops(layers.AsSpan()))];
        ImmutableArray<CascadeRow> rows = [.. thresholds.Zip(tallies, (threshold, tally) => tally.Row(threshold, bytes, flops)).Reverse()];
        var best = rows.Where(row => row.BitsPerByte <= rows[^1].BitsPerByte + options.Tolerance).MinBy(row => row.Flops)!;
        return new CascadeCalibration(rows, best, (long)windows.Count * (engine.Capacity + 1 - prompt), bytes);

        ImmutableArray<CascadeLevel> LevelsAt(double threshold) => [.. narrower.Select(p => new CascadeLevel(p.Layers, threshold))];
    }

    private static int PromptOf(DecodingEngine engine) => engine.Capacity / 2;

    // Decodes one window in each sequence.
    private static void Measure(
        DecodingEngine engine, int[][] windows, ImmutableArray<CascadeLevel> levels, int vocabulary, int[,] choices, bool isReference,
        Tally tally, CancellationToken cancellationToken)
    {
        var prompt = PromptOf(engine);
        var cascades = Array.ConvertAll(windows, _ => new Cascade(levels, engine.Layers) { PromptEnd = prompt });
        var logits = new int[windows.Length];
        for (var row = 0; row < windows.Length; row++) engine.Truncate(row, 0);
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var isDone = true;
            for (var row = 0; row < windows.Length; row++)
            {
                logits[row] = -1;
                var from = engine.Length(row);
                if (from == engine.Capacity) continue;
                isDone = false;
                engine.Use(row, cascades[row].For(from));
                logits[row] = engine.Append(row, windows[row].AsSpan(from, from == 0 ? prompt : 1));
            }

            if (isDone) break;
            engine.Run();
            for (var row = 0; row < windows.Length; row++)
            {
                if (logits[row] < 0) continue;
                var its = engine.Logits(logits[row])[..vocabulary];
                var end = engine.Length(row);
                if (!cascades[row].Accepts(its))
                {
                    engine.Truncate(row, end - 1);
                    continue;
                }

                var choice = tally.Add(its, windows[row][end]);
                if (isReference) choices[row, end - 1] = choice;
                if (choice == choices[row, end - 1]) tally.Agreeing++;
            }
        }

        for (var row = 0; row < windows.Length; row++)
        {
            engine.Truncate(row, 0);
            engine.Use(row, engine.Layers);
            tally.Add(cascades[row].Statistics);
        }
    }

    private sealed class Tally(int submodels)
    {
        private readonly long[] _asked = new long[submodels];
        private readonly long[] _answered = new long[submodels];
        private double _nats;
        private long _tokens;

        public long Agreeing { get; set; }

        /// <summary>Adds the loss of a token, and returns the most likely token.</summary>
        public int Add(ReadOnlySpan<float> logits, int target)
        {
            var best = 0;
            for (var token = 1; token < logits.Length; token++) best = logits[token] > logits[best] ? token : best;
            var sum = 0.0;
            foreach (var logit in logits) sum += Math.Exp((double)logit - logits[best]);
            if (!double.IsFinite(sum)) throw new DecodingException("The model's logits are not finite; its weights are damaged.");
            _nats += Math.Log(sum) + logits[best] - logits[target];
            _tokens++;
            return best;
        }

        public void Add(CascadeStatistics statistics)
        {
            for (var i = 0; i < submodels; i++)
                (_asked[i], _answered[i]) = (_asked[i] + statistics.Asked[i], _answered[i] + statistics.Answered[i]);
        }

        public CascadeRow Row(double threshold, long bytes, ImmutableArray<long> flops) => new(
            threshold, _nats / bytes / Math.Log(2), (double)Agreeing / _tokens, [.. _asked.Select(n => (double)n / _tokens)],
            [.. _answered.Select(n => (double)n / _tokens)], _asked.Zip(flops, (n, f) => (double)n * f).Sum() / _tokens);
    }
}
