using static TorchSharp.torch;

namespace MatFormer;

// Calls with small weights, or few. The weights of a norm, of positions and of a single projection get their gradients the ordinary way, as
// inputs of the node, so they may be computed from parameters.

/// <summary>A lookup of rows in a table.</summary>
internal sealed unsafe class EmbeddingCall : CpuCall
{
    private readonly Tensor _weight;
    private readonly ScalarType _dtype;
    private readonly long[] _shape;
    private readonly Tensor _tokens;
    private CpuLibrary.Embedding _call;

    public EmbeddingCall(Tensor weight, Tensor tokens, ScalarType dtype, long width)
        : base([], weight)
    {
        (_weight, _tokens, _dtype) = (weight, Dense(tokens), dtype);
        _shape = [.. tokens.shape, width];
        _call = new CpuLibrary.Embedding
        {
            Element = ElementOf(dtype),
            Count = tokens.numel(),
            Width = width,
            Weight = Native(weight),
            Tokens = (void*)TensorMemory.Of(_tokens),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        if (isRecorded) Keep(_tokens);
        var y = empty(_shape, _dtype);
        _call.Y = (void*)TensorMemory.Of(y);
        fixed (CpuLibrary.Embedding* call = &_call) CpuLibrary.Check(CpuLibrary.mf_embedding_forward(call));
        return y;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        _call.Weight = Native(_weight, withGradient: true);
        _call.Dy = (void*)TensorMemory.Of(gradient);
        fixed (CpuLibrary.Embedding* call = &_call) CpuLibrary.Check(CpuLibrary.mf_embedding_backward(call));
    }
}

/// <summary>Learned positions.</summary>
internal sealed unsafe class PositionsCall : CpuCall
{
    private readonly Tensor _x;
    private readonly long[] _weightShape;
    private readonly bool _isWanted;
    private CpuLibrary.Positions _call;

    public PositionsCall(Tensor x, Tensor weight, long position)
        : base([x, weight])
    {
        _x = Dense(x);
        _weightShape = weight.shape;
        _isWanted = weight.requires_grad;
        long[] shape = x.shape;
        _call = new CpuLibrary.Positions
        {
            Element = ElementOf(x.dtype),
            Batch = shape[0],
            Time = shape[1],
            Width = shape[2],
            Position = position,
            Weight = Native(Dense(weight)),
            X = (void*)TensorMemory.Of(_x),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        var y = empty_like(_x);
        _call.Y = (void*)TensorMemory.Of(y);
        fixed (CpuLibrary.Positions* call = &_call) CpuLibrary.Check(CpuLibrary.mf_positions_forward(call));
        return y;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        into.Add(gradient.alias());
        Fill(ref _call.Weight, _weightShape, _isWanted, into);
        if (!_isWanted) return;
        _call.Dy = (void*)TensorMemory.Of(gradient);
        fixed (CpuLibrary.Positions* call = &_call) CpuLibrary.Check(CpuLibrary.mf_positions_backward(call));
    }
}

/// <summary>A norm that stands alone.</summary>
internal sealed unsafe class NormedCall : CpuCall
{
    private readonly Tensor _x;
    private readonly bool[] _areWanted;
    private NormWeights _norm;
    private CpuLibrary.NormCall _call;

    public NormedCall(Tensor x, NormWeights norm)
        : base(norm.Bias is null ? [x, norm.Weight] : [x, norm.Weight, norm.Bias])
    {
        (_x, _norm) = (Dense(x), norm);
        _areWanted = Array.ConvertAll(Inputs, one => one.requires_grad);
        long[] shape = x.shape;
        _call = new CpuLibrary.NormCall
        {
            Element = ElementOf(x.dtype),
            Count = x.numel() / shape[^1],
            Width = shape[^1],
            Norm = Native(norm),
            X = (void*)TensorMemory.Of(_x),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        var y = empty_like(_x);
        _call.Y = (void*)TensorMemory.Of(y);
        fixed (CpuLibrary.NormCall* call = &_call)
        {
            if (isRecorded)
            {
                Keep(_x);
                _norm = new NormWeights(Keep(_norm.Weight), _norm.Bias is { } bias ? Keep(bias) : null, _norm.Epsilon);
                call->Kept = (void*)TensorMemory.Of(Keep(CpuLibrary.mf_norm_kept(call)));
            }

            CpuLibrary.Check(CpuLibrary.mf_norm_forward(call));
        }

        return y;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        var dx = empty_like(gradient);
        into.Add(dx);
        Fill(ref _call.Norm.Weight, _norm.Weight.shape, _areWanted[1], into);
        if (_norm.Bias is { } bias) Fill(ref _call.Norm.Bias, bias.shape, _areWanted[2], into);
        _call.Dy = (void*)TensorMemory.Of(gradient);
        _call.Dx = (void*)TensorMemory.Of(dx);
        fixed (CpuLibrary.NormCall* call = &_call) CpuLibrary.Check(CpuLibrary.mf_norm_backward(call));
    }
}

/// <summary>One projection.</summary>
internal sealed unsafe class LinearCall : CpuCall
{
    private readonly Tensor _x;
    private readonly long[] _shape;
    private readonly bool[] _areWanted;
    private Tensor _weight;
    private Tensor? _bias;
    private CpuLibrary.Linear _call;

    public LinearCall(Tensor x, Tensor weight, Tensor? bias)
        : base(bias is null ? [x, weight] : [x, weight, bias])
    {
        (_x, _weight, _bias) = (Dense(x), weight, bias);
        _areWanted = Array.ConvertAll(Inputs, one => one.requires_grad);
        _shape = x.shape;
        _call = new CpuLibrary.Linear
        {
            Element = ElementOf(x.dtype),
            Count = x.numel() / _shape[^1],
            Ins = _shape[^1],
            Outs = weight.shape[0],
            Weight = Native(weight),
            Bias = Native(bias),
            X = (void*)TensorMemory.Of(_x),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        if (isRecorded)
        {
            Keep(_x);
            _weight = Keep(_weight);
            _bias = _bias is null ? null : Keep(_bias);
        }

        var y = empty([.. _shape[..^1], _call.Outs], _x.dtype);
        _call.Y = (void*)TensorMemory.Of(y);
        fixed (CpuLibrary.Linear* call = &_call) CpuLibrary.Check(CpuLibrary.mf_linear_forward(call));
        return y;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        var dx = _areWanted[0] ? empty(_shape, gradient.dtype) : null;
        into.Add(dx!);
        Fill(ref _call.Weight, _weight.shape, _areWanted[1], into);
        if (_bias is not null) Fill(ref _call.Bias, _bias.shape, _areWanted[2], into);
        _call.Dy = (void*)TensorMemory.Of(gradient);
        _call.Dx = (void*)TensorMemory.OfOptional(dx);
        fixed (CpuLibrary.Linear* call = &_call) CpuLibrary.Check(CpuLibrary.mf_linear_backward(call));
    }
}
