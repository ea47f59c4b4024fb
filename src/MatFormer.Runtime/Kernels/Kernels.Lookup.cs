using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <content>
/// The two halves of the cross-attention of LookupViT (arXiv 2407.12753). Norms, projections and the light feed-forward are the operations
/// that other layers use. Only the products with the attention's weights are new, and have one form, in TorchSharp's API.
/// </content>
public static partial class Kernels
{
    /// <summary>
    /// Embeds images as <see cref="EmbedPatches"/> does, and puts the compressed tokens in front: the embedded patches, averaged to a grid
    /// of G*G. Where the grid does not divide the patches, averages overlap, as in PyTorch's AdaptiveAvgPool2d. Pixels (B, C, H, H) float32
    /// -> (B, G*G + P, W) of <paramref name="dtype"/>.
    /// </summary>
    /// <param name="pixels">(B, C, H, H).</param>
    /// <param name="projection">(W, C, S, S), where S divides H.</param>
    /// <param name="bias">(W).</param>
    /// <param name="positions">(P, W) or (1, P, W).</param>
    /// <param name="dtype">The dtype of activations.</param>
    /// <param name="grid">G, at most the side of the grid of patches.</param>
    public static Tensor EmbedLookup(Tensor pixels, Tensor projection, Tensor bias, Tensor positions, ScalarType dtype, int grid)
    {
        using var scope = NewDisposeScope();
        var patches = EmbedPatches(pixels, projection, bias, null, positions, dtype); // (B, P, W)
        long batch = patches.shape[0], side = pixels.shape[2] / projection.shape[2], width = patches.shape[2];
        if (grid < 1 || grid > side)
        {
            throw new ArgumentException(
                $"EmbedLookup: the grid is {grid}, but must be from 1 to {side}, the side of the grid of patches.", nameof(grid));
        }

        var image = patches.view(batch, side, side, width).permute(0, 3, 1, 2).to(ScalarType.Float32); // (B, W, side, side)
        var compressed = nn.functional.adaptive_avg_pool2d(image, [grid, grid]) // (B, W, G, G)
            .permute(0, 2, 3, 1).reshape(batch, (long)grid * grid, width).to(dtype);
        return cat([compressed, patches], 1).MoveToOuterDisposeScope();
    }

    /// <summary>Returns the compressed tokens, which come before the lookup tokens: x (N, M + P, W) -> (N, M, W).</summary>
    public static Tensor CompressedTokens(Tensor x, int lookupTokens)
    {
        ArgumentNullException.ThrowIfNull(x);
        using var first = x.narrow(1, 0, x.shape[1] - lookupTokens);
        return first.contiguous();
    }

    /// <summary>
    /// Lets each compressed token attend to all lookup tokens: compressed + attention(norm(compressed), norm(lookup)). The scale is
    /// 1/sqrt(D); softmax is in float32.
    /// </summary>
    /// <param name="x">(N, M + P, W), the M compressed tokens before the P lookup tokens.</param>
    /// <param name="weights">The weights of the cross-attention.</param>
    public static GatheredTokens Gather(Tensor x, GatherWeights weights)
    {
        const string name = "Gather";
        ArgumentNullException.ThrowIfNull(weights);
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, "(N, M + P, W)");
        long lookupTokens = weights.LookupTokens, compressedTokens = x.shape[1] - lookupTokens, width = x.shape[2];
        if (lookupTokens < 1 || compressedTokens < 1)
        {
            throw new ArgumentException(
                $"{name}: x has {x.shape[1]} tokens, but must have more than the {lookupTokens} lookup tokens.", nameof(x));
        }

        if (weights.HeadWidth < 1 || width % weights.HeadWidth != 0)
            throw new ArgumentException($"{name}: heads of {weights.HeadWidth} do not divide the width of {width}.", nameof(weights));
        Operand.Weight(name, "output", weights.Output, x, width, width);
        using var scope = NewDisposeScope();
        var compressed = x.narrow(1, 0, compressedTokens).contiguous();
        var lookup = x.narrow(1, compressedTokens, lookupTokens).contiguous();
        var source = weights.LookupNorm.Apply(lookup);
        var query = Heads(Linear(weights.Norm.Apply(compressed), weights.Query, weights.QueryBias), weights.HeadWidth); // (N, H, M, D)
        var key = Heads(Linear(source, weights.Key, weights.KeyBias), weights.HeadWidth); // (N, H, P, D)
        var value = Heads(Linear(source, weights.Value, weights.ValueBias), weights.HeadWidth); // (N, H, P, D)
        var scores = query.matmul(key.transpose(2, 3)).to(ScalarType.Float32).mul(Number(1 / Math.Sqrt(weights.HeadWidth)));
        var attention = scores.softmax(-1).to(x.dtype); // (N, H, M, P)
        var gathered = Linear(Merged(attention.matmul(value)), weights.Output, weights.OutputBias); // (N, M, W)
        return new GatheredTokens(
            compressed.add(gathered, One).MoveToOuterDisposeScope(), lookup.MoveToOuterDisposeScope(),
            attention.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// Gives the result of the heavy layer back to the lookup tokens: y = lookup + A' value(norm(compressed)), where A' is the transpose of
    /// the attention's weights, and then y + feed-forward(norm(y)). If streams part between the two halves, all have the same lookup tokens
    /// up to here. Returns (N, M + P, W). Without weights, the lookup tokens stay as they are.
    /// </summary>
    /// <param name="gathered">The tokens and the attention of the first half: (N, ...), or (B, ...) where N is a multiple of B.</param>
    /// <param name="compressed">The compressed tokens after the heavy layer, (N, M, W).</param>
    /// <param name="weights">The weights of the second half, or null.</param>
    public static Tensor Spread(GatheredTokens gathered, Tensor compressed, SpreadWeights? weights)
    {
        const string name = "Spread";
        ArgumentNullException.ThrowIfNull(gathered);
        Operand.Activation(name, "compressed", compressed);
        Operand.Rank(name, "compressed", compressed, 3, "(N, M, W)");
        var (lookup, attention, batch) = (gathered.Lookup, gathered.Attention, gathered.Lookup.shape[0]);
        if (compressed.shape[0] % batch != 0)
        {
            throw new ArgumentException(
                $"{name}: compressed has {compressed.shape[0]} rows, but must have a multiple of the {batch} of the lookup tokens.",
                nameof(compressed));
        }

        using var scope = NewDisposeScope();
        if (compressed.shape[0] / batch is > 1 and var streams)
            (lookup, attention) = (lookup.repeat(streams, 1, 1), attention.repeat(streams, 1, 1, 1));
        if (weights is not null)
        {
            var headWidth = compressed.shape[2] / attention.shape[1];
            var value = Heads(Linear(weights.Norm.Apply(compressed), weights.Value, weights.ValueBias), headWidth); // (N, H, M, D)
            lookup = FeedForward(lookup.add(Merged(attention.transpose(2, 3).matmul(value)), One), weights.Light); // (N, P, W)
        }

        return cat([compressed, lookup], 1).MoveToOuterDisposeScope();
    }

    // (N, T, H*D) to (N, H, T, D).
    private static Tensor Heads(Tensor x, long headWidth) => x.view(x.shape[0], x.shape[1], -1, headWidth).transpose(1, 2);

    // (N, H, T, D) to (N, T, H*D).
    private static Tensor Merged(Tensor x) => x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1);
}
