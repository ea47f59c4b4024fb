using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Where the gradients of weights are written by the native library.</summary>
internal static class Gradients
{
    private static readonly ConditionalWeakTable<Tensor, Tensor> s_places = [];

    /// <summary>Names the memory, contiguous and of the shape of the weight, that its <c>grad</c> is to be once there is one.</summary>
    public static void Place(Tensor weight, Tensor place) => s_places.AddOrUpdate(weight, place);

    /// <summary>The gradient of a weight, contiguous float32, and whether it is to be added to; else all of it is to be written.</summary>
    public static (nint Data, bool IsThere) Open(Tensor weight)
    {
        using var there = weight.grad;
        if (there is not null)
        {
            if (there.dtype == ScalarType.Float32 && there.is_contiguous()) return (TensorMemory.Of(there), true);
            using var dense = there.to(ScalarType.Float32).contiguous();
            weight.grad = dense;
            return (TensorMemory.Of(dense), true);
        }

        if (s_places.TryGetValue(weight, out var place))
        {
            weight.grad = place;
            return (TensorMemory.Of(place), false);
        }

        using var made = empty(weight.shape, ScalarType.Float32);
        weight.grad = made;
        return (TensorMemory.Of(made), false);
    }
}
