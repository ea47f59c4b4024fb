using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Turns heads by their positions: x * (cos, cos) + (second half, first half) * (-sin, sin), which is half as many operations as
/// half by half.
/// </summary>
internal sealed class Rotation
{
    private readonly Tensor _cos; // (T, 1, D) float32
    private readonly Tensor _sin;

    private Rotation(Tensor cos, Tensor sin) => (_cos, _sin) = (cos, sin);

    /// <summary>A rotation by the angles of (T, D/2) float32. Its tensors are of the scope at hand.</summary>
    public static Rotation Of(Tensor cos, Tensor sin) =>
        new(cat([cos, cos], 1).unsqueeze(1), cat([sin.neg(), sin], 1).unsqueeze(1));

    /// <summary>The same for as long as somebody keeps its tensors.</summary>
    public Rotation Kept(Func<Tensor, Tensor> keep) => new(keep(_cos), keep(_sin));

    /// <summary>Turns x (B, T, H, D): the same, in its dtype.</summary>
    public Tensor Turn(Tensor x)
    {
        using var wide = x.to(ScalarType.Float32);
        using var turned = TurnWide(wide, false);
        return turned.to(x.dtype);
    }

    /// <summary>Turns (B, T, H, D) float32, or turns it back, as the gradient is.</summary>
    public Tensor TurnWide(Tensor wide, bool back)
    {
        using var swapped = wide.roll(wide.shape[3] / 2, 3);
        return wide.mul(_cos).addcmul_(swapped, _sin, back ? Number(-1L) : One);
    }
}
