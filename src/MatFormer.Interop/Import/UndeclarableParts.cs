using System.Text.Json;

namespace MatFormer;

/// <summary>Finds the parts of a model that declarations cannot express, from its <c>config.json</c>.</summary>
internal static class UndeclarableParts
{
    public const string SlidingAttention = "sliding_attention";
    private const string FullAttention = "full_attention";

    private static readonly string[] ModelTypes = ["llama", "mistral", "qwen2", "qwen3", "arcee"];

    // Parts that all models of a type have, without a key in the file. The type begins with the given text.
    private static readonly (string Start, string Part)[] TypeParts =
    [
        ("gemma", "embeddings scaled by the root of the width"),
        ("gemma2", "norms after attention and feed-forward"),
        ("gemma3", "norms after attention and feed-forward"),
        ("gemma3n", "norms of values, attention that is not scaled"),
    ];

    // The keys of other architectures, and what they stand for. Values that change nothing (null, 0, 1, false) are ignored.
    private static readonly (string Key, string Part)[] Keys =
    [
        ("num_kv_shared_layers", "layers that read the keys and values of others"),
        ("altup_num_inputs", "several residual streams (AltUp)"),
        ("laurel_rank", "residual connections of low rank (LAuReL)"),
        ("hidden_size_per_layer_input", "embeddings of each layer (per-layer embeddings)"),
        ("activation_sparsity_pattern", "feed-forwards that keep only their largest activations"),
        ("final_logit_softcapping", "capped logits"),
        ("attn_logit_softcapping", "capped attention scores"),
        ("query_pre_attn_scalar", "an attention scale other than the root of the head's width"),
        ("attention_multiplier", "an attention scale other than the root of the head's width"),
        ("embedding_multiplier", "scaled embeddings"),
        ("residual_multiplier", "scaled residual connections"),
        ("logits_scaling", "scaled logits"),
        ("rope_local_base_freq", "another rotary base in layers with windows"),
        ("partial_rotary_factor", "rotary positions for a part of each head"),
        ("no_rope_layer_interval", "layers without positions"),
        ("num_experts", "mixtures of experts"),
        ("num_local_experts", "mixtures of experts"),
        ("n_routed_experts", "mixtures of experts"),
        ("vision_config", "image input"),
        ("audio_config", "audio input"),
        ("quantization_config", "quantised weights"),
    ];

    /// <summary>Describes all such parts, with their keys.</summary>
    /// <exception cref="CheckpointException">The file is damaged.</exception>
    public static IEnumerable<string> Of(ConfigReader config)
    {
        var type = config.Text("model_type");
        if (!ModelTypes.Contains(type)) yield return $"model_type {type} (supported: {string.Join(", ", ModelTypes)})";
        foreach (var (start, part) in TypeParts)
        {
            if (type.StartsWith(start, StringComparison.Ordinal)) yield return part;
        }

        // Transformers' Mistral has no biases, even if the file says so.
        if (type == "mistral" && config.Find("attention_bias") is var biases && ChangesSomething(biases))
            yield return "biases of Mistral's attention (attention_bias)";
        if (type is "gemma" or "gemma2" or "gemma3" or "gemma3_text") yield return "norms that multiply by 1 + weight";
        foreach (var name in (string[])["hidden_act", "hidden_activation"])
        {
            if (config.Has(name) && ActivationOf(type, config.Text(name)) is null)
                yield return $"the activation {config.Text(name)} ({name})";
        }

        if (config.Rotary?.ScalingType is { } scaling && ScalingOf(scaling) is null)
            yield return $"scaled rotary positions (rope_scaling of the type {scaling})";
        foreach (var (key, part) in Keys)
        {
            if (config.Find(key) is var value && ChangesSomething(value)) yield return $"{part} ({key})";
        }

        if (config.Find("layer_types") is not { ValueKind: JsonValueKind.Array } layerTypes) yield break;
        foreach (var other in layerTypes.EnumerateArray().Select(item => item.ToString()).Distinct())
        {
            if (other is not (SlidingAttention or FullAttention)) yield return $"layers of the type {other} (layer_types)";
        }
    }

    /// <summary>Returns the kind of scaling of rotary positions, or null if it is not supported.</summary>
    public static RotaryScalingKind? ScalingOf(string type)
    {
        foreach (var kind in Enum.GetValues<RotaryScalingKind>())
        {
            if (RotaryScaling.TypeOf(kind) == type) return kind;
        }

        return null;
    }

    /// <summary>Returns the activation of this name in the feed-forward of a model type, or null if it is not supported.</summary>
    public static Activation? ActivationOf(string type, string name) => (type, name) switch
    {
        ("arcee", "relu2") => Activation.SquaredRelu,
        ("arcee", "gelu") => Activation.Gelu,
        ("arcee", _) => null,
        (_, "silu" or "swish") => Activation.SwiGlu,
        (_, "gelu") => Activation.GeGlu,
        _ => null,
    };

    private static bool ChangesSomething(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Undefined or JsonValueKind.Null or JsonValueKind.False => false,
        JsonValueKind.Number => value.GetDouble() is not (0 or 1),
        JsonValueKind.Array => value.EnumerateArray().Any(ChangesSomething),
        _ => true,
    };
}
