namespace MatFormer.Functional.Tests;

// The declarations of Oracle/record.py. Together they have every kind of feed-forward, norm, position, tying and head grouping, both axes,
// and layers that differ.

/// <summary>A model of Llama's shape.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 4, Context = 12, Vocabulary = 31)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2)]
[Granularity("S", 4), Granularity("M", 8), Granularity("L", 16), Granularity("XL", 32)]
[Profile("Mixed", "1*S 1*L")]
public sealed partial class OracleLlama;

/// <summary>A model of GPT-2's shape.</summary>
[MatLM(Layers = 2, Width = 12, Heads = 3, Context = 9, Vocabulary = 17)]
[FeedForward(48, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned), Embedding(Tied = false)]
[Granularity("Small", 6), Granularity("Large", 48)]
[Profile("Mixed", "Large Small")]
public sealed partial class OracleClassic;

/// <summary>A model of Gemma's shape.</summary>
[MatLM(Layers = 3, Width = 16, Heads = 2, Context = 10, Vocabulary = 23)]
[FeedForward(40, Activation.GeGlu, Bias = true)]
[Attention(KeyValueHeads = 1, RotaryBase = 500, QkNorm = true)]
[Norm(NormKind.Rms, Epsilon = 1e-6)]
[Granularity("S", 0.25), Granularity("M", 0.5), Granularity("XL", 1.0)]
[Profile("Mixed", 10, 20, 40)]
public sealed partial class OracleGemma;

/// <summary>A model whose widths are not multiples of a vector's length.</summary>
[MatLM(Layers = 2, Width = 10, Heads = 5, Context = 7, Vocabulary = 13)]
[FeedForward(27, Activation.SquaredRelu)]
[Embedding(Tied = false)]
[Granularity("S", 5), Granularity("M", 13), Granularity("XL", 27)]
[Profile("Mixed", "S XL")]
public sealed partial class OracleOdd;

/// <summary>A model whose granularities cut hidden units and heads.</summary>
[MatLM(Layers = 2, Width = 24, Heads = 6, Context = 9, Vocabulary = 19)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 3, QkNorm = true)]
[Granularity("S", 8, Heads = 2), Granularity("M", 8, Heads = 4), Granularity("L", 16, Heads = 4), Granularity("XL", 32)]
[Profile("Mixed", "S L")]
public sealed partial class OracleElastic;

/// <summary>A model with different layers, sliding windows, and a profile that skips a layer.</summary>
[MatLM(Layers = 4, Width = 16, Heads = 4, Context = 11, Vocabulary = 21)]
[FeedForward(32, Activation.GeGlu), FeedForward(24, Activation.Gelu, Bias = true, Layers = "2")]
[Attention(KeyValueHeads = 2, Window = 3), Attention(KeyValueHeads = 4, Window = 11, Layers = "1")]
[Granularity("S", 0.25), Granularity("M", 0.5), Granularity("XL", 1.0), Granularity("S", 16, Layers = "0")]
[Profile("Shallow", "M Skip XL M")]
public sealed partial class OracleUneven;

/// <summary>A model whose rotary frequencies are all scaled, with norms of queries and keys.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 2, Context = 12, Vocabulary = 23)]
[FeedForward(24, Activation.SwiGlu)]
[Attention(QkNorm = true), RotaryScaling(RotaryScalingKind.Linear, 2.5)]
[Granularity("S", 8), Granularity("XL", 24)]
[Profile("Mixed", "S XL")]
public sealed partial class OracleLinear;

/// <summary>A model with Llama 3.1's rotary scaling: of four frequencies, one stays, one is blended, and two are divided.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 2, Context = 12, Vocabulary = 31)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 1, RotaryBase = 100)]
[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 40)]
[Granularity("S", 8), Granularity("M", 16), Granularity("XL", 32)]
[Profile("Mixed", "S XL")]
public sealed partial class OracleLlama3;

/// <summary>A model whose granularities cut all axes: hidden units, heads, and the residual stream.</summary>
[MatLM(Layers = 2, Width = 24, Heads = 4, Context = 11, Vocabulary = 29)]
[FeedForward(32, Activation.SwiGlu, Bias = true)]
[Attention(KeyValueHeads = 2, QkNorm = true)]
[Granularity("S", 8, Heads = 2, Width = 12), Granularity("M", 16, Width = 12), Granularity("L", 16, Width = 20), Granularity("XL", 32)]
[Profile("Mixed", "S M")]
public sealed partial class OracleNarrow;

/// <summary>A model of GPT-2's shape whose residual stream has an odd width in its small granularity.</summary>
[MatLM(Layers = 2, Width = 12, Heads = 3, Context = 9, Vocabulary = 17)]
[FeedForward(24, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned), Embedding(Tied = false)]
[Granularity("S", 6, Width = 7), Granularity("XL", 24)]
public sealed partial class NarrowClassic;

/// <summary>A language model whose tokens are routed in the last layers.</summary>
[MatLM(Layers = 3, Width = 24, Heads = 4, Context = 12, Vocabulary = 23)]
[FeedForward(48, Activation.SwiGlu, Bias = true), Attention(KeyValueHeads = 2)]
[Routing(0.4, 0.7, Layers = "1-2")]
[Granularity("S", 12), Granularity("M", 24), Granularity("XL", 48)]
[Profile("Mixed", "S M XL")]
public sealed partial class RoutedLm;
