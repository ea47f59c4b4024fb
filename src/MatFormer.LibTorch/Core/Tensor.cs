using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>
    /// A handle on a native tensor. Disposing it, the scope that it was made in, or at last the garbage collector frees the handle;
    /// the memory goes with its last handle.
    /// </summary>
    public partial class Tensor : IDisposable
    {
        // Null once disposed.
        private TensorOwner? owner;

        internal Tensor(nint handle, bool register = true)
        {
            owner = TensorOwner.Of(handle);
            if (register)
            {
                DisposeScopeManager.Current?.Add(this);
            }
        }

        /// <summary>Tensors that managed code holds now.</summary>
        public static long TotalCount => TensorOwner.Live;

        /// <summary>The most that <see cref="TotalCount"/> has been.</summary>
        public static long PeakCount => TensorOwner.Peak;

        /// <summary>The native at::Tensor*.</summary>
        /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
        public nint Handle
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            get
            {
                var handle = owner is { } held ? held.Handle : 0;
                if (handle == 0)
                {
                    ThrowDisposed();
                }

                return handle;
            }
        }

        /// <summary>Whether the tensor was disposed.</summary>
        public bool IsInvalid => owner is null;

        /// <summary>A name for people; libtorch does not see it.</summary>
        public string? name { get; set; }

        internal DisposeScope? OwningDisposeScope { get; set; }

        /// <summary>Takes over a native at::Tensor*.</summary>
        public static Tensor UnsafeCreateTensor(nint handle) => new(handle);

        public void Dispose()
        {
            Dispose(true);
            GC.SuppressFinalize(this);
        }

        /// <summary>Gives the handle away: the caller must free it.</summary>
        public nint DecoupleFromNativeHandle()
        {
            var given = Handle;
            OwningDisposeScope?.Forget(this);
            Interlocked.Exchange(ref owner, null)?.Release();
            return given;
        }

        /// <summary>Moves the tensor to the scope around its own; without one, out of every scope.</summary>
        public Tensor MoveToOuterDisposeScope()
        {
            OwningDisposeScope?.MoveToOuter(this);
            return this;
        }

        /// <summary>Takes the tensor out of every scope: it lives until it is disposed, or until the garbage collector finds it.</summary>
        public Tensor DetachFromDisposeScope()
        {
            OwningDisposeScope?.Detach(this);
            return this;
        }

        public Tensor MoveToOtherDisposeScope(Tensor other) => MoveToOtherDisposeScope(other.OwningDisposeScope);

        public Tensor MoveToOtherDisposeScope(DisposeScope? other)
        {
            if (OwningDisposeScope is { } scope)
            {
                scope.MoveToOther(other, this);
            }
            else
            {
                other?.Attach(this);
            }

            return this;
        }

        /// <summary>Identity, as in TorchSharp.</summary>
        public override bool Equals(object? obj) => ReferenceEquals(this, obj);

        public override int GetHashCode() => RuntimeHelpers.GetHashCode(this);

        /// <summary>Frees the handle. A tensor has no finalizer of its own: its owner (TensorOwner) has.</summary>
        protected virtual void Dispose(bool disposing)
        {
            // Exchanged, so that two threads that dispose at once free once.
            var released = Interlocked.Exchange(ref owner, null)?.Release() ?? 0;
            if (released != 0)
            {
                OwningDisposeScope?.Forget(this);
                mf_tensor_free(released);
            }
        }

        // ---- for the methods of this class ----

        /// <summary>Wraps a new native handle, or throws libtorch's error. The arguments live until then.</summary>
        internal static Tensor Take(nint made, Tensor a)
        {
            GC.KeepAlive(a);
            return Take(made);
        }

        internal static Tensor Take(nint made, Tensor a, Tensor? b)
        {
            GC.KeepAlive(a);
            GC.KeepAlive(b);
            return Take(made);
        }

        internal static Tensor Take(nint made, Tensor a, Tensor? b, Tensor? c)
        {
            GC.KeepAlive(a);
            GC.KeepAlive(b);
            GC.KeepAlive(c);
            return Take(made);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal static Tensor Take(nint made)
        {
            if (made == 0)
            {
                Native.ThrowLastError();
            }

            return new Tensor(made);
        }

        /// <summary>The handle of an argument.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        internal static nint H(Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string? argument = null)
        {
            if (tensor is null)
            {
                throw new ArgumentNullException(argument);
            }

            return tensor.Handle;
        }

        /// <summary>The handle of an argument that may be left out.</summary>
        internal static nint OptionalHandle(Tensor? tensor) => tensor is null ? 0 : tensor.Handle;

        /// <summary>A number that must be given.</summary>
        internal static Number N(Scalar number, [CallerArgumentExpression(nameof(number))] string? argument = null)
        {
            if (number is null)
            {
                throw new ArgumentNullException(argument);
            }

            return number.Value;
        }

        internal static int D(ScalarType? dtype) => dtype.HasValue ? (int)dtype.GetValueOrDefault() : -1;

        /// <summary>Gives the handle, and the place in a scope, to another wrapper. This one is disposed by it.</summary>
        internal nint Surrender(out DisposeScope? scope)
        {
            scope = OwningDisposeScope;
            return DecoupleFromNativeHandle();
        }

        /// <summary>This, after an operation in place; throws libtorch's error when it failed.</summary>
        private Tensor Done(int status, Tensor? a = null, Tensor? b = null)
        {
            GC.KeepAlive(this);
            GC.KeepAlive(a);
            GC.KeepAlive(b);
            Native.Check(status);
            return this;
        }

        [DoesNotReturn]
        private void ThrowDisposed() => throw new ObjectDisposedException(
            name is null ? GetType().Name : $"{GetType().Name} '{name}'",
            "The tensor was disposed: by Dispose, by the end of the DisposeScope that it was made in, or by being made a Parameter.");
    }
}
