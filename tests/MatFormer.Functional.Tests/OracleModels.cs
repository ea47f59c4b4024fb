namespace MatFormer.Functional.Tests;

// The declarations of Oracle/record.py, between them every kind of feed-forward, norm, position, tying and head grouping.

/// <summary>Llama's shape.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 4, Context = 12, Vocabulary = 31)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2)]
[Granularity("S", 4), Granularity("M", 8), Granularity("L", 16), Granularity("XL", 32)]
[Profile("Mixed", "1*S 1*L")]
public sealed partial class OracleLlama;

/// <summary>GPT-2's shape.</summary>
[MatLM(Layers = 2, Width = 12, Heads = 3, Context = 9, Vocabulary = 17)]
[FeedForward(48, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned), Embedding(Tied = false)]
[Granularity("Small", 6), Granularity("Large", 48)]
[Profile("Mixed", "Large Small")]
public sealed partial class OracleClassic;

/// <summary>Gemma's shape.</summary>
[MatLM(Layers = 3, Width = 16, Heads = 2, Context = 10, Vocabulary = 23)]
[FeedForward(40, Activation.GeGlu, Bias = true)]
[Attention(KeyValueHeads = 1, RotaryBase = 500, QkNorm = true)]
[Norm(NormKind.Rms, Epsilon = 1e-6)]
[Granularity("S", 0.25), Granularity("M", 0.5), Granularity("XL", 1.0)]
[Profile("Mixed", 10, 20, 40)]
public sealed partial class OracleGemma;

/// <summary>Widths that no vector unit likes.</summary>
[MatLM(Layers = 2, Width = 10, Heads = 5, Context = 7, Vocabulary = 13)]
[FeedForward(27, Activation.SquaredRelu)]
[Embedding(Tied = false)]
[Granularity("S", 5), Granularity("M", 13), Granularity("XL", 27)]
[Profile("Mixed", "S XL")]
public sealed partial class OracleOdd;
