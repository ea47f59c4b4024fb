using MatFormer;

/// <summary>A byte-level language model of four sizes in one set of weights.</summary>
[MatLM(Layers = 4, Width = 128, Heads = 4, Context = 128, Vocabulary = 256)]
[FeedForward(512, Activation.SwiGlu)]
[Granularity("S", 64), Granularity("M", 128), Granularity("L", 256), Granularity("XL", 512)]
[Profile("Phone", "2*S 2*M")]     // Mix'n'Match: a granularity per layer, the first layer on the left
[Profile("Laptop", "1*M 2*L 1*XL")]
public sealed partial class TextLm;
