using System.Collections.Immutable;
using MatFormer;

namespace Paper;

/// <summary>
/// The cost of a training step: the FLOPs of the forward pass over all streams of the step, per token of the batch. The backward pass costs
/// twice as much for every stream, so ratios of these costs are ratios of whole steps.
/// </summary>
internal static class Compute<TModel>
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int Draws = 256;

    /// <summary>Returns the mean cost of a step of an objective over what the objective draws.</summary>
    public static double OfStep(Objective objective, ImmutableArray<double> probabilities, bool isDistilled)
    {
        var granularities = TModel.Granularities;
        var shares = probabilities.IsEmpty ? [.. granularities.Select(_ => 1.0 / granularities.Count)]
            : probabilities.Select(p => p / probabilities.Sum()).ToArray();
        var random = new Random(1);
        var cost = objective switch
        {
            Objective.Sampled or Objective.Split => granularities.Zip(shares, (g, share) => share * Of(g)).Sum(),
            Objective.SampledPerLayer => Enumerable.Range(0, Draws).Average(_ => Of(Mix(random))),
            Objective.Joint => Of([.. granularities.Reverse()]),
            Objective.Sandwich => Enumerable.Range(0, Draws).Average(_ => Of(granularities[^1], Mix(random), granularities[0])),
            Objective.Branching => granularities.Select((_, prefix) => shares[prefix] * Branches(prefix)).Sum(),
            _ => throw new ArgumentOutOfRangeException(nameof(objective)),
        };

        // The largest granularity makes an additional forward pass over the rows of the others.
        return isDistilled && objective is Objective.Sampled or Objective.Split
            ? cost + ((1 - shares[^1]) * Of(granularities[^1]) / 3) : cost;
    }

    /// <summary>
    /// Returns the cost of streams over the same batch. What they share is computed once: the first layers that are equal in all streams,
    /// and in the next layer the attention and the hidden units, because those of the widest stream include the others.
    /// </summary>
    public static double Of(params ReadOnlySpan<Profile<TModel>> streams)
    {
        var first = streams[0].Layers;
        var shared = TModel.Spec.Layers;
        foreach (var stream in streams)
            shared = Math.Min(shared, stream.Layers.AsSpan().CommonPrefixLength(first.AsSpan()));
        if (shared == TModel.Spec.Layers) return streams[0].Flops;
        double sum = 0;
        foreach (var stream in streams) sum += stream.Flops;
        for (var layer = 0; layer < shared; layer++) sum -= (streams.Length - 1) * Layer(first[layer].HiddenWidth);
        foreach (var stream in streams[1..]) sum -= Layer(stream.Layers[shared].HiddenWidth);
        return sum;
    }

    private static double Branches(int prefix) => Enumerable.Range(0, TModel.Spec.Layers).Average(parting => Of(
        [.. TModel.Granularities.Skip(prefix).Reverse().Select(g => new Profile<TModel>("branch",
            [.. TModel.Granularities[prefix].Layers[..parting], .. g.Layers[parting..]]))]));

    private static Profile<TModel> Mix(Random random) => new("mix",
        [.. Enumerable.Range(0, TModel.Spec.Layers).Select(l => TModel.Granularities[random.Next(TModel.Granularities.Count)].Layers[l])]);

    // A layer's FLOPs are linear in its hidden width. At width 0 only attention is left. All layers of these models are equal.
    private static double Layer(int hidden)
    {
        var (narrow, wide) = (TModel.Granularities[0], TModel.Granularities[^1]);
        var slope = (double)(wide.Flops - narrow.Flops) / (wide.Layers[0].HiddenWidth - narrow.Layers[0].HiddenWidth);
        var attention = wide.Flops - TModel.Spec.SharedFlops - (slope * wide.Layers[0].HiddenWidth);
        return (attention + (slope * hidden)) / TModel.Spec.Layers;
    }
}
