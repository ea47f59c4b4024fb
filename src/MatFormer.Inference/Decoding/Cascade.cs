using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace MatFormer;

/// <summary>A smaller submodel of a cascade (<see cref="GenerationOptions.Cascade"/>), and how sure it must be to answer.</summary>
/// <param name="Layers">The submodel: a profile's <see cref="Profile{TModel}.Layers"/>.</param>
/// <param name="Threshold">
/// The submodel answers if the probability of its likeliest token exceeds this, within 0 and 1. At 0 it always answers, and at 1 it is
/// never asked.
/// </param>
public sealed record CascadeLevel(ImmutableArray<LayerSlice> Layers, double Threshold)
{
    /// <summary>Reads a cascade such as <c>S:0.8</c> or <c>S:0.7,M:0.9</c>: profiles and their thresholds, narrowest first.</summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <exception cref="ArgumentException">The text is not a cascade, or names no profile of the model.</exception>
    public static ImmutableArray<CascadeLevel> Parse<TModel>(string text)
        where TModel : IDeclaredModel<TModel>
    {
        ArgumentNullException.ThrowIfNull(text);
        var levels = ImmutableArray.CreateBuilder<CascadeLevel>();
        foreach (var level in text.Split(','))
        {
            var end = level.LastIndexOf(':');
            if (end <= 0 || !double.TryParse(level.AsSpan(end + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out var threshold)
                || threshold is not (>= 0 and <= 1))
            {
                throw new ArgumentException(
                    $"'{level}' is not a profile and a threshold within 0 and 1; give them as S:0.8, or as S:0.7,M:0.9 for several.",
                    nameof(text));
            }

            levels.Add(new CascadeLevel(Profile<TModel>.Parse(level[..end].Trim()).Layers, threshold));
        }

        return levels.DrainToImmutable();
    }
}

/// <summary>What the submodels of a cascade did.</summary>
/// <param name="Asked">The number of tokens that each submodel was asked for, narrowest first. The last one is the widest submodel.</param>
/// <param name="Answered">The number of tokens that each submodel answered, likewise.</param>
public sealed record CascadeStatistics(ImmutableArray<int> Asked, ImmutableArray<int> Answered)
{
    /// <summary>The share of tokens that the widest submodel answered, from 0 to 1; 0 if there are none.</summary>
    public double WidestShare => Answered.Sum() is > 0 and var all ? (double)Answered[^1] / all : 0;
}

/// <summary>
/// Decides for one sequence which submodel of a cascade computes the next token. The narrowest one is asked first. If it is not sure, the
/// same token is computed again by the next wider one, whose keys and values replace those of the narrower one at this position. Earlier
/// positions keep their keys and values, whichever submodel computed them.
/// </summary>
/// <remarks>It allocates nothing after it was created.</remarks>
internal sealed class Cascade
{
    private readonly ImmutableArray<LayerSlice>[] _submodels;
    private readonly double[] _thresholds;
    private readonly int[] _asked;
    private readonly int[] _answered;
    private readonly int _first; // the narrowest submodel that may answer
    private readonly int _widest; // the narrowest submodel that always answers
    private int _level;

    /// <param name="levels">The smaller submodels, narrowest first; at least one.</param>
    /// <param name="whole">The submodel that answers where none of the others is sure.</param>
    public Cascade(ImmutableArray<CascadeLevel> levels, ImmutableArray<LayerSlice> whole)
    {
        _submodels = [.. levels.Select(l => l.Layers), whole];
        _thresholds = [.. levels.Select(l => l.Threshold), 0];
        (_asked, _answered) = (new int[_submodels.Length], new int[_submodels.Length]);
        _first = Array.FindIndex(_thresholds, t => t < 1);
        _widest = Array.IndexOf(_thresholds, 0.0);
        _level = _first;
    }

    /// <summary>The submodel that computes a prompt: the widest one that can be asked.</summary>
    public ImmutableArray<LayerSlice> Widest => _submodels[_widest];

    /// <summary>The number of first tokens that count as the prompt, which the widest submodel computes.</summary>
    public int PromptEnd { get; set; }

    /// <summary>True if a single submodel computes everything.</summary>
    public bool IsUniform => _first == _widest;

    /// <summary>How often a wider submodel took over.</summary>
    public int Escalated { get; private set; }

    public CascadeStatistics Statistics => new([.. _asked], [.. _answered]);

    /// <summary>Adds up the statistics of several sequences.</summary>
    public static CascadeStatistics Sum(IEnumerable<Cascade> all)
    {
        var (asked, answered) = (Array.Empty<int>(), Array.Empty<int>());
        foreach (var its in all)
        {
            if (asked.Length == 0) (asked, answered) = (new int[its._asked.Length], new int[its._asked.Length]);
            for (var i = 0; i < asked.Length; i++) (asked[i], answered[i]) = (asked[i] + its._asked[i], answered[i] + its._answered[i]);
        }

        return new CascadeStatistics([.. asked], [.. answered]);
    }

    /// <summary>Returns the submodel that computes the token at an index, the first one that has not been computed.</summary>
    public ImmutableArray<LayerSlice> For(int index)
    {
        if (index < PromptEnd) _level = _widest;
        return _submodels[_level];
    }

    /// <summary>
    /// Returns true if the submodel answers with these logits (Vocabulary). Otherwise its token must be dropped, and a wider one computes
    /// it next.
    /// </summary>
    public bool Accepts(ReadOnlySpan<float> logits)
    {
        _asked[_level]++;
        if (_level != _widest && !(Confidence(logits) > _thresholds[_level]))
        {
            do _level++;
            while (_thresholds[_level] >= 1);
            Escalated++;
            return false;
        }

        _answered[_level]++;
        _level = _first;
        return true;
    }

    /// <summary>
    /// Returns the probability of the likeliest token, by the model's logits alone: penalties, biases, temperature and filters do not
    /// count. It is not a number if the logits are damaged.
    /// </summary>
    public static double Confidence(ReadOnlySpan<float> logits)
    {
        // Sixteen maxima and sums on every machine, however wide its registers are.
        var blocks = MemoryMarshal.Cast<float, Vector512<float>>(logits);
        var rest = logits[(blocks.Length * Vector512<float>.Count)..];
        var maxima = Vector512.Create(float.NegativeInfinity);
        foreach (var block in blocks) maxima = Vector512.Max(maxima, block);
        var largest = float.NegativeInfinity;
        for (var i = 0; i < Vector512<float>.Count; i++) largest = Math.Max(largest, maxima[i]);
        foreach (var logit in rest) largest = Math.Max(largest, logit);
        var (sums, subtracted) = (Vector512<float>.Zero, Vector512.Create(largest));
        foreach (var block in blocks) sums += Vector512.Exp(block - subtracted);
        double sum = Vector512.Sum(sums);
        foreach (var logit in rest) sum += Math.Exp((double)logit - largest);
        return 1 / sum;
    }
}
