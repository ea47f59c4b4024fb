using System.Runtime.CompilerServices;

namespace MatFormer;

/// <summary>The format of weights, keys and values in memory. Arithmetic is in float32.</summary>
internal unsafe interface IElement
{
    static abstract int Size { get; }

    static abstract TLanes Load<TLanes>(byte* source)
        where TLanes : struct, ILanes<TLanes>;

    static abstract void Store(float value, byte* target);
}

internal readonly unsafe struct Float32Element : IElement
{
    public static int Size => sizeof(float);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source)
        where TLanes : struct, ILanes<TLanes> => TLanes.Load((float*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float value, byte* target) => *(float*)target = value;
}

internal readonly unsafe struct BFloat16Element : IElement
{
    public static int Size => sizeof(ushort);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source)
        where TLanes : struct, ILanes<TLanes> => TLanes.Load((ushort*)source);

    // Rounds to nearest, ties to even. NaN stays NaN.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float value, byte* target)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        var rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
        *(ushort*)target = (ushort)(float.IsNaN(value) ? (bits >> 16) | 0x40 : rounded);
    }
}

/// <summary>Integers, which must be multiplied by the scale of their row.</summary>
internal readonly unsafe struct Int8Element : IElement
{
    public static int Size => sizeof(sbyte);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source)
        where TLanes : struct, ILanes<TLanes> => TLanes.Load((sbyte*)source);

    // The value must be scaled already, to at most 127 in magnitude.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float value, byte* target) => *(sbyte*)target = (sbyte)MathF.Round(value);
}
