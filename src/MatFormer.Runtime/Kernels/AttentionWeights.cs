using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The weights of one layer's attention. W is the width of the model, D the width of a head. Weights are float32.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record AttentionWeights
{
    /// <summary>The norm before attention.</summary>
    public required NormWeights Norm { get; init; }

    /// <summary>(H*D, W).</summary>
    public required Tensor Query { get; init; }

    /// <summary>(Hkv*D, W), H being a multiple of Hkv.</summary>
    public required Tensor Key { get; init; }

    /// <summary>(Hkv*D, W).</summary>
    public required Tensor Value { get; init; }

    /// <summary>(W, H*D).</summary>
    public required Tensor Output { get; init; }

    /// <summary>(H*D), or null; then the other biases are null too.</summary>
    public Tensor? QueryBias { get; init; }

    /// <summary>(Hkv*D) or null.</summary>
    public Tensor? KeyBias { get; init; }

    /// <summary>(Hkv*D) or null.</summary>
    public Tensor? ValueBias { get; init; }

    /// <summary>(W) or null.</summary>
    public Tensor? OutputBias { get; init; }

    /// <summary>The norm of each head of the queries, over D numbers; null if there is none.</summary>
    public NormWeights? QueryNorm { get; init; }

    /// <summary>The norm of each head of the keys; null if there is none.</summary>
    public NormWeights? KeyNorm { get; init; }

    /// <summary>D.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>Whether a query sees only the keys up to its own position.</summary>
    public bool IsCausal { get; init; }

    /// <summary>How many keys a causal query sees, including its own (Mistral 7B, arXiv 2310.06825, section 2); 0 for all.</summary>
    public int Window { get; init; }

    /// <summary>Whether x may be narrower than W. It then uses the first channels of each weight.</summary>
    public bool IsNested { get; init; }

    /// <summary>All weights, with null for each that is absent.</summary>
    internal Tensor?[] All =>
    [
        Norm.Weight, Norm.Bias, Query, Key, Value, Output, QueryBias, KeyBias, ValueBias, OutputBias, QueryNorm?.Weight, QueryNorm?.Bias,
        KeyNorm?.Weight, KeyNorm?.Bias,
    ];

    /// <summary>H.</summary>
    internal int Heads => (int)Query.shape[0] / HeadWidth;

    /// <summary>H / Hkv: query head h uses key head h / Group.</summary>
    internal int Group => (int)(Query.shape[0] / Key.shape[0]);
}
