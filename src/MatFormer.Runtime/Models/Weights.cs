using System.ComponentModel;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Creates the parameters of generated models: newly drawn, or sliced from another model's.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public static class Weights
{
    /// <summary>Creates a float32 parameter with normally distributed numbers of mean 0.</summary>
    public static Parameter Normal(double std, Device device, params long[] shape)
    {
        // On the meta device there are only shapes: nothing is drawn, and nothing takes memory.
        if (device.type == DeviceType.META) return Detached(new Parameter(empty(shape, ScalarType.Float32, device)));

        // The numbers are drawn on the CPU, so that a seed gives the same model on every device.
        using var drawn = empty(shape, ScalarType.Float32);
        drawn.normal_(0, std);
        return Detached(new Parameter(drawn.to(device, copy: true)));
    }

    /// <summary>All ones, float32.</summary>
    public static Parameter Ones(Device device, params long[] shape) => Detached(new Parameter(ones(shape, ScalarType.Float32, device)));

    /// <summary>All zeros, float32.</summary>
    public static Parameter Zeros(Device device, params long[] shape) => Detached(new Parameter(zeros(shape, ScalarType.Float32, device)));

    /// <summary>Equal numbers, float32, that are kept with the weights, but that no gradient reaches.</summary>
    public static Parameter Untrained(float value, Device device, params long[] shape)
    {
        var numbers = zeros(shape, ScalarType.Float32, device);
        using var unrecorded = no_grad();
        if (device.type != DeviceType.META) numbers.fill_(Numbers.Number(value));
        return Detached(new Parameter(numbers, requires_grad: false));
    }

    /// <summary>
    /// Returns the first <paramref name="rows"/> rows (dimension 0) of a weight: copied and trainable, or shared for inference only.
    /// </summary>
    public static Parameter Rows(Parameter source, long rows, bool copy) => First(source, copy, rows);

    /// <summary>
    /// Returns the first <paramref name="columns"/> columns (dimension 1) of a weight: copied and trainable, or shared for inference only.
    /// </summary>
    public static Parameter Columns(Parameter source, long columns, bool copy) => First(source, copy, source.shape[0], columns);

    /// <summary>
    /// Returns the beginning of a weight along each dimension: copied and trainable, or shared for inference only. A dimension of
    /// <paramref name="shape"/> that is larger than the weight's keeps all of it.
    /// </summary>
    public static Parameter First(Parameter source, bool copy, params ReadOnlySpan<long> shape)
    {
        using var scope = NewDisposeScope();
        var slice = source.detach();
        for (var dim = 0; dim < shape.Length; dim++) slice = slice.narrow(dim, 0, Math.Min(shape[dim], slice.shape[dim]));
        return copy ? Detached(new Parameter(slice.clone().contiguous()))
            : Detached(new Parameter(slice.DetachFromDisposeScope(), requires_grad: false));
    }

    /// <summary>Returns a whole weight: copied and trainable, or shared for inference only.</summary>
    public static Parameter Whole(Parameter source, bool copy) => First(source, copy);

    /// <summary>
    /// Reorders the rows (dimension 0) or columns (dimension 1) of a weight in place, by (rows) or (columns) int64.
    /// </summary>
    public static void Reorder(Parameter weight, long dim, Tensor order)
    {
        using var frozen = no_grad();
        using var reordered = weight.index_select(dim, order);
        weight.copy_(reordered);
    }

    // Parameters live as long as their model, not as long as the dispose scope in which they were made.
    private static Parameter Detached(Parameter parameter)
    {
        parameter.DetachFromDisposeScope();
        return parameter;
    }
}
