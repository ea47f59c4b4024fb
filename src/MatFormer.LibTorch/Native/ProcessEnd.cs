namespace MatFormer.Torch;

/// <summary>Keeps finalizers away from libtorch once the process ends and libtorch's static objects are being destroyed.</summary>
internal static class ProcessEnd
{
    private static readonly Lock Gate = new();
    private static volatile bool ending;

    static ProcessEnd() => AppDomain.CurrentDomain.ProcessExit += static (_, _) =>
    {
        // Waits for the finalizer that is under way.
        lock (Gate)
        {
            ending = true;
        }
    };

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
}
