namespace MatFormer;

/// <summary>What a mix costs and how good it is.</summary>
/// <param name="MillisecondsPerToken">Time of the decoding of one token, batch 1, on this machine.</param>
/// <param name="BitsPerByte">Cross-entropy on validation text.</param>
/// <param name="MemoryBytes">
/// What a <see cref="DecodingEngine"/> of the extracted mix takes: its <see cref="DecodingEngine.WeightBytes"/> and the keys and values
/// of one sequence as long as the context.
/// </param>
/// <param name="Parameters">All parameters of the extracted mix.</param>
/// <param name="FlopsPerToken">FLOPs (a multiply-add is two) of one token's forward pass.</param>
public readonly record struct MixCost(
    double MillisecondsPerToken, double BitsPerByte, long MemoryBytes, long Parameters, long FlopsPerToken)
{
    /// <summary>The sum of each.</summary>
    public static MixCost operator +(MixCost left, MixCost right) => Add(left, right);

    /// <summary>The sum of each.</summary>
    public static MixCost Add(MixCost left, MixCost right) => new(
        left.MillisecondsPerToken + right.MillisecondsPerToken, left.BitsPerByte + right.BitsPerByte, left.MemoryBytes + right.MemoryBytes,
        left.Parameters + right.Parameters, left.FlopsPerToken + right.FlopsPerToken);
}
