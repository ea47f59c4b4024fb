using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Receives the inputs of the products of a model with its weights, while this lives, for the passes of this thread. Operations of language
/// models then run as <c>Composite</c>, all streams at once, where each product has its input as a tensor.
/// </summary>
internal sealed class ProductInputs : IDisposable
{
    [ThreadStatic]
    private static ProductInputs? s_current;

    private readonly Action<Tensor, Tensor[]> _receive;

    /// <summary>Begins to receive.</summary>
    /// <param name="receive">
    /// Gets an input (..., in), and the weights (out, at least in) whose first columns it is multiplied by. It may not keep the input.
    /// </param>
    public ProductInputs(Action<Tensor, Tensor[]> receive)
    {
        if (s_current is not null) throw new InvalidOperationException("The inputs of products are received already.");
        (_receive, s_current) = (receive, this);
    }

    /// <summary>Whether the inputs of this thread's products are received.</summary>
    public static bool AreWanted => s_current is not null;

    /// <summary>Passes on an input of products with weights; without a receiver, it does nothing.</summary>
    public static void Add(Tensor input, params ReadOnlySpan<Tensor?> weights)
    {
        if (s_current is { } current) current._receive(input, [.. weights.ToArray().OfType<Tensor>()]);
    }

    /// <summary>Receives no more.</summary>
    public void Dispose() => s_current = null;
}
