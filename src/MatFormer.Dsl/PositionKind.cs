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
}
