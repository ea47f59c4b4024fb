using System;

namespace MatFormer;

/// <summary>
/// Mix'n'Match profiles evenly spread over the FLOPs between the narrowest and the widest granularity, as the compiler solves them: two
/// adjacent granularities, the narrower in the first layers (arXiv 2310.07707, section 3.3). They are named <c>Grid1</c>, <c>Grid2</c>...,
/// narrowest first.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class ProfileGridAttribute : Attribute
{
    /// <summary>Declares the profiles.</summary>
    /// <param name="count">How many.</param>
    public ProfileGridAttribute(int count) => Count = count;

    /// <summary>How many profiles.</summary>
    public int Count { get; }

    /// <summary>What their names begin with; <c>Grid</c> if not given.</summary>
    public string Prefix { get; set; } = "Grid";
}
