namespace MatFormer;

/// <summary>The input and the output of a model.</summary>
public enum ModelKind
{
    /// <summary>A decoder (<c>[MatLM]</c>): tokens to the logits of the next token.</summary>
    LanguageModel,

    /// <summary>An encoder of images (<c>[MatViT]</c>): pixels to the logits of classes.</summary>
    VisionTransformer,

    /// <summary>An encoder of text (<c>[MatEncoder]</c>): tokens to an embedding.</summary>
    TextEncoder,
}

/// <summary>The images that a model takes, and the classes that it distinguishes.</summary>
/// <param name="Size">Height and width, in pixels.</param>
/// <param name="Patch">Height and width of a patch, in pixels.</param>
/// <param name="Channels">1 for grey images, 3 for colour images.</param>
/// <param name="Classes">The number of classes.</param>
public sealed record ImageSpec(int Size, int Patch, int Channels, int Classes)
{
    /// <summary>The number of patches of an image.</summary>
    public int Patches => Size / Patch * (Size / Patch);
}
