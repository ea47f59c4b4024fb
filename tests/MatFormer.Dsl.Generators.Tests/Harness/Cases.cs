namespace MatFormer.Generators.Tests.Harness;

/// <summary>Declarations whose generated code stands in Baselines/.</summary>
internal static class Cases
{
    /// <summary>The example of the README.</summary>
    public const string DocsLm = """
        using MatFormer;

        /// <summary>A byte-level MatLM over the .NET API documentation.</summary>
        [MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]
        [FeedForward(1024, Activation.SwiGlu)]
        [Granularity("S", 128), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
        [Profile("Phone",  "4*S 4*M")]                 // Mix'n'Match: first layer on the left
        [Profile("Laptop", "2*M 4*L 2*XL")]
        [Profile("Watch",  MaxParameters = 3_000_000)] // the compiler solves it; the result is in the tooltip
        public sealed partial class DocsLm;
        """;

    /// <summary>As unlike DocsLm as a declaration can be.</summary>
    public const string Unlike = """
        using MatFormer;

        namespace Models.Text;

        /// <summary>Biases, layer norms, learned positions, a head of its own.</summary>
        [MatLM(Layers = 3, Width = 24, Heads = 3, Context = 17, Vocabulary = 50)]
        [FeedForward(40, Activation.GeGlu, Bias = true)]
        [Norm(NormKind.Layer, Epsilon = 1e-6), Position(PositionKind.Learned), Embedding(Tied = false)]
        [Granularity("Small", 10), Granularity("Large", 40)]
        [Profile("Wedge", 10, 10, 40)]
        internal sealed partial class Unlike;
        """;

    /// <summary>The classic feed-forward, in a type within another.</summary>
    public const string Classic = """
        using MatFormer;

        namespace Models;

        /// <summary>Holds models.</summary>
        public static partial class Zoo
        {
            /// <summary>A GPT-2 in small.</summary>
            [MatLM(Layers = 2, Width = 12, Heads = 3, Context = 9, Vocabulary = 17)]
            [FeedForward(48, Activation.Gelu, Bias = true)]
            [Norm(NormKind.Layer), Position(PositionKind.Learned)]
            [Granularity("S", 6), Granularity("XL", 48)]
            public partial class Classic;
        }
        """;

    /// <summary>Grouped heads of a width of their own, normed queries and keys, granularities by fraction.</summary>
    public const string Grouped = """
        using MatFormer;

        /// <summary>A Gemma in small.</summary>
        [MatLM(Layers = 3, Width = 20, Heads = 4, Context = 32, Vocabulary = 64)]
        [FeedForward(48, Activation.SquaredRelu)]
        [Attention(KeyValueHeads = 2, HeadWidth = 8, RotaryBase = 500, QkNorm = true)]
        [Granularity("S", 0.125), Granularity("M", 0.5), Granularity("XL", 1.0)]
        [Profile("Mixed", "S M XL"), Profile("Budget", MaxParameters = 9_000)]
        public sealed partial class Grouped;
        """;

    /// <summary>A mistake: what stands in for the model.</summary>
    public const string Mistaken = """
        using MatFormer;

        namespace Models;

        /// <summary>Seven heads.</summary>
        [MatLM(Layers = 8, Width = 256, Heads = 7, Context = 256, Vocabulary = 256)]
        [FeedForward(1024, Activation.SwiGlu)]
        [Granularity("S", 128), Granularity("XL", 1024)]
        [Profile("Phone", "4*S 4*XL")]
        public sealed partial class Mistaken;
        """;

    public static IReadOnlyDictionary<string, string> All { get; } = new Dictionary<string, string>
    {
        [nameof(DocsLm)] = DocsLm,
        [nameof(Unlike)] = Unlike,
        [nameof(Classic)] = Classic,
        [nameof(Grouped)] = Grouped,
        [nameof(Mistaken)] = Mistaken,
    };

    public static TheoryData<string> Names => [.. All.Keys];

    public static TheoryData<string> ValidNames => [.. All.Keys.Where(name => name != nameof(Mistaken))];
}
