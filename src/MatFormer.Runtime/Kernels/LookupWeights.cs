using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The weights with which the compressed tokens of a layer gather from the lookup tokens. W is the width of the model. Weights are float32.
/// </summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record GatherWeights
{
    /// <summary>The norm of the compressed tokens before they query.</summary>
    public required NormWeights Norm { get; init; }

    /// <summary>The norm of the lookup tokens before keys and values.</summary>
    public required NormWeights LookupNorm { get; init; }

    /// <summary>(W, W).</summary>
    public required Tensor Query { get; init; }

    /// <summary>(W, W).</summary>
    public required Tensor Key { get; init; }

    /// <summary>(W, W).</summary>
    public required Tensor Value { get; init; }

    /// <summary>(W, W).</summary>
    public required Tensor Output { get; init; }

    /// <summary>(W) or null.</summary>
    public Tensor? QueryBias { get; init; }

    /// <summary>(W) or null.</summary>
    public Tensor? KeyBias { get; init; }

    /// <summary>(W) or null.</summary>
    public Tensor? ValueBias { get; init; }

    /// <summary>(W) or null.</summary>
    public Tensor? OutputBias { get; init; }

    /// <summary>The width of a head, which divides W.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>The number of lookup tokens, which are the last tokens of a sequence. Those before them are compressed.</summary>
    public required int LookupTokens { get; init; }
}

/// <summary>The weights with which the lookup tokens of a layer get the result back. Weights are float32.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record SpreadWeights
{
    /// <summary>The norm of the compressed tokens before the values.</summary>
    public required NormWeights Norm { get; init; }

    /// <summary>(W, W).</summary>
    public required Tensor Value { get; init; }

    /// <summary>(W) or null.</summary>
    public Tensor? ValueBias { get; init; }

    /// <summary>The light feed-forward of the lookup tokens.</summary>
    public required FeedForwardWeights Light { get; init; }
}

/// <summary>The tokens of a layer after the compressed ones have gathered from the lookup tokens.</summary>
/// <param name="Compressed">The compressed tokens (N, M, W).</param>
/// <param name="Lookup">The lookup tokens (N, P, W).</param>
/// <param name="Attention">The weights (N, H, M, P) with which each compressed token attended to the lookup tokens.</param>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record GatheredTokens(Tensor Compressed, Tensor Lookup, Tensor Attention) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose()
    {
        Compressed.Dispose();
        Lookup.Dispose();
        Attention.Dispose();
    }
}
