using System.Globalization;
using System.Text.Json;

namespace MatFormer;

/// <summary>A folder that <c>ViTForImageClassification.from_pretrained</c> of Hugging Face's transformers loads.</summary>
internal sealed class HuggingFaceViT
{
    private readonly SlicedWeights _weights;
    private readonly WeightEncoding _encoding;
    private readonly int _hidden;

    /// <exception cref="ExtractionException">The model does not fit Hugging Face's ViT.</exception>
    public HuggingFaceViT(SlicedWeights weights, WeightEncoding encoding)
    {
        (_weights, _encoding) = (weights, encoding);
        var (spec, layers) = (weights.Spec, weights.Layers);
        _hidden = layers[0].HiddenWidth;
        var unlike = layers.Any(l => l.HiddenWidth != _hidden);
        var problem = spec.Lookup is not null ? "it has compressed tokens, and ViT has none; remove [Lookup]"
            : unlike ? $"its layers have different sizes ({spec.FormatPattern(layers.AsSpan())}), but ViT's are alike; give a "
                + "profile that is alike in all layers"
            : layers.Where((l, i) => l.Heads != spec.Blocks[i].Heads || spec.Blocks[i].KeyValueHeadsOf(l) != spec.Blocks[i].Heads).Any()
                ? "it keeps fewer heads than declared, or it has fewer key/value heads than heads; give a profile with all heads, and "
                    + "declare no KeyValueHeads"
            : spec.Blocks.Any(b => b.Activation != Activation.Gelu || !b.Bias)
                ? "its feed-forward differs from ViT's; declare [FeedForward(..., Activation.Gelu, Bias = true)]"
            : !spec.AttentionBias ? "its attention has no biases; declare [Attention(Bias = true)]"
            : !spec.OutputBias ? "the output of its attention has no bias; declare [Attention(Bias = true)] without OutputBias = false"
            : spec.Norm != NormKind.Layer || spec.QkNorm ? "its norms differ from ViT's; declare [Norm(NormKind.Layer)] without QkNorm"
            : spec.Position != PositionKind.Learned || spec.Pooling != Pooling.ClassToken
                ? "ViT has learned positions and a class token; declare PositionKind.Learned and Pooling.ClassToken"
            : null;
        if (problem is not null)
        {
            throw new ExtractionException($"{spec.Name}.{weights.ProfileName} cannot be written for Hugging Face's ViT: {problem}; or use "
                + "--format safetensors.");
        }
    }

    /// <summary>Writes the files. <c>config.json</c> comes last, because nothing loads without it.</summary>
    public void Write(string folder)
    {
        Extraction.WriteSafetensors(
            Path.Combine(folder, "model.safetensors"), _weights, _weights.Metadata, tensor => tensor.Name, _encoding);
        HuggingFaceFolder.WriteJson(Path.Combine(folder, "preprocessor_config.json"), WritePreprocessor);
        HuggingFaceFolder.WriteJson(Path.Combine(folder, "config.json"), WriteConfig);
    }

    private void WriteConfig(Utf8JsonWriter json)
    {
        var (spec, image) = (_weights.Spec, _weights.Spec.Image!);
        json.WriteStartArray("architectures");
        json.WriteStringValue("ViTForImageClassification");
        json.WriteEndArray();
        json.WriteString("model_type", "vit");
        json.WriteNumber("hidden_size", spec.Width);
        json.WriteNumber("num_hidden_layers", spec.Layers);
        json.WriteNumber("num_attention_heads", spec.Blocks[0].Heads);
        json.WriteNumber("intermediate_size", _hidden);
        json.WriteString("hidden_act", "gelu");
        json.WriteNumber("hidden_dropout_prob", 0);
        json.WriteNumber("attention_probs_dropout_prob", 0);
        HuggingFaceFolder.WriteFloat(json, "layer_norm_eps", spec.NormEpsilon);
        json.WriteNumber("image_size", image.Size);
        json.WriteNumber("patch_size", image.Patch);
        json.WriteNumber("num_channels", image.Channels);
        json.WriteBoolean("qkv_bias", true);
        json.WriteStartObject("id2label");
        for (var i = 0; i < image.Classes; i++) json.WriteString(i.ToString(CultureInfo.InvariantCulture), Label(i));
        json.WriteEndObject();
        json.WriteStartObject("label2id");
        for (var i = 0; i < image.Classes; i++) json.WriteNumber(Label(i), i);
        json.WriteEndObject();
        json.WriteString("torch_dtype", HuggingFaceFolder.TypeName(_encoding));
    }

    // The preprocessor maps bytes to the range from -1 to 1.
    private void WritePreprocessor(Utf8JsonWriter json)
    {
        var image = _weights.Spec.Image!;
        json.WriteString("image_processor_type", "ViTImageProcessor");
        json.WriteBoolean("do_resize", true);
        json.WriteStartObject("size");
        json.WriteNumber("height", image.Size);
        json.WriteNumber("width", image.Size);
        json.WriteEndObject();
        json.WriteBoolean("do_rescale", true);
        json.WriteNumber("rescale_factor", 1.0 / 255);
        json.WriteBoolean("do_normalize", true);
        foreach (var name in new[] { "image_mean", "image_std" })
        {
            json.WriteStartArray(name);
            for (var channel = 0; channel < image.Channels; channel++) json.WriteNumberValue(0.5);
            json.WriteEndArray();
        }
    }

    private static string Label(int label) => string.Create(CultureInfo.InvariantCulture, $"LABEL_{label}");
}
