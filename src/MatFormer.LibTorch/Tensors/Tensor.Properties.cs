using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    // What a tensor is, its gradient, and its elements seen from managed code.
    public partial class Tensor
    {
        public long Dimensions => dim();

        public long ndim => dim();

        public long NumberOfElements => numel();

        /// <summary>Bytes of one element.</summary>
        public long ElementSize => element_size();

        public unsafe long[] shape
        {
            get
            {
                var sizes = new long[dim()];
                fixed (long* into = sizes)
                {
                    mf_sizes(Handle, into);
                }

                GC.KeepAlive(this);
                return sizes;
            }
        }

        public ScalarType dtype => (ScalarType)Keep(mf_dtype(Handle));

        public DeviceType device_type => (DeviceType)Keep(mf_device_type(Handle));

        public int device_index => Keep(mf_device_index(Handle));

        public Device device => device_type == DeviceType.CPU ? CPU : new Device(device_type, device_index);

        public bool is_cuda => device_type == DeviceType.CUDA;

        public bool is_meta => device_type == DeviceType.META;

        public bool is_sparse => Keep(mf_is_sparse(Handle)) != 0;

        public bool is_leaf => Keep(mf_is_leaf(Handle)) != 0;

        public bool requires_grad
        {
            get => Keep(mf_requires_grad(Handle)) != 0;
            set => Done(mf_set_requires_grad(Handle, value ? 1 : 0));
        }

        /// <summary>The gradient, in a new handle each time; null when there is none.</summary>
        public unsafe Tensor? grad
        {
            get
            {
                nint made;
                Native.Check(mf_grad(Handle, &made));
                GC.KeepAlive(this);
                return made == 0 ? null : new Tensor(made);
            }

            set => Done(mf_set_grad(Handle, OptionalHandle(value)), value);
        }

        /// <summary>The elements as bytes, without a copy. Contiguous host tensors only; valid while the tensor lives.</summary>
        /// <exception cref="InvalidOperationException">Not contiguous, or not in host memory.</exception>
        public unsafe Span<byte> bytes
        {
            get
            {
                var size = checked((int)(numel() * element_size()));
                return new Span<byte>((void*)HostData(), size);
            }

            set
            {
                var target = bytes;
                if (target.Length != value.Length)
                {
                    throw new ArgumentException($"The tensor has {target.Length} bytes, and {value.Length} were given.", nameof(value));
                }

                value.CopyTo(target);
                GC.KeepAlive(this);
            }
        }

        public long dim() => Keep(mf_dim(Handle));

        public long numel() => Keep(mf_numel(Handle));

        public long element_size() => Keep(mf_element_size(Handle));

        public long[] size() => shape;

        public unsafe long size(int dim)
        {
            long result;
            Done(mf_size(Handle, dim, &result));
            return result;
        }

        public unsafe long[] stride()
        {
            var strides = new long[dim()];
            fixed (long* into = strides)
            {
                Done(mf_strides(Handle, into));
            }

            return strides;
        }

        public unsafe long stride(int dim)
        {
            long result;
            Done(mf_stride(Handle, dim, &result));
            return result;
        }

        public unsafe long storage_offset()
        {
            long result;
            Done(mf_storage_offset(Handle, &result));
            return result;
        }

        public bool is_contiguous() => Keep(mf_is_contiguous(Handle)) != 0;

        public bool is_cpu() => device_type == DeviceType.CPU;

        public bool is_integral() => torch.is_integral(dtype);

        public bool is_floating_point() => torch.is_floating_point(dtype);

        public bool is_complex() => torch.is_complex(dtype);

        public Tensor requires_grad_(bool requires_grad = true) => Done(mf_set_requires_grad(Handle, requires_grad ? 1 : 0));

        public Tensor with_requires_grad(bool requires_grad = true) => requires_grad_(requires_grad);

        /// <summary>Keeps the gradient of a tensor that is not a leaf.</summary>
        public void retain_grad() => Done(mf_retain_grad(Handle));

        /// <summary>Adds the gradients of this scalar to the leaves that it was computed from.</summary>
        public void backward() => Done(mf_backward(Handle));

        public void backward(IList<Tensor>? grad_tensors = null, bool retain_graph = false, bool create_graph = false,
            IList<Tensor>? inputs = null) => autograd.backward([this], grad_tensors, retain_graph, create_graph, inputs);

        /// <summary>The only element.</summary>
        public unsafe Scalar ToScalar()
        {
            Number number;
            Done(mf_item(Handle, &number));
            return Scalar.Of(number);
        }

        /// <summary>The only element; <typeparamref name="T"/> must be the tensor's own type.</summary>
        /// <exception cref="ArgumentException">More or less than one element, or another type.</exception>
        public T item<T>()
            where T : unmanaged
        {
            if (numel() != 1)
            {
                throw new ArgumentException($"item() needs one element, and this tensor has {numel()}.");
            }

            return data<T>()[0];
        }

        /// <summary>The elements, in order, in host memory (a copy for a tensor that is elsewhere).</summary>
        /// <exception cref="ArgumentException"><typeparamref name="T"/> is not the tensor's type.</exception>
        public Utils.TensorAccessor<T> data<T>()
            where T : unmanaged
        {
            ValidateType<T>();
            return new Utils.TensorAccessor<T>(is_cpu() ? this : cpu());
        }

        public T ReadCpuValue<T>(long i)
            where T : unmanaged
        {
            if (!is_cpu())
            {
                throw new InvalidOperationException($"The tensor is on {device}: bring it to host memory with cpu() first.");
            }

            return data<T>()[i];
        }

        public bool ReadCpuBool(long i) => ReadCpuValue<bool>(i);

        public byte ReadCpuByte(long i) => ReadCpuValue<byte>(i);

        public int ReadCpuInt32(long i) => ReadCpuValue<int>(i);

        public long ReadCpuInt64(long i) => ReadCpuValue<long>(i);

        public float ReadCpuSingle(long i) => ReadCpuValue<float>(i);

        public double ReadCpuDouble(long i) => ReadCpuValue<double>(i);

        public bool is_nonzero() => ToScalar().ToBoolean();

        /// <summary>Shape, type and device; the elements too when they are few.</summary>
        public override string ToString()
        {
            if (IsInvalid)
            {
                return "(disposed tensor)";
            }

            var text = new StringBuilder();
            text.Append(CultureInfo.InvariantCulture, $"[{string.Join("x", shape)}], type = {dtype}, device = {device}");
            if (is_cpu() && numel() <= 16 && !is_complex() && (int)dtype is < 12 or 15)
            {
                using var scope = NewDisposeScope();
                using var noGrad = no_grad();
                var values = to(ScalarType.Float64).contiguous().data<double>();
                text.Append(", value = [");
                text.AppendJoin(", ", values.Select(static v => v.ToString("g6", CultureInfo.InvariantCulture))).Append(']');
            }

            return text.ToString();
        }

        /// <summary>The address of the elements, for contiguous tensors in host memory.</summary>
        internal unsafe nint HostData()
        {
            if (!is_contiguous())
            {
                throw new InvalidOperationException("The tensor is not contiguous: call contiguous() first.");
            }

            return HostDataOfAnyLayout();
        }

        internal unsafe nint HostDataOfAnyLayout()
        {
            if (!is_cpu())
            {
                throw new InvalidOperationException($"The tensor is on {device}: bring it to host memory with cpu() first.");
            }

            nint address;
            Done(mf_data_ptr(Handle, &address));
            return address;
        }

        internal void ValidateType<T>()
            where T : unmanaged
        {
            var fits = dtype switch
            {
                ScalarType.Byte => typeof(T) == typeof(byte),
                ScalarType.Int8 => typeof(T) == typeof(sbyte),
                ScalarType.Int16 => typeof(T) == typeof(short),
                ScalarType.Int32 => typeof(T) == typeof(int),
                ScalarType.Int64 => typeof(T) == typeof(long),
                ScalarType.Float16 => typeof(T) == typeof(Half),
                ScalarType.Float32 => typeof(T) == typeof(float),
                ScalarType.Float64 => typeof(T) == typeof(double),
                ScalarType.Bool => typeof(T) == typeof(bool),
                ScalarType.BFloat16 => typeof(T) == typeof(BFloat16),
                _ => false,
            };
            if (!fits)
            {
                throw new ArgumentException($"The tensor holds {dtype}, not {typeof(T).Name}: convert it with to(...) first.");
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private int Keep(int value)
        {
            GC.KeepAlive(this);
            return value;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private long Keep(long value)
        {
            GC.KeepAlive(this);
            return value;
        }
    }
}
