using System;

namespace MatFormer;

/// <summary>How the model knows a token's position. Rotary if not declared, learned in <see cref="MatViTAttribute"/>.</summary>
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

    /// <summary>Which positions.</summary>
    public PositionKind Kind { get; }
}
