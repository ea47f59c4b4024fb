using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Rotates heads by their positions: x * (cos, cos) + (second half, first half) * (-sin, sin). This takes half as many operations as
/// rotating half by half.
/// </summary>
internal sealed class Rotation
{
    private readonly Tensor _cos; // (T, 1, D) float32
    private readonly Tensor _sin;

    private Rotation(Tensor cos, Tensor sin) => (_cos, _sin) = (cos, sin);

    /// <summary>Creates a rotation by the angles (T, D/2) float32. Its tensors belong to the current dispose scope.</summary>
    public static Rotation Of(Tensor cos, Tensor sin) =>
        new(cat([cos, cos], 1).unsqueeze(1), cat([sin.neg(), sin], 1).unsqueeze(1));

    /// <summary>Returns this rotation with tensors that <paramref name="keep"/> keeps.</summary>
    public Rotation Kept(Func<Tensor, Tensor> keep) => new(keep(_cos), keep(_sin));

    /// <summary>Rotates x (B, T, H, D). The result has x's shape and dtype.</summary>
    public Tensor Turn(Tensor x)
    {
        using var wide = x.to(ScalarType.Float32);
        using var turned = TurnWide(wide, false);
        return turned.to(x.dtype);
    }

    /// <summary>Rotates (B, T, H, D) float32, or rotates it back, as gradients need.</summary>
    public Tensor TurnWide(Tensor wide, bool back)
    {
        using var swapped = wide.roll(wide.shape[3] / 2, 3);
        return wide.mul(_cos).addcmul_(swapped, _sin, back ? Number(-1L) : One);
    }
}
