using System;

namespace MatFormer;

/// <summary>
/// Declares a nested vision transformer on a partial class: an encoder of images whose feed-forward layers hold smaller ones as prefixes
/// (MatViT: MatFormer, arXiv 2310.07707, section 4.2; ViT, arXiv 2010.11929). The class needs a <see cref="FeedForwardAttribute"/> and at
/// least two <see cref="GranularityAttribute"/>s.
/// </summary>
/// <remarks>
/// Without other attributes: a class token, learned positions, layer norms with epsilon 1e-12, no biases in the blocks. Parameters are
/// named as in Hugging Face's ViT, whose blocks have <c>[Attention(Bias = true)]</c> and <c>[FeedForward(..., Bias = true)]</c>.
/// </remarks>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class MatViTAttribute : Attribute
{
    /// <summary>Height and width of the images, in pixels.</summary>
    public int Image { get; set; }

    /// <summary>Height and width of a patch, in pixels; divides <see cref="Image"/>.</summary>
    public int Patch { get; set; }

    /// <summary>Channels of the images: 3, colours, if not given.</summary>
    public int Channels { get; set; } = 3;

    /// <summary>How many classes there are.</summary>
    public int Classes { get; set; }

    /// <summary>Transformer blocks.</summary>
    public int Layers { get; set; }

    /// <summary>Width of the residual stream (d_model).</summary>
    public int Width { get; set; }

    /// <summary>
    /// Attention heads of the queries; divides <see cref="Width"/> unless <see cref="AttentionAttribute.HeadWidth"/> is given.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>What the classifier sees of the last hidden states; the class token's if not given.</summary>
    public Pooling Pooling { get; set; } = Pooling.ClassToken;
}
