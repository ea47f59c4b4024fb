using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The processes that train one model together, and how they exchange tensors. Each process has a rank, from 0. All ranks must call the
/// same methods in the same order, with tensors of the same shape and dtype. An operation that has begun must be waited for before its
/// tensors are used. The package MatFormer.Distributed implements it over MPI and NCCL.
/// </summary>
public interface ICommunicator : IDisposable
{
    /// <summary>Describes what carries the messages, such as <c>Open MPI 4.1.4</c>.</summary>
    string Description { get; }

    /// <summary>The number of this process, from 0.</summary>
    int Rank { get; }

    /// <summary>The number of processes.</summary>
    int Size { get; }

    /// <summary>Refuses a device whose tensors cannot be sent.</summary>
    /// <exception cref="DistributedException">Tensors of this device cannot be sent.</exception>
    void CheckDevice(Device device);

    /// <summary>
    /// Begins to replace a tensor by the sum over all ranks: contiguous, float32, float64 or bfloat16. All ranks get the same numbers.
    /// </summary>
    ICommunication BeginAllReduce(Tensor tensor);

    /// <summary>Begins to collect the tensors of all ranks, in order of the ranks.</summary>
    /// <param name="mine">This rank's tensor, contiguous, of any dtype. It may be this rank's own part of <paramref name="all"/>.</param>
    /// <param name="all">Gets all tensors: contiguous, <see cref="Size"/> times as many numbers, of the same dtype.</param>
    ICommunication BeginAllGather(Tensor mine, Tensor all);

    /// <summary>Begins to replace a contiguous tensor by that of one rank.</summary>
    ICommunication BeginBroadcast(Tensor tensor, int root);

    /// <summary>Waits until all ranks have called this method.</summary>
    void Barrier();

    /// <summary>
    /// Ends the processes of all ranks, after it has written this rank and the reason to standard error. Call it if this rank alone cannot
    /// go on, because the others would wait for it.
    /// </summary>
    void Abort(string reason);
}

/// <summary>An operation of a communicator that has begun.</summary>
public interface ICommunication
{
    /// <summary>The time that the operation took. It is known after <see cref="Wait"/>.</summary>
    TimeSpan Duration { get; }

    /// <summary>Waits until the operation has ended on this rank.</summary>
    /// <exception cref="DistributedException">The operation failed.</exception>
    void Wait();
}

/// <summary>Operations that every communicator has by means of the others.</summary>
public static class CommunicatorExtensions
{
    /// <summary>Replaces a tensor by the sum over all ranks (see <see cref="ICommunicator.BeginAllReduce"/>).</summary>
    public static void AllReduce(this ICommunicator communicator, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(communicator);
        communicator.BeginAllReduce(tensor).Wait();
    }

    /// <summary>Replaces numbers by their sums over all ranks.</summary>
    public static void AllReduce(this ICommunicator communicator, double[] numbers)
    {
        ArgumentNullException.ThrowIfNull(communicator);
        using var sums = tensor(numbers);
        communicator.AllReduce(sums);
        sums.data<double>().CopyTo(numbers);
    }

    /// <summary>Collects the tensors of all ranks (see <see cref="ICommunicator.BeginAllGather"/>).</summary>
    public static void AllGather(this ICommunicator communicator, Tensor mine, Tensor all)
    {
        ArgumentNullException.ThrowIfNull(communicator);
        communicator.BeginAllGather(mine, all).Wait();
    }

    /// <summary>Returns the texts of all ranks, in order of the ranks.</summary>
    public static string[] AllGather(this ICommunicator communicator, string text)
    {
        ArgumentNullException.ThrowIfNull(communicator);
        ArgumentNullException.ThrowIfNull(text);
        var bytes = System.Text.Encoding.UTF8.GetBytes(text);
        var lengths = new double[communicator.Size];
        lengths[communicator.Rank] = bytes.Length;
        communicator.AllReduce(lengths);
        var longest = Math.Max(1, (int)lengths.Max());
        var padded = new byte[longest];
        bytes.CopyTo(padded, 0);
        using var mine = tensor(padded);
        using var all = empty([communicator.Size * longest], ScalarType.Byte);
        communicator.AllGather(mine, all);
        var gathered = all.data<byte>().ToArray();
        return [.. lengths.Select((length, rank) => System.Text.Encoding.UTF8.GetString(gathered, rank * longest, (int)length))];
    }

    /// <summary>Replaces a tensor by that of one rank (see <see cref="ICommunicator.BeginBroadcast"/>).</summary>
    public static void Broadcast(this ICommunicator communicator, Tensor tensor, int root = 0)
    {
        ArgumentNullException.ThrowIfNull(communicator);
        communicator.BeginBroadcast(tensor, root).Wait();
    }
}
