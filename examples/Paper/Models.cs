using MatFormer;

namespace Paper;

// Three sizes. Each is about four times as large as the one before it. The granularities are the paper's: an eighth, a quarter, a half and
// all of the feed-forward.

/// <summary>The smallest model, with 0.2 million parameters in its blocks.</summary>
[MatLM(Layers = 3, Width = 64, Heads = 2, Context = 128, Vocabulary = 256)]
[FeedForward(256, Activation.SwiGlu)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class Tiny;

/// <summary>The middle model, with 1 million parameters in its blocks.</summary>
[MatLM(Layers = 4, Width = 128, Heads = 4, Context = 128, Vocabulary = 256)]
[FeedForward(512, Activation.SwiGlu)]
[Granularity("S", 64), Granularity("M", 128), Granularity("L", 256), Granularity("XL", 512)]
public sealed partial class Small;

/// <summary>The largest model, with 3.5 million parameters in its blocks.</summary>
[MatLM(Layers = 6, Width = 192, Heads = 6, Context = 128, Vocabulary = 256)]
[FeedForward(768, Activation.SwiGlu)]
[Granularity("S", 96), Granularity("M", 192), Granularity("L", 384), Granularity("XL", 768)]
public sealed partial class Medium;
