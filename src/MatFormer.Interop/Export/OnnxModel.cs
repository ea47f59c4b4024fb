using System.Globalization;
using static MatFormer.OnnxGraph;

namespace MatFormer;

/// <summary>
/// Maps a profile of a text encoder or a vision transformer to ONNX's operators. The states of all tokens of a batch are rows (B T, W) of
/// a matrix, except where tokens see each other.
/// </summary>
internal sealed class OnnxModel
{
    private const string Batch = "batch";
    private const string Tokens = "tokens";

    // Inputs and outputs have the names that Hugging Face's exporters give them.
    private const string Ids = "input_ids";
    private const string Mask = "attention_mask";
    private const string Pixels = "pixel_values";

    private readonly SlicedWeights _weights;
    private readonly ModelSpec _spec;
    private readonly BlockNames _names;
    private readonly int _width;
    private readonly Dictionary<string, SlicedTensor> _tensors;
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _shapes = new(StringComparer.Ordinal);
    private readonly OnnxGraph _graph;

    // What the layers of a text need: the number of tokens as a list of one number, what is added to scores, and the angles.
    private string? _time;
    private string? _scoreMask;
    private (string Cos, string Sin)? _angles;

    /// <exception cref="ExtractionException">The model is a language model.</exception>
    /// <exception cref="ArgumentException">The model declares no embeddings of the width.</exception>
    public OnnxModel(SlicedWeights weights, int? width)
    {
        (_weights, _spec) = (weights, weights.Spec);
        if (_spec.Kind == ModelKind.LanguageModel)
        {
            throw new ExtractionException($"{_spec.Name} is a language model, and ONNX files are written of [MatEncoder] and [MatViT] "
                + "only; use --format gguf for llama.cpp, or --format huggingface.");
        }

        if (_spec.Lookup is not null) throw Refused("[Lookup]");
        _width = _spec.CheckEmbeddingWidth(width);
        _names = BlockNames.Of(_spec.Kind == ModelKind.VisionTransformer);
        _tensors = weights.Tensors.ToDictionary(tensor => tensor.Name, StringComparer.Ordinal);
        _graph = new OnnxGraph($"{_spec.Name} {weights.ProfileName}");
    }

    public void Write(string path)
    {
        var pooled = _spec.Image is { } image ? EnterImage(image) : EnterText();
        if (_spec.Image is { } classified) LeaveImage(pooled, classified);
        else LeaveText(pooled);
        if (_tensors.Keys.FirstOrDefault(name => !_used.Contains(name)) is { } unknown) throw Refused($"the weight '{unknown}'");
        var metadata = _weights.Metadata.Where(m => m.Key.StartsWith("matformer.", StringComparison.Ordinal));
        _graph.Write(path, metadata, (name, stream) => _weights.Write(_tensors[name], WeightEncoding.Float32, stream));
    }

    // Tokens and their mask (B, T) to pooled states (B, W).
    private string EnterText()
    {
        _graph.AddIntegers(Ids, Batch, Tokens);
        _graph.AddIntegers(Mask, Batch, Tokens);
        var hasClass = _spec.Pooling == Pooling.ClassToken;

        // Padding becomes token 0, whatever its id was. An empty text counts as one token.
        var embedded = _graph.Add("Gather", [Weight("model.embed_tokens.weight"), _graph.Add("Mul", [Ids, Mask])]);
        var counts = _graph.Add(
            "Max", [_graph.Add("ReduceSum", [Mask, _graph.Integers(1)], Attribute("keepdims", 1)), _graph.Integer(1)]); // (B, 1)
        _time = _graph.Add("Shape", [Ids], Attribute("start", 1), Attribute("end", 2));
        if (hasClass)
        {
            embedded = Prepend(embedded, "model.class_token", Ids);
            counts = _graph.Add("Add", [counts, _graph.Integer(1)]);
            _time = _graph.Add("Add", [_time, _graph.Integer(1)]);
        }

        embedded = _spec.Position switch
        {
            PositionKind.Learned => _graph.Add("Add", [embedded, FirstRows(Weight("model.embed_positions.weight"))]),
            PositionKind.Rotary => embedded,
            _ => throw Refused($"[Position(PositionKind.{_spec.Position})]"),
        };
        var positions = _graph.Add("Range", [_graph.Integer(0), _graph.Add("Squeeze", [_time]), _graph.Integer(1)]);
        var seen = _graph.Add("Less", [positions, counts]); // (B, T)
        var masked = _graph.Add("Where", [seen, _graph.Number(0), _graph.Number(float.MinValue)]);
        _scoreMask = _graph.Add("Unsqueeze", [masked, _graph.Integers(1, 2)]); // (B, 1, 1, T)
        var last = Layers(embedded, _spec.Context + (hasClass ? 1 : 0));
        if (hasClass) return Norm(FirstToken(last), "model.norm");
        var states = Sequence(Norm(last, "model.norm"));
        var shares = _graph.Add("Div", [ToFloat(seen), ToFloat(counts)]);
        var mean = _graph.Add("MatMul", [_graph.Add("Unsqueeze", [shares, _graph.Integers(1)]), states]); // (B, 1, W)
        return _graph.Add("Squeeze", [mean, _graph.Integers(1)]);
    }

    // Pixels (B, C, S, S) to pooled states (B, W).
    private string EnterImage(ImageSpec image)
    {
        const string projection = "vit.embeddings.patch_embeddings.projection";
        string size = Text(image.Size);
        _graph.AddFloats(Pixels, Batch, Text(image.Channels), size, size);
        var hasClass = _spec.Pooling == Pooling.ClassToken;
        var grid = _graph.Add(
            "Conv", [Pixels, Weight(projection + ".weight"), Weight(projection + ".bias")],
            Attribute("kernel_shape", image.Patch, image.Patch), Attribute("strides", image.Patch, image.Patch)); // (B, W, grid, grid)
        var columns = _graph.Add("Reshape", [grid, _graph.Integers(0, _spec.Width, -1)]);
        var embedded = _graph.Add("Transpose", [columns], Attribute("perm", 0L, 2, 1)); // (B, patches, W)
        if (hasClass) embedded = Prepend(embedded, "vit.embeddings.cls_token", Pixels);
        embedded = _spec.Position switch
        {
            PositionKind.Learned => _graph.Add("Add", [embedded, Weight("vit.embeddings.position_embeddings")]),
            PositionKind.Sinusoidal => _graph.Add("Add", [embedded, _graph.Table(
                "positions", [_spec.Context, _spec.Width], Positions(image, hasClass))]),
            _ => throw Refused($"[Position(PositionKind.{_spec.Position})]"),
        };
        var last = Layers(embedded, _spec.Context);
        return hasClass ? Norm(FirstToken(last), "vit.layernorm")
            : _graph.Add("ReduceMean", [Sequence(Norm(last, "vit.layernorm"))], Attribute("axes", [1L]), Attribute("keepdims", 0));
    }

    // A narrower stream has the first channels of the whole model's positions.
    private float[] Positions(ImageSpec image, bool hasClass)
    {
        var whole = SinusoidalPositions.Of(image.Size / image.Patch, _spec.WholeWidth, hasClass);
        return [.. whole.Chunk(_spec.WholeWidth).SelectMany(row => row.Take(_spec.Width))];
    }

    private void LeaveText(string pooled)
    {
        const string projection = "projection.weight";
        _tensors[projection] = _tensors[projection] with { Shape = [_width, _spec.Width] };
        _graph.AddOutput(Unit(Linear(pooled, "projection", hasBias: false)), "embedding", Batch, Text(_width));
    }

    private void LeaveImage(string pooled, ImageSpec image)
    {
        const string classifier = "classifier.weight";
        if (_width < _spec.Width)
        {
            _tensors[classifier] = _tensors[classifier] with { Shape = [image.Classes, _width] };
            pooled = _graph.Add("Slice", [pooled, _graph.Integers(0), _graph.Integers(_width), _graph.Integers(1)]);
        }

        _graph.AddOutput(Linear(pooled, "classifier", hasBias: true), "logits", Batch, Text(image.Classes));
        _graph.AddOutput(Unit(pooled), "embedding", Batch, Text(_width));
    }

    // (B, T, W) to rows (B T, W).
    private string Layers(string embedded, int context)
    {
        if (_spec.Position == PositionKind.Rotary) _angles = Angles(context);
        var x = _graph.Add("Reshape", [embedded, _graph.Integers(-1, _spec.Width)]);
        for (var layer = 0; layer < _spec.Layers; layer++)
        {
            var slice = _weights.Layers[layer];
            if (slice.IsSkipped) continue;
            var prefix = string.Create(CultureInfo.InvariantCulture, $"{_names.Prefix}{layer}.");
            _graph.Scope = $"layer{Text(layer)}/";
            x = _graph.Add("Add", [x, Attention(Norm(x, prefix + _names.AttentionNorm), prefix, _spec.Blocks[layer], slice)]);
            x = _graph.Add("Add", [x, FeedForward(Norm(x, prefix + _names.FeedForwardNorm), prefix, _spec.Blocks[layer])]);
        }

        _graph.Scope = "";
        return x;
    }

    // The query heads that share a key/value head are one longer sequence of queries.
    private string Attention(string x, string prefix, BlockSpec block, LayerSlice slice)
    {
        int depth = _spec.HeadWidth, keyHeads = block.KeyValueHeadsOf(slice), group = slice.Heads / keyHeads;
        var query = Turned(Heads(_names.Query, slice.Heads), prefix + _names.QueryNorm); // (B, T, H, D)
        var key = Turned(Heads(_names.Key, keyHeads), prefix + _names.KeyNorm); // (B, T, K, D)
        var value = _graph.Add("Transpose", [Heads(_names.Value, keyHeads)], Attribute("perm", 0L, 2, 1, 3)); // (B, K, T, D)
        if (group == 1) query = _graph.Add("Transpose", [query], Attribute("perm", 0L, 2, 1, 3));
        else
        {
            query = _graph.Add("Reshape", [query, _graph.Integers(0, 0, keyHeads, group, depth)]);
            query = _graph.Add("Transpose", [query], Attribute("perm", 0L, 2, 3, 1, 4));
            query = _graph.Add("Reshape", [query, _graph.Integers(0, 0, -1, depth)]); // (B, K, group T, D)
        }

        var scores = _graph.Add("MatMul", [query, _graph.Add("Transpose", [key], Attribute("perm", 0L, 2, 3, 1))]);
        scores = _graph.Add("Mul", [scores, _graph.Number((float)(1 / Math.Sqrt(depth)))]);
        if (_scoreMask is not null) scores = _graph.Add("Add", [scores, _scoreMask]);
        var mixed = _graph.Add("MatMul", [_graph.Add("Softmax", [scores], Attribute("axis", -1)), value]); // (B, K, group T, D)
        if (group == 1) mixed = _graph.Add("Transpose", [mixed], Attribute("perm", 0L, 2, 1, 3));
        else
        {
            mixed = _graph.Add("Reshape", [mixed, _graph.Integers(0, 0, group, -1, depth)]);
            mixed = _graph.Add("Transpose", [mixed], Attribute("perm", 0L, 3, 1, 2, 4));
        }

        mixed = _graph.Add("Reshape", [mixed, _graph.Integers(-1, slice.Heads * depth)]);
        return Linear(mixed, prefix + _names.Output, _spec.OutputBias);

        string Heads(string name, int count) => Sequence(Linear(x, prefix + name, _spec.AttentionBias), count, depth);

        string Turned(string heads, string norm)
        {
            if (_spec.QkNorm) heads = RmsNorm(heads, norm + ".weight");
            return _angles is { } angles ? Rotated(heads, angles.Cos, angles.Sin) : heads;
        }
    }

    private string FeedForward(string x, string prefix, BlockSpec block)
    {
        var up = Linear(x, prefix + _names.Up, block.Bias);
        var hidden = block.Activation switch
        {
            Activation.Gelu => Gelu(up),
            Activation.SquaredRelu => Square(_graph.Add("Relu", [up])),
            Activation.SwiGlu => _graph.Add("Mul", [Silu(Gate()), up]),
            Activation.GeGlu => _graph.Add("Mul", [Gelu(Gate()), up]),
            var other => throw Refused($"Activation.{other}"),
        };
        return Linear(hidden, prefix + _names.Down, block.Bias);

        string Gate() => Linear(x, prefix + _names.Gate, block.Bias);
    }

    private string Silu(string x) => _graph.Add("Mul", [x, _graph.Add("Sigmoid", [x])]);

    // x (1 + erf(x / sqrt(2))) / 2
    private string Gelu(string x)
    {
        var error = _graph.Add("Erf", [_graph.Add("Div", [x, _graph.Number((float)Math.Sqrt(2))])]);
        return _graph.Add("Mul", [_graph.Add("Mul", [x, _graph.Add("Add", [error, _graph.Number(1)])]), _graph.Number(0.5f)]);
    }

    private string Square(string x) => _graph.Add("Mul", [x, x]);

    private string Linear(string x, string name, bool hasBias) => _graph.Add(
        "Gemm", hasBias ? [x, Weight(name + ".weight"), Weight(name + ".bias")] : [x, Weight(name + ".weight")], Attribute("transB", 1));

    private string Norm(string x, string name) => _spec.Norm switch
    {
        NormKind.Rms => RmsNorm(x, name + ".weight"),
        NormKind.Layer => _graph.Add(
            "LayerNormalization", [x, Weight(name + ".weight"), Weight(name + ".bias")], Attribute("epsilon", (float)_spec.NormEpsilon)),
        _ => throw Refused($"[Norm(NormKind.{_spec.Norm})]"),
    };

    private string RmsNorm(string x, string weight)
    {
        var mean = _graph.Add("ReduceMean", [Square(x)], Attribute("axes", [-1L]), Attribute("keepdims", 1));
        return _graph.Add("Mul", [Scaled(x, mean, (float)_spec.NormEpsilon), Weight(weight)]);
    }

    // Scales the vectors (B, D) to length 1.
    private string Unit(string x) =>
        Scaled(x, _graph.Add("ReduceSum", [Square(x), _graph.Integers(1)], Attribute("keepdims", 1)), 1e-12f);

    // x / sqrt(square + epsilon)
    private string Scaled(string x, string square, float epsilon) =>
        _graph.Add("Div", [x, _graph.Add("Sqrt", [_graph.Add("Add", [square, _graph.Number(epsilon)])])]);

    // Tables (T, 1, D): the cosine of each pair of numbers twice, and the sine, which is negative for the first number of a pair.
    private (string Cos, string Sin) Angles(int context)
    {
        var (width, half) = (_spec.HeadWidth, _spec.HeadWidth / 2);
        var (cosines, sines) = (new float[context * width], new float[context * width]);
        RotaryAngles.Fill(context, width, _spec.RotaryBase, _spec.RotaryScaling, (position, pair, cosine, sine) =>
        {
            var first = (position * width) + pair;
            (cosines[first], cosines[first + half], sines[first], sines[first + half]) = (cosine, cosine, -sine, sine);
        });
        long[] shape = [context, 1, width];
        return (FirstRows(_graph.Table("cosines", shape, cosines)), FirstRows(_graph.Table("sines", shape, sines)));
    }

    // A pair is a number of the first half of a head and one of the second.
    private string Rotated(string x, string cos, string sin)
    {
        var halves = _graph.Add("Split", [x], 2, Attribute("axis", -1));
        var swapped = _graph.Add("Concat", [halves[1], halves[0]], Attribute("axis", -1));
        return _graph.Add("Add", [_graph.Add("Mul", [x, cos]), _graph.Add("Mul", [swapped, sin])]);
    }

    // The rows of a table that the tokens need.
    private string FirstRows(string table) =>
        _time is null ? table : _graph.Add("Slice", [table, _graph.Integers(0), _time, _graph.Integers(0)]);

    // Puts a class token in front: (B, T, W) to (B, T + 1, W).
    private string Prepend(string x, string token, string input)
    {
        var batch = _graph.Add("Shape", [input], Attribute("start", 0), Attribute("end", 1));
        var shape = _graph.Add("Concat", [batch, _graph.Integers(1, _spec.Width)], Attribute("axis", 0));
        return _graph.Add("Concat", [_graph.Add("Expand", [Weight(token), shape]), x], Attribute("axis", 1));
    }

    // Rows (B T, W) to the first token's (B, W).
    private string FirstToken(string x) => _graph.Add("Gather", [Sequence(x), _graph.Integer(0)], Attribute("axis", 1));

    // Rows (B T, W) to (B, T, W).
    private string Sequence(string x) => Sequence(x, _spec.Width);

    // Rows (B T, ...) to (B, T, sizes).
    private string Sequence(string x, params ReadOnlySpan<long> sizes)
    {
        if (_time is null) return _graph.Add("Reshape", [x, _graph.Integers([-1, _spec.Context, .. sizes])]);
        var name = _graph.Integers(sizes);
        if (!_shapes.TryGetValue(name, out var shape))
            _shapes[name] = shape = _graph.Add("Concat", [_graph.Integers(-1), _time, name], Attribute("axis", 0));
        return _graph.Add("Reshape", [x, shape]);
    }

    private string ToFloat(string x) => _graph.Add("Cast", [x], Attribute("to", 1));

    private string Weight(string name)
    {
        if (_used.Add(name)) _graph.AddWeight(name, _tensors[name].Shape);
        return name;
    }

    private ExtractionException Refused(string part) => new(
        $"The profile {_weights.ProfileName} of {_spec.Name} cannot be written for ONNX: it has {part}; only --format safetensors can hold "
        + "it.");

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
