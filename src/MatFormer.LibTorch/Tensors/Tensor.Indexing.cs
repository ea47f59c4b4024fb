using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    // Indexing, as Python's x[...]: views where only places and slices are named, copies where tensors are.
    public partial class Tensor
    {
        public Tensor this[long i1]
        {
            get => index(new TensorIndex[] { i1 });
            set => index_put_(value, new TensorIndex[] { i1 });
        }

        public Tensor this[long i1, long i2]
        {
            get => index(new TensorIndex[] { i1, i2 });
            set => index_put_(value, new TensorIndex[] { i1, i2 });
        }

        public Tensor this[long i1, long i2, long i3]
        {
            get => index(new TensorIndex[] { i1, i2, i3 });
            set => index_put_(value, new TensorIndex[] { i1, i2, i3 });
        }

        public Tensor this[long i1, long i2, long i3, long i4]
        {
            get => index(new TensorIndex[] { i1, i2, i3, i4 });
            set => index_put_(value, new TensorIndex[] { i1, i2, i3, i4 });
        }

        public Tensor this[params TensorIndex[] indices]
        {
            get => index(indices);
            set => index_put_(value, indices);
        }

        public Tensor this[params Tensor[] indices]
        {
            get => index(indices);
            set => index_put_(value, indices);
        }

        public Tensor index(params TensorIndex[] indices)
        {
            var (view, tensors) = View(indices);
            if (tensors.Count == 0)
            {
                // The view may be this very handle, when nothing was cut: then another one.
                return Registered(ReferenceEquals(view, this) ? Unregistered(mf_alias(Handle)) : view);
            }

            var result = Pick(view, tensors);
            DisposeUnlessThis(view);
            return result;
        }

        public Tensor index(params Tensor[] indices) => Pick(this, indices);

        public Tensor index_put_(Tensor value, params TensorIndex[] indices)
        {
            var (view, tensors) = View(indices);
            try
            {
                if (tensors.Count == 0)
                {
                    view.copy_(value);
                }
                else
                {
                    view.Put(value, tensors, accumulate: false);
                }
            }
            finally
            {
                DisposeUnlessThis(view);
            }

            return this;
        }

        public Tensor index_put_(Scalar value, params TensorIndex[] indices)
        {
            using Tensor number = value;
            using var converted = number.to(dtype, device);
            return index_put_(converted, indices);
        }

        public Tensor index_put_(Tensor value, params Tensor[] indices) => Put(value, indices, accumulate: false);

        public Tensor index_put_(Tensor value, Tensor[] indices, bool accumulate = false) => Put(value, indices, accumulate);

        private static unsafe Tensor Pick(Tensor from, IReadOnlyCollection<Tensor?> indices)
        {
            fixed (nint* handles = Handles(indices))
            {
                var made = mf_index(from.Handle, handles, indices.Count);
                GC.KeepAlive(indices);
                return Take(made, from);
            }
        }

        /// <summary>A wrapper that no scope holds: intermediate views are disposed by hand.</summary>
        private static Tensor Unregistered(nint made)
        {
            if (made == 0)
            {
                MatFormer.Torch.Native.ThrowLastError();
            }

            return new Tensor(made, register: false);
        }

        private static Tensor Registered(Tensor tensor)
        {
            DisposeScopeManager.Current?.Add(tensor);
            return tensor;
        }

        private unsafe Tensor Put(Tensor value, IReadOnlyCollection<Tensor?> indices, bool accumulate)
        {
            fixed (nint* handles = Handles(indices))
            {
                var status = mf_index_put_(Handle, handles, indices.Count, H(value), accumulate ? 1 : 0);
                GC.KeepAlive(indices);
                return Done(status, value);
            }
        }

        private void DisposeUnlessThis(Tensor view)
        {
            if (!ReferenceEquals(view, this))
            {
                view.Dispose();
            }
        }

        /// <summary>Applies places, slices and new dimensions; the tensors index what is left (null: a whole dimension).</summary>
        private (Tensor View, List<Tensor?> Tensors) View(TensorIndex[] indices)
        {
            ArgumentNullException.ThrowIfNull(indices);
            var named = indices.Sum(static i => i.Kind switch
            {
                TensorIndex.IndexKind.Single or TensorIndex.IndexKind.Slice => 1L,
                TensorIndex.IndexKind.Tensor => i.Indices!.dtype == ScalarType.Bool ? i.Indices.dim() : 1L,
                _ => 0L,
            });
            if (named > dim())
            {
                throw new ArgumentException($"{named} dimensions are indexed, and the tensor has {dim()}.", nameof(indices));
            }

            var view = this;
            var tensors = new List<Tensor?>();
            var any = false;
            long at = 0;
            foreach (var index in indices)
            {
                switch (index.Kind)
                {
                    case TensorIndex.IndexKind.Single:
                        Next(mf_select(view.Handle, at, index.Start));
                        break;
                    case TensorIndex.IndexKind.Slice:
                        if (index.Start != 0 || index.Stop != long.MaxValue || index.Step != 1)
                        {
                            Next(mf_slice(view.Handle, at, index.Start, index.Stop, index.Step));
                        }

                        Skip(1);
                        break;
                    case TensorIndex.IndexKind.NewDimension:
                        Next(mf_unsqueeze(view.Handle, at));
                        Skip(1);
                        break;
                    case TensorIndex.IndexKind.Ellipsis:
                        Skip(dim() - named);
                        break;
                    default:
                        any = true;
                        tensors.Add(index.Indices);
                        at += index.Indices!.dtype == ScalarType.Bool ? index.Indices.dim() : 1;
                        break;
                }
            }

            if (!any)
            {
                tensors.Clear();
            }

            return (view, tensors);

            void Skip(long count)
            {
                at += count;
                for (long i = 0; i < count; i++)
                {
                    tensors.Add(null);
                }
            }

            void Next(nint made)
            {
                GC.KeepAlive(view);
                DisposeUnlessThis(view);
                view = Unregistered(made);
            }
        }
    }
}
