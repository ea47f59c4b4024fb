using System;

namespace MatFormer;

/// <summary>
/// Declares Mix'n'Match profiles that are evenly spread over the FLOPs between the narrowest and the widest granularity. The compiler
/// solves each profile: it mixes two adjacent granularities, with the narrower one in the first layers (arXiv 2310.07707, section 3.3).
/// The profiles are named <c>Grid1</c>, <c>Grid2</c>..., narrowest first.
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
    /// <param name="count">The number of profiles.</param>
    public ProfileGridAttribute(int count) => Count = count;

    /// <summary>The number of profiles.</summary>
    public int Count { get; }

    /// <summary>The beginning of the profiles' names. The default is <c>Grid</c>.</summary>
    public string Prefix { get; set; } = "Grid";
}
