using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The first half of a layer. Each stream is a separate native call, because streams may keep different heads.</summary>
internal sealed unsafe class AttentionCall : CpuCall
{
    private readonly Tensor _x;
    private readonly AttentionWeights _weights;
    private readonly Tensor? _cos;
    private readonly Tensor? _sin;
    private readonly Tensor? _lengths;
    private readonly KeyValueCache? _cache;
    private readonly CpuLibrary.Attention[] _streams;
    private readonly long _rowBytes; // the bytes of one sequence of x

    public AttentionCall(
        Tensor x, AttentionWeights weights, Tensor? cos, Tensor? sin, Tensor? lengths, int[] heads, int[] rows, KeyValueCache? cache,
        int layer)
        : base([x], weights.All)
    {
        x = Dense(x);
        if (cos is not null) (cos, sin) = (Dense(cos), Dense(sin!));
        if (lengths is not null) lengths = Dense(lengths);
        (_x, _weights, _cos, _sin, _lengths, _cache) = (x, weights, cos, sin, lengths, cache);
        long[] shape = x.shape;
        _rowBytes = shape[1] * shape[2] * x.element_size();
        var whole = new CpuLibrary.Attention
        {
            Element = ElementOf(x.dtype),
            Time = shape[1],
            Width = shape[2],
            Depth = weights.HeadWidth,
            Cos = (void*)TensorMemory.OfOptional(cos),
            Sin = (void*)TensorMemory.OfOptional(sin),
            Causal = weights.IsCausal ? 1 : 0,
            Window = weights.Window,
        };
        Describe(ref whole, withGradients: false);
        if (cache is not null)
        {
            var (keys, values) = cache.Open(layer, x, heads[0] / weights.Group, weights.HeadWidth);
            whole.KeyCache = (void*)TensorMemory.Of(keys);
            whole.ValueCache = (void*)TensorMemory.Of(values);
            (whole.Capacity, whole.Past) = (cache.Capacity, cache.Length);
        }

        _streams = new CpuLibrary.Attention[heads.Length];
        var first = 0L;
        for (var r = 0; r < heads.Length; first += rows[r++])
        {
            _streams[r] = whole;
            (_streams[r].Batch, _streams[r].Heads, _streams[r].KeyHeads) = (rows[r], heads[r], heads[r] / weights.Group);
            _streams[r].X = (byte*)TensorMemory.Of(x) + (first * _rowBytes);
            if (lengths is null) continue;

            // The lengths repeat along the batch. A stream may begin anywhere in them, but must not run past their end.
            var start = first % lengths.shape[0];
            if (start != 0 && start + rows[r] > lengths.shape[0])
                throw new ArgumentException("Attend: the rows of a stream begin within lengths and run past their end.", nameof(lengths));
            _streams[r].Lengths = (long*)TensorMemory.Of(lengths) + start;
            _streams[r].LengthCount = start == 0 ? Math.Min(rows[r], lengths.shape[0]) : rows[r];
        }
    }

    public override Tensor Forward(bool isRecorded)
    {
        var y = empty_like(_x);
        if (isRecorded)
        {
            Keep(_x);
            if (_cos is not null) Keep(_cos);
            if (_sin is not null) Keep(_sin);
            if (_lengths is not null) Keep(_lengths);
        }

        var to = (byte*)TensorMemory.Of(y);
        for (var r = 0; r < _streams.Length; r++)
        {
            _streams[r].Y = to;
            to += _streams[r].Batch * _rowBytes;
            fixed (CpuLibrary.Attention* call = &_streams[r])
            {
                if (isRecorded) call->Kept = (void*)TensorMemory.Of(Keep(CpuLibrary.mf_attention_kept(call)));
                CpuLibrary.Check(CpuLibrary.mf_attention_forward(call));
            }
        }

        GC.KeepAlive(_cache);
        return y;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        var dx = empty_like(gradient);
        into.Add(dx);
        var from = (byte*)TensorMemory.Of(gradient);
        var to = (byte*)TensorMemory.Of(dx);
        for (var r = 0; r < _streams.Length; r++)
        {
            fixed (CpuLibrary.Attention* call = &_streams[r])
            {
                Describe(ref *call, withGradients: true);
                call->Dy = from;
                call->Dx = to;
                CpuLibrary.Check(CpuLibrary.mf_attention_backward(call));
                from += call->Batch * _rowBytes;
                to += call->Batch * _rowBytes;
            }
        }
    }

    private void Describe(ref CpuLibrary.Attention call, bool withGradients)
    {
        call.Norm = Native(_weights.Norm, withGradients);
        call.Query = Native(_weights.Query, withGradients);
        call.Key = Native(_weights.Key, withGradients);
        call.Value = Native(_weights.Value, withGradients);
        call.Output = Native(_weights.Output, withGradients);
        call.QueryBias = Native(_weights.QueryBias, withGradients);
        call.KeyBias = Native(_weights.KeyBias, withGradients);
        call.ValueBias = Native(_weights.ValueBias, withGradients);
        call.OutputBias = Native(_weights.OutputBias, withGradients);
        call.QueryNorm = Native(_weights.QueryNorm, withGradients);
        call.KeyNorm = Native(_weights.KeyNorm, withGradients);
    }
}
