using System.Runtime.CompilerServices;
using static MatFormer.Torch.NativeMethods;

namespace MatFormer.Torch;

/// <summary>
/// Owns one native at::Tensor*, and frees it when its wrapper was forgotten. Making an object with a finalizer costs as much as
/// ten plain ones, so disposed owners are used again by their thread: that is a tenth of the price of a small operation.
/// </summary>
internal sealed class TensorOwner
{
    private const int PoolSize = 64;

    [ThreadStatic]
    private static TensorOwner?[]? pool;

    [ThreadStatic]
    private static int pooled;

    // What is disposed on the finalizer thread may wait for its own finalizer: it must not be used again.
    [ThreadStatic]
    private static bool isFinalizerThread;

    private static long live;
    private static long peak;

    private nint handle;

    private TensorOwner()
    {
    }

    ~TensorOwner()
    {
        isFinalizerThread = true;
        if (handle != 0)
        {
            // At process exit libtorch's static objects go, possibly before this: then the memory is the system's to take.
            ProcessEnd.RunUnlessEnding(handle, static freed =>
            {
                Interlocked.Decrement(ref live);
                mf_tensor_free(freed);
            });
            handle = 0;
        }
    }

    /// <summary>Native tensors that are owned now.</summary>
    internal static long Live => Interlocked.Read(ref live);

    /// <summary>The most that <see cref="Live"/> has been.</summary>
    internal static long Peak => Interlocked.Read(ref peak);

    /// <summary>0 once released.</summary>
    internal nint Handle
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => handle;
    }

    internal static TensorOwner Of(nint handle)
    {
        var now = Interlocked.Increment(ref live);
        if (now > peak)
        {
            peak = now;
        }

        var owner = pooled > 0 ? Rent() : new TensorOwner();
        owner.handle = handle;
        return owner;
    }

    /// <summary>
    /// Gives the handle to the caller; 0 when it was released or finalized before. The owner is not the caller's any more.
    /// </summary>
    internal nint Release()
    {
        var released = handle;
        if (released == 0)
        {
            return 0;
        }

        handle = 0;
        Interlocked.Decrement(ref live);
        if (pooled < PoolSize && !isFinalizerThread)
        {
            (pool ??= new TensorOwner?[PoolSize])[pooled++] = this;
        }
        else
        {
            GC.SuppressFinalize(this);
        }

        return released;
    }

    private static TensorOwner Rent()
    {
        // The slot must let go of it: what the pool refers to is never finalized.
        ref var slot = ref pool![--pooled];
        var owner = slot!;
        slot = null;
        return owner;
    }

    /// <summary>The first object to be finalized tells the finalizer thread what it is.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static void MarkFinalizerThread() => _ = new TensorOwner();
}
