namespace MatFormer;

/// <summary>The costs and the loss of a mix.</summary>
/// <param name="Milliseconds">
/// The time on this machine. For a language model, it is the time to decode one token at batch size 1. For an encoder, it is the time of
/// the forward pass over one image or text.
/// </param>
/// <param name="Loss">
/// The cross-entropy on validation data, in bits per byte of text, nats per image, or nats per choice among a batch of pairs.
/// </param>
/// <param name="MemoryBytes">
/// For a language model, the memory of a <see cref="DecodingEngine"/> of the extracted mix: its <see cref="DecodingEngine.WeightBytes"/>
/// and the keys and values of one sequence as long as the context. For an encoder, the weights in float32.
/// </param>
/// <param name="Parameters">The number of all parameters of the extracted mix.</param>
/// <param name="Flops">The FLOPs (a multiply-add is two) of the forward pass over one token, image or text.</param>
public readonly record struct MixCost(
    double Milliseconds, double Loss, long MemoryBytes, long Parameters, long Flops)
{
    /// <summary>Adds two costs component by component.</summary>
    public static MixCost operator +(MixCost left, MixCost right) => Add(left, right);

    /// <summary>Adds two costs component by component.</summary>
    public static MixCost Add(MixCost left, MixCost right) => new(
        left.Milliseconds + right.Milliseconds, left.Loss + right.Loss, left.MemoryBytes + right.MemoryBytes,
        left.Parameters + right.Parameters, left.Flops + right.Flops);
}
