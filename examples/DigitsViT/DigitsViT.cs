using MatFormer;

/// <summary>A MatViT that reads handwritten digits.</summary>
[MatViT(Image = 28, Patch = 14, Channels = 1, Classes = 10, Layers = 4, Width = 48, Heads = 4)]
[FeedForward(256, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 4, Heads = 1), Granularity("M", 12, Heads = 1), Granularity("L", 32, Heads = 1), Granularity("XL", 256, Heads = 4)]
[Profile("Watch", "2*S 2*M")]
[Profile("Phone", MaxFlopsPerImage = 270_000)]
public sealed partial class DigitsViT;
