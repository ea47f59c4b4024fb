namespace MatFormer.Functional.Tests;

/// <summary>A small byte-level text encoder with all parts of the example ApiSearch.</summary>
[MatEncoder(Layers = 2, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu)]
[NestedEmbedding(4, 8, 16)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class ByteEncoder;

/// <summary>ByteEncoder with routers.</summary>
[MatEncoder(Layers = 2, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu)]
[NestedEmbedding(4, 8, 16), Routing(0.5, 0.75)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class RoutedByteEncoder;

/// <summary>A text encoder with more tokens than there are bytes.</summary>
[MatEncoder(Layers = 2, Width = 16, Heads = 2, Context = 16, Vocabulary = 512, Embedding = 8)]
[FeedForward(16, Activation.SwiGlu)]
[Granularity("S", 8), Granularity("XL", 16)]
public sealed partial class WordEncoder;

/// <summary>Writes pairs to train on: a query of two words, and a document with the same words in capital letters.</summary>
internal static class TestPairs
{
    private static readonly string[] s_words =
        ["red", "blue", "dark", "tall", "wide", "thin", "cold", "loud", "soft", "fast", "old", "new"];

    public static PairCorpus Open(string folder)
    {
        var path = Path.Combine(folder, "pairs.tsv");
        File.WriteAllLines(path,
            s_words.SelectMany(one => s_words.Select(other => $"{one} {other}\t{one.ToUpperInvariant()}-{other.ToUpperInvariant()}.")));
        return PairCorpus.Open(path);
    }
}
