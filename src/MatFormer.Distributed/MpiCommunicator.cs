using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// A communicator over MPI, for tensors on the CPU. One thread makes all calls of the library, in the order in which operations begin, so
/// that messages move while other threads compute. Messages move only during calls, and there may be no core for this thread. So it sleeps
/// between calls, and less if another thread waits for the operation.
/// </summary>
internal sealed unsafe partial class MpiCommunicator : ICommunicator
{
    private const int Failed = 1;

    // The thread sleeps after each group of tests of a request. Sleeps of 20 microseconds take half of a core from a thread that computes
    // there, so they are for threads that wait. Who waits long waits for a rank that computes or writes a file.
    private const int Group = 32;
    private const uint UnawaitedMicroseconds = 500;
    private const uint ShortMicroseconds = 20;
    private const uint LongMicroseconds = 200;
    private const int ShortSleeps = 500;

    private static int s_isConnected;

    private readonly BlockingCollection<Operation> _operations = [];
    private readonly Thread _thread;
    private readonly MpiLibrary _library;
    private byte[] _pieces = [];
    private volatile int _waiting;
    private volatile bool _aborts;
    private bool _isDisposed;

    private MpiCommunicator(MpiLibrary library)
    {
        _library = library;
        _thread = new Thread(Work) { IsBackground = true, Name = "mpi" };
        _thread.Start();
        Begin(_ =>
        {
            library.Init();
            (Rank, Size, Description) = (library.Rank(), library.Size(), library.Version());
        }).Wait();
    }

    /// <inheritdoc/>
    public string Description { get; private set; } = string.Empty;

    /// <inheritdoc/>
    public int Rank { get; private set; }

    /// <inheritdoc/>
    public int Size { get; private set; }

    /// <summary>Connects this process with those that the same launcher started.</summary>
    /// <exception cref="DistributedException">The library is not found, or does not know the other processes.</exception>
    public static MpiCommunicator Connect()
    {
        var library = MpiLibrary.Load();
        if (Interlocked.Exchange(ref s_isConnected, 1) == 1)
            throw new DistributedException("This process was connected over MPI before, and MPI allows it once; start the program again.");
        var communicator = new MpiCommunicator(library);
        if (Launch.MpiSize is not { } started || started == communicator.Size) return communicator;
        var (description, size) = (communicator.Description, communicator.Size);
        communicator.Dispose();
        throw new DistributedException(
            $"The launcher started {started} processes, but {description} connected {size}; start the program with the mpirun of the "
            + "library that is found first, or remove the other one.");
    }

    /// <inheritdoc/>
    public void CheckDevice(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type != DeviceType.CPU)
            throw new DistributedException($"MPI sends tensors on the CPU, not on {device}; give --device cpu, or --distributed nccl.");
    }

    /// <inheritdoc/>
    public ICommunication BeginAllReduce(Tensor tensor)
    {
        var (data, count) = Checked(tensor);
        return tensor.dtype switch
        {
            ScalarType.Float32 => Begin(_ => Finish(request => _library.AllReduce((void*)data, count, _library.Float32, request))),
            ScalarType.Float64 => Begin(_ => Finish(request => _library.AllReduce((void*)data, count, _library.Float64, request))),
            ScalarType.BFloat16 => Begin(_ => SumBFloat16((ushort*)data, count)),
            var type => throw new ArgumentException(
                $"Tensors of {type} cannot be summed; give float32, float64 or bfloat16.", nameof(tensor)),
        };
    }

    /// <inheritdoc/>
    public ICommunication BeginAllGather(Tensor mine, Tensor all)
    {
        var (data, count) = Checked(mine);
        var (gathered, room) = Checked(all);
        if (room != (long)count * Size || mine.dtype != all.dtype)
        {
            throw new ArgumentException(
                $"The tensors of {Size} ranks have {count} numbers each, but there is room for {room}.", nameof(all));
        }

        var bytes = checked((int)(count * mine.element_size()));
        var isInPlace = data == gathered + (nint)((long)Rank * bytes);
        return Begin(_ => Finish(request => _library.AllGather(isInPlace ? null : (void*)data, bytes, (void*)gathered, request)));
    }

    /// <inheritdoc/>
    public ICommunication BeginBroadcast(Tensor tensor, int root)
    {
        var (data, count) = Checked(tensor);
        var bytes = checked((int)(count * tensor.element_size()));
        return Begin(_ => Finish(request => _library.Broadcast((void*)data, bytes, root, request)));
    }

    /// <inheritdoc/>
    public void Barrier() => Begin(_ => Finish(_library.Barrier)).Wait();

    /// <inheritdoc/>
    public void Abort(string reason)
    {
        Console.Error.WriteLine($"Rank {Rank} of {Size} failed and ends the run: {reason}");
        Console.Error.Flush();
        _aborts = true;
        if (!_isDisposed) Begin(_ => _library.Abort(Failed));
        _thread.Join(TimeSpan.FromSeconds(5));
        Environment.Exit(Failed); // the library has ended the process, unless its thread is stuck
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        Begin(_ => _library.Finish()).Wait();
        _operations.CompleteAdding();
        _thread.Join();
        _operations.Dispose();
    }

    private delegate void Beginning(nint* request);

    private static (nint Data, int Count) Checked(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        if (tensor.device_type == DeviceType.CPU && tensor.is_contiguous()) return (TensorMemory.Of(tensor), checked((int)tensor.numel()));
        throw new ArgumentException(
            $"The tensor is on {tensor.device} or not contiguous; give a contiguous tensor on the CPU.", nameof(tensor));
    }

    private Operation Begin(Action<Operation> run)
    {
        var operation = new Operation(this, run);
        _operations.Add(operation);
        return operation;
    }

    private void Work()
    {
        foreach (var operation in _operations.GetConsumingEnumerable()) operation.Run();
    }

    // Begins an operation of the library and lets it go on until it has ended.
    private void Finish(Beginning begin)
    {
        nint request = 0;
        begin(&request);
        for (int tries = 1, sleeps = 0; !_library.Test(&request); tries++)
        {
            if (_aborts) _library.Abort(Failed);
            if (tries % Group > 0) continue;
            if (_waiting == 0) _ = usleep(UnawaitedMicroseconds);
            else _ = usleep(sleeps++ < ShortSleeps ? ShortMicroseconds : LongMicroseconds);
        }
    }

    // MPI has no bfloat16. Each rank sums its piece of the numbers in float32, in the order of the ranks, and rounds once. Then all ranks
    // collect the pieces. So all ranks get the same numbers, and the bytes are those of a ring.
    private void SumBFloat16(ushort* numbers, int count)
    {
        var piece = (count + Size - 1) / Size;
        var bytes = piece * Size * sizeof(ushort);
        if (_pieces.Length < 2 * bytes) _pieces = GC.AllocateUninitializedArray<byte>(2 * bytes, pinned: true);
        fixed (byte* both = _pieces)
        {
            ushort* sent = (ushort*)both, received = sent + ((long)piece * Size);
            new ReadOnlySpan<ushort>(numbers, count).CopyTo(new Span<ushort>(sent, count));
            new Span<ushort>(sent + count, (piece * Size) - count).Clear();
            Finish(request => _library.AllToAll(sent, piece * sizeof(ushort), received, request));
            for (var i = 0; i < piece; i++)
            {
                var sum = 0f;
                for (var rank = 0; rank < Size; rank++)
                    sum += BitConverter.UInt32BitsToSingle((uint)received[((long)rank * piece) + i] << 16);
                received[i] = Rounded(sum);
            }

            Finish(request => _library.AllGather(received, piece * sizeof(ushort), sent, request));
            new ReadOnlySpan<ushort>(sent, count).CopyTo(new Span<ushort>(numbers, count));
        }
    }

    // To the nearest bfloat16, ties to even. What is not finite stays so.
    private static ushort Rounded(float number)
    {
        var bits = BitConverter.SingleToUInt32Bits(number);
        if (float.IsNaN(number)) return 0x7fc0;
        return (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }

    // Thread.Sleep sleeps a millisecond or more.
    [LibraryImport("libc")]
    private static partial int usleep(uint microseconds);

    private sealed class Operation(MpiCommunicator communicator, Action<Operation> run) : ICommunication
    {
        private readonly ManualResetEventSlim _hasEnded = new();
        private Exception? _failure;

        public TimeSpan Duration { get; private set; }

        public void Run()
        {
            var watch = Stopwatch.StartNew();
            try
            {
                run(this);
            }
#pragma warning disable CA1031 // The exception goes to the thread that waits.
            catch (Exception e)
#pragma warning restore CA1031
            {
                _failure = e;
            }

            Duration = watch.Elapsed;
            _hasEnded.Set();
        }

        public void Wait()
        {
            Interlocked.Increment(ref communicator._waiting);
            _hasEnded.Wait();
            Interlocked.Decrement(ref communicator._waiting);
            if (_failure is not null) throw new DistributedException(_failure.Message, _failure);
        }
    }
}
