using System.Diagnostics;
using MatFormer.Interop.Tests;
using TorchSharp;

namespace MatFormer.Benchmarks;

/// <summary>
/// Compares decoding of a model that fits into no cache with llama.cpp, which LLamaSharp brings, at equal bits: with the same rounded
/// weights, batch size 1 and a thread for each core.
/// </summary>
internal static class LlamaBenchmark
{
    private const int Turns = 7;

    // As many tokens as a sentence, and as a prompt.
    private const int Tokens = 32;
    private const int Prompt = 128;

    public static IEnumerable<Result> Run()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            torch.manual_seed(0);
            using var model = new BenchLmLarge();
            var whole = Path.Combine(folder.FullName, "whole.safetensors");
            model.Save(whole);
            foreach (var result in Compare(DecodingWeights.Int8, WeightEncoding.Q8)) yield return result;
            foreach (var result in Compare(DecodingWeights.Nested8, WeightEncoding.Nested8)) yield return result;
            foreach (var result in Compare(DecodingWeights.Nested4, WeightEncoding.Nested4)) yield return result;

            IEnumerable<Result> Compare(DecodingWeights weights, WeightEncoding encoding)
            {
                var path = Path.Combine(folder.FullName, "whole.gguf");
                Extraction.ToGguf(whole, BenchLmLarge.Profile.XL, path, Tokenizer.ByteLevel, encoding);
                using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
                using var llama = new LlamaCpp(path, torch.get_num_threads(), isExact: false);
                foreach (var (name, prompt, tokens) in ((string, int, int)[])[("", 1, Tokens), ("prefill.", Prompt, 0)])
                {
                    Ours(engine, prompt, tokens);
                    Its(llama, prompt, tokens);
                    var times = Benchmarks.Turns.RunWarm(Turns, () => Ours(engine, prompt, tokens), () => Its(llama, prompt, tokens));
                    yield return Benchmarks.Turns.Ratio(
                        $"llama.large.{name}{weights.ShortName}.vs_llama_cpp", (times[0], times[1]), prompt + tokens);
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static double Ours(DecodingEngine engine, int prompt, int tokens)
    {
        engine.Truncate(0, 0);
        var start = Stopwatch.GetTimestamp();
        engine.Append(0, TokensOf(prompt));
        engine.Run();
        for (var i = 0; i < tokens; i++)
        {
            engine.Append(0, [DecodeBenchmark.ArgMax(engine.Logits(0))]);
            engine.Run();
        }

        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static double Its(LlamaCpp llama, int prompt, int tokens)
    {
        llama.Clear();
        var start = Stopwatch.GetTimestamp();
        llama.Decode(TokensOf(prompt), 0, allLogits: false);
        for (var (i, last) = (0, prompt - 1); i < tokens; i++, last = 0)
            llama.Decode([DecodeBenchmark.ArgMax(llama.Logits(last))], prompt + i, allLogits: false);
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static int[] TokensOf(int count) => [.. Enumerable.Range(0, count)];
}
