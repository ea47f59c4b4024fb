using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Maps a profile to llama.cpp: the architecture, the names of the tensors, and the tokenizer.</summary>
internal sealed class GgufModel
{
    private const string Format = "GGUF";

    private static readonly Dictionary<string, string> s_names = new(StringComparer.Ordinal)
    {
        ["model.embed_tokens.weight"] = "token_embd.weight",
        ["model.norm.weight"] = "output_norm.weight",
        ["lm_head.weight"] = "output.weight",
        ["input_layernorm.weight"] = "attn_norm.weight",
        [QueryProjection + ".weight"] = "attn_q.weight",
        [QueryProjection + ".bias"] = "attn_q.bias",
        [KeyProjection + ".weight"] = "attn_k.weight",
        [KeyProjection + ".bias"] = "attn_k.bias",
        ["self_attn.v_proj.weight"] = "attn_v.weight",
        ["self_attn.v_proj.bias"] = "attn_v.bias",
        ["self_attn.o_proj.weight"] = "attn_output.weight",
        ["self_attn.o_proj.bias"] = "attn_output.bias",
        ["self_attn.q_norm.weight"] = "attn_q_norm.weight",
        ["self_attn.k_norm.weight"] = "attn_k_norm.weight",
        ["post_attention_layernorm.weight"] = "ffn_norm.weight",
        ["mlp.gate_proj.weight"] = "ffn_gate.weight",
        ["mlp.gate_proj.bias"] = "ffn_gate.bias",
        ["mlp.up_proj.weight"] = "ffn_up.weight",
        ["mlp.up_proj.bias"] = "ffn_up.bias",
        ["mlp.down_proj.weight"] = "ffn_down.weight",
        ["mlp.down_proj.bias"] = "ffn_down.bias",
    };

    private const string DivisorsName = "rope_freqs.weight";
    private const string QueryProjection = "self_attn.q_proj";
    private const string KeyProjection = "self_attn.k_proj";
    private readonly SlicedWeights _weights;
    private readonly KeptLayers _kept;
    private readonly Tokenizer? _tokenizer;
    private readonly WeightEncoding _encoding;
    private readonly string? _chatTemplate;
    private readonly string _architecture;

    /// <exception cref="ExtractionException">llama.cpp does not support the architecture or the tokenizer.</exception>
    public GgufModel(SlicedWeights weights, Tokenizer? tokenizer, WeightEncoding encoding, string? chatTemplate)
    {
        (_weights, _tokenizer, _encoding, _chatTemplate) = (weights, tokenizer, encoding, chatTemplate);
        var spec = weights.Spec;
        _kept = new KeptLayers(spec, weights.ProfileName, weights.Layers, Format);
        _kept.CheckLlama();
        foreach (var (layer, block) in _kept.Blocks)
        {
            if (block.Activation != Activation.SwiGlu)
            {
                throw _kept.Refused(
                    string.Create(CultureInfo.InvariantCulture, $"Activation.{block.Activation} in layer {layer}"),
                    "llama.cpp's Llama supports only SwiGlu");
            }
        }

        if (spec.QkNorm)
        {
            _kept.CheckQwen3();
            if (spec.AttentionBias)
            {
                throw _kept.Refused(
                    "QkNorm together with [Attention(Bias = true)]", "llama.cpp's Qwen3, which norms queries and keys, has no biases",
                    _kept.HasQwen2Biases ? null : "--format huggingface or safetensors can hold it");
            }

            if (spec.RotaryScaling is { Kind: RotaryScalingKind.Llama3 })
            {
                throw _kept.Refused(
                    "QkNorm together with [RotaryScaling(RotaryScalingKind.Llama3, ...)]",
                    "llama.cpp's Qwen3, which norms queries and keys, divides all frequencies by the same factor",
                    "--format huggingface or safetensors can hold it");
            }

            if (!_kept.IsUniform)
            {
                throw _kept.Refused(
                    $"QkNorm and layers of different sizes ({spec.FormatPattern(weights.Layers.AsSpan())})",
                    "llama.cpp's Qwen3, which norms queries and keys, has the same sizes in all layers",
                    "give a profile that is alike in all layers, or --format safetensors");
            }
        }

        _architecture = spec.QkNorm ? "qwen3" : !_kept.IsUniform ? "deci" : IsQwen2 ? "qwen2" : "llama";
        if (tokenizer is not null && GgufTokenizer.Problem(tokenizer) is { } problem)
        {
            throw new ExtractionException($"The tokenizer ({tokenizer.Describe()}) {problem}, which llama.cpp does not support, so "
                + $"{spec.Name} cannot be written as {Format}; use --format huggingface, which supports any tokenizer.");
        }
    }

    // llama.cpp's Qwen2 has no other biases, heads that together are as wide as the model, and frequencies that are all divided by the same
    // factor. Its Llama also supports biases of queries, keys and values alone, so it takes the models that differ from Qwen2.
    private bool IsQwen2 => _kept.HasQwen2Biases
        && _kept.Blocks.All(kept => !kept.Block.Bias)
        && _kept.Heads[0] * _weights.Spec.HeadWidth == _weights.Spec.Width
        && _weights.Spec.RotaryScaling is not { Kind: RotaryScalingKind.Llama3 };

    public void Write(string path)
    {
        var file = new GgufWriter();
        AddArchitecture(file);
        if (_tokenizer is null) file.Add("tokenizer.ggml.model", "no_vocab");
        else GgufTokenizer.Write(file, _tokenizer, _weights.Spec.Vocabulary);
        if (_chatTemplate is not null) file.Add("tokenizer.chat_template", _chatTemplate);
        foreach (var (key, value) in _weights.Metadata.Where(m => m.Key.StartsWith("matformer.", StringComparison.Ordinal)))
            file.Add(key, value);
        var byName = _weights.Tensors.Select(Laid).ToDictionary(NameOf, StringComparer.Ordinal);
        var divisors = Divisors();
        IEnumerable<GgufTensor> tables = divisors.Length > 0 ? [new(DivisorsName, [divisors.Length], WeightEncoding.Float32)] : [];
        file.Write(
            path,
            [.. tables, .. byName.Select(named => new GgufTensor(named.Key, named.Value.Shape, EncodingOf(named.Value)))],
            (entry, stream) =>
            {
                if (entry.Name == DivisorsName) stream.Write(MemoryMarshal.AsBytes<float>(divisors));
                else _weights.Write(byName[entry.Name], entry.Encoding, stream);
            });
    }

    // The numbers that llama.cpp divides the angle of each pair by; empty if all pairs have the same number.
    private float[] Divisors()
    {
        var spec = _weights.Spec;
        if (spec.RotaryScaling is not { Kind: RotaryScalingKind.Llama3 } scaling) return [];
        return [.. Enumerable.Range(0, spec.HeadWidth / 2)
            .Select(pair => (float)scaling.Divisor(RotaryAngles.Frequency(spec.HeadWidth, spec.RotaryBase, pair)))];
    }

    private void AddArchitecture(GgufWriter file)
    {
        var spec = _weights.Spec;
        file.Add("general.architecture", _architecture);
        file.Add("general.type", "model");
        file.Add("general.name", $"{spec.Name} {_weights.ProfileName}");
        file.Add("general.quantization_version", 2u);

        // Values of llama.cpp's llama_ftype.
        file.Add("general.file_type", _encoding switch
        {
            WeightEncoding.Float16 => 1u,
            WeightEncoding.Nested4 => 2u,
            WeightEncoding.Q8 or WeightEncoding.Nested8 => 7u,
            WeightEncoding.BFloat16 => 32u,
            _ => 0u,
        });
        file.Add(Key("vocab_size"), (uint)spec.Vocabulary);
        file.Add(Key("context_length"), (uint)spec.Context);
        file.Add(Key("embedding_length"), (uint)spec.Width);
        file.Add(Key("block_count"), (uint)_kept.Numbers.Length);
        AddLayers(Key("feed_forward_length"), _kept.HiddenWidths);
        AddLayers(Key("attention.head_count"), _kept.Heads);
        AddLayers(Key("attention.head_count_kv"), _kept.KeyValueHeads);
        file.Add(Key("attention.key_length"), (uint)spec.HeadWidth);
        file.Add(Key("attention.value_length"), (uint)spec.HeadWidth);
        file.Add(Key("attention.layer_norm_rms_epsilon"), (float)spec.NormEpsilon);
        file.Add(Key("rope.dimension_count"), (uint)spec.HeadWidth);
        file.Add(Key("rope.freq_base"), (float)spec.RotaryBase);
        if (spec.RotaryScaling is { Kind: RotaryScalingKind.Linear } linear)
        {
            file.Add(Key("rope.scaling.type"), RotaryScaling.TypeOf(linear.Kind));
            file.Add(Key("rope.scaling.factor"), (float)linear.Factor);
        }

        string Key(string name) => $"{_architecture}.{name}";

        void AddLayers(string key, ImmutableArray<int> sizes)
        {
            if (_kept.IsUniform) file.Add(key, (uint)sizes[0]);
            else file.Add(key, sizes);
        }
    }

    // We rotate pairs of one number from each half of a head. So does llama.cpp's Qwen, but its Llama rotates pairs of neighbours, so the
    // rows of its query and key projections are interleaved.
    private SlicedTensor Laid(SlicedTensor tensor) =>
        _architecture is "llama" or "deci"
        && (tensor.Place.Part.StartsWith(QueryProjection, StringComparison.Ordinal)
            || tensor.Place.Part.StartsWith(KeyProjection, StringComparison.Ordinal))
            ? tensor with { Interleaved = _weights.Spec.HeadWidth }
            : tensor;

    private string NameOf(SlicedTensor tensor)
    {
        var (layer, part) = tensor.Place;
        return layer is { } number
            ? string.Create(CultureInfo.InvariantCulture, $"blk.{_kept.NumberOf(number)}.{s_names[part]}")
            : s_names[part];
    }

    private WeightEncoding EncodingOf(SlicedTensor tensor)
    {
        if (!tensor.IsMatrix) return WeightEncoding.Float32;
        return WeightEncoder.HasBlocks(_encoding) && tensor.Columns % WeightEncoder.BlockValues != 0 ? WeightEncoding.Float16 : _encoding;
    }
}
