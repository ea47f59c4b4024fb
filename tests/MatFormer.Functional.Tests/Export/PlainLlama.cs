using System.Text.Json;

namespace MatFormer.Functional.Tests;

/// <summary>
/// Computes Llama, Qwen2 or Qwen3 from an exported file alone, token by token in double precision, as another program would.
/// </summary>
internal sealed class PlainLlama
{
    private readonly Func<string, double[]?> _weights;
    private readonly List<(int Hidden, int Heads, int KeyValueHeads)> _layers = [];
    private readonly int _width;
    private readonly int _headWidth;
    private readonly double _epsilon;
    private readonly double[] _frequencies;
    private readonly bool _neighbours;
    private readonly Func<double, double> _activation = x => x / (1 + Math.Exp(-x));

    /// <summary>Reads a file of llama.cpp, which rotates neighbouring pairs in llama and deci, and halves in qwen2 and qwen3.</summary>
    public PlainLlama(GgufFile file)
    {
        _weights = name => file.Tensors.ContainsKey(name) ? Array.ConvertAll(file.Floats(name), x => (double)x) : null;
        var architecture = file.Value<string>("general.architecture");
        _neighbours = architecture is "llama" or "deci";
        Assert.True(_neighbours || architecture is "qwen2" or "qwen3", architecture);
        var layers = (int)file.Value<uint>(architecture + ".block_count");
        for (var layer = 0; layer < layers; layer++)
        {
            _layers.Add((
                file.Of(architecture + ".feed_forward_length", layer), file.Of(architecture + ".attention.head_count", layer),
                file.Of(architecture + ".attention.head_count_kv", layer)));
        }

        // llama.cpp's Qwen2 has these biases, no others, and heads that together are as wide as the model.
        if (architecture == "qwen2")
        {
            Assert.All((string[])["attn_q", "attn_k", "attn_v"], name => Assert.Contains($"blk.0.{name}.bias", file.Tensors.Keys));
            Assert.Equal(3 * layers, file.Tensors.Keys.Count(name => name.EndsWith(".bias", StringComparison.Ordinal)));
            Assert.Equal(file.Value<uint>("qwen2.embedding_length"), file.Value<uint>("qwen2.attention.key_length") * _layers[0].Heads);
        }

        // Only in deci can llama.cpp have layers of different sizes.
        if (architecture != "deci") Assert.Single(_layers.Distinct());
        Vocabulary = (int)file.Value<uint>(architecture + ".vocab_size");
        _width = (int)file.Value<uint>(architecture + ".embedding_length");
        _headWidth = (int)file.Value<uint>(architecture + ".attention.key_length");
        Assert.Equal(_headWidth, (int)file.Value<uint>(architecture + ".rope.dimension_count"));
        _epsilon = file.Value<float>(architecture + ".attention.layer_norm_rms_epsilon");
        _frequencies = Frequencies(file.Value<float>(architecture + ".rope.freq_base"));

        // llama.cpp divides all frequencies by a factor, and each by a value of a tensor, which its Qwen does not read.
        if (file.Values.ContainsKey(architecture + ".rope.scaling.type"))
        {
            Assert.Equal("linear", file.Value<string>(architecture + ".rope.scaling.type"));
            var factor = file.Value<float>(architecture + ".rope.scaling.factor");
            _frequencies = Array.ConvertAll(_frequencies, frequency => frequency / factor);
        }

        if (_weights("rope_freqs.weight") is not { } divisors) return;
        Assert.True(_neighbours, architecture);
        Assert.Equal([_headWidth / 2], file.Tensors["rope_freqs.weight"].Shape);
        _frequencies = [.. _frequencies.Zip(divisors, (frequency, divisor) => frequency / divisor)];
    }

    /// <summary>Reads a folder for Hugging Face. Its names are translated to those of llama.cpp.</summary>
    public PlainLlama(string folder)
    {
        using var config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "config.json")));
        var root = config.RootElement;
        var file = File.ReadAllBytes(Path.Combine(folder, "model.safetensors"));
        var length = (int)BitConverter.ToInt64(file);
        var header = JsonDocument.Parse(file.AsMemory(8, length)).RootElement.Clone();
        _weights = name => header.TryGetProperty(HuggingFaceName(name), out var entry) ? Values(entry) : null;
        for (var layer = 0; layer < root.GetProperty("num_hidden_layers").GetInt32(); layer++)
        {
            _layers.Add((
                root.GetProperty("intermediate_size").GetInt32(), root.GetProperty("num_attention_heads").GetInt32(),
                root.GetProperty("num_key_value_heads").GetInt32()));
        }

        Vocabulary = root.GetProperty("vocab_size").GetInt32();
        _width = root.GetProperty("hidden_size").GetInt32();
        _headWidth = root.GetProperty("head_dim").GetInt32();
        _epsilon = root.GetProperty("rms_norm_eps").GetDouble();
        _frequencies = Frequencies(root.GetProperty("rope_theta").GetDouble());

        // Transformers reads rope_theta and rope_scaling before version 5, and rope_parameters since then.
        var parameters = root.GetProperty("rope_parameters");
        Assert.Equal(root.GetProperty("rope_theta").GetDouble(), parameters.GetProperty("rope_theta").GetDouble());
        Assert.Equal(parameters.GetProperty("rope_type").GetString() != "default", root.TryGetProperty("rope_scaling", out var scaling));
        if (scaling.ValueKind == JsonValueKind.Object)
        {
            foreach (var item in scaling.EnumerateObject())
                Assert.Equal(item.Value.ToString(), parameters.GetProperty(item.Name).ToString());
            _frequencies = Array.ConvertAll(_frequencies, frequency => Scaled(scaling, frequency));
        }

        var type = root.GetProperty("model_type").GetString();
        var architecture = type switch { "llama" => "LlamaForCausalLM", "qwen2" => "Qwen2ForCausalLM", _ => "Qwen3ForCausalLM" };
        Assert.Equal(architecture, root.GetProperty("architectures")[0].GetString());
        Assert.Equal(type == "qwen3", header.TryGetProperty("model.layers.0.self_attn.q_norm.weight", out _));
        Assert.Equal(root.GetProperty("tie_word_embeddings").GetBoolean(), !header.TryGetProperty("lm_head.weight", out _));
        Assert.Equal(
            type == "llama" && root.GetProperty("mlp_bias").GetBoolean(), header.TryGetProperty("model.layers.0.mlp.up_proj.bias", out _));
        var hasBiases = type == "qwen2" || root.GetProperty("attention_bias").GetBoolean();
        Assert.Equal(hasBiases, header.TryGetProperty("model.layers.0.self_attn.q_proj.bias", out _));
        Assert.Equal(hasBiases && type != "qwen2", header.TryGetProperty("model.layers.0.self_attn.o_proj.bias", out _));
        if (root.GetProperty("hidden_act").GetString() == "gelu") _activation = x => x * 0.5 * (1 + Erf(x / Math.Sqrt(2)));

        double[] Values(JsonElement entry)
        {
            Assert.Equal("F32", entry.GetProperty("dtype").GetString());
            var offsets = entry.GetProperty("data_offsets");
            var (begin, end) = (offsets[0].GetInt32(), offsets[1].GetInt32());
            return [.. Enumerable.Range(0, (end - begin) / 4)
                .Select(i => (double)BitConverter.ToSingle(file, 8 + length + begin + (4 * i)))];
        }
    }

    public int Vocabulary { get; }

    /// <summary>Returns the logits of each token of a text.</summary>
    public double[][] Logits(int[] tokens)
    {
        var embedding = _weights("token_embd.weight")!;
        var states = Array.ConvertAll(tokens, token => embedding[(token * _width)..((token + 1) * _width)]);
        for (var layer = 0; layer < _layers.Count; layer++)
        {
            var prefix = $"blk.{layer}.";
            var (hidden, heads, keyValueHeads) = _layers[layer];
            var (queries, keys, values) = (new double[tokens.Length][], new double[tokens.Length][], new double[tokens.Length][]);
            for (var t = 0; t < tokens.Length; t++)
            {
                var x = Norm(states[t], prefix + "attn_norm.weight");
                queries[t] = Turned(Linear(x, prefix + "attn_q", heads * _headWidth), prefix + "attn_q_norm.weight", t);
                keys[t] = Turned(Linear(x, prefix + "attn_k", keyValueHeads * _headWidth), prefix + "attn_k_norm.weight", t);
                values[t] = Linear(x, prefix + "attn_v", keyValueHeads * _headWidth);
            }

            for (var t = 0; t < tokens.Length; t++)
            {
                var attended = new double[heads * _headWidth];
                for (var head = 0; head < heads; head++)
                {
                    var (own, shared) = (head * _headWidth, head / (heads / keyValueHeads) * _headWidth);
                    var weights = new double[t + 1];
                    for (var s = 0; s <= t; s++)
                    {
                        for (var i = 0; i < _headWidth; i++) weights[s] += queries[t][own + i] * keys[s][shared + i];
                        weights[s] = Math.Exp(weights[s] / Math.Sqrt(_headWidth));
                    }

                    var sum = weights.Sum();
                    for (var s = 0; s <= t; s++)
                    {
                        for (var i = 0; i < _headWidth; i++) attended[own + i] += weights[s] / sum * values[s][shared + i];
                    }
                }

                var state = Sum(states[t], Linear(attended, prefix + "attn_output", _width));
                var x = Norm(state, prefix + "ffn_norm.weight");
                var (gate, up) = (Linear(x, prefix + "ffn_gate", hidden), Linear(x, prefix + "ffn_up", hidden));
                states[t] = Sum(state, Linear([.. gate.Zip(up, (g, u) => _activation(g) * u)], prefix + "ffn_down", _width));
            }
        }

        var head2 = _weights("output.weight") is null ? "token_embd" : "output";
        return Array.ConvertAll(states, state => Linear(Norm(state, "output_norm.weight"), head2, Vocabulary));
    }

    private double[] Norm(double[] x, string name)
    {
        var scale = 1 / Math.Sqrt((x.Sum(v => v * v) / x.Length) + _epsilon);
        return [.. x.Zip(_weights(name)!, (v, weight) => v * scale * weight)];
    }

    private double[] Linear(double[] x, string name, int rows)
    {
        var matrix = _weights(name + ".weight")!;
        Assert.Equal(rows * x.Length, matrix.Length);
        var result = _weights(name + ".bias") ?? new double[rows];
        for (var row = 0; row < rows; row++)
        {
            for (var i = 0; i < x.Length; i++) result[row] += matrix[(row * x.Length) + i] * x[i];
        }

        return result;
    }

    private double[] Turned(double[] heads, string norm, int position)
    {
        if (_weights(norm) is not null) heads = [.. heads.Chunk(_headWidth).SelectMany(head => Norm(head, norm))];
        for (var start = 0; start < heads.Length; start += _headWidth)
        {
            for (var pair = 0; pair < _headWidth / 2; pair++)
            {
                var (i, j) = _neighbours ? (start + (2 * pair), start + (2 * pair) + 1) : (start + pair, start + pair + (_headWidth / 2));
                var (sin, cos) = Math.SinCos(position * _frequencies[pair]);
                (heads[i], heads[j]) = ((heads[i] * cos) - (heads[j] * sin), (heads[j] * cos) + (heads[i] * sin));
            }
        }

        return heads;
    }

    private double[] Frequencies(double rotaryBase) =>
        [.. Enumerable.Range(0, _headWidth / 2).Select(pair => Math.Pow(rotaryBase, -2.0 * pair / _headWidth))];

    // Follows the definition in Hugging Face's transformers, which uses wavelengths.
    private static double Scaled(JsonElement scaling, double frequency)
    {
        var slow = frequency / Number("factor");
        if (scaling.GetProperty("rope_type").GetString() == "linear") return slow;
        Assert.Equal("llama3", scaling.GetProperty("rope_type").GetString());
        var (original, low, high) = (Number("original_max_position_embeddings"), Number("low_freq_factor"), Number("high_freq_factor"));
        var wavelength = 2 * Math.PI / frequency;
        if (wavelength < original / high) return frequency;
        if (wavelength > original / low) return slow;
        var smooth = ((original / wavelength) - low) / (high - low);
        return ((1 - smooth) * slow) + (smooth * frequency);

        double Number(string key) => scaling.GetProperty(key).GetDouble();
    }

    private static double[] Sum(double[] x, double[] y) => [.. x.Zip(y, (a, b) => a + b)];

    // The Taylor series is enough, because the arguments are small.
    private static double Erf(double x)
    {
        var (sum, term) = (x, x);
        for (var n = 1; Math.Abs(term) > 1e-18 && n < 500; n++)
        {
            term *= -x * x / n;
            sum += term / ((2 * n) + 1);
        }

        return 2 / Math.Sqrt(Math.PI) * sum;
    }

    private static string HuggingFaceName(string name)
    {
        var parts = name.Split('.');
        return parts[0] switch
        {
            "token_embd" => "model.embed_tokens",
            "output_norm" => "model.norm",
            "output" => "lm_head",
            _ => $"model.layers.{parts[1]}." + parts[2] switch
            {
                "attn_norm" => "input_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => throw new ArgumentException(name),
            },
        } + "." + parts[^1];
    }
}
