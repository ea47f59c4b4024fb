using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>A cost of one block. It is linear in the size of a slice, with a coefficient for each axis.</summary>
internal sealed record BlockCost(long Shared, long PerHiddenUnit, long PerKeyValueHead)
{
    /// <summary>Returns how much larger this cost is.</summary>
    public BlockCost Minus(BlockCost other) =>
        new(Shared - other.Shared, PerHiddenUnit - other.PerHiddenUnit, PerKeyValueHead - other.PerKeyValueHead);

    public long Of(BlockSpec block, LayerSlice slice) => slice.IsSkipped
        ? 0
        : checked(Shared + (PerHiddenUnit * slice.HiddenWidth) + (PerKeyValueHead * (slice.Heads / block.Group)));
}

/// <summary>The costs of one block.</summary>
internal sealed record BlockCosts(BlockCost Parameters, BlockCost Flops, BlockCost KeyValueCacheBytesPerToken, BlockCost Int8Bytes);

/// <summary>
/// The costs of a model, which are the sum over its blocks and the parts around the blocks. The costs of a narrower residual stream are
/// those of a model that is declared as narrow.
/// </summary>
internal sealed class Costs
{
    /// <summary>The number of consecutive columns of a matrix that share a scale at 8, 4 or 2 bits.</summary>
    public const int Group = 32;

    private readonly ModelSpec _spec;
    private readonly Architecture _architecture;
    private readonly BlockCosts[] _blocks;
    private readonly Dictionary<int, Costs> _narrower = [];

    private Costs(ModelSpec spec)
    {
        _spec = spec;
        _architecture = Architecture.Of(spec);
        var around = _architecture.WeightsAround.ToList();
        EmbeddingParameters = around.Where(w => w.IsEmbedding).Sum(w => w.Elements);
        SharedParameters = around.Sum(w => w.Elements);
        SharedInt8Bytes = around.Sum(w => w.Int8Bytes);
        SharedFlops = _architecture.Around.Sum(part => part.Flops);
        var kinds = spec.Blocks.Select(b => b.Kind).Distinct().ToDictionary(kind => kind, OfBlock);
        _blocks = [.. spec.Blocks.Select(b => kinds[b.Kind])];
    }

    public long EmbeddingParameters { get; }

    /// <summary>The number of parameters around the blocks.</summary>
    public long SharedParameters { get; }

    /// <summary>The FLOPs of the parts around the blocks.</summary>
    public long SharedFlops { get; }

    private long SharedInt8Bytes { get; }

    /// <summary>The costs of the model with one channel less. All costs grow by the same with each channel.</summary>
    public Costs WithoutAChannel => OfWidth(_spec.Width - 1);

    public static Costs Of(ModelSpec spec) => new(spec);

    /// <summary>The costs of one block.</summary>
    public BlockCosts this[int layer] => _blocks[layer];

    public long ParameterCount(LayerSlice[] layers) => OfWidth(layers).CountParameters(layers);

    public long NonEmbeddingParameterCount(LayerSlice[] layers) => ParameterCount(layers) - OfWidth(layers).EmbeddingParameters;

    public long Flops(LayerSlice[] layers) => OfWidth(layers).CountFlops(layers);

    public long KeyValueCacheBytesPerToken(LayerSlice[] layers) => Sum(layers, block => block.KeyValueCacheBytesPerToken);

    /// <summary>Returns the bytes of the weights, without a file's header or a cache.</summary>
    public long WeightBytes(LayerSlice[] layers, WeightType type) => type switch
    {
        WeightType.Float32 => checked(4 * ParameterCount(layers)),
        WeightType.Int8 => OfWidth(layers).CountInt8Bytes(layers),
        _ => checked(2 * ParameterCount(layers)),
    };

    private long CountParameters(LayerSlice[] layers) => SharedParameters + Sum(layers, block => block.Parameters);

    private long CountFlops(LayerSlice[] layers) => SharedFlops + Sum(layers, block => block.Flops);

    private long CountInt8Bytes(LayerSlice[] layers) => SharedInt8Bytes + Sum(layers, block => block.Int8Bytes);

    private Costs OfWidth(LayerSlice[] layers) => OfWidth(_spec.WidthOf(layers));

    /// <summary>Returns the costs of the model with a residual stream of a width.</summary>
    public Costs OfWidth(int width)
    {
        if (width == _spec.Width) return this;
        if (!_narrower.TryGetValue(width, out var costs)) _narrower.Add(width, costs = new Costs(_spec.Narrowed(width)));
        return costs;
    }

    /// <summary>
    /// Returns the bytes of the weights at 8, 4 or 2 bits: those of the matrices, a half for each <see cref="Group"/> of columns, and
    /// everything else in float32. The last group of a row may be shorter, so the bytes are not linear in the size of a slice.
    /// </summary>
    public long WeightBytes(LayerSlice[] layers, int bits) => OfWidth(layers).CountWeightBytes(layers, bits);

    private long CountWeightBytes(LayerSlice[] layers, int bits)
    {
        var bytes = _architecture.WeightsAround.Sum(weight => Bytes(weight, _spec.Blocks[0], default));
        for (var layer = 0; layer < layers.Length; layer++)
        {
            if (layers[layer].IsSkipped) continue;
            foreach (var weight in _architecture.WeightsOf(_spec.Blocks[layer]))
                bytes = checked(bytes + Bytes(weight, _spec.Blocks[layer], layers[layer]));
        }

        return bytes;

        long Bytes(WeightSpec weight, BlockSpec block, LayerSlice slice)
        {
            var shape = weight.Shape.Select(d => d.Axis switch
            {
                Axis.Hidden => (long)d.Count * slice.HiddenWidth,
                Axis.Heads => (long)d.Count * slice.Heads,
                Axis.KeyValueHeads => (long)d.Count * (slice.Heads / block.Group),
                _ => d.Count,
            }).ToList();
            var elements = shape.Aggregate(1L, (product, size) => checked(product * size));
            return weight.IsRounded
                ? (((elements * bits) + 7) / 8) + (2 * shape[0] * ((shape[1] + Group - 1) / Group))
                : elements * sizeof(float);
        }
    }

    // A multiply-add counts as two FLOPs.
    private BlockCosts OfBlock(BlockSpec block)
    {
        var weights = _architecture.WeightsOf(block).ToList();
        var flops = Sum(weights.Where(w => w.IsMatrix), w => checked(2 * w.Elements * TokensOf(w)));
        var int8 = Sum(weights, w => w.Int8Bytes);
        return new BlockCosts(
            Sum(weights, w => w.Elements),
            new BlockCost(
                flops.Shared + _architecture.Block.Sum(part => part.Flops(block)),
                flops.PerHiddenUnit,
                flops.PerKeyValueHead + _architecture.Block.Sum(part => part.FlopsPerKeyValueHead(block))),
            new BlockCost(0, 0, _architecture.Block.Sum(part => part.CacheBytesPerHead(block))),
            int8 with { Shared = int8.Shared + weights.Sum(w => w.SharedScaleBytes) });

        long TokensOf(WeightSpec weight) => weight.IsOfAllTokens ? _spec.Sequence : _spec.TokensPerUnit;

        BlockCost Sum(IEnumerable<WeightSpec> of, Func<WeightSpec, long> cost) => new(
            of.Where(w => w.Axis == Axis.None).Sum(cost),
            of.Where(w => w.Axis == Axis.Hidden).Sum(cost),
            of.Where(w => w.Axis == Axis.KeyValueHeads).Sum(cost) + (block.Group * of.Where(w => w.Axis == Axis.Heads).Sum(cost)));
    }

    private long Sum(LayerSlice[] layers, Func<BlockCosts, BlockCost> cost)
    {
        long sum = 0;
        for (var layer = 0; layer < layers.Length; layer++)
            sum = checked(sum + cost(_blocks[layer]).Of(_spec.Blocks[layer], layers[layer]));
        return sum;
    }
}
