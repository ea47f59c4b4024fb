using MatFormer;

/// <summary>A byte-level MatLM over the .NET API documentation.</summary>
[MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]
[FeedForward(1024, Activation.SwiGlu)]
[Granularity("S", 128), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
[Profile("Phone", "4*S 4*M")]                  // Mix'n'Match: first layer on the left
[Profile("Laptop", "2*M 4*L 2*XL")]
[Profile("Watch", MaxParameters = 3_200_000)]  // the compiler solves it; the result is in the tooltip
public sealed partial class DocsLm;
