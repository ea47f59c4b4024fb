using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// The submodels that one forward pass runs, stacked along the batch, widest first, so that each slab of a feed-forward multiplies a prefix
/// of the batch. Layers in which all are alike run once, until the streams part.
/// </summary>
public sealed class Streams
{
    private readonly int[][] _hiddenWidths;
    private readonly int[][] _heads;

    private Streams(int count, int fork, ReadOnlySpan<ImmutableArray<LayerSlice>> streams)
    {
        Count = count;
        Fork = fork;
        var layers = streams[0].Length;
        _hiddenWidths = new int[layers][];
        _heads = new int[layers][];
        for (var layer = 0; layer < layers; layer++)
        {
            var running = layer < fork ? 1 : count;
            _hiddenWidths[layer] = new int[running];
            _heads[layer] = new int[running];
            for (var stream = 0; stream < running; stream++)
                (_hiddenWidths[layer][stream], _heads[layer][stream]) = streams[stream][layer];
        }
    }

    /// <summary>How many submodels run.</summary>
    public int Count { get; }

    /// <summary>The layer in which they part, or -1 if there is only one.</summary>
    public int Fork { get; }

    /// <summary>Hidden widths in one layer: of each stream, widest first, or one for all before they part; not to be changed.</summary>
    public int[] HiddenWidths(int layer) => _hiddenWidths[layer];

    /// <summary>Attention heads of the queries in one layer: of each stream, or one for all before they part; not to be changed.</summary>
    public int[] Heads(int layer) => _heads[layer];

    /// <summary>True if the layer is left out.</summary>
    public bool Skips(int layer) => _hiddenWidths[layer][0] == 0;

    /// <summary>One stream that keeps this of each layer.</summary>
    public static Streams Of(ImmutableArray<LayerSlice> layers) => new(1, -1, [layers]);

    /// <summary>Several profiles of one model, in the order given.</summary>
    /// <exception cref="ArgumentException">
    /// There is none, one keeps more of some layer than the one before it, or one of several leaves layers out.
    /// </exception>
    public static Streams Of<TModel>(params ReadOnlySpan<Profile<TModel>> profiles)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (profiles.IsEmpty) throw new ArgumentException("A pass needs at least one profile.", nameof(profiles));
        if (profiles.Length == 1) return profiles[0].Streams;
        var streams = new ImmutableArray<LayerSlice>[profiles.Length];
        var fork = TModel.Spec.Layers - 1;
        for (var stream = 0; stream < streams.Length; stream++)
        {
            var layers = streams[stream] = profiles[stream].Layers;
            for (var layer = 0; layer < layers.Length; layer++)
            {
                if (layers[layer].IsSkipped)
                {
                    throw new ArgumentException(
                        $"The profile '{profiles[stream].Name}' leaves out layer {layer}, and so runs alone, not stacked with others.",
                        nameof(profiles));
                }

                if (layers[layer] != streams[0][layer]) fork = Math.Min(fork, layer);
                if (stream == 0 || streams[stream - 1][layer].Holds(layers[layer])) continue;
                throw new ArgumentException(
                    $"Streams run widest first, but in layer {layer} the profile '{profiles[stream].Name}' is wider than "
                    + $"'{profiles[stream - 1].Name}' before it.",
                    nameof(profiles));
            }
        }

        return new Streams(streams.Length, fork, streams);
    }
}
