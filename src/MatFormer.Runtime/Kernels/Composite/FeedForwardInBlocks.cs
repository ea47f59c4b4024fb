using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The second half of a layer, one stream after the other, in blocks of rows. For the gradients it keeps its input and the projections of
/// the normed input; the normed input and the hidden units are computed again.
/// </summary>
internal sealed class FeedForwardInBlocks : KernelCall
{
    private readonly FeedForwardWeights _weights;
    private readonly int[] _widths;
    private readonly int[]? _rows;
    private Tensor _x;
    private Tensor? _kept; // the projections, block after block

    public FeedForwardInBlocks(Tensor x, FeedForwardWeights weights, int[] widths, int[]? rows)
        : base([x], weights.All) => (_x, _weights, _widths, _rows) = (Dense(x), weights, widths, rows);

    private long Projections => _weights.Gate is null ? 1 : 2;

    public override Tensor Forward(bool isRecorded)
    {
        if (isRecorded) _x = Keep(_x);
        using var scope = NewDisposeScope();
        long time = _x.shape[1], width = _x.shape[2];
        var y = empty([_rows is null ? _x.shape[0] * _widths.Length : _x.shape[0], time, width], _x.dtype, _x.device);
        var (input, output) = (_x.view(-1, width), y.view(-1, width));
        var w = new Cast(_weights, _x.shape[2], _x.dtype);
        if (isRecorded) _kept = Keep(empty([Blocks().Sum(block => block.Count * block.Width) * Projections], _x.dtype, _x.device));
        var place = 0L;
        foreach (var (m, from, to, count) in Blocks())
        {
            using var inner = NewDisposeScope();
            var rows = input.narrow(0, from, count);
            var normed = Kernels.Composite.Norm(rows, _weights.Norm);
            var gate = w.Gate is null ? null
                : Project(normed, w.Gate.narrow(0, 0, m), w.GateBias?.narrow(0, 0, m), Kept(ref place, count, m)); // (n, m)
            var up = Project(normed, w.Up.narrow(0, 0, m), w.UpBias?.narrow(0, 0, m), Kept(ref place, count, m)); // (n, m)
            var hidden = Activated(gate ?? up);
            if (gate is not null) hidden = hidden.mul_(up);
            var block = output.narrow(0, to, count).copy_(rows);
            if (w.DownBias is not null) block.add_(w.DownBias, One);
            block.addmm_(hidden, w.Down.narrow(1, 0, m).t()); // (n, W)
        }

        return y.MoveToOuterDisposeScope();
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        using var scope = NewDisposeScope();
        var width = _x.shape[2];
        var dx = empty_like(_x);
        var (input, outer, result) = (_x.view(-1, width), gradient.view(-1, width), dx.view(-1, width));
        var w = new Cast(_weights, _x.shape[2], _x.dtype);
        var place = 0L;
        foreach (var (m, from, to, count) in Blocks())
        {
            using var inner = NewDisposeScope();
            var (rows, dy) = (input.narrow(0, from, count), outer.narrow(0, to, count));
            var normed = Kernels.Composite.Norm(rows, _weights.Norm);
            var gate = w.Gate is null ? null : Kept(ref place, count, m);
            var up = Kept(ref place, count, m)!;
            var down = w.Down.narrow(1, 0, m);
            if (m == 1) down = down.contiguous(); // libtorch 2.10 computes wrong products of bfloat16 with a strided column
            var activated = Activated(gate ?? up); // (n, m)
            var dHidden = dy.mm(down); // (n, m)
            using (var hidden = gate is null ? activated.alias() : activated.mul(up)) WeightGradients.AddProduct(_weights.Down, dy, hidden);
            WeightGradients.AddRows(_weights.DownBias, dy);
            Tensor dNormed;
            if (gate is null)
            {
                dNormed = Through(_weights.Up, _weights.UpBias, w.Up.narrow(0, 0, m), Differentiated(dHidden, up), normed, null);
            }
            else
            {
                dNormed = Through(_weights.Up, _weights.UpBias, w.Up.narrow(0, 0, m), activated.mul_(dHidden), normed, null);
                using var dGate = Differentiated(dHidden.mul_(up), gate);
                Through(_weights.Gate!, _weights.GateBias, w.Gate!.narrow(0, 0, m), dGate, normed, dNormed);
            }

            var change = Kernels.Composite.NormBackward(rows, _weights.Norm, dNormed).add_(dy, One);
            if (to == from) result.narrow(0, from, count).copy_(change);
            else result.narrow(0, from, count).add_(change, One); // where streams part, their gradients add up
        }

        into.Add(dx.MoveToOuterDisposeScope());
    }

    // Returns x times the transpose of a weight, plus a bias, in the given memory or in new memory.
    private static Tensor Project(Tensor x, Tensor weight, Tensor? bias, Tensor? into)
    {
        if (into is null) return nn.functional.linear(x, weight, bias);
        if (bias is not null) into.copy_(bias);
        return into.addmm_(x, weight.t(), bias is null ? 0 : 1);
    }

    // Returns the next (rows, columns) of the kept memory. There is only one allocation, because many small ones among short-lived
    // allocations would leave gaps.
    private Tensor? Kept(ref long place, long rows, long columns)
    {
        var first = place;
        place += rows * columns;
        return _kept?.narrow(0, first, rows * columns).view(rows, columns);
    }

    // Runs the backward pass of a projection. Returns the gradient of its input, (n, W), or adds it to `sum`.
    private static Tensor Through(Tensor weight, Tensor? bias, Tensor cast, Tensor outer, Tensor normed, Tensor? sum)
    {
        WeightGradients.AddProduct(weight, outer, normed);
        WeightGradients.AddRows(bias, outer);
        return sum is null ? outer.mm(cast) : sum.addmm_(outer, cast);
    }

    private Tensor Activated(Tensor x) => _weights.Kind switch
    {
        FeedForwardKind.SquaredRelu => Square(x.relu()),
        FeedForwardKind.SwiGlu => x.silu(),
        _ => x.gelu(),
    };

    private Tensor Differentiated(Tensor gradient, Tensor x) => _weights.Kind switch
    {
        FeedForwardKind.SquaredRelu => x.relu().mul_(Number(2)).mul_(gradient),
        FeedForwardKind.SwiGlu => TorchScript.SiluBackward(gradient, x),
        _ => TorchScript.GeluBackward(gradient, x),
    };

    // Returns blocks: rows From..From+Count of x, their position in the output, and the hidden width of their stream.
    private IEnumerable<(int Width, long From, long To, long Count)> Blocks()
    {
        long time = _x.shape[1], first = 0;
        for (var r = 0; r < _widths.Length; r++)
        {
            var count = (_rows?[r] ?? _x.shape[0]) * time;
            var block = Math.Max(Kernels.Composite.BlockNumbers / Math.Max(_widths[0], 4 * _x.shape[2]), 1);
            for (var at = 0L; at < count; at += block)
                yield return (_widths[r], _rows is null ? at : first + at, first + at, Math.Min(block, count - at));
            first += count;
        }
    }

    // The weights of the widest stream in the dtype of activations.
    private readonly struct Cast(FeedForwardWeights weights, long width, ScalarType dtype)
    {
        public Tensor? Gate { get; } = weights.Gate is null ? null : Kernels.Composite.First(weights.Gate.detach(), width).to(dtype);

        public Tensor? GateBias { get; } = weights.GateBias?.detach().to(dtype);

        public Tensor Up { get; } = Kernels.Composite.First(weights.Up.detach(), width).to(dtype);

        public Tensor? UpBias { get; } = weights.UpBias?.detach().to(dtype);

        public Tensor Down { get; } = weights.Down.detach().narrow(0, 0, width).to(dtype);

        public Tensor? DownBias { get; } = weights.DownBias?.detach().narrow(0, 0, width).to(dtype);
    }
}
