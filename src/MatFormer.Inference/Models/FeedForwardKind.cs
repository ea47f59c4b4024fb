using System.ComponentModel;

namespace MatFormer;

/// <summary>The activation of a feed-forward layer, and whether a second projection gates it.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public enum FeedForwardKind
{
    /// <summary>gelu(up x), the exact form with erf (Hendrycks and Gimpel, arXiv 1606.08415).</summary>
    Gelu,

    /// <summary>relu(up x) squared (Primer, arXiv 2109.08668).</summary>
    SquaredRelu,

    /// <summary>silu(gate x) * (up x) (Shazeer, arXiv 2002.05202).</summary>
    SwiGlu,

    /// <summary>gelu(gate x) * (up x), with the exact form of gelu (Shazeer, arXiv 2002.05202).</summary>
    GeGlu,
}
