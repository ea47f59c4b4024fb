namespace MatFormer;

/// <summary>The nonlinearity of a feed-forward, and whether a second projection gates it.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum Activation
{
    /// <summary>gelu(up x), where gelu is exact (with erf; Hendrycks and Gimpel, arXiv 1606.08415). Two matrices.</summary>
    Gelu,

    /// <summary>relu(up x) squared (Primer, arXiv 2109.08668). Two matrices.</summary>
    SquaredRelu,

    /// <summary>silu(gate x) * (up x) (Shazeer, arXiv 2002.05202). Three matrices.</summary>
    SwiGlu,

    /// <summary>gelu(gate x) * (up x), where gelu is exact (Shazeer, arXiv 2002.05202). Three matrices.</summary>
    GeGlu,
}
