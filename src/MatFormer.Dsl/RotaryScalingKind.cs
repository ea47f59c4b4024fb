namespace MatFormer;

/// <summary>The rotary frequencies that are divided by a factor.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum RotaryScalingKind
{
    /// <summary>All frequencies are divided, as if positions were closer together (position interpolation, arXiv 2306.15595).</summary>
    Linear,

    /// <summary>
    /// Low frequencies are divided, high frequencies stay, and those in between are interpolated (Llama 3.1, arXiv 2407.21783;
    /// <c>rope_type</c> <c>llama3</c> of Hugging Face's transformers).
    /// </summary>
    Llama3,
}
