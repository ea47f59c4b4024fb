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

    /// <param name="x">The input.</param>
    /// <param name="weights">The weights of the feed-forward.</param>
    /// <param name="widths">The hidden width of each stream.</param>
    /// <param name="rows">The number of rows of each stream; null where the streams part.</param>
    public FeedForwardCall(Tensor x, FeedForwardWeights weights, int[] widths, int[]? rows)
        : base([x], weights.All)
    {
        (_x, _weights, _widths, _rows) = (Dense(x), weights, widths, rows);
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
            X = (void*)TensorMemory.Of(_x),
        };
        Describe(withGradients: false);
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
        Describe(withGradients: true);
        fixed (int* widths = _widths, rows = _rows)
        fixed (CpuLibrary.FeedForward* call = &_call)
        {
            call->Widths = widths;
            call->Rows = rows;
            call->Dy = (void*)TensorMemory.Of(gradient);
            call->Dx = (void*)TensorMemory.Of(dx);
            CpuLibrary.Check(CpuLibrary.mf_feed_forward_backward(call));
        }
    }

    private void Describe(bool withGradients)
    {
        _call.Norm = Native(_weights.Norm, withGradients);
        _call.Gate = Native(_weights.Gate, withGradients);
        _call.Up = Native(_weights.Up, withGradients);
        _call.Down = Native(_weights.Down, withGradients);
        _call.GateBias = Native(_weights.GateBias, withGradients);
        _call.UpBias = Native(_weights.UpBias, withGradients);
        _call.DownBias = Native(_weights.DownBias, withGradients);
    }
}
