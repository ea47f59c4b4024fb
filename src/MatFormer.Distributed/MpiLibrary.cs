using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// The C interface of an MPI library that is found at run time. Open MPI and MPICH have different binary interfaces: a handle is a pointer
/// to a symbol in one, and a number in the other. Both fit into a <c>nint</c>, which a callee that takes an <c>int</c> reads correctly on
/// x64 and arm64. All functions must be called by the thread that called <see cref="Init"/>.
/// </summary>
internal sealed unsafe partial class MpiLibrary
{
    // Newer versions of both libraries keep these names.
    private static readonly string[] s_openMpi = ["libmpi.so.40", "libmpi.so.80", "libmpi.so.20", "libmpi.so"];
    private static readonly string[] s_mpich = ["libmpich.so.12", "libmpi.so.12", "libmpich.so", "libmpi.so"];

    private const int Lazy = 1;
    private const int Global = 0x100;
    private const int Funneled = 1; // one thread makes all calls

    // A call of Open MPI moves a few fragments between processes of one machine. Calls are rare, because the thread shares its core, so
    // Open MPI's own fragments of 32 KiB would take several times as long. The names are those of its versions 4 and 5.
    private const string FragmentBytes = "262144";
    private static readonly string[] s_fragments = ["OMPI_MCA_btl_vader_max_send_size", "OMPI_MCA_btl_sm_max_send_size"];

    private readonly nint _library;
    private readonly delegate* unmanaged[Cdecl]<int*, byte***, int, int*, int> _initThread;
    private readonly delegate* unmanaged[Cdecl]<int> _finalize;
    private readonly delegate* unmanaged[Cdecl]<nint, int*, int> _rank;
    private readonly delegate* unmanaged[Cdecl]<nint, int*, int> _size;
    private readonly delegate* unmanaged[Cdecl]<byte*, int*, int> _version;
    private readonly delegate* unmanaged[Cdecl]<nint, int, int> _abort;
    private readonly delegate* unmanaged[Cdecl]<nint*, int*, nint, int> _test;
    private readonly delegate* unmanaged[Cdecl]<nint, void*, int, nint, nint, nint, nint*, int> _allReduce;
    private readonly delegate* unmanaged[Cdecl]<void*, int, nint, void*, int, nint, nint, nint*, int> _allGather;
    private readonly delegate* unmanaged[Cdecl]<void*, int, nint, void*, int, nint, nint, nint*, int> _allToAll;
    private readonly delegate* unmanaged[Cdecl]<void*, int, nint, int, nint, nint*, int> _broadcast;
    private readonly delegate* unmanaged[Cdecl]<nint, nint*, int> _barrier;
    private readonly delegate* unmanaged[Cdecl]<int, byte*, int*, int> _errorString;
    private readonly nint _inPlace;
    private readonly nint _ignoredStatus;
    private readonly nint _world;
    private readonly nint _sum;

    private MpiLibrary(nint library)
    {
        _library = library;
        IsOpenMpi = NativeLibrary.TryGetExport(library, "ompi_mpi_comm_world", out _world);
        if (IsOpenMpi)
        {
            (_sum, Byte) = (Symbol("ompi_mpi_op_sum"), Symbol("ompi_mpi_byte"));
            (Float32, Float64) = (Symbol("ompi_mpi_float"), Symbol("ompi_mpi_double"));
            (_inPlace, _ignoredStatus) = (1, 0);
        }
        else
        {
            // The numbers are part of the binary interface of MPICH and of the libraries that are compatible with it.
            (_world, _sum, Byte, Float32, Float64) = (0x44000000, 0x58000003, 0x4c00010d, 0x4c00040a, 0x4c00080b);
            (_inPlace, _ignoredStatus) = (-1, 1);
        }

        _initThread = (delegate* unmanaged[Cdecl]<int*, byte***, int, int*, int>)Symbol("MPI_Init_thread");
        _finalize = (delegate* unmanaged[Cdecl]<int>)Symbol("MPI_Finalize");
        _rank = (delegate* unmanaged[Cdecl]<nint, int*, int>)Symbol("MPI_Comm_rank");
        _size = (delegate* unmanaged[Cdecl]<nint, int*, int>)Symbol("MPI_Comm_size");
        _version = (delegate* unmanaged[Cdecl]<byte*, int*, int>)Symbol("MPI_Get_library_version");
        _abort = (delegate* unmanaged[Cdecl]<nint, int, int>)Symbol("MPI_Abort");
        _test = (delegate* unmanaged[Cdecl]<nint*, int*, nint, int>)Symbol("MPI_Test");
        _allReduce = (delegate* unmanaged[Cdecl]<nint, void*, int, nint, nint, nint, nint*, int>)Symbol("MPI_Iallreduce");
        _allGather = (delegate* unmanaged[Cdecl]<void*, int, nint, void*, int, nint, nint, nint*, int>)Symbol("MPI_Iallgather");
        _allToAll = (delegate* unmanaged[Cdecl]<void*, int, nint, void*, int, nint, nint, nint*, int>)Symbol("MPI_Ialltoall");
        _broadcast = (delegate* unmanaged[Cdecl]<void*, int, nint, int, nint, nint*, int>)Symbol("MPI_Ibcast");
        _barrier = (delegate* unmanaged[Cdecl]<nint, nint*, int>)Symbol("MPI_Ibarrier");
        _errorString = (delegate* unmanaged[Cdecl]<int, byte*, int*, int>)Symbol("MPI_Error_string");
    }

    /// <summary>Whether this is Open MPI, and not MPICH or a library that is compatible with it.</summary>
    public bool IsOpenMpi { get; }

    /// <summary>The datatype of bytes.</summary>
    public nint Byte { get; }

    /// <summary>The datatype of float32.</summary>
    public nint Float32 { get; }

    /// <summary>The datatype of float64.</summary>
    public nint Float64 { get; }

    /// <summary>Loads the library that started this process. A process that was started alone takes what it finds.</summary>
    /// <exception cref="DistributedException">There is no such library.</exception>
    public static MpiLibrary Load()
    {
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsMacOS())
            throw new DistributedException("MPI is supported on Linux and macOS; on Windows train in one process.");
        string[] names = Launch.IsOpenMpi ? s_openMpi : Launch.IsMpich ? [.. s_mpich, .. s_openMpi] : [.. s_openMpi, .. s_mpich];
        foreach (var name in names)
        {
            // The plug-ins of Open MPI find its symbols only if they are global.
            var library = dlopen(OperatingSystem.IsMacOS() ? Path.ChangeExtension(name.Split(".so")[0], ".dylib") : name, Lazy | Global);
            if (library == 0 || !NativeLibrary.TryGetExport(library, "MPI_Init_thread", out _)) continue;
            var loaded = new MpiLibrary(library);
            if (loaded.IsOpenMpi || !Launch.IsOpenMpi) return loaded;
        }

        var (what, package) = Launch.IsOpenMpi ? ("Open MPI started this process, but its library", "libopenmpi3")
            : ("An MPI library", "openmpi-bin or mpich");
        throw new DistributedException(
            $"{what} was not found ({string.Join(", ", names.Distinct())}); install it (on Debian the package {package}), or add its "
            + "folder to LD_LIBRARY_PATH.");
    }

    /// <summary>Connects the process with the others.</summary>
    public void Init()
    {
        if (IsOpenMpi)
        {
            foreach (var name in s_fragments) _ = setenv(name, FragmentBytes, overwrite: 0);
        }

        int provided;
        Check(_initThread(null, null, Funneled, &provided));
    }

    /// <summary>Ends the connection. All ranks must call it.</summary>
    public void Finish() => Check(_finalize());

    /// <summary>Returns the number of this process.</summary>
    public int Rank()
    {
        int rank;
        Check(_rank(_world, &rank));
        return rank;
    }

    /// <summary>Returns the number of processes.</summary>
    public int Size()
    {
        int size;
        Check(_size(_world, &size));
        return size;
    }

    /// <summary>Returns the name and version of the library, such as <c>Open MPI v4.1.4</c>.</summary>
    public string Version()
    {
        var text = stackalloc byte[8192];
        int length;
        Check(_version(text, &length));
        var lines = Encoding.UTF8.GetString(text, length).Trim('\0').Split('\n', ',');
        var words = lines[0].Split((char[])['\t', ' '], StringSplitOptions.RemoveEmptyEntries);
        return string.Join(' ', words.Where(word => word != "Version:"));
    }

    /// <summary>Ends all processes. The launcher reports the code.</summary>
    public void Abort(int code) => _abort(_world, code);

    /// <summary>Returns whether an operation has ended, and lets it go on.</summary>
    public bool Test(nint* request)
    {
        int flag;
        Check(_test(request, &flag, _ignoredStatus));
        return flag != 0;
    }

    /// <summary>Begins to sum numbers in place.</summary>
    public void AllReduce(void* numbers, int count, nint type, nint* request) =>
        Check(_allReduce(_inPlace, numbers, count, type, _sum, _world, request));

    /// <summary>Begins to collect bytes. Those of this rank lie in their place already if <paramref name="mine"/> is null.</summary>
    public void AllGather(void* mine, int bytes, void* all, nint* request) =>
        Check(_allGather(mine is null ? (void*)_inPlace : mine, bytes, Byte, all, bytes, Byte, _world, request));

    /// <summary>Begins to send each rank its piece, and to collect the pieces that are for this rank.</summary>
    public void AllToAll(void* pieces, int bytes, void* received, nint* request) =>
        Check(_allToAll(pieces, bytes, Byte, received, bytes, Byte, _world, request));

    /// <summary>Begins to send one rank's bytes to all.</summary>
    public void Broadcast(void* bytes, int count, int root, nint* request) => Check(_broadcast(bytes, count, Byte, root, _world, request));

    /// <summary>Begins to wait for all ranks.</summary>
    public void Barrier(nint* request) => Check(_barrier(_world, request));

    private void Check(int code)
    {
        if (code == 0) return;
        var text = stackalloc byte[1024];
        int length;
        var known = _errorString(code, text, &length) == 0 ? Encoding.UTF8.GetString(text, length).Trim('\0') : $"error {code}";
        throw new DistributedException($"MPI failed: {known}.");
    }

    private nint Symbol(string name) => NativeLibrary.TryGetExport(_library, name, out var symbol) ? symbol
        : throw new DistributedException($"The MPI library has no {name}; MPI 3 or later is needed.");

    // NativeLibrary.Load keeps symbols local.
    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint dlopen(string name, int flags);

    // What .NET sets, a library does not see.
    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);
}
