namespace MatFormer;

/// <summary>How a model knows a token's position.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum PositionKind
{
    /// <summary>Queries and keys are turned by angles that grow with the position (RoFormer, arXiv 2104.09864); no parameters.</summary>
    Rotary,

    /// <summary>A learned vector per position is added to the embedding: Context x Width parameters.</summary>
    Learned,

    /// <summary>
    /// Sines and cosines of row and column, half of the width each, are added to the patches of an image (arXiv 2104.02057, section 4); no
    /// parameters. Of <see cref="MatViTAttribute"/> alone.
    /// </summary>
    Sinusoidal,
}
