using MatFormer;

/// <summary>A MatViT that reads handwritten digits.</summary>
[MatViT(Image = 28, Patch = 7, Channels = 1, Classes = 10, Layers = 6, Width = 96, Heads = 4)]
[FeedForward(384, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 48), Granularity("M", 96), Granularity("L", 192), Granularity("XL", 384)]
[Profile("Watch", "4*S 2*M")]
[Profile("Phone", MaxFlopsPerImage = 14_000_000)]
public sealed partial class DigitsViT;
