using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The losses of streams over a vocabulary, in blocks of rows, so that the matrix of all tokens by the whole vocabulary never exists. The
/// forward pass also computes the gradients, except for the factor of each stream, which the backward pass supplies.
/// </summary>
internal sealed class LossInBlocks : KernelCall
{
    private readonly Tensor _x;
    private readonly Tensor _head;
    private readonly long _time;
    private readonly int[] _rows;
    private readonly int _student;
    private readonly long[] _headShape;
    private readonly Tensor?[] _dHead; // (V, W) float32 for each stream, of the columns that it uses
    private Tensor? _dx; // (N, T, W)

    /// <summary>Creates the loss of the streams from the student on. The loss of earlier streams is 0.</summary>
    public LossInBlocks(Tensor x, Tensor head, int[] rows, int student)
        : base(IsInput(head) ? [x, head] : [x], IsInput(head) ? [] : [head])
    {
        (_x, _head, _time, _rows, _student) = (Dense(x), head, x.shape[1], rows, student);
        _headShape = head.shape;
        _dHead = new Tensor?[rows.Length];
    }

    /// <summary>The targets of cross-entropy, (N*T) int64, or (B*T) if shared; null for a divergence.</summary>
    public Tensor? Targets { get; init; }

    /// <summary>The teacher of a divergence: (N, T, W) of the rows from the student on, or (B, T, W) if shared.</summary>
    public Tensor? Teacher { get; init; }

    /// <summary>Whether all streams have the same targets or the same teacher.</summary>
    public bool IsShared { get; init; }

    /// <summary>The number by which logits are divided.</summary>
    public double Temperature { get; init; } = 1;

    // The largest number of logits in a block. On the CPU, larger allocations would get new pages each time.
    private long BlockNumbers => _x.device_type == DeviceType.CPU ? 1L << 23 : 1L << 26;

    public override Tensor Forward(bool isRecorded)
    {
        using var scope = NewDisposeScope();
        var input = _x.view(-1, _x.shape[2]); // (N*T, W)
        var teacher = Teacher?.view(-1, Teacher.shape[2]);
        var cast = Kernels.Composite.First(_head.detach(), _x.shape[2]).to(_x.dtype);
        var taught = teacher is null || teacher.shape[1] == _x.shape[2] ? cast
            : Kernels.Composite.First(_head.detach(), teacher.shape[1]).to(_x.dtype);
        var losses = zeros([_rows.Length], ScalarType.Float32, _x.device);
        if (isRecorded && Inputs[0].requires_grad) _dx = Keep(_student == 0 ? empty_like(_x) : zeros_like(_x));
        var dx = _dx?.view(-1, _x.shape[2]);
        for (var r = _student; r < _rows.Length && isRecorded && _head.requires_grad; r++)
            _dHead[r] = Keep(zeros([_head.shape[0], _x.shape[2]], ScalarType.Float32, _head.device));
        var (known, knownAt) = ((Tensor?)null, -1L);
        foreach (var (r, from, at, count) in Blocks())
        {
            using var inner = NewDisposeScope();
            var rows = input.narrow(0, from, count);
            var learnt = LogChances(rows, cast); // (n, V)
            Tensor loss;
            if (teacher is null)
            {
                var ids = Targets!.narrow(0, at, count).unsqueeze(1);
                loss = learnt.gather(1, ids).sum().neg_();
                if (isRecorded) learnt.exp_().scatter_add_(1, ids, full([count, 1], Number(-1L), ScalarType.Float32, _x.device));
            }
            else
            {
                if (knownAt != at)
                {
                    known?.Dispose();
                    (known, knownAt) = (LogChances(teacher.narrow(0, at, count), taught).MoveToOuterDisposeScope(), at);
                }

                var chances = known!.exp();
                loss = known.sub(learnt).mul_(chances).sum().mul_(Number(Temperature * Temperature));
                if (isRecorded) learnt.exp_().sub_(chances);
            }

            losses.narrow(0, r, 1).add_(loss.div_(Number(_rows[r] * _time)), One);
            if (!isRecorded) continue;
            var change = learnt.to(_x.dtype); // the gradient of the logits, without the factor
            dx?.narrow(0, from, count).copy_(change.mm(cast));
            _dHead[r]?.add_(change.t().mm(rows), One);
        }

        return losses.MoveToOuterDisposeScope();
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        using var scope = NewDisposeScope();
        var head = Weights.Length == 0 ? zeros(_headShape, ScalarType.Float32, gradient.device) : null;
        var first = 0L;
        for (var r = 0; r < _rows.Length; first += _rows[r++])
        {
            if (r < _student) continue;
            var factor = gradient.select(0, r).mul(Number(Temperature / (_rows[r] * _time)));
            _dx?.narrow(0, first, _rows[r]).mul_(factor);
            if (_dHead[r] is not { } change) continue;
            if (head is null) WeightGradients.Add(_head, change, factor);
            else Kernels.Composite.First(head, change.shape[1]).addcmul_(change, factor, One);
        }

        into.Add(_dx?.alias().DetachFromDisposeScope()!);
        if (head is not null) into.Add(head.MoveToOuterDisposeScope());
    }

    // A head that is computed from parameters gets its gradient as an input of the node.
    private static bool IsInput(Tensor head) => head.requires_grad && !head.is_leaf;

    // (n, W) to (n, V) float32.
    private Tensor LogChances(Tensor rows, Tensor head)
    {
        using var scope = NewDisposeScope();
        var logits = nn.functional.linear(rows, head).to(ScalarType.Float32);
        return (Temperature == 1 ? logits : logits.div_(Number(Temperature))).log_softmax(-1).MoveToOuterDisposeScope();
    }

    // Returns blocks: rows From..From+Count of x, all of one stream, and the position of their targets or teacher rows. Blocks that share
    // them follow each other.
    private IEnumerable<(int Stream, long From, long At, long Count)> Blocks()
    {
        var most = Math.Max(BlockNumbers / _head.shape[0], 1);
        if (IsShared)
        {
            var all = _rows[0] * _time;
            for (var at = 0L; at < all; at += most)
            {
                for (var r = _student; r < _rows.Length; r++) yield return (r, (r * all) + at, at, Math.Min(most, all - at));
            }

            yield break;
        }

        var before = _rows[.._student].Sum() * _time; // a teacher has only the rows from the student on
        var first = before;
        for (var r = _student; r < _rows.Length; r++)
        {
            var count = _rows[r] * _time;
            for (var at = 0L; at < count; at += most)
                yield return (r, first + at, first + at - before, Math.Min(most, count - at));
            first += count;
        }
    }
}
