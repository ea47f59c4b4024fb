using System.Runtime.InteropServices;
using TorchSharp;

namespace MatFormer.Torch;

/// <summary>A number on its way to C++ by value (struct MfScalar in native/scalar.h): no native allocation for it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct Number
{
    private const long NoneKind = 0, DoubleKind = 1, IntegerKind = 2, BooleanKind = 3;

    private readonly long bits;
    private readonly long kind;

    private Number(long bits, long kind)
    {
        this.bits = bits;
        this.kind = kind;
    }

    internal static Number None => new(0, NoneKind);

    internal static Number One => new(1, IntegerKind);

    internal static Number Of(double value) => new(BitConverter.DoubleToInt64Bits(value), DoubleKind);

    internal static Number Of(long value) => new(value, IntegerKind);

    internal static Number Of(bool value) => new(value ? 1 : 0, BooleanKind);

    internal static Number Of(Scalar? value) => value is null ? None : value.Value;

    internal bool IsDouble => kind == DoubleKind;

    internal bool IsBoolean => kind == BooleanKind;

    internal double ToDouble() => IsDouble ? BitConverter.Int64BitsToDouble(bits) : bits;

    internal long ToInt64() => IsDouble ? (long)BitConverter.Int64BitsToDouble(bits) : bits;
}
