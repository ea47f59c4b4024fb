using System.Runtime.InteropServices;
using System.Text.Json;

namespace MatFormer.Distributed.Tests;

/// <summary>Data that ranks train on, and what tests compare of their runs.</summary>
public abstract class RankTests : IDisposable
{
    protected const double Tolerance = 1e-5;

    protected RankTests()
    {
        string[] words = ["the", "model", "returns", "a", "nested", "width", "of", "every", "layer", "and", "its", "loss"];
        var random = new Random(5);
        Directory.CreateDirectory(Corpus);
        for (var document = 0; document < 60; document++)
            File.WriteAllText(Path.Combine(Corpus, $"{document:D2}.txt"), string.Join(' ', random.GetItems(words, 400)) + ".\n");
        var pairs = words.SelectMany(one => words.Select(other => (one, other)));
        File.WriteAllLines(
            Pairs, pairs.Select(pair => $"{pair.one} {pair.other}\t{pair.one.ToUpperInvariant()}-{pair.other.ToUpperInvariant()}."));
    }

    protected string Folder { get; } = Directory.CreateTempSubdirectory("matformer-ranks-").FullName;

    protected string Corpus => Path.Combine(Folder, "corpus");

    protected string Pairs => Path.Combine(Folder, "pairs.tsv");

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected static double LargestDifference(List<JsonElement> expected, List<JsonElement> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        var largest = 0.0;
        foreach (var (one, other) in expected.Zip(actual))
        {
            foreach (var kind in (string[])["loss", "divergence", "validation"])
            {
                Assert.Equal(one.TryGetProperty(kind, out var its), other.TryGetProperty(kind, out var others));
                if (its.ValueKind != JsonValueKind.Object) continue;
                Assert.Equal(its.EnumerateObject().Select(loss => loss.Name), others.EnumerateObject().Select(loss => loss.Name));
                foreach (var loss in its.EnumerateObject())
                    largest = Math.Max(largest, Math.Abs(loss.Value.GetDouble() - others.GetProperty(loss.Name).GetDouble()));
            }
        }

        return largest;
    }

    protected static List<JsonElement> Steps(string folder) =>
        [.. File.ReadLines(Path.Combine(folder, "metrics.jsonl")).Select(line => JsonDocument.Parse(line).RootElement.Clone())];

    protected string Out(string name) => Path.Combine(Folder, name);

    protected string[] Text(int steps) =>
        ["train", "--data", Corpus, "--steps", $"{steps}", "--batch", "5", "--dtype", "f32", "--device", "cpu"];

    // A higher learning rate makes rounding grow (docs/distributed.md).
    protected string[] PairsOfText(int steps) =>
    [
        "train", "--data", Pairs, "--tokenizer", "bytes", "--steps", $"{steps}", "--batch", "12", "--learning-rate", "0.001",
        "--dtype", "f32", "--device", "cpu",
    ];

    // The numbers of all tensors of a file of a run. Metadata, which say how it was trained, lie before them.
    protected static float[] Numbers(string folder, string file)
    {
        var bytes = File.ReadAllBytes(Path.Combine(folder, $"{file}.safetensors"));
        return MemoryMarshal.Cast<byte, float>(bytes.AsSpan(sizeof(long) + (int)BitConverter.ToInt64(bytes))).ToArray();
    }
}
