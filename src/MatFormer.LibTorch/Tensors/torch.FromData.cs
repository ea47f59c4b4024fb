using System.Runtime.InteropServices;
using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    // Tensors made from managed data, always copied. dtype: that of the data unless given.

    public static Tensor tensor(float scalar, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Float32, null, device, requires_grad, null);

    public static Tensor tensor(float[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(float[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(float[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(float[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<float> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<float> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<float> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<float> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Float32, dtype, device, requires_grad, names);

    public static Tensor tensor(double scalar, ScalarType? dtype = null, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Float64, dtype, device, requires_grad, null);

    public static Tensor tensor(double[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(double[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(double[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(double[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<double> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<double> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<double> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Float64, dtype, device, requires_grad, names);

    public static Tensor tensor(long scalar, ScalarType? dtype = null, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Int64, dtype, device, requires_grad, null);

    public static Tensor tensor(long[] dataArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(dataArray, [dataArray.Length], ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(long[] dataArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(dataArray, dimensions, ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(long[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(long[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<long> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<long> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<long> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<long> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Int64, dtype, device, requires_grad, names);

    public static Tensor tensor(int scalar, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Int32, null, device, requires_grad, null);

    public static Tensor tensor(int[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(int[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(int[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(int[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<int> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<int> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<int> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<int> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Int32, dtype, device, requires_grad, names);

    public static Tensor tensor(bool scalar, ScalarType? dtype = null, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Bool, dtype, device, requires_grad, null);

    public static Tensor tensor(bool[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(bool[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(bool[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(bool[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<bool> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<bool> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<bool> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<bool> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Bool, dtype, device, requires_grad, names);

    public static Tensor tensor(byte scalar, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Byte, null, device, requires_grad, null);

    public static Tensor tensor(byte[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(byte[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(byte[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(byte[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<byte> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<byte> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<byte> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<byte> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Byte, dtype, device, requires_grad, names);

    public static Tensor tensor(sbyte scalar, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Int8, null, device, requires_grad, null);

    public static Tensor tensor(sbyte[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(sbyte[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(sbyte[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(sbyte[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<sbyte> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<sbyte> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<sbyte> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<sbyte> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Int8, dtype, device, requires_grad, names);

    public static Tensor tensor(short scalar, Device? device = null, bool requires_grad = false) =>
        From([scalar], [], ScalarType.Int16, null, device, requires_grad, null);

    public static Tensor tensor(short[] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, [rawArray.Length], ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(short[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(rawArray, dimensions, ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(short[,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1)], ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(short[,,] rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From(Flat(rawArray), [rawArray.GetLength(0), rawArray.GetLength(1), rawArray.GetLength(2)],
            ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<short> rawArray, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rawArray.Count], ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<short> rawArray, long rows, long columns, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [rows, columns], ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<short> rawArray, long dim0, long dim1, long dim2, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], [dim0, dim1, dim2], ScalarType.Int16, dtype, device, requires_grad, names);

    public static Tensor tensor(IList<short> rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null,
        bool requires_grad = false, string[]? names = null) =>
        From([.. rawArray], dimensions, ScalarType.Int16, dtype, device, requires_grad, names);

    /// <summary>Shares the array's memory, whatever its rank; the array stays pinned as long as a view of it lives.</summary>
    public static unsafe Tensor from_array(Array rawArray, Device? device = null) => from_array(rawArray, null, device);

    public static unsafe Tensor from_array(Array rawArray, ScalarType? dtype, Device? device = null, bool requires_grad = false,
        string[]? names = null)
    {
        ArgumentNullException.ThrowIfNull(rawArray);
        RefuseNames(names);
        var type = rawArray switch
        {
            float[] or float[,] or float[,,] or float[,,,] => ScalarType.Float32,
            double[] or double[,] or double[,,] or double[,,,] => ScalarType.Float64,
            long[] or long[,] or long[,,] or long[,,,] => ScalarType.Int64,
            int[] or int[,] or int[,,] or int[,,,] => ScalarType.Int32,
            short[] or short[,] or short[,,] or short[,,,] => ScalarType.Int16,
            bool[] or bool[,] or bool[,,] or bool[,,,] => ScalarType.Bool,
            // An sbyte[] is a byte[] to the runtime's type test, so their element types are compared.
            _ when rawArray.GetType().GetElementType() == typeof(sbyte) => ScalarType.Int8,
            byte[] or byte[,] or byte[,,] or byte[,,,] => ScalarType.Byte,
            _ => throw new NotSupportedException($"An array of {rawArray.GetType().GetElementType()} cannot become a tensor."),
        };
        var shape = stackalloc long[rawArray.Rank];
        for (var d = 0; d < rawArray.Rank; d++)
        {
            shape[d] = rawArray.GetLength(d);
        }

        var pin = GCHandle.Alloc(rawArray, GCHandleType.Pinned);
        var made = mf_from_blob(pin.AddrOfPinnedObject(), shape, rawArray.Rank, (int)type, &Unpin, GCHandle.ToIntPtr(pin));
        if (made == 0)
        {
            pin.Free();
        }

        var shared = Tensor.Take(made);
        var target = InitializeDevice(device);
        if ((dtype is null || dtype == type) && target.type == DeviceType.CPU)
        {
            return shared.requires_grad_(requires_grad);
        }

        using (shared)
        {
            return shared.to(dtype ?? type, target).requires_grad_(requires_grad);
        }
    }

    [UnmanagedCallersOnly]
    private static void Unpin(nint handle) => GCHandle.FromIntPtr(handle).Free();

    private static unsafe Tensor From<T>(ReadOnlySpan<T> data, ReadOnlySpan<long> shape, ScalarType type, ScalarType? dtype,
        Device? device, bool requires_grad, string[]? names)
        where T : unmanaged
    {
        RefuseNames(names, nameof(tensor));
        device = InitializeDevice(device);
        long count = 1;
        foreach (var size in shape)
        {
            count = checked(count * size);
        }

        if (count != data.Length)
        {
            throw new ArgumentException($"tensor: the dimensions make {count} elements, and {data.Length} were given.");
        }

        fixed (T* source = data)
        fixed (long* sizes = shape)
        {
            return Tensor.Take(mf_from_data((nint)source, sizes, shape.Length, (int)type, (int)(dtype ?? type), (int)device.type,
                device.index, requires_grad ? 1 : 0));
        }
    }

    private static ReadOnlySpan<T> Flat<T>(T[,] array) =>
        array.Length == 0 ? [] : MemoryMarshal.CreateReadOnlySpan(ref array[0, 0], array.Length);

    private static ReadOnlySpan<T> Flat<T>(T[,,] array) =>
        array.Length == 0 ? [] : MemoryMarshal.CreateReadOnlySpan(ref array[0, 0, 0], array.Length);
}
