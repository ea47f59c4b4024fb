using System.Runtime.CompilerServices;

namespace MatFormer;

/// <summary>How weights, keys and values lie in memory; they are computed with in float32.</summary>
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

    // To the nearest, halves to even; not a number stays one.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float value, byte* target)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        var rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
        *(ushort*)target = (ushort)(float.IsNaN(value) ? (bits >> 16) | 0x40 : rounded);
    }
}

/// <summary>Whole numbers, to be multiplied with their row's scale.</summary>
internal readonly unsafe struct Int8Element : IElement
{
    public static int Size => sizeof(sbyte);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TLanes Load<TLanes>(byte* source)
        where TLanes : struct, ILanes<TLanes> => TLanes.Load((sbyte*)source);

    // The value is scaled: within 127.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float value, byte* target) => *(sbyte*)target = (sbyte)MathF.Round(value);
}
