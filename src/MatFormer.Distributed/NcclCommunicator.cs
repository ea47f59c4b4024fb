using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// A communicator over NCCL, for tensors on NVIDIA GPUs. Operations are queued behind what TorchSharp has queued on the same device, so the
/// host does not wait for them. Tensors on the CPU go through the device. It was never run on several GPUs.
/// </summary>
internal sealed unsafe partial class NcclCommunicator : ICommunicator
{
    private const int IdBytes = 128;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private readonly Library _library;
    private readonly ICommunicator? _bootstrap;
    private nint _communicator;

    private NcclCommunicator(Library library, ICommunicator? bootstrap, int rank, int size, byte[] id)
    {
        (_library, _bootstrap, Rank, Size, Description) = (library, bootstrap, rank, size, $"NCCL {library.Version}");
        var copy = new Id();
        id.CopyTo(new Span<byte>(copy.Bytes, IdBytes));
        nint made;
        library.Check(library.InitRank(&made, size, copy, rank));
        _communicator = made;
    }

    /// <inheritdoc/>
    public string Description { get; }

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size { get; }

    /// <summary>Connects this process with the others. Its GPU is the one of its local rank.</summary>
    /// <exception cref="DistributedException">NCCL is not found, there is no GPU, or the processes do not find each other.</exception>
    public static NcclCommunicator Connect()
    {
        var library = Library.Load();

        // TorchSharp cannot choose a device for the process, so the process sees only its own. This must precede the first use of CUDA.
        if (Launch.LocalRank is { } local && Environment.GetEnvironmentVariable("CUDA_VISIBLE_DEVICES") is null)
            _ = setenv("CUDA_VISIBLE_DEVICES", local.ToString(CultureInfo.InvariantCulture), 1);
        if (!cuda.is_available())
        {
            throw new DistributedException(
                "NCCL needs an NVIDIA GPU, but TorchSharp finds no CUDA device here; give --distributed mpi to train on CPUs.");
        }

        if (Launch.IsMpi)
        {
            var bootstrap = MpiCommunicator.Connect();
            var id = bootstrap.Rank == 0 ? library.NewId() : new byte[IdBytes];
            using var shared = tensor(id);
            bootstrap.Broadcast(shared);
            return new NcclCommunicator(library, bootstrap, bootstrap.Rank, bootstrap.Size, shared.data<byte>().ToArray());
        }

        if (!Launch.IsTorchrun)
        {
            throw new DistributedException(
                "NCCL does not know the other processes; start the program with mpirun, or with torchrun --no-python, which sets RANK, "
                + "WORLD_SIZE, MASTER_ADDR and MASTER_PORT.");
        }

        var (rank, size) = (Launch.Required("RANK"), Launch.Required("WORLD_SIZE"));
        return new NcclCommunicator(library, null, rank, size, Exchanged(library, rank, size));
    }

    /// <inheritdoc/>
    public void CheckDevice(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type != DeviceType.CUDA)
            throw new DistributedException($"NCCL sends tensors on a GPU, not on {device}; give --device cuda, or --distributed mpi.");
    }

    /// <inheritdoc/>
    public ICommunication BeginAllReduce(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var type = tensor.dtype switch
        {
            ScalarType.Float32 => 7,
            ScalarType.Float64 => 8,
            ScalarType.BFloat16 => 9,
            var other => throw new ArgumentException(
                $"Tensors of {other} cannot be summed; give float32, float64 or bfloat16.", nameof(tensor)),
        };
        return OnDevice(tensor, data => _library.AllReduce((void*)data, (void*)data, (nuint)tensor.numel(), type, 0, _communicator, 0));
    }

    /// <inheritdoc/>
    public ICommunication BeginAllGather(Tensor mine, Tensor all)
    {
        ArgumentNullException.ThrowIfNull(mine);
        ArgumentNullException.ThrowIfNull(all);
        using var sent = mine.to(CUDA);
        var bytes = (nuint)(mine.numel() * mine.element_size());
        return OnDevice(all, data => _library.AllGather((void*)TensorMemory.Of(sent), (void*)data, bytes, 0, _communicator, 0));
    }

    /// <inheritdoc/>
    public ICommunication BeginBroadcast(Tensor tensor, int root)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var bytes = (nuint)(tensor.numel() * tensor.element_size());
        return OnDevice(tensor, data => _library.Broadcast((void*)data, (void*)data, bytes, 0, root, _communicator, 0));
    }

    /// <inheritdoc/>
    public void Barrier()
    {
        if (_bootstrap is not null)
        {
            _bootstrap.Barrier();
            return;
        }

        this.AllReduce(new double[1]);
    }

    /// <inheritdoc/>
    public void Abort(string reason)
    {
        if (_bootstrap is not null) _bootstrap.Abort(reason);
        Console.Error.WriteLine($"Rank {Rank} of {Size} failed and ends the run: {reason}");
        Console.Error.Flush();
        Environment.Exit(1); // torchrun ends the other processes
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_communicator == 0) return;
        _library.Check(_library.Destroy(_communicator));
        _communicator = 0;
        _bootstrap?.Dispose();
    }

    // Runs an operation on a tensor, or on a copy on the device.
    private Queued OnDevice(Tensor tensor, Func<nint, int> run)
    {
        if (tensor.device_type == DeviceType.CUDA)
        {
            _library.Check(run(TensorMemory.Of(tensor)));
            return new Queued();
        }

        using var copy = tensor.to(CUDA);
        _library.Check(run(TensorMemory.Of(copy)));
        tensor.copy_(copy); // waits for the device
        return new Queued();
    }

    // Rank 0 listens on the port after MASTER_PORT, which torchrun itself uses, and gives the id to the others.
    private static byte[] Exchanged(Library library, int rank, int size)
    {
        var (host, port) = (Environment.GetEnvironmentVariable("MASTER_ADDR")!, Launch.Required("MASTER_PORT") + 1);
        if (rank == 0)
        {
            var id = library.NewId();
            using var listener = new TcpListener(IPAddress.Any, port);
            listener.Start();
            using var patience = new CancellationTokenSource(s_patience);
            for (var other = 1; other < size; other++)
            {
                try
                {
                    using var client = listener.AcceptTcpClientAsync(patience.Token).AsTask().GetAwaiter().GetResult();
                    client.GetStream().Write(id);
                }
                catch (OperationCanceledException e)
                {
                    throw new DistributedException(
                        $"Only {other} of {size} ranks came to {host}:{port} within {s_patience.TotalSeconds} s.", e);
                }
            }

            return id;
        }

        var until = DateTime.UtcNow + s_patience;
        while (true)
        {
            try
            {
                using var client = new TcpClient(host, port);
                var id = new byte[IdBytes];
                client.GetStream().ReadExactly(id);
                return id;
            }
            catch (Exception e) when (e is SocketException or IOException)
            {
                if (DateTime.UtcNow > until)
                    throw new DistributedException($"Rank {rank} does not reach rank 0 at {host}:{port}: {e.Message}", e);
                Thread.Sleep(100);
            }
        }
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    // ncclUniqueId, which is passed by value.
    private struct Id
    {
        public fixed byte Bytes[IdBytes];
    }

    // The stream of TorchSharp's operations keeps the order, so there is nothing to wait for.
    private sealed class Queued : ICommunication
    {
        public TimeSpan Duration => TimeSpan.Zero;

        public void Wait()
        {
        }
    }

    /// <summary>The C interface of libnccl.so.2.</summary>
    private sealed class Library
    {
        private const string Name = "libnccl.so.2";

        public readonly delegate* unmanaged[Cdecl]<nint*, int, Id, int, int> InitRank;
        public readonly delegate* unmanaged[Cdecl]<void*, void*, nuint, int, int, nint, nint, int> AllReduce;
        public readonly delegate* unmanaged[Cdecl]<void*, void*, nuint, int, nint, nint, int> AllGather;
        public readonly delegate* unmanaged[Cdecl]<void*, void*, nuint, int, int, nint, nint, int> Broadcast;
        public readonly delegate* unmanaged[Cdecl]<nint, int> Destroy;
        private readonly delegate* unmanaged[Cdecl]<Id*, int> _getId;
        private readonly delegate* unmanaged[Cdecl]<int, byte*> _errorString;

        private Library(nint library)
        {
            int number;
            Check(((delegate* unmanaged[Cdecl]<int*, int>)Symbol("ncclGetVersion"))(&number));
            Version = string.Create(CultureInfo.InvariantCulture, $"{number / 10000}.{number / 100 % 100}.{number % 100}");
            InitRank = (delegate* unmanaged[Cdecl]<nint*, int, Id, int, int>)Symbol("ncclCommInitRank");
            AllReduce = (delegate* unmanaged[Cdecl]<void*, void*, nuint, int, int, nint, nint, int>)Symbol("ncclAllReduce");
            AllGather = (delegate* unmanaged[Cdecl]<void*, void*, nuint, int, nint, nint, int>)Symbol("ncclAllGather");
            Broadcast = (delegate* unmanaged[Cdecl]<void*, void*, nuint, int, int, nint, nint, int>)Symbol("ncclBroadcast");
            Destroy = (delegate* unmanaged[Cdecl]<nint, int>)Symbol("ncclCommDestroy");
            _getId = (delegate* unmanaged[Cdecl]<Id*, int>)Symbol("ncclGetUniqueId");
            _errorString = (delegate* unmanaged[Cdecl]<int, byte*>)Symbol("ncclGetErrorString");

            nint Symbol(string name) => NativeLibrary.GetExport(library, name);
        }

        public string Version { get; }

        public static Library Load()
        {
            if (NativeLibrary.TryLoad(Name, out var library)) return new Library(library);
            throw new DistributedException(
                $"NCCL's library {Name} was not found; install it (the package libnccl2 of NVIDIA's repository) or add its folder to "
                + "LD_LIBRARY_PATH, or give --distributed mpi to train on CPUs.");
        }

        public byte[] NewId()
        {
            var id = new Id();
            Check(_getId(&id));
            return new ReadOnlySpan<byte>(id.Bytes, IdBytes).ToArray();
        }

        public void Check(int code)
        {
            if (code == 0) return;
            var text = _errorString is null ? null : Marshal.PtrToStringUTF8((nint)_errorString(code));
            throw new DistributedException($"NCCL failed: {text ?? "error " + code.ToString(CultureInfo.InvariantCulture)}.");
        }
    }
}
