using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>Records no gradients on this thread until disposed.</summary>
    public static IDisposable no_grad() => new GradientMode(false);

    public static IDisposable enable_grad(bool enabled = true) => new GradientMode(enabled);

    public static IDisposable set_grad_enabled(bool mode = true) => new GradientMode(mode);

    public static bool is_grad_enabled() => mf_grad_mode() != 0;

    /// <summary>As <see cref="no_grad"/>, and its tensors can never take part in a gradient. Dispose on the same thread.</summary>
    public static IDisposable inference_mode(bool mode = true) => new InferenceMode(mode);

    public static bool is_inference_mode_enabled() => mf_inference_mode() != 0;

    private sealed class GradientMode : IDisposable
    {
        private readonly int before = mf_grad_mode();
        private bool disposed;

        public GradientMode(bool enabled) => mf_set_grad_mode(enabled ? 1 : 0);

        public void Dispose()
        {
            if (!disposed)
            {
                disposed = true;
                mf_set_grad_mode(before);
            }
        }
    }

    private sealed class InferenceMode : IDisposable
    {
        private nint guard;

        public InferenceMode(bool enabled)
        {
            guard = mf_inference_mode_enter(enabled ? 1 : 0);
            if (guard == 0)
            {
                Native.ThrowLastError();
            }
        }

        public void Dispose()
        {
            if (guard != 0)
            {
                mf_inference_mode_leave(guard);
                guard = 0;
            }
        }
    }

    public static class autograd
    {
        /// <summary>Adds the gradients of <paramref name="tensors"/> to the leaves they were computed from (or to inputs only).</summary>
        public static unsafe void backward(IList<Tensor> tensors, IList<Tensor>? grad_tensors = null, bool? retain_graph = null,
            bool create_graph = false, IList<Tensor>? inputs = null)
        {
            fixed (nint* roots = Handles(tensors), grads = Handles(grad_tensors), leaves = Handles(inputs))
            {
                var status = mf_backward_all(roots, tensors.Count, grads, grad_tensors?.Count ?? 0, retain_graph ?? create_graph ? 1 : 0,
                    create_graph ? 1 : 0, leaves, inputs?.Count ?? 0);
                GC.KeepAlive(tensors);
                GC.KeepAlive(grad_tensors);
                GC.KeepAlive(inputs);
                Native.Check(status);
            }
        }

        public static void backward(Tensor tensor, IList<Tensor>? grad_tensors = null, bool? retain_graph = null,
            bool create_graph = false, IList<Tensor>? inputs = null) =>
            backward([tensor], grad_tensors, retain_graph, create_graph, inputs);

        public static void backward(Tensor tensor, Tensor grad_tensor, bool? retain_graph = null, bool create_graph = false,
            IList<Tensor>? inputs = null) => backward([tensor], [grad_tensor], retain_graph, create_graph, inputs);

        /// <summary>The gradients of <paramref name="outputs"/> with respect to <paramref name="inputs"/>, adding to no leaf.</summary>
        /// <returns>One for each input; with allow_unused, null for one that no output depends on.</returns>
        public static unsafe IList<Tensor> grad(IList<Tensor> outputs, IList<Tensor> inputs, IList<Tensor>? grad_outputs = null,
            bool retain_graph = false, bool create_graph = false, bool allow_unused = false)
        {
            var made = new nint[inputs.Count];
            fixed (nint* roots = Handles(outputs), grads = Handles(grad_outputs), leaves = Handles(inputs), into = made)
            {
                var status = mf_autograd_grad(roots, outputs.Count, leaves, inputs.Count, grads, grad_outputs?.Count ?? 0,
                    retain_graph ? 1 : 0, create_graph ? 1 : 0, allow_unused ? 1 : 0, into);
                GC.KeepAlive(outputs);
                GC.KeepAlive(inputs);
                GC.KeepAlive(grad_outputs);
                Native.Check(status);
            }

            return Array.ConvertAll(made, static handle => handle == 0 ? null! : new Tensor(handle));
        }
    }

    /// <summary>The handles of several tensors; none for null. The caller keeps the list alive.</summary>
    internal static nint[] Handles(IEnumerable<Tensor?>? tensors) =>
        tensors is null ? [] : [.. tensors.Select(static tensor => Tensor.OptionalHandle(tensor))];
}
