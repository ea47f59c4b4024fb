using System.Collections.Immutable;
using System.ComponentModel;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The submodels that one forward pass runs. They are stacked along the batch, widest first, so that each slab of a feed-forward multiplies
/// a prefix of the stack. All streams run over the same batch (<c>Of</c>) or divide it among them (<c>Split</c>). The first layers, in
/// which all streams are alike, run once, until the streams part. Submodels whose residual streams have different widths cannot be stacked:
/// they run in one pass for each width.
/// </summary>
public sealed class Streams
{
    private readonly ImmutableArray<LayerSlice>[] _streams;
    private readonly int[][] _hiddenWidths;
    private readonly int[][] _heads;
    private readonly int _parting;
    private readonly double[]? _scales;

    // The streams of each width in turn; null if all have the same width. Then these streams themselves are never run.
    private readonly Streams[]? _groups;

    private Streams(Streams whole, double[]? scales)
    {
        (Count, Width, BatchRows, _parting, Fork) = (whole.Count, whole.Width, whole.BatchRows, whole._parting, whole.Fork);
        (_hiddenWidths, _heads, _scales) = (whole._hiddenWidths, whole._heads, scales);
        (_streams, Budget, Grid) = (whole._streams, whole.Budget, whole.Grid);
        (BudgetIndex, IsCausal, Use, Scores, Lengths) = (whole.BudgetIndex, whole.IsCausal, whole.Use, whole.Scores, whole.Lengths);
    }

    private Streams(Streams[] groups, int[]? rows)
    {
        (Count, Width, BatchRows, _parting, Fork) = (groups.Sum(group => group.Count), groups[0].Width, rows, -1, -1);
        (_hiddenWidths, _heads, _scales, _groups) = (groups[0]._hiddenWidths, groups[0]._heads, groups[0]._scales, groups);
        _streams = groups[0]._streams;
    }

    private Streams(int parting, ReadOnlySpan<ImmutableArray<LayerSlice>> streams, int[]? rows)
    {
        Count = streams.Length;
        _streams = streams.ToArray();
        BatchRows = rows;
        _parting = parting;
        Fork = rows is null ? parting : -1;
        var layers = streams[0].Length;
        foreach (var slice in streams[0]) Width ??= slice.Width > 0 ? slice.Width : null;
        _hiddenWidths = new int[layers][];
        _heads = new int[layers][];
        for (var layer = 0; layer < layers; layer++)
        {
            var running = layer < parting ? 1 : Count;
            _hiddenWidths[layer] = new int[running];
            _heads[layer] = new int[running];
            for (var stream = 0; stream < running; stream++)
                (_hiddenWidths[layer][stream], _heads[layer][stream]) = streams[stream][layer];
        }
    }

    /// <summary>The streams of each width: these streams themselves if all have the same.</summary>
    internal IReadOnlyList<Streams> Groups => _groups ?? [this];

    /// <summary>How many submodels run.</summary>
    public int Count { get; }

    /// <summary>
    /// The number of channels of the residual streams, or null for all. If the streams have different widths, it is that of the first.
    /// </summary>
    public int? Width { get; }

    /// <summary>
    /// The layer in which the streams part. Its input has the rows of one stream, its output the rows of all. It is -1 if there is only one
    /// stream, or if the streams divide the batch.
    /// </summary>
    public int Fork { get; }

    /// <summary>
    /// How many rows of the batch each stream has; the widest stream has the first rows. Null if all streams run over the whole batch. Do
    /// not change the array.
    /// </summary>
    public int[]? BatchRows { get; }

    /// <summary>
    /// The budget of a routed pass, in which each token of a routed layer uses the hidden units of its granularity; null otherwise.
    /// </summary>
    public RoutingBudget? Budget { get; private init; }

    /// <summary>
    /// The side of the grid of compressed tokens in all streams; null for the largest declared grid, or if the model has none.
    /// </summary>
    public int? Grid { get; private init; }

    /// <summary>
    /// True if the tokens of a routed pass choose by thresholds, each by itself. False if granularities choose among many tokens.
    /// </summary>
    public bool IsCausal { get; private init; }

    /// <summary>
    /// The share of the hidden units of routed layers that a token has used on average in all causal passes with this object; null before
    /// the first one. Only one thread at a time may run passes with it.
    /// </summary>
    public double? UsedShare => Use?.Share;

    /// <summary>The place of a language model's budget among the declared ones.</summary>
    internal int BudgetIndex { get; private init; }

    internal RoutedUse? Use { get; private init; }

    /// <summary>Receives the thresholds and the log-odds of each layer of a routed pass of a language model.</summary>
    internal Action<int, Tensor, Tensor>? Scores { get; private init; }

    /// <summary>The number of tokens of each text of a routed pass of a text encoder.</summary>
    internal int[]? Lengths { get; private init; }

    /// <summary>
    /// The hidden width of each stream in one layer, widest first; a single one before the streams part. Do not change it.
    /// </summary>
    public int[] HiddenWidths(int layer) => _hiddenWidths[layer];

    /// <summary>The query heads of each stream in one layer; a single number before the streams part. Do not change it.</summary>
    public int[] Heads(int layer) => _heads[layer];

    /// <summary>The rows of each stream in one layer, or null if all streams have the same number. Do not change the array.</summary>
    public int[]? Rows(int layer) => layer < _parting ? null : BatchRows;

    /// <summary>True if the profile, or this training step, leaves the layer out.</summary>
    public bool Skips(int layer) => _hiddenWidths[layer][0] == 0 || _scales?[layer] == 0;

    /// <summary>True if the layer's contribution is scaled, to compensate for layers that are left out at random.</summary>
    public bool IsScaled(int layer) => _scales is not null && _scales[layer] != 1;

    /// <summary>What the first stream keeps of each layer. It holds what all other streams keep.</summary>
    internal ImmutableArray<LayerSlice> Widest => _streams[0];

    /// <summary>Returns what one of <see cref="Groups"/> keeps of each layer in a stream.</summary>
    internal ImmutableArray<LayerSlice> Layers(int stream) => _streams[stream];

    /// <summary>Returns the output of a scaled layer, given its input and its output without the scale: (N, T, Width) each.</summary>
    public Tensor Scaled(int layer, Tensor input, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        using var added = output.sub(input);
        using var scaled = added.mul(Number(_scales?[layer] ?? 1));
        return input.add(scaled, One);
    }

    /// <summary>Returns these streams at a grid of compressed tokens, or at the largest declared grid if it is null.</summary>
    public Streams At(int? grid) => grid == Grid ? this : new Streams(this, _scales) { Grid = grid };

    /// <summary>Returns the streams of a routed pass of a language model whose scores are received.</summary>
    internal Streams Collecting(Action<int, Tensor, Tensor> scores) => new(this, _scales) { Scores = scores };

    /// <summary>
    /// Returns these streams over texts of the given lengths, (B) int64. A routed pass distributes the tokens of each text by its length,
    /// so the host waits for the lengths. Other streams are returned as they are.
    /// </summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public Streams Over(Tensor lengths)
    {
        ArgumentNullException.ThrowIfNull(lengths);
        if (Budget is null) return this;
        using var host = lengths.cpu();
        return new Streams(this, _scales) { Lengths = [.. host.data<long>().Select(length => (int)length)] };
    }

    /// <summary>
    /// Returns these streams with scaled layers. A layer with scale 0 is left out; other layers' contributions are multiplied by their
    /// scales. The layer in which the streams part keeps scale 1.
    /// </summary>
    internal Streams Thinned(ReadOnlySpan<double> scales)
    {
        var its = scales.ToArray();
        if (_groups is not null) return new Streams(Array.ConvertAll(_groups, group => group.Thinned(its)), BatchRows);
        if (Fork >= 0) its[Fork] = 1;
        return new Streams(this, its);
    }

    /// <summary>True if the first stream keeps exactly these slices of the layers, for every token.</summary>
    public bool BeginWith(ImmutableArray<LayerSlice> layers) => Budget is null && layers.AsSpan().SequenceEqual(Widest.AsSpan());

    /// <summary>Checks that a batch (B, ...) has as many rows as the streams divide among them.</summary>
    /// <exception cref="ArgumentException">The batch has another number of rows.</exception>
    public void CheckBatch(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (BatchRows is null || BatchRows.Sum() == input.shape[0]) return;
        throw new ArgumentException(
            $"These streams divide {BatchRows.Sum()} rows among them ({string.Join(", ", BatchRows)}), but the batch has "
            + $"{input.shape[0]}; make the streams for this batch.", nameof(input));
    }

    /// <summary>
    /// Computes losses with the streams of each width in turn, and joins them in the order of the streams. Called by generated code of
    /// models whose granularities have different widths.
    /// </summary>
    /// <param name="input">The batch (B, ...).</param>
    /// <param name="targets">The targets (B, ...).</param>
    /// <param name="recomputation">The recomputation of all passes, or null.</param>
    /// <param name="losses">Computes losses (..., R) of streams of one width over their rows of the batch.</param>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public Tensor OfEachWidth(
        Tensor input, Tensor targets, Recomputation? recomputation, Func<Streams, Tensor, Tensor, Tensor> losses)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(targets);
        ArgumentNullException.ThrowIfNull(losses);
        if (_groups is null) return losses(this, input, targets);
        var parts = new Tensor[_groups.Length];
        var first = 0L;
        for (var i = 0; i < parts.Length; i++)
        {
            recomputation?.BeginPass();
            var count = _groups[i].BatchRows?.Sum() ?? input.shape[0];
            using var its = input.narrow(0, first, count);
            using var known = targets.narrow(0, first, count);
            parts[i] = losses(_groups[i], its, known);
            if (recomputation is not null) parts[i] = recomputation.EndPass(parts[i]);
            if (BatchRows is not null) first += count;
        }

        var all = cat(parts, -1);
        foreach (var part in parts) part.Dispose();
        return all;
    }

    /// <summary>Creates one stream that keeps the given slices of the layers.</summary>
    public static Streams Of(ImmutableArray<LayerSlice> layers) => new(-1, [layers], null);

    /// <summary>Creates the one stream of a routed pass over the whole batch.</summary>
    /// <param name="budget">
    /// The mean share of the hidden units that a token of a routed layer uses, at most. For a language model it is one of the declared
    /// budgets.
    /// </param>
    /// <param name="isCausal">
    /// Language models only. True lets each token choose by thresholds, as the model does after training. False lets granularities choose
    /// among all tokens of a batch, as training does.
    /// </param>
    /// <exception cref="ArgumentException">
    /// The model declares no routing, the budget is out of range, the language model does not declare it, or the model of images is to be
    /// causal.
    /// </exception>
    public static Streams Routed<TModel>(double budget, bool isCausal = false)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var isText = TModel.Spec.Kind == ModelKind.LanguageModel;
        if (isCausal && !isText)
            throw new ArgumentException($"{TModel.Spec.Name} is not causal: it sees all tokens of an input at once.", nameof(isCausal));
        return new(-1, [TModel.Spec.WholeLayers], null)
        {
            Budget = RoutingBudget.Of(TModel.Spec, budget),
            BudgetIndex = isText ? RoutingBudget.IndexOf(TModel.Spec, budget) : -1,
            IsCausal = isCausal,
            Use = isCausal ? new() : null,
        };
    }

    /// <summary>Creates one stream for a profile.</summary>
    public static Streams Of<TModel>(Profile<TModel> profile)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        return Of(profile.Layers).At(profile.Grid);
    }

    /// <summary>Creates one stream for each of several profiles, in the order given. Each runs over the whole batch.</summary>
    /// <exception cref="ArgumentException">
    /// There is no profile, a profile keeps more of some layer than the one before it, or one of several profiles leaves layers out.
    /// </exception>
    public static Streams Of<TModel>(params ReadOnlySpan<Profile<TModel>> profiles)
        where TModel : MatFormerModel, IMatFormer<TModel> => Make(profiles, null);

    /// <summary>
    /// Creates one stream for each of several profiles, in the order given. The streams divide the batch: each runs over its own rows.
    /// </summary>
    /// <param name="profiles">The profiles, widest first.</param>
    /// <param name="rows">The number of rows of each profile, 1 or more; their sum is the batch.</param>
    /// <exception cref="ArgumentException">
    /// The profiles cannot be stacked (see <c>Of</c>), or <paramref name="rows"/> does not hold one positive number for each profile.
    /// </exception>
    public static Streams Split<TModel>(ReadOnlySpan<Profile<TModel>> profiles, ReadOnlySpan<int> rows)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (rows.Length == profiles.Length && rows.IndexOfAnyExceptInRange(1, int.MaxValue) < 0) return Make(profiles, rows.ToArray());
        throw new ArgumentException(
            $"The batch is divided among {profiles.Length} profiles, but the rows are ({string.Join(", ", rows.ToArray())}); give each "
            + "profile 1 row or more, and leave out profiles without rows.", nameof(rows));
    }

    private static Streams Make<TModel>(ReadOnlySpan<Profile<TModel>> profiles, int[]? rows)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (profiles.IsEmpty) throw new ArgumentException("A pass needs at least one profile.", nameof(profiles));
        foreach (var profile in profiles)
        {
            if (profile.Grid == profiles[0].Grid) continue;
            throw new ArgumentException(
                $"The profiles '{profiles[0].Name}' and '{profile.Name}' are at different grids of compressed tokens and cannot be "
                + "stacked; run them one after the other.", nameof(profiles));
        }

        var groups = new List<Streams>();
        for (var first = 0; first < profiles.Length;)
        {
            var end = first + 1;
            while (end < profiles.Length && profiles[end].Width == profiles[first].Width) end++;
            groups.Add(Stacked(profiles, first, end, rows));
            first = end;
        }

        return groups.Count == 1 ? groups[0].At(profiles[0].Grid) : new Streams([.. groups], rows);
    }

    // Stacks some of the profiles, which all have the same width.
    private static Streams Stacked<TModel>(ReadOnlySpan<Profile<TModel>> profiles, int first, int end, int[]? rows)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (profiles.Length == 1) return new Streams(-1, [profiles[0].Layers], rows);
        var streams = new ImmutableArray<LayerSlice>[end - first];
        var parting = TModel.Spec.Layers - 1;
        for (var stream = 0; stream < streams.Length; stream++)
        {
            var profile = profiles[first + stream];
            var layers = streams[stream] = profile.Layers;
            for (var layer = 0; layer < layers.Length; layer++)
            {
                if (layers[layer].IsSkipped)
                {
                    throw new ArgumentException(
                        $"The profile '{profile.Name}' leaves out layer {layer} and cannot be stacked with others; run it alone.",
                        nameof(profiles));
                }

                if (layers[layer] != streams[0][layer]) parting = Math.Min(parting, layer);
                if (stream == 0 || streams[stream - 1][layer].Holds(layers[layer])) continue;
                throw new ArgumentException(
                    $"Streams run widest first, but in layer {layer} the profile '{profile.Name}' is wider than "
                    + $"'{profiles[first + stream - 1].Name}' before it.",
                    nameof(profiles));
            }
        }

        return new Streams(streams.Length == 1 ? -1 : parting, streams, rows?[first..end]);
    }
}
