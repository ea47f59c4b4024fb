namespace MatFormer.Functional.Tests;

/// <summary>A small model of the architecture of Hugging Face's ViT.</summary>
[MatViT(Image = 12, Patch = 4, Channels = 3, Classes = 7, Layers = 3, Width = 24, Heads = 4)]
[FeedForward(48, Activation.Gelu, Bias = true)]
[Attention(Bias = true)]
[Granularity("S", 12), Granularity("M", 24), Granularity("XL", 48)]
[Profile("Mixed", "S M XL")]
public sealed partial class OracleViT;

/// <summary>A vision transformer with the other options.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 3, Width = 32, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(40, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, QkNorm = true, Bias = true)]
[Norm(NormKind.Rms)]
[Position(PositionKind.Sinusoidal)]
[NestedEmbedding(8, 16, 32)]
[Granularity("S", 10, Heads = 2), Granularity("M", 20), Granularity("XL", 40)]
[Profile("Mixed", "S M XL"), Profile("Short", "S Skip XL")]
public sealed partial class OtherViT;

/// <summary>A vision transformer whose tokens are routed in the last layers.</summary>
[MatViT(Image = 12, Patch = 3, Channels = 3, Classes = 7, Layers = 3, Width = 24, Heads = 4)]
[FeedForward(48, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Routing(0.4, 0.7, Layers = "1-2")]
[Granularity("S", 12), Granularity("M", 24), Granularity("XL", 48)]
[Profile("Mixed", "S M XL")]
public sealed partial class RoutedViT;

/// <summary>A vision transformer that routes in every layer, whose layers differ, and of which a profile skips layers.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 3, Width = 32, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(40, Activation.SwiGlu), FeedForward(64, Activation.Gelu, Bias = true, Layers = "2")]
[Attention(KeyValueHeads = 2), Norm(NormKind.Rms)]
[NestedEmbedding(8, 32), Routing]
[Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
[Profile("Short", "S Skip XL")]
public sealed partial class TokenViT;

/// <summary>A vision transformer that routes tokens and has few mixes, which take little time to measure.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4)]
[FeedForward(64, Activation.Gelu), Routing(0.4, 0.7)]
[Granularity("S", 16), Granularity("XL", 64)]
public sealed partial class PlannedViT;

/// <summary>A vision transformer with compressed tokens, whose grids do not all divide the patches.</summary>
[MatViT(Image = 12, Patch = 3, Channels = 3, Classes = 7, Layers = 2, Width = 24, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(48, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Lookup(2, 3, Hidden = 10)]
[Granularity("S", 12), Granularity("XL", 48)]
[Profile("Mixed", "S XL")]
public sealed partial class LookupViT;

/// <summary>A vision transformer with compressed tokens, whose layers differ, and of which a profile skips layers.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 3, Width = 32, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(40, Activation.SwiGlu), FeedForward(64, Activation.Gelu, Bias = true, Layers = "2")]
[Attention(KeyValueHeads = 2), Norm(NormKind.Rms), Position(PositionKind.Sinusoidal)]
[NestedEmbedding(8, 32), Lookup(1, 2, 4)]
[Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
[Profile("Mixed", "S M XL"), Profile("Short", "S Skip XL")]
public sealed partial class CompressedViT;

/// <summary>A text encoder with the usual options.</summary>
[MatEncoder(Layers = 3, Width = 32, Heads = 4, Context = 20, Vocabulary = 64, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu)]
[NestedEmbedding(4, 8, 16, Weights = [1, 1, 2])]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "S M XL")]
public sealed partial class OracleEncoder;

/// <summary>A text encoder with the other options.</summary>
[MatEncoder(
    Layers = 2, Width = 24, Heads = 4, Context = 20, Vocabulary = 64, Embedding = 24, Pooling = Pooling.ClassToken, Temperature = 0.1)]
[FeedForward(40, Activation.Gelu, Bias = true)]
[Attention(Bias = true)]
[Norm(NormKind.Layer)]
[Position(PositionKind.Learned)]
[Granularity("S", 20, Heads = 1), Granularity("XL", 40)]
[Profile("Mixed", "S XL"), Profile("Short", "Skip XL")]
public sealed partial class OtherEncoder;

/// <summary>A text encoder whose tokens are routed in the last layers.</summary>
[MatEncoder(
    Layers = 3, Width = 24, Heads = 4, Context = 20, Vocabulary = 64, Embedding = 16, Pooling = Pooling.ClassToken, Temperature = 0.1)]
[FeedForward(48, Activation.SwiGlu)]
[NestedEmbedding(8, 16)]
[Routing(0.4, 0.7, Layers = "1-2")]
[Granularity("S", 12), Granularity("M", 24), Granularity("XL", 48)]
[Profile("Mixed", "S M XL")]
public sealed partial class RoutedEncoder;

/// <summary>A vision transformer whose granularities cut the residual stream, and with it the embeddings.</summary>
[MatViT(Image = 8, Patch = 4, Channels = 2, Classes = 5, Layers = 2, Width = 24, Heads = 4)]
[FeedForward(32, Activation.Gelu, Bias = true)]
[Attention(Bias = true)]
[NestedEmbedding(8, 16, 24)]
[Granularity("S", 12, Heads = 2, Width = 12), Granularity("M", 24, Width = 20), Granularity("XL", 32)]
public sealed partial class NarrowViT;

/// <summary>A text encoder whose small granularity cuts the residual stream.</summary>
[MatEncoder(Layers = 2, Width = 24, Heads = 4, Context = 20, Vocabulary = 40, Embedding = 16, Temperature = 0.1)]
[FeedForward(32, Activation.SwiGlu)]
[NestedEmbedding(8, 16)]
[Granularity("S", 12, Width = 16), Granularity("XL", 32)]
public sealed partial class NarrowEncoder;

/// <summary>A text encoder whose sizes and profiles are called like the files of a run.</summary>
[MatEncoder(Layers = 2, Width = 16, Heads = 2, Context = 20, Vocabulary = 256, Embedding = 16)]
[FeedForward(32, Activation.SwiGlu)]
[Granularity("Model", 16), Granularity("Checkpoint", 32)]
[Profile("Best", "Model Checkpoint"), Profile("Index", "Checkpoint Model")]
public sealed partial class TakenEncoder;
