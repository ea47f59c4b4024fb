using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The weights of one layer's feed-forward. W is the width of the model. Weights are float32.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record FeedForwardWeights
{
    /// <summary>The norm before the feed-forward.</summary>
    public required NormWeights Norm { get; init; }

    /// <summary>The activation.</summary>
    public required FeedForwardKind Kind { get; init; }

    /// <summary>(hidden, W) for the gated kinds, else null.</summary>
    public Tensor? Gate { get; init; }

    /// <summary>(hidden) or null.</summary>
    public Tensor? GateBias { get; init; }

    /// <summary>(hidden, W).</summary>
    public required Tensor Up { get; init; }

    /// <summary>(hidden) or null.</summary>
    public Tensor? UpBias { get; init; }

    /// <summary>(W, hidden).</summary>
    public required Tensor Down { get; init; }

    /// <summary>(W) or null. Every hidden width uses the whole bias.</summary>
    public Tensor? DownBias { get; init; }

    /// <summary>Whether x may be narrower than W. It then uses the first channels of each weight.</summary>
    public bool IsNested { get; init; }

    /// <summary>All weights, with null for each that is absent.</summary>
    internal Tensor?[] All => [Norm.Weight, Norm.Bias, Gate, GateBias, Up, UpBias, Down, DownBias];
}
