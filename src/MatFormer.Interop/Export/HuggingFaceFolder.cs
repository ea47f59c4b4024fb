using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// A folder that <c>AutoModelForCausalLM.from_pretrained</c> of Hugging Face's transformers loads. The architecture is Llama's; or Qwen2's,
/// which is Llama's with biases of queries, keys and values; or Qwen3's, which is Llama's with norms of queries and keys.
/// </summary>
internal sealed class HuggingFaceFolder
{
    private const string Format = "Hugging Face";
    private readonly SlicedWeights _weights;
    private readonly KeptLayers _kept;
    private readonly Tokenizer? _tokenizer;
    private readonly WeightEncoding _encoding;
    private readonly string? _chatTemplate;
    private readonly string _family;

    /// <exception cref="ExtractionException">The model fits none of these architectures.</exception>
    public HuggingFaceFolder(SlicedWeights weights, Tokenizer? tokenizer, WeightEncoding encoding, string? chatTemplate)
    {
        (_weights, _tokenizer, _encoding, _chatTemplate) = (weights, tokenizer, encoding, chatTemplate);
        var spec = weights.Spec;
        _kept = new KeptLayers(spec, weights.ProfileName, weights.Layers, Format);
        _kept.CheckLlama();
        _family = spec.QkNorm ? "Qwen3" : _kept.HasQwen2Biases ? "Qwen2" : "Llama";
        if (spec.QkNorm)
        {
            _kept.CheckQwen3();
            if (_kept.HasQwen2Biases)
            {
                throw _kept.Refused(
                    "QkNorm together with [Attention(Bias = true, OutputBias = false)]",
                    "transformers' Qwen3, which norms queries and keys, has biases of all projections or of none");
            }
        }
        else if (_kept.HasQwen2Biases)
        {
            _kept.CheckFeedForwards(
                "[Attention(Bias = true, OutputBias = false)] together with a feed-forward's Bias",
                "transformers' Qwen2, whose attention has no bias of the output, has no biases in feed-forwards",
                "--format safetensors can hold it, and --format gguf if the activation is SwiGlu");
        }

        if (!_kept.IsUniform)
        {
            throw _kept.Refused(
                $"layers of different sizes ({spec.FormatPattern(weights.Layers.AsSpan())})", "all layers of transformers' Llama are alike",
                "give a profile that is alike in all layers, or --format gguf");
        }

        foreach (var (layer, block) in _kept.Blocks)
        {
            var first = spec.Blocks[_kept.Numbers[0]];
            if (block.Activation != first.Activation || block.Bias != first.Bias)
            {
                throw _kept.Refused(
                    string.Create(CultureInfo.InvariantCulture, $"another activation or bias in layer {layer} than in {_kept.Numbers[0]}"),
                    "transformers' Llama has the same activation and bias in all layers");
            }
        }

        if (_family == "Llama" && spec.Width % _kept.Heads[0] != 0)
        {
            throw _kept.Refused(
                string.Create(CultureInfo.InvariantCulture, $"{_kept.Heads[0]} heads and Width = {spec.Width}"),
                "the width of transformers' Llama must be a multiple of the number of heads",
                "give a profile with another number of heads, or --format gguf");
        }
    }

    // The token that a text begins with: one that the tokenizer adds, or else the one between documents.
    private int? BeginOfText => _tokenizer?.Before is [var token, ..] ? token : _tokenizer?.EndOfText;

    /// <summary>
    /// Writes the files. The weights come first, because they are the most likely to fail; <c>config.json</c> comes last, because nothing
    /// loads without it.
    /// </summary>
    public void Write(string folder)
    {
        var metadata = _weights.Metadata;
        if (_kept.Numbers.Length < _weights.Spec.Layers) metadata.Add(CheckpointHeader.KeptKey, string.Join(',', _kept.Numbers));
        Extraction.WriteSafetensors(Path.Combine(folder, "model.safetensors"), _weights, metadata, NameOf, _encoding);
        _tokenizer?.Save(Path.Combine(folder, Tokenizer.FileName));
        if (_tokenizer is not null) WriteJson(Path.Combine(folder, ChatTemplateFile.ConfigName), WriteTokenizerConfig);
        if (_chatTemplate is not null)
        {
            AtomicFile.Write(
                Path.Combine(folder, ChatTemplateFile.JinjaName), stream => stream.Write(Encoding.UTF8.GetBytes(_chatTemplate)));
        }

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
        json.WriteStringValue(_family + "ForCausalLM");
        json.WriteEndArray();
        json.WriteString("model_type", _family.ToLowerInvariant());
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

        // Transformers before version 5 read rope_theta and rope_scaling; later versions read rope_parameters.
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
        if (_family != "Qwen2") json.WriteBoolean("attention_bias", spec.AttentionBias);
        if (_family == "Llama") json.WriteBoolean("mlp_bias", block.Bias);
        json.WriteBoolean("tie_word_embeddings", spec.TiedHead);
        WriteToken(json, "bos_token_id", BeginOfText);
        WriteToken(json, "eos_token_id", _tokenizer?.EndOfText);
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

    /// <summary>The name that <c>config.json</c> has for an encoding.</summary>
    public static string TypeName(WeightEncoding encoding) => encoding switch
    {
        WeightEncoding.Float16 => "float16",
        WeightEncoding.BFloat16 => "bfloat16",
        _ => "float32",
    };

    /// <summary>Writes a number with a point or an exponent, because readers take 10000 for an integer and 10000.0 for a float.</summary>
    public static void WriteFloat(Utf8JsonWriter json, string name, double value)
    {
        var text = value.ToString("R", CultureInfo.InvariantCulture);
        json.WritePropertyName(name);
        json.WriteRawValue(text.AsSpan().ContainsAny('.', 'E') ? text : text + ".0");
    }

    // Writes null if there is no such token, because transformers would otherwise use its default ids.
    private static void WriteToken(Utf8JsonWriter json, string name, int? token)
    {
        if (token is { } id) json.WriteNumber(name, id);
        else json.WriteNull(name);
    }

    // PreTrainedTokenizerFast is the class that loads tokenizer.json unchanged.
    private void WriteTokenizerConfig(Utf8JsonWriter json)
    {
        json.WriteString("tokenizer_class", "PreTrainedTokenizerFast");
        json.WriteNumber("model_max_length", _weights.Spec.Context);
        json.WriteBoolean("clean_up_tokenization_spaces", false);
        WriteName("bos_token", BeginOfText);
        WriteName("eos_token", _tokenizer!.EndOfText);

        void WriteName(string key, int? token)
        {
            if (token is { } id) json.WriteString(key, Encoding.UTF8.GetString(_tokenizer!.Content.Pieces[id]));
        }
    }

    /// <summary>Writes a JSON file with one object.</summary>
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
