using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace MatFormer.Torch;

/// <summary>
/// Loads libmatformer_torch with a shorter wait in OpenMP. GNU's lets a thread that waits for others spin for milliseconds; where something
/// else has a core too, the threads' time goes into that instead of the work they wait for, and a step takes several times as long.
/// </summary>
internal static partial class NativeLoader
{
    // Turns of the loop, of some ten nanoseconds each: long enough for what lies between two parallel loops.
    private const string Spin = "5000";
    private const string Variable = "GOMP_SPINCOUNT";

    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "It must be there before the first native call.")]
    internal static void Register() => NativeLibrary.SetDllImportResolver(typeof(NativeLoader).Assembly, Resolve);

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path)
    {
        var given = Environment.GetEnvironmentVariable(Variable) ?? Environment.GetEnvironmentVariable("OMP_WAIT_POLICY");
        if (name != "matformer_torch" || given is not null || !OperatingSystem.IsLinux()) return 0;

        // OpenMP reads its settings once, as it is loaded. Programs that are started later are none of our business.
        _ = setenv(Variable, Spin, 0);
        try
        {
            return NativeLibrary.Load(name, assembly, path);
        }
        finally
        {
            _ = unsetenv(Variable);
        }
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int unsetenv(string name);
}
