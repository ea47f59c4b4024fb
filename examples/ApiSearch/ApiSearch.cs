using MatFormer;

/// <summary>A text encoder over the .NET API documentation: what members are called, and what they do.</summary>
[MatEncoder(Layers = 2, Width = 128, Heads = 4, Context = 32, Vocabulary = 8192, Embedding = 128)]
[FeedForward(1024, Activation.SwiGlu)]
[NestedEmbedding(16, 32, 64, 128)]             // Matryoshka: each prefix is an embedding of its own
[Granularity("S", 128), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
[Profile("Phone", "S M")]                      // Mix'n'Match: first layer on the left
[Profile("Laptop", "M XL")]
public sealed partial class ApiSearch;
