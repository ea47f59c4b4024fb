using System;

namespace MatFormer;

/// <summary>
/// Lets a few compressed tokens of a vision transformer do the heavy work (LookupViT, arXiv 2407.12753). The compressed tokens are the
/// patches, averaged to a square grid. In each layer they gather from all patches, the lookup tokens, by cross-attention, and only they
/// run through self-attention and the wide feed-forward. Then the lookup tokens get the result back and run through a light feed-forward.
/// The side of the grid is a choice at inference: <c>model.Forward(5, pixels)</c>. Granularities and profiles cut the heavy part as before.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class LookupAttribute : Attribute
{
    /// <summary>Declares compressed tokens.</summary>
    /// <param name="grids">
    /// The sides of the grids that training draws from and that <c>eval</c> measures, in increasing order, such as 3, 5, 7 for 9, 25 or 49
    /// compressed tokens. None is above the side of the grid of patches. Without a grid in the call, the last one is used.
    /// </param>
    public LookupAttribute(params int[] grids) => Grids = grids;

    /// <summary>The sides of the grids that training draws from and that <c>eval</c> measures, in increasing order.</summary>
    public int[] Grids { get; }

    /// <summary>
    /// The number of hidden units of the light feed-forward of the lookup tokens, which is the same in all granularities. By default it is
    /// half the width of the model.
    /// </summary>
    public int Hidden { get; set; }
}
