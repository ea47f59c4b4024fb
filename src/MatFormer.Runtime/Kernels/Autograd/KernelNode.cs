using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The autograd node of every operation whose backward pass is our own. Gradients of <see cref="KernelCall.Weights"/> are added directly to
/// their <c>grad</c>, because libtorch would copy what a custom function returns. So these weights are not inputs of the node; an empty
/// tensor stands for them.
/// </summary>
internal sealed class KernelNode : autograd.SingleTensorFunction<KernelNode>
{
    // A failure that has not been thrown yet. An exception out of a backward call would end the process.
    private static Exception? s_failure;

    // The gradients that the last node returned. libtorch has its own references by the time that the next node runs.
    [ThreadStatic]
    private static List<Tensor>? t_returned;

    private static readonly Tensor s_weights = empty(0, ScalarType.Float32, requires_grad: true).DetachFromDisposeScope();

    /// <inheritdoc/>
    public override string Name => nameof(KernelNode);

    [ThreadStatic]
    private static Action<KernelCall>? t_differentiated;

    /// <summary>
    /// Calls <paramref name="action"/> after the backward pass of each call on this thread, when the gradients of its weights are there.
    /// Null ends this.
    /// </summary>
    public static void WhenDifferentiated(Action<KernelCall>? action) => t_differentiated = action;

    /// <summary>Returns whether a gradient of any input or weight is wanted.</summary>
    public static bool IsWanted(KernelCall call) =>
        is_grad_enabled()
            && (call.Inputs.Any(input => input.requires_grad) || call.Weights.Any(weight => weight is { requires_grad: true }));

    /// <summary>Returns the output of a call, connected to autograd.</summary>
    public static Tensor Record(KernelCall call, Tensor output)
    {
        var arguments = new object[2 + call.Inputs.Length];
        arguments[0] = new Run(call, output);
        arguments[1] = call.Weights.Any(weight => weight is { requires_grad: true }) ? s_weights : Missing.Value;
        call.Inputs.CopyTo(arguments, 2);
        var recorded = apply(arguments);
        call.Inputs = [];
        if (!ReferenceEquals(recorded, output)) output.Dispose();
        return recorded;
    }

    /// <summary>Throws the first failure of a backward call since this method was last called.</summary>
    public static void ThrowFailure()
    {
        if (Volatile.Read(ref s_failure) is null || Interlocked.Exchange(ref s_failure, null) is not { } failure) return;
        throw new InvalidOperationException("The gradients could not be computed: " + failure.Message, failure);
    }

    /// <summary>Disposes the gradients that the last node returned.</summary>
    public static void ReleaseReturned()
    {
        if (t_returned is null) return;
        foreach (var tensor in t_returned) tensor?.Dispose();
        t_returned = null;
    }

    /// <inheritdoc/>
    public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
    {
        var (call, output) = (Run)vars[0];
        ctx.save_data(nameof(KernelCall), call);
        return output;
    }

    /// <inheritdoc/>
    public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
    {
        ReleaseReturned();
        var call = (KernelCall)ctx.get_data(nameof(KernelCall));
        var gradients = new List<Tensor>(2 + call.InputCount) { null!, null! };
        try
        {
            using (no_grad()) call.Differentiate(grad_output, gradients);
            t_differentiated?.Invoke(call);
        }
#pragma warning disable CA1031 // No exception of any type may cross libtorch.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref s_failure, exception, null);
            foreach (var gradient in gradients) gradient?.Dispose();
            gradients = [.. Enumerable.Repeat<Tensor>(null!, 2 + call.InputCount)];
        }

        foreach (var gradient in gradients) gradient?.DetachFromDisposeScope();
        grad_output.Dispose();
        t_returned = gradients;
        return gradients;
    }

    private sealed record Run(KernelCall Call, Tensor Output);

    private sealed class Missing
    {
        public static readonly Missing Value = new();
    }
}
