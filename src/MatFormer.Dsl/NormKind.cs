namespace MatFormer;

/// <summary>The kinds of norms.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum NormKind
{
    /// <summary>Divides by the root of the mean square. It has a weight and no bias (arXiv 1910.07467).</summary>
    Rms,

    /// <summary>Subtracts the mean and divides by the standard deviation. It has a weight and a bias (arXiv 1607.06450).</summary>
    Layer,
}
