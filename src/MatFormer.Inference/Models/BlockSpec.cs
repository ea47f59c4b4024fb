using System.Collections.Immutable;

namespace MatFormer;

/// <summary>A cost of one block, linear in what a slice keeps of it.</summary>
/// <param name="Shared">What every slice has that keeps the block at all.</param>
/// <param name="PerHiddenUnit">What one hidden unit of the feed-forward adds.</param>
/// <param name="PerKeyValueHead">What one key/value head adds, with the query heads that use it.</param>
public readonly record struct BlockCost(long Shared, long PerHiddenUnit, long PerKeyValueHead);

/// <summary>One transformer block of a declared model: its sizes and costs.</summary>
public sealed record BlockSpec
{
    /// <summary>Hidden units of the whole feed-forward.</summary>
    public required int HiddenWidth { get; init; }

    /// <summary>Its nonlinearity, and whether it is gated.</summary>
    public required Activation Activation { get; init; }

    /// <summary>True if each projection of the feed-forward has a bias.</summary>
    public bool Bias { get; init; }

    /// <summary>Attention heads of the queries.</summary>
    public required int Heads { get; init; }

    /// <summary>Attention heads of the keys and values; divides <see cref="Heads"/>.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>How many tokens, its own included, a token attends to; 0 if to all before it.</summary>
    public int Window { get; init; }

    /// <summary>Parameters.</summary>
    public required BlockCost Parameters { get; init; }

    /// <summary>FLOPs (a multiply-add is two) of its forward pass over one <see cref="ModelSpec.Unit"/>.</summary>
    public required BlockCost Flops { get; init; }

    /// <summary>Bytes of float32 key/value cache that one token takes; half of it in bfloat16.</summary>
    public required BlockCost KeyValueCacheBytesPerToken { get; init; }

    /// <summary>A stack of blocks, given as runs of equal ones, the first layer first.</summary>
    public static ImmutableArray<BlockSpec> Stack(params ReadOnlySpan<(int Count, BlockSpec Block)> runs) => Expand(runs);

    /// <summary>One element for each layer, given as runs of equal ones, the first layer first.</summary>
    internal static ImmutableArray<T> Expand<T>(ReadOnlySpan<(int Count, T Element)> runs)
    {
        var layers = ImmutableArray.CreateBuilder<T>();
        foreach (var (count, element) in runs) layers.AddRange(Enumerable.Repeat(element, count));
        return layers.ToImmutable();
    }

    /// <summary>Key/value heads that a slice keeps.</summary>
    public int KeyValueHeadsOf(LayerSlice slice) => slice.Heads / (Heads / KeyValueHeads);

    /// <summary>What a slice of this block costs.</summary>
    public long CostOf(BlockCost cost, LayerSlice slice) => slice.IsSkipped
        ? 0
        : cost.Shared + (cost.PerHiddenUnit * slice.HiddenWidth) + (cost.PerKeyValueHead * KeyValueHeadsOf(slice));
}
