using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Chooses the memory in which the native library writes the gradients of weights.</summary>
internal static class Gradients
{
    private static readonly ConditionalWeakTable<Tensor, Tensor> s_places = [];

    /// <summary>Sets the memory, contiguous and of the weight's shape, that the weight's next new <c>grad</c> uses.</summary>
    public static void Place(Tensor weight, Tensor place) => s_places.AddOrUpdate(weight, place);

    /// <summary>
    /// Returns the gradient of a weight, contiguous float32. If <c>IsThere</c> is true, the caller adds to it; otherwise the caller
    /// overwrites all of it.
    /// </summary>
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
