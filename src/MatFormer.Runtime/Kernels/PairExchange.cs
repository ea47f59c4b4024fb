using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Completes a batch of pairs that is divided among processes. A pair's loss needs the vectors of the whole batch, because the other pairs
/// are its negatives. While an exchange is <see cref="Current"/>, the losses of pairs are those of the whole batch, in each process, and
/// their gradients reach the rows of this process.
/// </summary>
internal abstract class PairExchange
{
    /// <summary>The exchange of this thread's batches; null if they are whole.</summary>
    [field: ThreadStatic]
    public static PairExchange? Current { get; set; }

    /// <summary>
    /// Returns the vectors of all processes, (N, D), in the order of the whole batch, with the targets, the number of streams and their
    /// rows. The arguments are those of <see cref="Kernels.PairCrossEntropy"/>. No process may leave a call out.
    /// </summary>
    /// <param name="x">The vectors of this process.</param>
    /// <param name="count">The number of streams of this pass in this process.</param>
    public abstract (Tensor X, Tensor Targets, int Streams, int[]? Rows) Whole(Tensor x, int count);

    /// <summary>Returns a teacher's vectors of all processes, without gradient, for the rows of the streams from a student on.</summary>
    public abstract Tensor WholeTeacher(Tensor teacher, int student);
}
