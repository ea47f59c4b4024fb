using System.Globalization;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Binds libmatformer_cpu through its C ABI (native/matformer_cpu.h).</summary>
internal static unsafe partial class CpuLibrary
{
    /// <summary>
    /// A name for <see cref="UseInstructionSet"/>: the loops of "amx_bf16", but with a slow software emulation of the CPU's tile matrix
    /// unit. It is available where "avx512_bf16" is among <see cref="InstructionSets"/>.
    /// </summary>
    public const string EmulatedTiles = "amx_emulated";

    private const string Name = "matformer_cpu";
    private const int AbiVersion = 2;

    static CpuLibrary()
    {
        try
        {
            var version = mf_abi_version();
            if (version != AbiVersion)
            {
                Problem = $"the library {Name} belongs to another version of MatFormer (ABI {version}, not {AbiVersion})";
                return;
            }

            InstructionSets = Marshal.PtrToStringUTF8(mf_instruction_sets())!.Split(',');
            if (InstructionSets[0] == "portable" && RuntimeInformation.ProcessArchitecture == Architecture.X64)
                Problem = "this CPU has no AVX2";
        }
        catch (Exception exception) when (exception is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            Problem = exception is DllNotFoundException ? $"the library {Name} was not found" : exception.Message;
        }
    }

    /// <summary>Why the library is not used. Null if it is used.</summary>
    public static string? Problem { get; }

    /// <summary>The instruction sets with which this machine can run the loops, best first. Empty if the library was not found.</summary>
    public static IReadOnlyList<string> InstructionSets { get; } = [];

    /// <summary>Switches the loops to one of <see cref="InstructionSets"/>, or to <see cref="EmulatedTiles"/>. For tests.</summary>
    /// <exception cref="ArgumentException">The name is unknown, or this machine does not have the instruction set.</exception>
    public static void UseInstructionSet(string name)
    {
        if (mf_use_instruction_set(name) != 0) throw new ArgumentException(LastError(), nameof(name));
    }

    /// <summary>Measures the time of each operation in the whole process until <see cref="StopProfile"/>.</summary>
    public static void StartProfile() => mf_profile(1);

    /// <summary>
    /// Stops measuring and returns the seconds that each operation took since <see cref="StartProfile"/>, by names such as
    /// feed_forward.backward.
    /// </summary>
    public static IReadOnlyDictionary<string, double> StopProfile()
    {
        mf_profile(0);
        var lines = Marshal.PtrToStringUTF8(mf_profile_read())!.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        return lines.Select(line => line.Split(' '))
            .ToDictionary(part => part[0], part => double.Parse(part[1], CultureInfo.InvariantCulture), StringComparer.Ordinal);
    }

    /// <summary>Throws the library's error message if a call failed.</summary>
    public static void Check(int status)
    {
        if (status != 0) throw new ArgumentException(LastError());
    }

    private static string LastError() => Marshal.PtrToStringUTF8(mf_last_error()) ?? "The library gives no reason.";

    [LibraryImport(Name)]
    private static partial int mf_abi_version();

    [LibraryImport(Name)]
    private static partial nint mf_last_error();

    [LibraryImport(Name)]
    private static partial nint mf_instruction_sets();

    [LibraryImport(Name, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mf_use_instruction_set(string name);

    [LibraryImport(Name)]
    private static partial void mf_profile(int on);

    [LibraryImport(Name)]
    private static partial nint mf_profile_read();

    [LibraryImport(Name)]
    public static partial int mf_set_threads(int count);

    [LibraryImport(Name)]
    public static partial int mf_embedding_forward(Embedding* call);

    [LibraryImport(Name)]
    public static partial int mf_embedding_backward(Embedding* call);

    [LibraryImport(Name)]
    public static partial int mf_positions_forward(Positions* call);

    [LibraryImport(Name)]
    public static partial int mf_positions_backward(Positions* call);

    [LibraryImport(Name)]
    public static partial long mf_norm_kept(NormCall* call);

    [LibraryImport(Name)]
    public static partial int mf_norm_forward(NormCall* call);

    [LibraryImport(Name)]
    public static partial int mf_norm_backward(NormCall* call);

    [LibraryImport(Name)]
    public static partial int mf_linear_forward(Linear* call);

    [LibraryImport(Name)]
    public static partial int mf_linear_backward(Linear* call);

    [LibraryImport(Name)]
    public static partial long mf_attention_kept(Attention* call);

    [LibraryImport(Name)]
    public static partial int mf_attention_forward(Attention* call);

    [LibraryImport(Name)]
    public static partial int mf_attention_backward(Attention* call);

    [LibraryImport(Name)]
    public static partial long mf_feed_forward_kept(FeedForward* call);

    [LibraryImport(Name)]
    public static partial int mf_feed_forward_forward(FeedForward* call);

    [LibraryImport(Name)]
    public static partial int mf_feed_forward_backward(FeedForward* call);

    [LibraryImport(Name)]
    public static partial long mf_cross_entropy_kept(CrossEntropy* call);

    [LibraryImport(Name)]
    public static partial int mf_cross_entropy_forward(CrossEntropy* call);

    [LibraryImport(Name)]
    public static partial int mf_cross_entropy_backward(CrossEntropy* call);

    [LibraryImport(Name)]
    public static partial int mf_divergence_forward(Divergence* call);

    [LibraryImport(Name)]
    public static partial int mf_divergence_backward(Divergence* call);

    [LibraryImport(Name)]
    public static partial int mf_adamw_step(AdamW* call);

    [LibraryImport(Name)]
    public static partial int mf_sum_squares(float* x, long count, double* sum);

    [LibraryImport(Name)]
    public static partial int mf_scale(float* x, long count, float factor);

    // The structures of the header, field by field.
    [StructLayout(LayoutKind.Sequential)]
    public struct Weight
    {
        public float* Data, Gradient;
        public long Rows, Columns, Row, Add;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Norm
    {
        public Weight Weight, Bias;
        public double Epsilon;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Embedding
    {
        public long Element, Count, Width;
        public Weight Weight;
        public void* Tokens, Y, Dy;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Positions
    {
        public long Element, Batch, Time, Width, Position;
        public Weight Weight;
        public void* X, Y, Dy;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct NormCall
    {
        public long Element, Count, Width;
        public Norm Norm;
        public void* X, Y, Kept, Dy, Dx;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Linear
    {
        public long Element, Count, Ins, Outs;
        public Weight Weight, Bias;
        public void* X, Y, Dy, Dx;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Attention
    {
        public long Element, Batch, Time, Width, Heads, KeyHeads, Depth;
        public Norm Norm;
        public Weight Query, Key, Value, Output, QueryBias, KeyBias, ValueBias, OutputBias;
        public Norm QueryNorm, KeyNorm;
        public void* Cos, Sin;
        public long Causal, Window;
        public void* Lengths;
        public long LengthCount;
        public void* X, Y, Kept, KeyCache, ValueCache;
        public long Capacity, Past;
        public void* Dy, Dx;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct FeedForward
    {
        public long Element, Batch, Time, Width, Activation, Streams, Parting;
        public int* Widths, Rows;
        public Norm Norm;
        public Weight Gate, Up, Down, GateBias, UpBias, DownBias;
        public void* X, Y, Kept, Dy, Dx;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct CrossEntropy
    {
        public long Element, Batch, Time, Width, Streams;
        public int* Rows;
        public Weight Head;
        public void* X, Targets, Losses, Kept, Dlosses, Dx;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Divergence
    {
        public long Element, Batch, Time, Width, TeacherWidth, Streams, Student;
        public double Temperature;
        public int* Rows;
        public Weight Head;
        public void* X, Teacher, Losses, Dlosses, Dx;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct AdamW
    {
        public void* Parameters, Gradients, First, Second;
        public long Count;
        public double Decay, LearningRate, Beta1, Beta2, Epsilon;
        public long Step;
    }
}
