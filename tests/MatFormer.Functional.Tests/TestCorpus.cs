namespace MatFormer.Functional.Tests;

/// <summary>A small byte-level model with all parts of the example DocsLm.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class OracleBytes;

/// <summary>A small byte-level model whose tokens are routed in layers that differ, and whose sizes keep fewer heads.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu), FeedForward(48, Activation.Gelu, Bias = true, Layers = "1")]
[Routing(0.4, 0.7)]
[Granularity("S", 0.25, Heads = 2), Granularity("M", 0.5), Granularity("XL", 1.0)]
[Profile("Mixed", "S XL")]
public sealed partial class RoutedBytes;

/// <summary>A small byte-level model whose small granularities keep a part of the residual stream.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Granularity("S", 16, Heads = 2, Width = 32), Granularity("M", 32, Heads = 2, Width = 32), Granularity("XL", 64)]
[Profile("Mixed", "S M")]
public sealed partial class NarrowBytes;

/// <summary>Writes text to train on. Its sentences are drawn from a few words, so that there is something to learn.</summary>
internal static class TestCorpus
{
    public static TextCorpus Open(string folder)
    {
        Write(Path.Combine(folder, "text"));
        return TextCorpus.Open(Path.Combine(folder, "text"), folder);
    }

    public static void Write(string folder)
    {
        Directory.CreateDirectory(folder);
        string[] words = ["the", "model", "returns", "a", "nested", "width", "of", "every", "layer", "and", "its", "loss"];
        var random = new Random(5);
        for (var document = 0; document < 60; document++)
        {
            var text = string.Join(' ', Enumerable.Range(0, 400).Select(_ => words[random.Next(words.Length)])) + ".\n";
            File.WriteAllText(Path.Combine(folder, $"{document:D2}.txt"), text);
        }
    }
}
