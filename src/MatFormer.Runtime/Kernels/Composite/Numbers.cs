using TorchSharp;

namespace MatFormer;

/// <summary>
/// Makes numbers for the arguments of TorchSharp's operations. TorchSharp passes a number's address to libtorch but keeps no reference to
/// the number, so a garbage collection on another thread may free it while libtorch reads it. Numbers from here live longer than a call can
/// last. BannedSymbols.txt bans the operations that make their own numbers.
/// </summary>
internal static class Numbers
{
    // No call takes more numbers than this, including the calls in its arguments.
    private const int Kept = 64;

    [ThreadStatic]
    private static Scalar?[]? t_kept;

    [ThreadStatic]
    private static int t_next;

    /// <summary>The integer 1, which is the factor of a plain sum.</summary>
    public static Scalar One { get; } = 1.ToScalar();

    /// <summary>Makes a number that lives until its thread has asked for 64 more.</summary>
    public static Scalar Number(double value) => Keep(value.ToScalar());

    /// <inheritdoc cref="Number(double)"/>
    public static Scalar Number(long value) => Keep(value.ToScalar());

    /// <summary>Returns the squares of a tensor's numbers. TorchSharp's <c>square</c> makes a number of its own.</summary>
    public static torch.Tensor Square(torch.Tensor x) => x.mul(x);

    private static Scalar Keep(Scalar number)
    {
        var kept = t_kept ??= new Scalar[Kept];
        kept[t_next++ % Kept] = number;
        return number;
    }
}
