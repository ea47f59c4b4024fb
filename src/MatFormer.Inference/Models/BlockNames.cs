namespace MatFormer;

/// <summary>The names of a block's weights in weight files, as in Hugging Face's checkpoints of that architecture.</summary>
/// <remarks>The names of weights lack <c>.weight</c> and <c>.bias</c>. The generator compiles this file too.</remarks>
internal sealed record BlockNames(
    string Prefix, string AttentionNorm, string Query, string Key, string Value, string Output, string QueryNorm, string KeyNorm,
    string FeedForwardNorm, string Gate, string Up, string Down)
{
    private static readonly BlockNames s_llama = new(
        "model.layers.", "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj");

    // Hugging Face's ViT has no norms of heads and no gates, so these names are ours.
    private static readonly BlockNames s_viT = new(
        "vit.encoder.layer.", "layernorm_before", "attention.attention.query", "attention.attention.key", "attention.attention.value",
        "attention.output.dense", "attention.attention.query_norm", "attention.attention.key_norm", "layernorm_after",
        "intermediate.gate", "intermediate.dense", "output.dense");

    public static BlockNames Of(bool isVision) => isVision ? s_viT : s_llama;
}
