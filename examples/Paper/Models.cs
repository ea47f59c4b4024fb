using MatFormer;

namespace Paper;

// Three sizes, each about four times as large as the one before it; the paper's granularities: an eighth, a quarter, half and all of the
// feed-forward.

/// <summary>0.2 million parameters in its blocks.</summary>
[MatLM(Layers = 3, Width = 64, Heads = 2, Context = 128, Vocabulary = 256)]
[FeedForward(256, Activation.SwiGlu)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class Tiny;

/// <summary>1 million.</summary>
[MatLM(Layers = 4, Width = 128, Heads = 4, Context = 128, Vocabulary = 256)]
[FeedForward(512, Activation.SwiGlu)]
[Granularity("S", 64), Granularity("M", 128), Granularity("L", 256), Granularity("XL", 512)]
public sealed partial class Small;

/// <summary>3.5 million.</summary>
[MatLM(Layers = 6, Width = 192, Heads = 6, Context = 128, Vocabulary = 256)]
[FeedForward(768, Activation.SwiGlu)]
[Granularity("S", 96), Granularity("M", 192), Granularity("L", 384), Granularity("XL", 768)]
public sealed partial class Medium;
