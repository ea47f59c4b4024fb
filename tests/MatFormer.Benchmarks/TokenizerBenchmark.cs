using System.Diagnostics;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures learning a vocabulary of byte pairs from the XML documentation of the .NET SDK on all cores, and encoding a part of the text
/// with it on one core.
/// </summary>
internal static class TokenizerBenchmark
{
    private const int Runs = 5;
    private const int Vocabulary = 8192;
    private const int EncodedBytes = 8_000_000;

    public static IEnumerable<Result> Run()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            using var corpus = TextCorpus.Open(null, folder.FullName);
            var options = new TokenizerOptions { Vocabulary = Vocabulary };
            var tokenizer = Tokenizer.Train(corpus, options);
            yield return Rate("tokenizer.train.mb_per_s", corpus.Training.Bytes, () =>
            {
                var start = Stopwatch.GetTimestamp();
                Tokenizer.Train(corpus, options);
                return Stopwatch.GetElapsedTime(start);
            });

            // The prepared file begins with the text.
            var text = File.ReadAllBytes(corpus.Path).AsSpan(0, (int)Math.Min(EncodedBytes, corpus.Training.Bytes)).ToArray();
            var file = Path.Combine(folder.FullName, "tokenizer.json");
            tokenizer.Save(file);
            var tokens = new List<int>(text.Length);
            yield return Rate("tokenizer.encode.mb_per_s", text.Length, () =>
            {
                // A new tokenizer has no words in its cache yet.
                tokens.Clear();
                var fresh = Tokenizer.Load(file);
                var start = Stopwatch.GetTimestamp();
                fresh.Encode(text, tokens);
                return Stopwatch.GetElapsedTime(start);
            });
            yield return new Result("tokenizer.encode.bytes_per_token", (double)text.Length / tokens.Count, "bytes");
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    // The median of the turns, after one turn that is not counted.
    private static Result Rate(string name, long bytes, Func<TimeSpan> turn)
    {
        turn();
        var rates = Enumerable.Range(0, Runs).Select(_ => bytes / 1e6 / turn().TotalSeconds).ToArray();
        var median = Turns.Median(rates);
        return new Result(name, median, "MB/s", Runs: Runs, Spread: (rates.Max() - rates.Min()) / median);
    }
}
