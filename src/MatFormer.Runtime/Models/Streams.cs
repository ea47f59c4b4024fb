using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// The submodels that one forward pass runs, stacked along the batch: a hidden width per layer and stream, widest stream first, so that
/// each slab of a feed-forward multiplies a prefix of the batch.
/// </summary>
public sealed class Streams
{
    private readonly int[][] _widths;

    private Streams(int count, int[][] widths)
    {
        Count = count;
        _widths = widths;
    }

    /// <summary>How many submodels run.</summary>
    public int Count { get; }

    /// <summary>Hidden widths of the streams in one layer, widest first; not to be changed.</summary>
    public int[] this[int layer] => _widths[layer];

    /// <summary>One stream with the given hidden width per layer.</summary>
    public static Streams Of(ImmutableArray<int> widths) => new(1, [.. widths.Select(w => new[] { w })]);

    /// <summary>Several profiles of one model, in the order given.</summary>
    /// <exception cref="ArgumentException">There is none, or one is wider in some layer than the one before it.</exception>
    public static Streams Of<TModel>(params ReadOnlySpan<Profile<TModel>> profiles)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (profiles.IsEmpty) throw new ArgumentException("A pass needs at least one profile.", nameof(profiles));
        var widths = new int[TModel.Spec.Layers][];
        for (var layer = 0; layer < widths.Length; layer++)
        {
            widths[layer] = new int[profiles.Length];
            for (var stream = 0; stream < profiles.Length; stream++)
            {
                widths[layer][stream] = profiles[stream].Widths[layer];
                if (stream > 0 && widths[layer][stream] > widths[layer][stream - 1])
                {
                    throw new ArgumentException(
                        $"Streams run widest first, but in layer {layer} the profile '{profiles[stream].Name}' is wider than "
                        + $"'{profiles[stream - 1].Name}' before it.",
                        nameof(profiles));
                }
            }
        }

        return new Streams(profiles.Length, widths);
    }
}
