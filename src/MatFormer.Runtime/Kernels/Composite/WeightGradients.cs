using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Adds what handwritten backward passes compute, in the dtype of activations, to the float32 gradients of weights.</summary>
internal static class WeightGradients
{
    /// <summary>Adds left^T right, (m, n), to the first m rows and n columns of a matrix's gradient, if one is wanted.</summary>
    public static void AddProduct(Tensor weight, Tensor left, Tensor right)
    {
        if (!weight.requires_grad) return;
        using var scope = NewDisposeScope();
        var product = left.t().mm(right);
        Of(weight).narrow(0, 0, product.shape[0]).narrow(1, 0, product.shape[1]).add_(product, One);
    }

    /// <summary>Adds the sum of the rows of (N, m) to the first m numbers of a vector's gradient, if one is wanted.</summary>
    public static void AddRows(Tensor? weight, Tensor rows)
    {
        if (weight is not { requires_grad: true }) return;
        using var scope = NewDisposeScope();
        var sum = rows.sum([0L], type: ScalarType.Float32);
        Of(weight).narrow(0, 0, sum.shape[0]).add_(sum, One);
    }

    /// <summary>Adds factor * change, both float32, to the first columns of a gradient, if one is wanted.</summary>
    public static void Add(Tensor weight, Tensor change, Tensor factor)
    {
        if (!weight.requires_grad) return;
        using var scope = NewDisposeScope();
        Kernels.Composite.First(Of(weight), change.shape[^1]).addcmul_(change, factor, One);
    }

    // An existing gradient is kept and added to: it may come from an earlier pass, or from another use of the weight in the same pass.
    private static Tensor Of(Tensor weight)
    {
        if (weight.grad is { } there) return there;
        var made = zeros_like(weight);
        weight.grad = made;
        return made;
    }
}
