namespace MatFormer;

/// <summary>Which frequencies of rotary positions are divided by a factor.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum RotaryScalingKind
{
    /// <summary>All of them, as if positions lay closer together (position interpolation, arXiv 2306.15595).</summary>
    Linear,

    /// <summary>
    /// Low ones; high ones stay, and those in between are blended (Llama 3.1, arXiv 2407.21783; <c>rope_type</c> <c>llama3</c> of
    /// Hugging Face's transformers).
    /// </summary>
    Llama3,
}
