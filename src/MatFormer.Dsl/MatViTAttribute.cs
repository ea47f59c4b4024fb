using System;

namespace MatFormer;

/// <summary>
/// Declares a nested vision transformer on a partial class: an image encoder whose feed-forward layers contain smaller ones as prefixes
/// (MatViT: MatFormer, arXiv 2310.07707, section 4.2; ViT, arXiv 2010.11929). The class needs a <see cref="FeedForwardAttribute"/> and at
/// least two <see cref="GranularityAttribute"/>s.
/// </summary>
/// <remarks>
/// The defaults are a class token, learned positions, layer norms with epsilon 1e-12, and no biases in the blocks. Parameters have the
/// names of Hugging Face's ViT. To match its blocks, declare <c>[Attention(Bias = true)]</c> and <c>[FeedForward(..., Bias = true)]</c>.
/// </remarks>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class MatViTAttribute : Attribute
{
    /// <summary>The height and width of the images, in pixels.</summary>
    public int Image { get; set; }

    /// <summary>The height and width of a patch, in pixels. It must divide <see cref="Image"/>.</summary>
    public int Patch { get; set; }

    /// <summary>The number of channels of the images. The default is 3 (colour).</summary>
    public int Channels { get; set; } = 3;

    /// <summary>The number of classes.</summary>
    public int Classes { get; set; }

    /// <summary>The number of transformer blocks.</summary>
    public int Layers { get; set; }

    /// <summary>The width of the residual stream (d_model).</summary>
    public int Width { get; set; }

    /// <summary>
    /// The number of query heads. It must divide <see cref="Width"/> unless <see cref="AttentionAttribute.HeadWidth"/> is given.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>How the last hidden states are pooled for the classifier. The default is the class token's hidden state.</summary>
    public Pooling Pooling { get; set; } = Pooling.ClassToken;
}
