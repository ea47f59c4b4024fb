namespace MatFormer;

/// <summary>What a mix costs and how good it is.</summary>
/// <param name="Milliseconds">
/// Time on this machine: of the decoding of one token, batch 1; of an encoder, of the forward pass over one image or text.
/// </param>
/// <param name="Loss">
/// Cross-entropy on what is not trained on: bits per byte of text, nats per image, or nats per choice among a batch of pairs.
/// </param>
/// <param name="MemoryBytes">
/// What a <see cref="DecodingEngine"/> of the extracted mix takes: its <see cref="DecodingEngine.WeightBytes"/> and the keys and values
/// of one sequence as long as the context. Of an encoder, its weights in float32.
/// </param>
/// <param name="Parameters">All parameters of the extracted mix.</param>
/// <param name="Flops">FLOPs (a multiply-add is two) of the forward pass over one token, image or text.</param>
public readonly record struct MixCost(
    double Milliseconds, double Loss, long MemoryBytes, long Parameters, long Flops)
{
    /// <summary>The sum of each.</summary>
    public static MixCost operator +(MixCost left, MixCost right) => Add(left, right);

    /// <summary>The sum of each.</summary>
    public static MixCost Add(MixCost left, MixCost right) => new(
        left.Milliseconds + right.Milliseconds, left.Loss + right.Loss, left.MemoryBytes + right.MemoryBytes,
        left.Parameters + right.Parameters, left.Flops + right.Flops);
}
