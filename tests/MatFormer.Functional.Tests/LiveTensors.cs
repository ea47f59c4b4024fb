using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>The live tensors of the process.</summary>
internal static class LiveTensors
{
    /// <summary>
    /// Counts the live tensors after the garbage collector has freed those that nobody uses. What a finalizer frees may have held others,
    /// so it collects until a collection frees no more.
    /// </summary>
    public static long Count()
    {
        long before;
        do
        {
            before = Tensor.TotalCount;
            Collect();
        }
        while (Tensor.TotalCount != before);
        return before;
    }

    /// <summary>Frees what nobody uses.</summary>
    public static void Collect()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
    }
}
