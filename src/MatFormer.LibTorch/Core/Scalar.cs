using MatFormer.Torch;

namespace TorchSharp;

/// <summary>A number that an operation takes beside tensors. Held in managed memory; nothing to dispose.</summary>
public sealed class Scalar : IDisposable
{
    private Scalar(Number value) => Value = value;

    internal Number Value { get; }

    /// <summary>Float64, Int64 or Bool: libtorch keeps numbers in no narrower type.</summary>
    public torch.ScalarType Type => Value.IsDouble ? torch.ScalarType.Float64
        : Value.IsBoolean ? torch.ScalarType.Bool : torch.ScalarType.Int64;

    public static implicit operator Scalar(byte value) => new(Number.Of((long)value));

    public static implicit operator Scalar(sbyte value) => new(Number.Of((long)value));

    public static implicit operator Scalar(short value) => new(Number.Of((long)value));

    public static implicit operator Scalar(int value) => new(Number.Of((long)value));

    public static implicit operator Scalar(long value) => new(Number.Of(value));

    public static implicit operator Scalar(Half value) => new(Number.Of((double)value));

    public static implicit operator Scalar(float value) => new(Number.Of((double)value));

    public static implicit operator Scalar(double value) => new(Number.Of(value));

    public static implicit operator Scalar(bool value) => new(Number.Of(value));

    /// <summary>Does nothing; TorchSharp's scalars hold native memory.</summary>
    public void Dispose()
    {
    }

    internal static Scalar Of(Number value) => new(value);
}

/// <summary>Between numbers and <see cref="Scalar"/>.</summary>
public static class ScalarExtensionMethods
{
    public static Scalar ToScalar(this byte value) => value;

    public static Scalar ToScalar(this sbyte value) => value;

    public static Scalar ToScalar(this short value) => value;

    public static Scalar ToScalar(this int value) => value;

    public static Scalar ToScalar(this long value) => value;

    public static Scalar ToScalar(this Half value) => value;

    public static Scalar ToScalar(this float value) => value;

    public static Scalar ToScalar(this double value) => value;

    public static Scalar ToScalar(this bool value) => value;

    public static bool ToBoolean(this Scalar value) => value.Value.IsDouble ? value.Value.ToDouble() != 0 : value.Value.ToInt64() != 0;

    public static byte ToByte(this Scalar value) => (byte)value.Value.ToInt64();

    public static sbyte ToSByte(this Scalar value) => (sbyte)value.Value.ToInt64();

    public static short ToInt16(this Scalar value) => (short)value.Value.ToInt64();

    public static int ToInt32(this Scalar value) => (int)value.Value.ToInt64();

    public static long ToInt64(this Scalar value) => value.Value.ToInt64();

    public static Half ToHalf(this Scalar value) => (Half)value.Value.ToDouble();

    public static float ToSingle(this Scalar value) => (float)value.Value.ToDouble();

    public static double ToDouble(this Scalar value) => value.Value.ToDouble();
}
