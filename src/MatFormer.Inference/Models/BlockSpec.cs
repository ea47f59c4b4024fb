using System.Collections.Immutable;

namespace MatFormer;

/// <summary>A cost of one block. It is linear in what a slice keeps of the block.</summary>
/// <param name="Shared">The part of the cost that every slice with this block has.</param>
/// <param name="PerHiddenUnit">The cost that one hidden unit of the feed-forward adds.</param>
/// <param name="PerKeyValueHead">The cost that one key/value head adds, with the query heads that use it.</param>
public readonly record struct BlockCost(long Shared, long PerHiddenUnit, long PerKeyValueHead)
{
    /// <summary>Returns this cost without those of some channels of the residual stream.</summary>
    internal BlockCost Without(int channels, BlockCost perChannel) => new(
        Shared - (channels * perChannel.Shared), PerHiddenUnit - (channels * perChannel.PerHiddenUnit),
        PerKeyValueHead - (channels * perChannel.PerKeyValueHead));
}

/// <summary>One transformer block of a declared model: its sizes and costs.</summary>
public sealed record BlockSpec
{
    /// <summary>The number of hidden units of the whole feed-forward.</summary>
    public required int HiddenWidth { get; init; }

    /// <summary>The nonlinearity of the feed-forward, and whether the feed-forward is gated.</summary>
    public required Activation Activation { get; init; }

    /// <summary>True if each projection of the feed-forward has a bias.</summary>
    public bool Bias { get; init; }

    /// <summary>The number of attention heads of the queries.</summary>
    public required int Heads { get; init; }

    /// <summary>The number of attention heads of the keys and values; it divides <see cref="Heads"/>.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>The number of tokens that a token attends to, itself included; 0 if it attends to all tokens before it.</summary>
    public int Window { get; init; }

    /// <summary>The number of parameters.</summary>
    public required BlockCost Parameters { get; init; }

    /// <summary>FLOPs (a multiply-add is two) of the block's forward pass over one <see cref="ModelSpec.Unit"/>.</summary>
    public required BlockCost Flops { get; init; }

    /// <summary>Bytes of key/value cache that one token takes in float32; half as many in bfloat16.</summary>
    public required BlockCost KeyValueCacheBytesPerToken { get; init; }

    /// <summary>
    /// <see cref="Flops"/> at each grid of <see cref="ModelSpec.Lookup"/>, in their order; <see cref="Flops"/> itself is the last. Empty if
    /// the model has no compressed tokens.
    /// </summary>
    public ImmutableArray<BlockCost> FlopsAtGrids { get; init; } = [];

    /// <summary>
    /// The part of <see cref="Parameters"/> for each channel of the residual stream; zeros if no granularity keeps fewer channels.
    /// </summary>
    public BlockCost ParametersPerChannel { get; init; }

    /// <summary>
    /// The part of <see cref="Flops"/> for each channel of the residual stream; zeros if no granularity keeps fewer channels.
    /// </summary>
    public BlockCost FlopsPerChannel { get; init; }

    /// <summary>Returns a stack of blocks from runs of equal blocks, first layer first.</summary>
    public static ImmutableArray<BlockSpec> Stack(params ReadOnlySpan<(int Count, BlockSpec Block)> runs) => Expand(runs);

    /// <summary>Returns one element for each layer from runs of equal elements, first layer first.</summary>
    internal static ImmutableArray<T> Expand<T>(ReadOnlySpan<(int Count, T Element)> runs)
    {
        var layers = ImmutableArray.CreateBuilder<T>();
        foreach (var (count, element) in runs) layers.AddRange(Enumerable.Repeat(element, count));
        return layers.ToImmutable();
    }

    /// <summary>Returns the number of key/value heads that a slice keeps.</summary>
    public int KeyValueHeadsOf(LayerSlice slice) => slice.Heads / (Heads / KeyValueHeads);

    /// <summary>Returns a cost of a slice of this block.</summary>
    public long CostOf(BlockCost cost, LayerSlice slice) => slice.IsSkipped
        ? 0
        : cost.Shared + (cost.PerHiddenUnit * slice.HiddenWidth) + (cost.PerKeyValueHead * KeyValueHeadsOf(slice));
}
