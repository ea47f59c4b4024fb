using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    // Copies, conversions and views.
    public partial class Tensor
    {
        public Tensor T => t();

        /// <summary>A new handle on the same tensor.</summary>
        public Tensor alias() => Take(mf_alias(Handle), this);

        public Tensor clone() => Take(mf_clone(Handle), this);

        public Tensor contiguous() => Take(mf_contiguous(Handle), this);

        public Tensor detach() => Take(mf_detach(Handle), this);

        public Tensor detach_() => Done(mf_detach_(Handle));

        public Tensor copy_(Tensor source, bool nonBlocking = false) => Done(mf_copy_(Handle, H(source), nonBlocking ? 1 : 0), source);

        public Tensor set_(Tensor source) => Done(mf_set_(Handle, H(source)), source);

        public Tensor cpu() => Take(mf_cpu(Handle), this);

        public Tensor cuda(Device? device = null, bool non_blocking = false)
        {
            if (device is not null && device.type != DeviceType.CUDA)
            {
                throw new ArgumentException($"'{device}' is not a CUDA device.", nameof(device));
            }

            return to(device ?? CUDA, non_blocking: non_blocking);
        }

        public Tensor to_type(ScalarType type, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Convert((int)type, -1, -1, copy, disposeAfter, non_blocking);

        public Tensor to(ScalarType type, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Convert((int)type, -1, -1, copy, disposeAfter, non_blocking);

        public Tensor to(DeviceType deviceType, int deviceIndex = -1, bool copy = false, bool disposeAfter = false,
            bool non_blocking = false)
        {
            InitializeDeviceType(deviceType);
            return Convert(-1, (int)deviceType, deviceIndex, copy, disposeAfter, non_blocking);
        }

        public Tensor to(Device device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            to(device.type, device.index, copy, disposeAfter, non_blocking);

        public Tensor to(string device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            to(new Device(device), copy, disposeAfter, non_blocking);

        public Tensor to(ScalarType type, Device device, bool copy = false, bool disposeAfter = false, bool non_blocking = false)
        {
            device = InitializeDevice(device);
            return Convert((int)type, (int)device.type, device.index, copy, disposeAfter, non_blocking);
        }

        public Tensor to(Tensor other, bool non_blocking = false) => to(other.dtype, other.device, non_blocking: non_blocking);

        public Tensor type(ScalarType dtype) => to(dtype);

        public Tensor type_as(Tensor tensor) => to(tensor.dtype);

        public Tensor @float() => to(ScalarType.Float32);

        public Tensor @double() => to(ScalarType.Float64);

        public Tensor half() => to(ScalarType.Float16);

        public Tensor bfloat16() => to(ScalarType.BFloat16);

        public Tensor @long() => to(ScalarType.Int64);

        public Tensor @int() => to(ScalarType.Int32);

        public Tensor @bool() => to(ScalarType.Bool);

        public Tensor @byte() => to(ScalarType.Byte);

        public unsafe Tensor view(params long[] shape)
        {
            fixed (long* size = shape)
            {
                return Take(mf_view(Handle, size, shape.Length), this);
            }
        }

        public Tensor view_as(Tensor other) => view(other.shape);

        public unsafe Tensor reshape(params long[] shape)
        {
            fixed (long* size = shape)
            {
                return Take(mf_reshape(Handle, size, shape.Length), this);
            }
        }

        public Tensor flatten(long start_dim = 0, long end_dim = -1) => Take(mf_flatten(Handle, start_dim, end_dim), this);

        public Tensor t() => Take(mf_t(Handle), this);

        public Tensor transpose(long dim0, long dim1) => Take(mf_transpose(Handle, dim0, dim1), this);

        public unsafe Tensor permute(params long[] permutation)
        {
            fixed (long* order = permutation)
            {
                return Take(mf_permute(Handle, order, permutation.Length), this);
            }
        }

        public unsafe Tensor flip(params long[] dims)
        {
            fixed (long* axes = dims)
            {
                return Take(mf_flip(Handle, axes, dims.Length), this);
            }
        }

        public unsafe Tensor expand(ReadOnlySpan<long> sizes, bool isImplicit = false)
        {
            fixed (long* size = sizes)
            {
                return Take(mf_expand(Handle, size, sizes.Length, isImplicit ? 1 : 0), this);
            }
        }

        public Tensor expand(long[] sizes, bool isImplicit = false) => expand((ReadOnlySpan<long>)sizes, isImplicit);

        public Tensor expand(params long[] sizes) => expand((ReadOnlySpan<long>)sizes);

        public Tensor expand_as(Tensor other) => expand((ReadOnlySpan<long>)other.shape);

        public Tensor broadcast_to(params long[] shape) => expand((ReadOnlySpan<long>)shape);

        public unsafe Tensor repeat(params long[] sizes)
        {
            fixed (long* size = sizes)
            {
                return Take(mf_repeat(Handle, size, sizes.Length), this);
            }
        }

        public Tensor narrow(long dim, long start, long length) => Take(mf_narrow(Handle, dim, start, length), this);

        public Tensor slice(long dim, long start, long finish, long step) => Take(mf_slice(Handle, dim, start, finish, step), this);

        public Tensor select(long dim, long index) => Take(mf_select(Handle, dim, index), this);

        public Tensor unsqueeze(long dim) => Take(mf_unsqueeze(Handle, dim), this);

        public Tensor squeeze(long? dim = null) =>
            Take(dim is { } one ? mf_squeeze_dim(Handle, one) : mf_squeeze(Handle), this);

        public Tensor diagonal(long offset = 0, long dim1 = 0, long dim2 = 1) => Take(mf_diagonal(Handle, offset, dim1, dim2), this);

        public Tensor unfold(long dimension, long size, long step) => Take(mf_unfold(Handle, dimension, size, step), this);

        public unsafe Tensor as_strided(long[] size, long[] strides, long storageOffset = 0)
        {
            fixed (long* sizes = size, steps = strides)
            {
                return Take(mf_as_strided(Handle, sizes, size.Length, steps, strides.Length, storageOffset), this);
            }
        }

        public unsafe Tensor[] chunk(long chunks, long dim = 0)
        {
            var room = Math.Max(1, chunks);
            return Parts(room, into => mf_chunk(Handle, chunks, dim, (nint*)into, room));
        }

        public unsafe Tensor[] split(long size, int dim = 0)
        {
            var room = size <= 0 ? 1 : (this.size(dim) / size) + 1;
            return Parts(room, into => mf_split(Handle, size, dim, (nint*)into, room));
        }

        public Tensor[] split(long[] sizes, long dim = 0) => split((ReadOnlySpan<long>)sizes, dim);

        public Tensor[] split(params long[] sizes) => split((ReadOnlySpan<long>)sizes);

        public unsafe Tensor[] split(ReadOnlySpan<long> sizes, long dim = 0)
        {
            fixed (long* given = sizes)
            {
                var (first, count) = ((nint)given, sizes.Length);
                return Parts(count, into => mf_split_sizes(Handle, (long*)first, count, dim, (nint*)into, count));
            }
        }

        public unsafe Tensor[] unbind(long dimension = 0)
        {
            var room = size((int)dimension);
            return Parts(room, into => mf_unbind(Handle, dimension, (nint*)into, room));
        }

        private unsafe Tensor Convert(int type, int deviceType, int deviceIndex, bool copy, bool disposeAfter, bool nonBlocking)
        {
            var result = Take(mf_to(Handle, type, deviceType, deviceIndex, nonBlocking ? 1 : 0, copy ? 1 : 0), this);
            if (disposeAfter)
            {
                Dispose();
            }

            return result;
        }

        /// <summary>Several results at once: <paramref name="fill"/> writes their handles and says how many, or -1 for an error.</summary>
        private unsafe Tensor[] Parts(long room, Func<nint, long> fill)
        {
            var handles = new nint[room];
            fixed (nint* into = handles)
            {
                var count = fill((nint)into);
                GC.KeepAlive(this);
                if (count < 0)
                {
                    Native.ThrowLastError();
                }

                var result = new Tensor[count];
                for (var i = 0; i < count; i++)
                {
                    result[i] = new Tensor(handles[i]);
                }

                return result;
            }
        }
    }
}
