namespace MatFormer;

/// <summary>The kinds of position encoding.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum PositionKind
{
    /// <summary>
    /// Queries and keys are rotated by angles that grow with the position (RoFormer, arXiv 2104.09864). This kind has no parameters.
    /// </summary>
    Rotary,

    /// <summary>A learned vector per position is added to the embedding. This kind has Context x Width parameters.</summary>
    Learned,

    /// <summary>
    /// Sines and cosines of the row and the column, each over half of the width, are added to the patches of an image (arXiv 2104.02057,
    /// section 4). This kind has no parameters. Only <see cref="MatViTAttribute"/> supports it.
    /// </summary>
    Sinusoidal,
}
