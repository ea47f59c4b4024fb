using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace MatFormer;

/// <summary>Facts about the machine that runs the program.</summary>
public static class Machine
{
    /// <summary>True if the CPU has instructions that multiply bfloat16 matrices: AMX-BF16 or AVX512-BF16.</summary>
    public static bool CpuHasBFloat16
    {
        get
        {
            // Intel's manual, CPUID: leaf 7.0, EDX bit 22 is AMX-BF16; leaf 7.1, EAX bit 5 is AVX512-BF16.
            // In code compiled ahead of time, Avx512F.IsSupported describes the target of the compiler, not this CPU.
            if (!X86Base.IsSupported || (RuntimeFeature.IsDynamicCodeCompiled && !Avx512F.IsSupported)) return false;
            if (X86Base.CpuId(0, 0).Eax < 7) return false;
            var (subleaves, _, _, amx) = X86Base.CpuId(7, 0);
            return (amx & (1 << 22)) != 0 || (subleaves >= 1 && (X86Base.CpuId(7, 1).Eax & (1 << 5)) != 0);
        }
    }

    /// <summary>
    /// The number of threads for computing on the CPU: OMP_NUM_THREADS if it is set, else one for each physical core that this process may
    /// use. The default of libtorch is a single thread on some virtual machines.
    /// </summary>
    public static int Threads
    {
        get
        {
            if (int.TryParse(Environment.GetEnvironmentVariable("OMP_NUM_THREADS"), out var wanted) && wanted > 0) return wanted;
            const string Cpus = "/sys/devices/system/cpu";
            if (!Directory.Exists(Cpus)) return Environment.ProcessorCount;
            var cores = Directory.EnumerateDirectories(Cpus, "cpu*")
                .Select(cpu => Path.Combine(cpu, "topology", "thread_siblings_list"))
                .Where(File.Exists)
                .Select(File.ReadAllText)
                .Distinct()
                .Count();
            return cores == 0 ? Environment.ProcessorCount : Math.Min(cores, Environment.ProcessorCount);
        }
    }

    /// <summary>Describes the processor, its cores and the system in one line.</summary>
    public static string Describe() =>
        $"{Processor()}, {Counted.Of(Environment.ProcessorCount, "core")}, {RuntimeInformation.OSDescription}, "
        + RuntimeInformation.FrameworkDescription;

    private static string Processor()
    {
        const string Cpus = "/proc/cpuinfo";
        if (File.Exists(Cpus))
        {
            var line = File.ReadLines(Cpus).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
            if (line is not null) return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
        }

        return RuntimeInformation.ProcessArchitecture.ToString();
    }
}
