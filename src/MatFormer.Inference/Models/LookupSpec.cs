using System.Collections.Immutable;

namespace MatFormer;

/// <summary>The compressed tokens of a vision transformer, which do its heavy work (LookupViT, arXiv 2407.12753).</summary>
/// <param name="Grids">The sides of the square grids of compressed tokens that the weights are trained for, in increasing order.</param>
/// <param name="Hidden">The number of hidden units of the light feed-forward of the lookup tokens.</param>
public sealed record LookupSpec(ImmutableArray<int> Grids, int Hidden);
