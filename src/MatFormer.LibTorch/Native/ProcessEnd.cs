using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace MatFormer.Torch;

/// <summary>
/// When the process ends, libtorch's static objects are destroyed while other threads still run. Finalizers must not call it then,
/// and what background threads hear from it makes no sense any more.
/// </summary>
internal static class ProcessEnd
{
    private static readonly Lock Gate = new();
    private static volatile bool ending;

    /// <summary>Before any tensor exists: a handler that is added while the process ends is not called.</summary>
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "There is no later moment that is surely early enough.")]
    internal static void Watch()
    {
        AppDomain.CurrentDomain.ProcessExit += static (_, _) =>
        {
            // Waits for the finalizer that is under way.
            lock (Gate)
            {
                ending = true;
            }
        };
        TensorOwner.MarkFinalizerThread();
    }

    internal static void RunUnlessEnding<T>(T argument, Action<T> action)
    {
        lock (Gate)
        {
            if (!ending)
            {
                action(argument);
            }
        }
    }

    /// <summary>Holds a background thread back until the process is gone, rather than let it report libtorch's dying words.</summary>
    internal static void AwaitIfEnding()
    {
        if (ending && Thread.CurrentThread.IsBackground)
        {
            Thread.Sleep(TimeSpan.FromSeconds(10));
        }
    }
}
