namespace MatFormer.Interop.Tests;

// The declarations that GGUF can hold. Rows are multiples of 32 numbers where nothing else is said, so that q8_0 stores them in blocks.

/// <summary>A Llama with a tied head and grouped heads; its mixes have layers of different widths.</summary>
[MatLM(Layers = 3, Width = 64, Heads = 4, Context = 48, Vocabulary = 256)]
[FeedForward(128, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2)]
[Granularity("S", 32), Granularity("M", 64), Granularity("XL", 128)]
[Profile("Mixed", "S XL M")]
public sealed partial class TiedLlama;

/// <summary>
/// A Llama with all options: both axes, biases, an untied head, skipped layers, more tokens than bytes, rows of 72 numbers.
/// </summary>
[MatLM(Layers = 4, Width = 96, Heads = 4, Context = 48, Vocabulary = 300)]
[FeedForward(144, Activation.SwiGlu, Bias = true)]
[Attention(KeyValueHeads = 2, RotaryBase = 500, Bias = true), Attention(KeyValueHeads = 4, Layers = "2")]
[Norm(NormKind.Rms, Epsilon = 1e-3), Embedding(Tied = false)]
[Granularity("S", 72, Heads = 2), Granularity("M", 96), Granularity("XL", 144)]
[Profile("Shallow", "S Skip XL M"), Profile("Alike", "M M Skip M")]
public sealed partial class FullLlama;

/// <summary>A Llama whose attention has biases, with one key/value head and heads wider than usual.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 48, Vocabulary = 256)]
[FeedForward(96, Activation.SwiGlu)]
[Attention(KeyValueHeads = 1, HeadWidth = 32, Bias = true)]
[Granularity("S", 32), Granularity("XL", 96)]
public sealed partial class BiasedLlama;

/// <summary>A Llama with the rotary scaling of Llama 3.1.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 48, Vocabulary = 256)]
[FeedForward(96, Activation.SwiGlu)]
[Attention(RotaryBase = 100)]
[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 40)]
[Granularity("S", 32), Granularity("XL", 96)]
[Profile("Mixed", "S XL")]
public sealed partial class Llama3;

/// <summary>A Llama whose rotary frequencies are all scaled.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 48, Vocabulary = 256)]
[FeedForward(96, Activation.SwiGlu)]
[RotaryScaling(RotaryScalingKind.Linear, 2.5)]
[Granularity("S", 32), Granularity("XL", 96)]
[Profile("Mixed", "S XL")]
public sealed partial class LinearLlama;

/// <summary>A Qwen3: queries and keys are normed.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 48, Vocabulary = 256)]
[FeedForward(96, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, HeadWidth = 32, QkNorm = true, RotaryBase = 1000000)]
[Norm(NormKind.Rms, Epsilon = 1e-6)]
[Granularity("S", 32, Heads = 2), Granularity("XL", 96)]
public sealed partial class Qwen3;

/// <summary>A Qwen3 whose rotary frequencies are all scaled, with a head of its own.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 48, Vocabulary = 256)]
[FeedForward(96, Activation.SwiGlu)]
[Attention(QkNorm = true), RotaryScaling(RotaryScalingKind.Linear, 2.5), Embedding(Tied = false)]
[Granularity("S", 32), Granularity("XL", 96)]
public sealed partial class LinearQwen3;

/// <summary>A Llama with the vocabularies of the byte-pair tokenizers.</summary>
[MatLM(Layers = 1, Width = 32, Heads = 2, Context = 48, Vocabulary = 1024)]
[FeedForward(64, Activation.SwiGlu)]
[Granularity("S", 32), Granularity("XL", 64)]
public sealed partial class PairLlama;
