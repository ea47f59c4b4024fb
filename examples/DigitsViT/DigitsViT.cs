using MatFormer;

/// <summary>A MatViT that reads handwritten digits.</summary>
[MatViT(Image = 28, Patch = 14, Channels = 1, Classes = 10, Layers = 4, Width = 64, Heads = 4)]
[FeedForward(256, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 8, Heads = 1), Granularity("M", 32, Heads = 1), Granularity("L", 96, Heads = 2), Granularity("XL", 256, Heads = 4)]
[Profile("Watch", "2*S 2*M")]
[Profile("Phone", MaxFlopsPerImage = 650_000)]
public sealed partial class DigitsViT;
