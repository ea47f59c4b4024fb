using TorchSharp;

namespace MatFormer;

/// <summary>
/// Numbers as arguments of TorchSharp's operations. TorchSharp passes a number's address to libtorch and lets go of the number, so that a
/// garbage collection on another thread may free it while libtorch reads it. Numbers from here live longer than a call can last, and
/// BannedSymbols.txt bans the operations that make numbers of their own.
/// </summary>
internal static class Numbers
{
    // No call takes more numbers than these, those in its arguments' own calls included.
    private const int Kept = 64;

    [ThreadStatic]
    private static Scalar?[]? t_kept;

    [ThreadStatic]
    private static int t_next;

    /// <summary>1, as a whole number: the factor of a plain sum.</summary>
    public static Scalar One { get; } = 1.ToScalar();

    /// <summary>A number that lives until its thread has asked for 64 more.</summary>
    public static Scalar Number(double value) => Keep(value.ToScalar());

    /// <inheritdoc cref="Number(double)"/>
    public static Scalar Number(long value) => Keep(value.ToScalar());

    /// <summary>The squares of a tensor's numbers; <c>square</c> has a number inside.</summary>
    public static torch.Tensor Square(torch.Tensor x) => x.mul(x);

    private static Scalar Keep(Scalar number)
    {
        var kept = t_kept ??= new Scalar[Kept];
        kept[t_next++ % Kept] = number;
        return number;
    }
}
