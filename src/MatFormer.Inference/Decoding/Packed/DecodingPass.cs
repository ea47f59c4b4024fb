using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// Neighbouring rows of a pass that keep the same part of each layer, in the same bits, and the width of their residual stream. With a
/// budget, the place of one among the declared budgets, each row chooses its hidden units of routed layers; it is -1 otherwise.
/// </summary>
internal readonly record struct DecodingRun(
    int First, int Count, ImmutableArray<LayerSlice> Layers, int Width, DecodingWeights Weights, int Budget);

/// <summary>
/// The rows that go through a network together, at most <see cref="MaxRows"/>, and the memory that the pass needs. Each row is a token of a
/// sequence at a position. All threads of a team share the pass.
/// </summary>
internal sealed unsafe class DecodingPass : IDisposable
{
    /// <summary>The largest number of rows. A core's cache holds this many beside the weights.</summary>
    public const int MaxRows = 64;

    private readonly List<nint> _memory = [];

    public DecodingPass(DecodingNetwork network, int capacity, int threads, int? registerBits = null)
    {
        var spec = network.Spec;
        (Network, Spec) = (network, spec);
        Kernels = DecodingKernels.Create(network.Type, registerBits);
        Capacity = PackedMatrix.RoundUp(capacity);
        HeadStride = PackedMatrix.RoundUp(spec.HeadWidth);
        Stride = PackedMatrix.RoundUp(spec.Width);
        HiddenStride = PackedMatrix.RoundUp(network.Layers.Max(l => l.HiddenWidth));
        HeadsStride = Math.Max(1, network.Layers.Max(l => l.Heads)) * HeadStride;
        LogitsStride = PackedMatrix.RoundUp(spec.Vocabulary);
        HeadBytes = HeadBytesOf(spec, capacity, Kernels.CacheSize);
        LayerOffsets = new nint[spec.Layers];
        for (var layer = 0; layer < spec.Layers; layer++)
        {
            LayerOffsets[layer] = SequenceBytes;
            SequenceBytes += spec.Blocks[layer].KeyValueHeadsOf(network.Layers[layer]) * HeadBytes;
        }

        X = Allocate((nint)MaxRows * Stride);
        Normed = Allocate((nint)MaxRows * Stride);
        Queries = Allocate((nint)MaxRows * HeadsStride);
        Attended = Allocate((nint)MaxRows * HeadsStride);
        Hidden = Allocate((nint)MaxRows * HiddenStride);
        if (network.Type.NestedBits > 0)
        {
            Nested = NestedKernels.Create(registerBits);
            Rounded = Allocate(RoundedRows.Floats(MaxRows, WidestInput));
        }

        Team = new ThreadTeam(threads, Work);
        Threads = new DecodingThread[threads];
        for (var i = 0; i < threads; i++) Threads[i] = new DecodingThread(this, i);
    }

    public DecodingNetwork Network { get; }

    public ModelSpec Spec { get; }

    public DecodingKernels Kernels { get; }

    /// <summary>The products of nested weights; null if the weights are not nested.</summary>
    public NestedKernels? Nested { get; }

    public ThreadTeam Team { get; }

    /// <summary>The number of positions of a sequence, rounded up to a multiple of 16.</summary>
    public int Capacity { get; }

    /// <summary>
    /// The bytes of the keys and values of one head of one sequence: keys (HeadWidth, Capacity), then values (Capacity, HeadStride).
    /// </summary>
    public nint HeadBytes { get; }

    /// <summary>The offset in bytes of each layer's keys and values within those of a sequence.</summary>
    public nint[] LayerOffsets { get; }

    /// <summary>The bytes of the keys and values of one sequence.</summary>
    public nint SequenceBytes { get; }

    public int Stride { get; }

    public int HeadStride { get; }

    public int HeadsStride { get; }

    public int HiddenStride { get; }

    public int LogitsStride { get; }

    public float* X { get; }

    public float* Normed { get; }

    public float* Queries { get; }

    public float* Attended { get; }

    public float* Hidden { get; }

    /// <summary>The largest number of columns of a product.</summary>
    public int WidestInput => Math.Max(Stride, Math.Max(HeadsStride, HiddenStride));

    /// <summary>The memory of the rounded rows of the next product; null if the weights are not nested.</summary>
    public float* Rounded { get; }

    /// <summary>The memory that the logits of the pass are written to.</summary>
    public float* Logits { get; set; }

    /// <summary>The memory that the hidden states of the logits are written to; null if they are not wanted.</summary>
    public float* HiddenStates { get; set; }

    public int Rows { get; private set; }

    public int[] Tokens { get; } = new int[MaxRows];

    public int[] Positions { get; } = new int[MaxRows];

    /// <summary>The address of the keys and values of each row's sequence.</summary>
    public nint[] Caches { get; } = new nint[MaxRows];

    /// <summary>The index of each row's run.</summary>
    public int[] RunOf { get; } = new int[MaxRows];

    /// <summary>The rows whose logits are wanted.</summary>
    public int[] LogitRows { get; } = new int[MaxRows];

    public int LogitCount { get; private set; }

    public DecodingRun[] Runs { get; } = new DecodingRun[MaxRows];

    public int RunCount { get; private set; }

    private DecodingThread[] Threads { get; }

    /// <summary>
    /// Returns the bytes that an engine of a submodel needs for its packed weights and for the keys and values of one sequence as long as
    /// the context. No engine is created.
    /// </summary>
    public static long MemoryBytes<TModel>(ImmutableArray<LayerSlice> layers, DecodingWeights weights)
        where TModel : IDecodable<TModel>
    {
        var spec = TModel.Spec;
        var headBytes = HeadBytesOf(spec, spec.Context, DecodingKernels.Create(weights, null).CacheSize);
        using var network = TModel.CreateDecodingNetwork(layers, new WeightPacker(null, weights));
        var bytes = network.Bytes;
        for (var layer = 0; layer < layers.Length; layer++) bytes += spec.Blocks[layer].KeyValueHeadsOf(layers[layer]) * headBytes;
        return bytes;
    }

    /// <summary>Removes all rows.</summary>
    public void Clear() => (Rows, RunCount, LogitCount) = (0, 0, 0);

    /// <summary>Adds a row. It belongs to the run before it if they are alike.</summary>
    public void AddRow(
        int token, int position, nint cache, ImmutableArray<LayerSlice> layers, DecodingWeights weights, int budget, bool logits)
    {
        var row = Rows++;
        (Tokens[row], Positions[row], Caches[row]) = (token, position, cache);
        if (RunCount > 0 && Runs[RunCount - 1] is var last && last.Layers == layers && last.Weights == weights && last.Budget == budget)
            Runs[RunCount - 1] = last with { Count = last.Count + 1 };
        else
            Runs[RunCount++] = new DecodingRun(row, 1, layers, Spec.WidthOf(layers.AsSpan()), weights, budget);
        RunOf[row] = RunCount - 1;
        if (logits) LogitRows[LogitCount++] = row;
    }

    /// <summary>Returns the width of a row's residual stream.</summary>
    public int WidthOf(int row) => Runs[RunOf[row]].Width;

    /// <summary>Computes the rows.</summary>
    public void Run() => Team.Run();

    /// <summary>Allocates memory for one thread. It is released with the pass.</summary>
    public float* Allocate(nint count)
    {
        var memory = PackedMatrix.Allocate(count * sizeof(float));
        _memory.Add((nint)memory);
        return (float*)memory;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Team.Dispose();
        foreach (var memory in _memory) NativeMemory.AlignedFree((void*)memory);
        _memory.Clear();
    }

    private static nint HeadBytesOf(ModelSpec spec, int capacity, int cacheSize) =>
        (nint)PackedMatrix.RoundUp(capacity) * (spec.HeadWidth + PackedMatrix.RoundUp(spec.HeadWidth)) * cacheSize;

    private void Work(int thread) => Network.Run(Threads[thread]);
}
