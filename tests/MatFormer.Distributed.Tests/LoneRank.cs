using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Distributed.Tests;

/// <summary>
/// One of several ranks whose others compute nothing, but say what this one says: sums are its own numbers, and all tensors that it
/// collects are its own.
/// </summary>
internal sealed class LoneRank(int rank, int size) : ICommunicator
{
    public string Description => "nothing";

    public int Rank => rank;

    public int Size => size;

    public void CheckDevice(Device device)
    {
    }

    public ICommunication BeginAllReduce(Tensor tensor)
    {
        // The lengths of texts, one for each rank: those of the others are as long.
        using var longest = tensor.max();
        if (tensor.dtype == ScalarType.Float64 && tensor.numel() == size) tensor.copy_(longest);
        return new Done();
    }

    public ICommunication BeginAllGather(Tensor mine, Tensor all)
    {
        using var copy = mine.clone();
        using var parts = all.view([size, mine.numel()]);
        parts.copy_(copy.view(1, -1));
        return new Done();
    }

    public ICommunication BeginBroadcast(Tensor tensor, int root) => new Done();

    public void Barrier()
    {
    }

    public void Abort(string reason) => throw new InvalidOperationException(reason);

    public void Dispose()
    {
    }

    private sealed class Done : ICommunication
    {
        public TimeSpan Duration => TimeSpan.Zero;

        public void Wait()
        {
        }
    }
}
