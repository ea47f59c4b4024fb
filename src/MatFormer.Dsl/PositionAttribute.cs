using System;

namespace MatFormer;

/// <summary>
/// Declares how the model encodes positions. The default is rotary positions, and learned positions for <see cref="MatViTAttribute"/>.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class PositionAttribute : Attribute
{
    /// <summary>Declares the positions.</summary>
    public PositionAttribute(PositionKind kind) => Kind = kind;

    /// <summary>The kind of position encoding.</summary>
    public PositionKind Kind { get; }
}
