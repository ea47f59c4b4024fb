using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// A folder as <c>AutoModelForCausalLM.from_pretrained</c> of Hugging Face's transformers loads it: Llama's architecture, or Qwen3's, which
/// is Llama's with norms of queries and keys.
/// </summary>
internal sealed class HuggingFaceFolder
{
    private const string Format = "Hugging Face";
    private readonly SlicedWeights _weights;
    private readonly KeptLayers _kept;
    private readonly Tokenizer? _tokenizer;
    private readonly WeightEncoding _encoding;

    /// <exception cref="ExtractionException">The model is of neither architecture, or is to be stored as transformers cannot.</exception>
    public HuggingFaceFolder(SlicedWeights weights, Tokenizer? tokenizer, WeightEncoding encoding)
    {
        (_weights, _tokenizer, _encoding) = (weights, tokenizer, encoding);
        var spec = weights.Spec;
        _kept = new KeptLayers(spec, weights.ProfileName, weights.Layers, Format);
        _kept.CheckLlama();
        if (spec.QkNorm) _kept.CheckQwen3();
        if (!_kept.IsUniform)
        {
            throw _kept.Refused(
                $"layers of different sizes ({spec.FormatPattern(weights.Layers.AsSpan())})", "Llama's layers are alike there",
                "give a profile that is alike in all layers, or --format gguf");
        }

        foreach (var (layer, block) in _kept.Blocks)
        {
            var first = spec.Blocks[_kept.Numbers[0]];
            if (block.Activation != first.Activation || block.Bias != first.Bias)
            {
                throw _kept.Refused(
                    string.Create(CultureInfo.InvariantCulture, $"another activation or bias in layer {layer} than in {_kept.Numbers[0]}"),
                    "Llama's feed-forwards are all of one kind there");
            }
        }

        if (!spec.QkNorm && spec.Width % _kept.Heads[0] != 0)
        {
            throw _kept.Refused(
                string.Create(CultureInfo.InvariantCulture, $"{_kept.Heads[0]} heads and Width = {spec.Width}"),
                "a multiple of the heads is asked of Llama's width there", "give a profile with another number of heads, or --format gguf");
        }
    }

    /// <summary>Writes the files: what may fail first, and last the one without which nothing loads.</summary>
    public void Write(string folder)
    {
        var metadata = _weights.Metadata;
        if (_kept.Numbers.Length < _weights.Spec.Layers) metadata.Add(CheckpointHeader.KeptKey, string.Join(',', _kept.Numbers));
        Extraction.WriteSafetensors(Path.Combine(folder, "model.safetensors"), _weights, metadata, NameOf, _encoding);
        _tokenizer?.Save(Path.Combine(folder, Tokenizer.FileName));
        if (_tokenizer is not null) WriteJson(Path.Combine(folder, "tokenizer_config.json"), WriteTokenizerConfig);
        WriteJson(Path.Combine(folder, "config.json"), WriteConfig);
    }

    private string NameOf(SlicedTensor tensor) => tensor.Place is ({ } layer, var part)
        ? string.Create(CultureInfo.InvariantCulture, $"model.layers.{_kept.NumberOf(layer)}.{part}")
        : tensor.Name;

    private void WriteConfig(Utf8JsonWriter json)
    {
        var spec = _weights.Spec;
        var block = spec.Blocks[_kept.Numbers[0]];
        json.WriteStartArray("architectures");
        json.WriteStringValue(spec.QkNorm ? "Qwen3ForCausalLM" : "LlamaForCausalLM");
        json.WriteEndArray();
        json.WriteString("model_type", spec.QkNorm ? "qwen3" : "llama");
        json.WriteNumber("vocab_size", spec.Vocabulary);
        json.WriteNumber("hidden_size", spec.Width);
        json.WriteNumber("intermediate_size", _kept.HiddenWidths[0]);
        json.WriteNumber("num_hidden_layers", _kept.Numbers.Length);
        json.WriteNumber("num_attention_heads", _kept.Heads[0]);
        json.WriteNumber("num_key_value_heads", _kept.KeyValueHeads[0]);
        json.WriteNumber("head_dim", spec.HeadWidth);
        json.WriteString("hidden_act", block.Activation == Activation.SwiGlu ? "silu" : "gelu");
        json.WriteNumber("max_position_embeddings", spec.Context);
        WriteFloat(json, "rms_norm_eps", spec.NormEpsilon);

        // The first is read by transformers before 5, the second since.
        WriteFloat(json, "rope_theta", spec.RotaryBase);
        if (spec.RotaryScaling is not null)
        {
            json.WriteStartObject("rope_scaling");
            WriteScaling(json, spec.RotaryScaling);
            json.WriteEndObject();
        }

        json.WriteStartObject("rope_parameters");
        WriteScaling(json, spec.RotaryScaling);
        WriteFloat(json, "rope_theta", spec.RotaryBase);
        json.WriteEndObject();
        json.WriteBoolean("attention_bias", spec.AttentionBias);
        if (!spec.QkNorm) json.WriteBoolean("mlp_bias", block.Bias);
        json.WriteBoolean("tie_word_embeddings", spec.TiedHead);
        WriteToken(json, "bos_token_id");
        WriteToken(json, "eos_token_id");
        json.WriteString("torch_dtype", TypeName(_encoding));
    }

    private static void WriteScaling(Utf8JsonWriter json, RotaryScaling? scaling)
    {
        json.WriteString("rope_type", scaling is null ? "default" : RotaryScaling.TypeOf(scaling.Kind));
        if (scaling is null) return;
        WriteFloat(json, "factor", scaling.Factor);
        if (scaling.Kind == RotaryScalingKind.Linear) return;
        json.WriteNumber("original_max_position_embeddings", scaling.OriginalContext);
        WriteFloat(json, "low_freq_factor", scaling.LowFrequencyFactor);
        WriteFloat(json, "high_freq_factor", scaling.HighFrequencyFactor);
    }

    /// <summary>What weights are stored as, in a <c>config.json</c>.</summary>
    public static string TypeName(WeightEncoding encoding) => encoding switch
    {
        WeightEncoding.Float16 => "float16",
        WeightEncoding.BFloat16 => "bfloat16",
        _ => "float32",
    };

    /// <summary>With a point or an exponent: what reads it tells 10000 from 10000.0.</summary>
    public static void WriteFloat(Utf8JsonWriter json, string name, double value)
    {
        var text = value.ToString("R", CultureInfo.InvariantCulture);
        json.WritePropertyName(name);
        json.WriteRawValue(text.AsSpan().ContainsAny('.', 'E') ? text : text + ".0");
    }

    // Said also where there is none: transformers has defaults of its own.
    private void WriteToken(Utf8JsonWriter json, string name)
    {
        if (_tokenizer?.EndOfText is { } token) json.WriteNumber(name, token);
        else json.WriteNull(name);
    }

    // The class that takes tokenizer.json as it is.
    private void WriteTokenizerConfig(Utf8JsonWriter json)
    {
        json.WriteString("tokenizer_class", "PreTrainedTokenizerFast");
        json.WriteNumber("model_max_length", _weights.Spec.Context);
        json.WriteBoolean("clean_up_tokenization_spaces", false);
        if (_tokenizer!.EndOfText is not { } end) return;
        var name = _tokenizer.SpecialTokens.First(t => t.Value == end).Key;
        json.WriteString("bos_token", name);
        json.WriteString("eos_token", name);
    }

    /// <summary>A file with one object.</summary>
    public static void WriteJson(string path, Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        var options = new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var json = new Utf8JsonWriter(buffer, options))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        buffer.Write("\n"u8);
        AtomicFile.Write(path, stream => stream.Write(buffer.WrittenSpan));
    }
}
