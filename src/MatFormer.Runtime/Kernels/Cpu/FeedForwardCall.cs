using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The second half of a layer.</summary>
internal sealed unsafe class FeedForwardCall : CpuCall
{
    private readonly Tensor _x;
    private readonly FeedForwardWeights _weights;
    private readonly int[] _widths;
    private readonly int[]? _rows;
    private readonly long[] _shape;
    private CpuLibrary.FeedForward _call;

    /// <param name="input">The input that autograd knows.</param>
    /// <param name="x">The input as a contiguous tensor.</param>
    /// <param name="weights">The weights of the feed-forward.</param>
    /// <param name="widths">The hidden width of each stream.</param>
    /// <param name="rows">The number of rows of each stream; null where the streams part.</param>
    public FeedForwardCall(Tensor input, Tensor x, FeedForwardWeights weights, int[] widths, int[]? rows)
    {
        (_x, _weights, _widths, _rows) = (x, weights, widths, rows);
        Inputs = [input];
        InputCount = 1;
        Weights = weights.All;
        _shape = x.shape;
        _call = new CpuLibrary.FeedForward
        {
            Element = ElementOf(x.dtype),
            Batch = _shape[0],
            Time = _shape[1],
            Width = _shape[2],
            Activation = (long)weights.Kind,
            Streams = widths.Length,
            Parting = rows is null ? 1 : 0,
            Norm = Native(weights.Norm),
            Gate = Native(weights.Gate),
            Up = Native(weights.Up),
            Down = Native(weights.Down),
            GateBias = Native(weights.GateBias),
            UpBias = Native(weights.UpBias),
            DownBias = Native(weights.DownBias),
            X = (void*)TensorMemory.Of(x),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        var y = empty([_rows is null ? _widths.Length * _shape[0] : _shape[0], _shape[1], _shape[2]], _x.dtype);
        _call.Y = (void*)TensorMemory.Of(y);
        fixed (int* widths = _widths, rows = _rows)
        fixed (CpuLibrary.FeedForward* call = &_call)
        {
            call->Widths = widths;
            call->Rows = rows;
            if (isRecorded)
            {
                Keep(_x);
                call->Kept = (void*)TensorMemory.Of(Keep(CpuLibrary.mf_feed_forward_kept(call)));
            }

            CpuLibrary.Check(CpuLibrary.mf_feed_forward_forward(call));
        }

        return y;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        var dx = empty(_shape, gradient.dtype);
        into.Add(dx);
        fixed (int* widths = _widths, rows = _rows)
        fixed (CpuLibrary.FeedForward* call = &_call)
        {
            call->Widths = widths;
            call->Rows = rows;
            Open(ref call->Norm, _weights.Norm);
            Open(ref call->Gate, _weights.Gate);
            Open(ref call->Up, _weights.Up);
            Open(ref call->Down, _weights.Down);
            Open(ref call->GateBias, _weights.GateBias);
            Open(ref call->UpBias, _weights.UpBias);
            Open(ref call->DownBias, _weights.DownBias);
            call->Dy = (void*)TensorMemory.Of(gradient);
            call->Dx = (void*)TensorMemory.Of(dx);
            CpuLibrary.Check(CpuLibrary.mf_feed_forward_backward(call));
        }
    }
}
