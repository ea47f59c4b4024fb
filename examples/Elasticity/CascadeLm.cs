using MatFormer;

namespace Elasticity;

/// <summary>A byte-level model most of whose parameters are in its feed-forwards, so that its sizes differ much in compute.</summary>
[MatLM(Layers = 6, Width = 128, Heads = 4, Context = 128, Vocabulary = 256)]
[FeedForward(1024, Activation.SwiGlu)]
[Granularity("S", 64), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
public sealed partial class CascadeLm;
