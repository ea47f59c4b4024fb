using System.Diagnostics;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>
/// The peer that is always available: a MatLM and its training in plain TorchSharp, as a careful programmer would write them by hand. It
/// runs in this process, on the same libtorch.
/// </summary>
internal sealed class PlainTorchSharp : IDisposable
{
    private readonly PlainMatLm _model;
    private readonly AdamW _optimizer;
    private readonly Tensor _tokens;
    private readonly Tensor _targets;
    private readonly int[] _hiddenWidths; // narrowest first
    private readonly ScalarType _type;
    private int _next;

    public PlainTorchSharp(ModelSpec spec, ScalarType type, int batch)
    {
        manual_seed(0);
        _type = type;
        _model = new PlainMatLm(spec, type);
        _optimizer = optim.AdamW(_model.parameters(), lr: 1e-3, beta1: 0.9, beta2: 0.95, weight_decay: 0.1);
        _tokens = randint(0, spec.Vocabulary, [batch, spec.Context], dtype: ScalarType.Int64);
        _targets = randint(0, spec.Vocabulary, [batch, spec.Context], dtype: ScalarType.Int64);
        _hiddenWidths = [.. spec.Granularities.Select(granularity => granularity.Layers[0].HiddenWidth)];
    }

    /// <summary>Trains the largest granularity for one step, so that the one-time work of the process is done.</summary>
    public void Warm() => Step(_hiddenWidths[^1]);

    /// <summary>
    /// Returns the seconds of joint steps, which train all granularities, or of sampled steps, which train one after the other.
    /// </summary>
    public double Time(Objective objective, int steps)
    {
        var start = Stopwatch.GetTimestamp();
        for (var step = 0; step < steps; step++)
        {
            if (objective == Objective.Joint) Step(_hiddenWidths);
            else Step(_hiddenWidths[_next++ % _hiddenWidths.Length]);
        }

        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    /// <summary>Copies the weights of one of our models, and checks that the smallest granularity gives the same logits in both.</summary>
    /// <exception cref="InvalidOperationException">The logits differ, so that a comparison would mean nothing.</exception>
    public void TakeOver<TModel>(TModel model)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (weight, other) in _model.Weights.Zip(model.parameters(), (weight, other) => (weight, other))) weight.copy_(other);
        var logits = _model.call(_tokens, _hiddenWidths[0]);
        var difference = (logits - model.Forward(TModel.Granularities[0], _tokens)).abs().max().item<float>();
        if (difference < (_type == ScalarType.Float32 ? 1e-3 : 0.1)) return;
        throw new InvalidOperationException(
            $"{TModel.Spec.Name} in plain TorchSharp gives logits that differ from ours by {difference}.");
    }

    public void Dispose()
    {
        _optimizer.Dispose();
        _model.Dispose();
        _tokens.Dispose();
        _targets.Dispose();
    }

    // Each granularity has a forward and a backward pass; one optimizer step follows.
    private void Step(params ReadOnlySpan<int> hiddenWidths)
    {
        using var scope = NewDisposeScope();
        _optimizer.zero_grad();
        foreach (var hiddenWidth in hiddenWidths)
        {
            using var pass = NewDisposeScope();
            var logits = _model.call(_tokens, hiddenWidth).flatten(0, 1); // (B*T, Vocabulary)
            var loss = nn.functional.cross_entropy(logits, _targets.flatten()) / hiddenWidths.Length;
            loss.backward();
            loss.item<float>();
        }

        nn.utils.clip_grad_norm_(_model.parameters(), 1);
        _optimizer.step();
    }
}

/// <summary>A MatLM: the embedding, the blocks, the norm, and the embedding again as the head.</summary>
internal sealed class PlainMatLm : nn.Module<Tensor, int, Tensor>
{
    private readonly Parameter _embedding; // (Vocabulary, Width)
    private readonly ModuleList<PlainBlock> _blocks;
    private readonly Parameter _norm; // (Width)
    private readonly Tensor _cos; // (Context, 1, D/2)
    private readonly Tensor _sin;
    private readonly double _epsilon;
    private readonly ScalarType _type;

    public PlainMatLm(ModelSpec spec, ScalarType type)
        : base(nameof(PlainMatLm))
    {
        (_epsilon, _type) = (spec.NormEpsilon, type);
        _embedding = PlainBlock.Normal(spec.Vocabulary, spec.Width);
        _blocks = nn.ModuleList(Enumerable.Range(0, spec.Layers).Select(layer => new PlainBlock(spec, spec.Blocks[layer], type)).ToArray());
        _norm = nn.Parameter(ones(spec.Width));
        using var scope = NewDisposeScope();
        var exponents = arange(0, spec.HeadWidth, 2).to(ScalarType.Float32) / spec.HeadWidth;
        var angles = outer(arange(spec.Context).to(ScalarType.Float32), pow(spec.RotaryBase, -exponents)).unsqueeze(1);
        (_cos, _sin) = (angles.cos().DetachFromDisposeScope(), angles.sin().DetachFromDisposeScope());
        RegisterComponents();
    }

    /// <summary>The weights, in the order of our models' parameters.</summary>
    public IEnumerable<Parameter> Weights => [_embedding, .. _blocks.SelectMany(block => block.Weights), _norm];

    /// <summary>Maps tokens (B, T) to logits (B, T, Vocabulary). Each feed-forward has only its first hidden units.</summary>
    public override Tensor forward(Tensor tokens, int hiddenWidth)
    {
        using var scope = NewDisposeScope();
        var x = _embedding.index_select(0, tokens.flatten()).view(tokens.shape[0], tokens.shape[1], -1).to(_type); // (B, T, Width)
        foreach (var block in _blocks) x = block.Forward(x, _cos, _sin, hiddenWidth);
        var logits = nn.functional.linear(PlainBlock.RmsNorm(x, _norm, _epsilon), _embedding.to(_type));
        return logits.to(ScalarType.Float32).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention, then a SwiGLU feed-forward. Each follows a norm and has a residual connection.</summary>
internal sealed class PlainBlock : nn.Module
{
    private readonly Parameter _norm1; // (Width)
    private readonly Parameter _query; // (Width, Width)
    private readonly Parameter _key;
    private readonly Parameter _value;
    private readonly Parameter _output;
    private readonly Parameter _norm2; // (Width)
    private readonly Parameter _gate; // (hidden, Width)
    private readonly Parameter _up; // (hidden, Width)
    private readonly Parameter _down; // (Width, hidden)
    private readonly int _heads;
    private readonly double _epsilon;
    private readonly ScalarType _type;

    public PlainBlock(ModelSpec spec, BlockSpec block, ScalarType type)
        : base(nameof(PlainBlock))
    {
        (_heads, _epsilon, _type) = (block.Heads, spec.NormEpsilon, type);
        (_norm1, _norm2) = (nn.Parameter(ones(spec.Width)), nn.Parameter(ones(spec.Width)));
        (_query, _key) = (Normal(spec.Width, spec.Width), Normal(spec.Width, spec.Width));
        (_value, _output) = (Normal(spec.Width, spec.Width), Normal(spec.Width, spec.Width));
        (_gate, _up) = (Normal(block.HiddenWidth, spec.Width), Normal(block.HiddenWidth, spec.Width));
        _down = Normal(spec.Width, block.HiddenWidth);
        RegisterComponents();
    }

    public IEnumerable<Parameter> Weights => [_norm1, _query, _key, _value, _output, _norm2, _gate, _up, _down];

    public static Parameter Normal(int rows, int columns) => nn.Parameter(empty(rows, columns).normal_(0, 0.02));

    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
    {
        var wide = x.to(ScalarType.Float32);
        return (wide * (wide.square().mean([-1], keepdim: true) + epsilon).rsqrt() * weight).to(x.dtype);
    }

    /// <summary>Maps x (B, T, Width) to the same shape. The shape of cos and sin is (Context, 1, D/2).</summary>
    public Tensor Forward(Tensor x, Tensor cos, Tensor sin, int hiddenWidth)
    {
        using var scope = NewDisposeScope();
        long batch = x.shape[0], time = x.shape[1], width = x.shape[2];
        var (c, s) = (cos.narrow(0, 0, time), sin.narrow(0, 0, time));
        var normed = RmsNorm(x, _norm1, _epsilon);
        var query = Rotate(Heads(Linear(normed, _query)), c, s).transpose(1, 2); // (B, H, T, D)
        var key = Rotate(Heads(Linear(normed, _key)), c, s).transpose(1, 2);
        var value = Heads(Linear(normed, _value)).transpose(1, 2);
        var mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_casual: true);
        x += Linear(mixed.transpose(1, 2).reshape(batch, time, width), _output);

        normed = RmsNorm(x, _norm2, _epsilon);
        var gate = Linear(normed, _gate.narrow(0, 0, hiddenWidth)); // (B, T, hiddenWidth)
        var up = Linear(normed, _up.narrow(0, 0, hiddenWidth));
        x += Linear(nn.functional.silu(gate) * up, _down.narrow(1, 0, hiddenWidth));
        return x.MoveToOuterDisposeScope();

        Tensor Heads(Tensor y) => y.view(batch, time, _heads, width / _heads); // (B, T, H, D)
    }

    // A pair consists of a value from the first half of a head and the corresponding value from the second.
    private static Tensor Rotate(Tensor x, Tensor cos, Tensor sin)
    {
        var halves = x.to(ScalarType.Float32).chunk(2, -1);
        return cat([(halves[0] * cos) - (halves[1] * sin), (halves[1] * cos) + (halves[0] * sin)], -1).to(x.dtype);
    }

    private Tensor Linear(Tensor x, Tensor weight) => nn.functional.linear(x, weight.to(_type));
}
