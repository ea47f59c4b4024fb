using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The cosines and sines of rotary position embedding (RoFormer, arXiv 2104.09864), (Context, HeadWidth / 2) float32 each.
/// </summary>
public sealed class RotaryTable : IDisposable
{
    private Tensor _cos;
    private Tensor _sin;

    /// <summary>
    /// Computes the table. The angle of position t and pair i is <c>t * rotaryBase^(-2i / headWidth)</c>, or uses a scaled frequency.
    /// Angles are computed in double precision.
    /// </summary>
    public RotaryTable(int context, int headWidth, double rotaryBase, Device device, RotaryScaling? scaling = null)
    {
        var half = headWidth / 2;
        var cosines = new float[context * half];
        var sines = new float[context * half];
        RotaryAngles.Fill(context, headWidth, rotaryBase, scaling, (position, pair, cosine, sine) =>
            (cosines[(position * half) + pair], sines[(position * half) + pair]) = (cosine, sine));

        long[] shape = [context, half];
        _cos = tensor(cosines, shape, device: device).DetachFromDisposeScope();
        _sin = tensor(sines, shape, device: device).DetachFromDisposeScope();
    }

    /// <summary>
    /// Returns views (time, HeadWidth / 2) of the cosines and sines from <paramref name="position"/> on. The caller disposes them.
    /// </summary>
    public (Tensor Cos, Tensor Sin) Slice(long position, long time) => (_cos.narrow(0, position, time), _sin.narrow(0, position, time));

    /// <summary>Moves the table to a device.</summary>
    public void To(Device device)
    {
        if (_cos.device_type == device.type && _cos.device_index == device.index) return;
        (_cos, var oldCos) = (_cos.to(device).DetachFromDisposeScope(), _cos);
        (_sin, var oldSin) = (_sin.to(device).DetachFromDisposeScope(), _sin);
        oldCos.Dispose();
        oldSin.Dispose();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cos.Dispose();
        _sin.Dispose();
    }
}
