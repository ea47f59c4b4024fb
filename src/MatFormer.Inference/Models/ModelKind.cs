namespace MatFormer;

/// <summary>What a model takes and gives.</summary>
public enum ModelKind
{
    /// <summary>A decoder (<c>[MatLM]</c>): tokens to logits of the next ones.</summary>
    LanguageModel,

    /// <summary>An encoder of images (<c>[MatViT]</c>): pixels to logits of classes.</summary>
    VisionTransformer,

    /// <summary>An encoder of text (<c>[MatEncoder]</c>): tokens to an embedding.</summary>
    TextEncoder,
}

/// <summary>Images that a model takes, and the classes it tells apart.</summary>
/// <param name="Size">Height and width, in pixels.</param>
/// <param name="Patch">Height and width of a patch, in pixels.</param>
/// <param name="Channels">1 for grey, 3 for colours.</param>
/// <param name="Classes">How many classes.</param>
public sealed record ImageSpec(int Size, int Patch, int Channels, int Classes)
{
    /// <summary>How many patches an image has.</summary>
    public int Patches => Size / Patch * (Size / Patch);
}
