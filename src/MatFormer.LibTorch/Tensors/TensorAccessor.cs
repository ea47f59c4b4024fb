using System.Collections;

namespace TorchSharp.Utils;

/// <summary>The elements of a tensor in host memory, in row-major order whatever its strides. Shares the tensor's memory.</summary>
public sealed class TensorAccessor<T> : IDisposable, IEnumerable<T>
    where T : unmanaged
{
    private readonly torch.Tensor tensor;
    private readonly nint address;
    private readonly long[] shape;
    private readonly long[] strides;
    private readonly bool contiguous;

    internal TensorAccessor(torch.Tensor tensor)
    {
        this.tensor = tensor;
        address = tensor.HostDataOfAnyLayout();
        shape = tensor.shape;
        strides = tensor.stride();
        contiguous = tensor.is_contiguous();
        Count = tensor.numel();
    }

    public long Count { get; }

    public bool IsReadOnly => false;

    /// <summary>One index counts the elements in row-major order; several are one per dimension.</summary>
    public unsafe T this[params long[] indices]
    {
        get
        {
            var value = ((T*)address)[Offset(indices)];
            GC.KeepAlive(tensor);
            return value;
        }

        set
        {
            ((T*)address)[Offset(indices)] = value;
            GC.KeepAlive(tensor);
        }
    }

    public T[] ToArray()
    {
        var result = new T[Count];
        CopyTo(result);
        return result;
    }

    /// <summary>Copies from element <paramref name="tensorIndex"/> on, as much as there is and fits.</summary>
    public void CopyTo(T[] array, int arrayIndex = 0, long tensorIndex = 0) => CopyTo(array.AsSpan(), arrayIndex, tensorIndex);

    public unsafe void CopyTo(Span<T> array, int arrayIndex = 0, long tensorIndex = 0)
    {
        var target = array[arrayIndex..];
        var count = (int)Math.Min(target.Length, Remaining(tensorIndex));
        if (contiguous)
        {
            new ReadOnlySpan<T>((T*)address + tensorIndex, count).CopyTo(target);
        }
        else
        {
            for (var i = 0; i < count; i++)
            {
                target[i] = ((T*)address)[Offset(tensorIndex + i)];
            }
        }

        GC.KeepAlive(tensor);
    }

    public void CopyFrom(T[] array, int arrayIndex = 0, long tensorIndex = 0) =>
        CopyFrom((ReadOnlySpan<T>)array, arrayIndex, tensorIndex);

    /// <summary>Overwrites from element <paramref name="tensorIndex"/> on, with as much as there is and fits.</summary>
    public unsafe void CopyFrom(ReadOnlySpan<T> array, int arrayIndex = 0, long tensorIndex = 0)
    {
        var source = array[arrayIndex..];
        var count = (int)Math.Min(source.Length, Remaining(tensorIndex));
        if (contiguous)
        {
            source[..count].CopyTo(new Span<T>((T*)address + tensorIndex, count));
        }
        else
        {
            for (var i = 0; i < count; i++)
            {
                ((T*)address)[Offset(tensorIndex + i)] = source[i];
            }
        }

        GC.KeepAlive(tensor);
    }

    public IEnumerator<T> GetEnumerator()
    {
        for (long i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Does nothing: the memory is the tensor's.</summary>
    public void Dispose()
    {
    }

    private void ThrowIfDisposed() => _ = tensor.Handle;

    private long Remaining(long tensorIndex)
    {
        ThrowIfDisposed();
        ArgumentOutOfRangeException.ThrowIfNegative(tensorIndex);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tensorIndex, Count);
        return Count - tensorIndex;
    }

    private long Offset(ReadOnlySpan<long> indices)
    {
        ThrowIfDisposed();
        if (indices.Length == 1)
        {
            return Offset(indices[0]);
        }

        if (indices.Length != shape.Length)
        {
            throw new ArgumentException($"The tensor has {shape.Length} dimensions, and {indices.Length} indices were given.",
                nameof(indices));
        }

        long offset = 0;
        for (var d = 0; d < shape.Length; d++)
        {
            if (indices[d] < 0 || indices[d] >= shape[d])
            {
                throw new IndexOutOfRangeException($"Index {indices[d]} is outside dimension {d}, which has {shape[d]} elements.");
            }

            offset += indices[d] * strides[d];
        }

        return offset;
    }

    private long Offset(long index)
    {
        if (index < 0 || index >= Count)
        {
            throw new IndexOutOfRangeException($"Element {index} of a tensor of {Count}.");
        }

        if (contiguous)
        {
            return index;
        }

        long offset = 0;
        for (var d = shape.Length - 1; d >= 0; d--)
        {
            (index, var within) = Math.DivRem(index, shape[d]);
            offset += within * strides[d];
        }

        return offset;
    }
}
