namespace MatFormer.Generators.Tests.Harness;

/// <summary>The declarations whose generated code is in Baselines/.</summary>
internal static class Cases
{
    /// <summary>A language model that differs from DocsLm in as much as possible.</summary>
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

    /// <summary>A feed-forward without a gate, in a nested type.</summary>
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

    /// <summary>Grouped heads of a given width, normalized queries and keys, and granularities by fraction.</summary>
    public const string Grouped = """
        using MatFormer;

        /// <summary>A Gemma in small.</summary>
        [MatLM(Layers = 3, Width = 20, Heads = 4, Context = 32, Vocabulary = 64)]
        [FeedForward(48, Activation.SquaredRelu)]
        [Attention(KeyValueHeads = 2, HeadWidth = 8, RotaryBase = 500, QkNorm = true)]
        [RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 8192)]
        [Granularity("S", 0.125), Granularity("M", 0.5), Granularity("XL", 1.0)]
        [Profile("Mixed", "S M XL"), Profile("Budget", MaxParameters = 9_000)]
        public sealed partial class Grouped;
        """;

    /// <summary>Granularities that cut grouped heads too.</summary>
    public const string Elastic = """
        using MatFormer;

        /// <summary>Two axes.</summary>
        [MatLM(Layers = 4, Width = 24, Heads = 6, Context = 16, Vocabulary = 40)]
        [FeedForward(48, Activation.SwiGlu)]
        [Attention(KeyValueHeads = 3)]
        [Granularity("S", 8, Heads = 2), Granularity("M", 16, Heads = 4), Granularity("L", 24, Heads = 4), Granularity("XL", 48)]
        [Profile("Phone", "2*S 2*L"), Profile("Deep", "S L XL XL")]
        public sealed partial class Elastic;
        """;

    /// <summary>Granularities that cut all axes, the residual stream too, in a model with layers that differ.</summary>
    public const string Narrow = """
        using MatFormer;

        /// <summary>Three axes.</summary>
        [MatLM(Layers = 4, Width = 32, Heads = 4, Context = 16, Vocabulary = 40)]
        [FeedForward(48, Activation.SwiGlu), FeedForward(48, Activation.Gelu, Bias = true, Layers = "3")]
        [Attention(KeyValueHeads = 2, Bias = true), Position(PositionKind.Learned), Embedding(Tied = false)]
        [Granularity("S", 8, Heads = 2, Width = 16), Granularity("M", 16, Width = 16), Granularity("L", 24), Granularity("XL", 48)]
        [Profile("Phone", "S S Skip M"), Profile("Laptop", "L L XL XL")]
        [Profile("Budget", MaxParameters = 14_000), Profile("Bytes", MaxWeightBytes = 18_000, WeightType = WeightType.Int8)]
        [ProfileGrid(2)]
        public sealed partial class Narrow;
        """;

    /// <summary>A vision transformer whose embeddings are narrower in its small granularity.</summary>
    public const string NarrowVision = """
        using MatFormer;

        namespace Models;

        /// <summary>Sinusoidal positions of a narrow stream are the first of those of the whole.</summary>
        [MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4)]
        [FeedForward(40, Activation.Gelu)]
        [Position(PositionKind.Sinusoidal), NestedEmbedding(8, 32)]
        [Granularity("S", 8, Width = 16), Granularity("XL", 40)]
        public sealed partial class NarrowVision;
        """;

    /// <summary>Biases of queries, keys and values, but not of the output.</summary>
    public const string Biased = """
        using MatFormer;

        /// <summary>A Qwen 2 in small.</summary>
        [MatLM(Layers = 2, Width = 24, Heads = 4, Context = 16, Vocabulary = 40)]
        [FeedForward(48, Activation.SwiGlu)]
        [Attention(KeyValueHeads = 2, Bias = true, OutputBias = false)]
        [Granularity("S", 12, Heads = 2), Granularity("XL", 48)]
        [Profile("Mixed", "S XL")]
        public sealed partial class Biased;
        """;

    /// <summary>Layers that differ in everything in which they can, and profiles that skip layers.</summary>
    public const string Uneven = """
        using MatFormer;

        namespace Models;

        /// <summary>Sliding windows and full attention, wide and narrow feed-forwards.</summary>
        [MatLM(Layers = 6, Width = 24, Heads = 4, Context = 16, Vocabulary = 40)]
        [FeedForward(48, Activation.SwiGlu)]
        [FeedForward(32, Activation.Gelu, Bias = true, Layers = "4-5")]
        [Attention(Window = 4, KeyValueHeads = 2, QkNorm = true), Attention(Window = 16, KeyValueHeads = 4, Layers = "2, 5")]
        [Granularity("S", 0.25), Granularity("M", 0.5), Granularity("XL", 1.0)]
        [Granularity("S", 16, Layers = "0")]
        [Profile("Shallow", "S Skip M M Skip XL"), Profile("Small", "6*S")]
        [Profile("Share", FeedForwardShare = 0.6), Profile("Flops", MaxFlopsPerToken = 45_000, MaxNonEmbeddingParameters = 19_000)]
        [Profile("Bytes", MaxWeightBytes = 26_000, WeightType = WeightType.Int8)]
        [ProfileGrid(3, Prefix = "Mix")]
        public sealed partial class Uneven;
        """;

    /// <summary>A vision transformer with the options of Hugging Face.</summary>
    public const string Vision = """
        using MatFormer;

        /// <summary>A ViT in small.</summary>
        [MatViT(Image = 12, Patch = 4, Classes = 7, Layers = 3, Width = 24, Heads = 4)]
        [FeedForward(48, Activation.Gelu, Bias = true)]
        [Attention(Bias = true)]
        [Granularity("S", 12), Granularity("M", 24), Granularity("XL", 48)]
        [Profile("Mixed", "S M XL"), Profile("Budget", MaxFlopsPerImage = 270_000)]
        public sealed partial class Vision;
        """;

    /// <summary>A vision transformer that differs from Vision in as much as possible.</summary>
    public const string Grey = """
        using MatFormer;

        namespace Models;

        /// <summary>No class token, positions that are not learned, an embedding of three widths.</summary>
        [MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4, Pooling = Pooling.Mean)]
        [FeedForward(40, Activation.SwiGlu)]
        [Attention(KeyValueHeads = 2, QkNorm = true)]
        [Norm(NormKind.Rms), Position(PositionKind.Sinusoidal), NestedEmbedding(8, 16, 32)]
        [Granularity("S", 10, Heads = 2), Granularity("XL", 40)]
        public sealed partial class Grey;
        """;

    /// <summary>A text encoder with as many attributes as possible.</summary>
    public const string Retriever = """
        using MatFormer;

        /// <summary>Embeds texts.</summary>
        [MatEncoder(Layers = 2, Width = 24, Heads = 4, Context = 20, Vocabulary = 64, Embedding = 16)]
        [FeedForward(48, Activation.GeGlu)]
        [Attention(KeyValueHeads = 2, Bias = true), RotaryScaling(RotaryScalingKind.Linear, 2.5)]
        [NestedEmbedding(4, 8, 16, Weights = [1, 1, 2])]
        [Granularity("S", 12, Heads = 2), Granularity("XL", 48)]
        [Profile("Mixed", "S XL"), Profile("Budget", MaxFlopsPerText = 250_000)]
        public sealed partial class Retriever;
        """;

    /// <summary>A text encoder with biases, a class token and learned positions.</summary>
    public const string Classed = """
        using MatFormer;

        /// <summary>Embeds texts by a class token.</summary>
        [MatEncoder(
            Layers = 2, Width = 24, Heads = 4, Context = 20, Vocabulary = 64, Embedding = 24, Pooling = Pooling.ClassToken,
            Temperature = 0.1)]
        [FeedForward(40, Activation.Gelu, Bias = true)]
        [Norm(NormKind.Layer), Position(PositionKind.Learned)]
        [Granularity("S", 20), Granularity("XL", 40)]
        [Profile("Short", "Skip XL")]
        public sealed partial class Classed;
        """;

    /// <summary>Weights of 8, 4 and 2 bits.</summary>
    public const string Nested = """
        using MatFormer;

        /// <summary>Trained for fewer bits.</summary>
        [MatLM(Layers = 2, Width = 40, Heads = 5, Context = 16, Vocabulary = 40)]
        [FeedForward(72, Activation.SwiGlu), Precision(8, 4, 2)]
        [Granularity("S", 32, Heads = 4), Granularity("XL", 72)]
        [Profile("Phone", "S XL", Bits = 4), Profile("Whole", "2*XL", Bits = 8), Profile("Watch", MaxWeightBytes = 14_600)]
        public sealed partial class Nested;
        """;

    /// <summary>
    /// A vision transformer that routes the tokens of some layers, with layers that differ and sizes that keep fewer heads.
    /// </summary>
    public const string Routed = """
        using MatFormer;

        /// <summary>Spends compute where an image needs it.</summary>
        [MatViT(Image = 12, Patch = 3, Channels = 1, Classes = 7, Layers = 4, Width = 24, Heads = 4)]
        [FeedForward(48, Activation.Gelu, Bias = true), FeedForward(64, Activation.SwiGlu, Layers = "3")]
        [Routing(0.375, 0.5, Layers = "1-3")]
        [Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
        [Profile("Short", "S Skip M XL")]
        public sealed partial class Routed;
        """;

    /// <summary>A vision transformer with compressed tokens, with layers that differ and sizes that keep fewer heads.</summary>
    public const string Compressed = """
        using MatFormer;

        /// <summary>Works with a few tokens.</summary>
        [MatViT(Image = 12, Patch = 3, Channels = 1, Classes = 7, Layers = 4, Width = 24, Heads = 4, Pooling = Pooling.Mean)]
        [FeedForward(48, Activation.Gelu, Bias = true), FeedForward(64, Activation.SwiGlu, Layers = "2")]
        [Attention(Bias = true), Lookup(2, 3, Hidden = 10)]
        [Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
        [Profile("Short", "S Skip M XL")]
        public sealed partial class Compressed;
        """;

    /// <summary>The same without biases, with one kind of layers before the last, and with sizes that keep all heads.</summary>
    public const string PlainCompressed = """
        using MatFormer;

        /// <summary>Works with a few tokens.</summary>
        [MatViT(Image = 8, Patch = 2, Classes = 5, Layers = 2, Width = 16, Heads = 2, Pooling = Pooling.Mean)]
        [FeedForward(32, Activation.GeGlu), Norm(NormKind.Rms), Position(PositionKind.Sinusoidal), Lookup(1, 4)]
        [Granularity("S", 8), Granularity("XL", 32)]
        public sealed partial class PlainCompressed;
        """;

    /// <summary>A language model that routes the tokens of some layers, with layers that differ and sizes that keep fewer heads.</summary>
    public const string RoutedText = """
        using MatFormer;

        namespace Models;

        /// <summary>Spends compute where a text needs it.</summary>
        [MatLM(Layers = 4, Width = 24, Heads = 4, Context = 16, Vocabulary = 40)]
        [FeedForward(48, Activation.SwiGlu), FeedForward(64, Activation.Gelu, Bias = true, Layers = "3")]
        [Routing(0.375, 0.5, Layers = "1-3")]
        [Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
        [Profile("Mixed", "2*S M XL")]
        public sealed partial class RoutedText;
        """;

    /// <summary>A text encoder that routes tokens, whose texts have different lengths.</summary>
    public const string RoutedTexts = """
        using MatFormer;

        /// <summary>Spends compute where a document needs it.</summary>
        [MatEncoder(Layers = 3, Width = 24, Heads = 4, Context = 16, Vocabulary = 40, Embedding = 16, Pooling = Pooling.ClassToken)]
        [FeedForward(48, Activation.SwiGlu), NestedEmbedding(8, 16)]
        [Routing(0.5, Layers = "1-2")]
        [Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
        public sealed partial class RoutedTexts;
        """;

    /// <summary>A declaration with a mistake, for which the generator writes a skeleton.</summary>
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

    /// <summary>The model of the README.</summary>
    public static string DocsLm { get; } = Repository.Read("examples/DocsLm/DocsLm.cs");

    /// <summary>The model of the template.</summary>
    public static string TextLm { get; } = Repository.Read("templates/content/MatFormerApp/TextLm.cs");

    public static IReadOnlyDictionary<string, string> All { get; } = new Dictionary<string, string>
    {
        [nameof(DocsLm)] = DocsLm,
        [nameof(TextLm)] = TextLm,
        [nameof(Unlike)] = Unlike,
        [nameof(Classic)] = Classic,
        [nameof(Grouped)] = Grouped,
        [nameof(Elastic)] = Elastic,
        [nameof(Narrow)] = Narrow,
        [nameof(NarrowVision)] = NarrowVision,
        [nameof(Biased)] = Biased,
        [nameof(Uneven)] = Uneven,
        [nameof(Vision)] = Vision,
        [nameof(Grey)] = Grey,
        [nameof(Retriever)] = Retriever,
        [nameof(Classed)] = Classed,
        [nameof(Nested)] = Nested,
        [nameof(Routed)] = Routed,
        [nameof(Compressed)] = Compressed,
        [nameof(PlainCompressed)] = PlainCompressed,
        [nameof(RoutedText)] = RoutedText,
        [nameof(RoutedTexts)] = RoutedTexts,
        [nameof(Mistaken)] = Mistaken,
    };

    public static TheoryData<string> Names => [.. All.Keys];

    public static TheoryData<string> ValidNames => [.. All.Keys.Where(name => name != nameof(Mistaken))];
}
