using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Llama's shape, large enough that rounding could add up.</summary>
[MatLM(Layers = 4, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(256, Activation.SwiGlu)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class RoundedLlama;

/// <summary>GPT-2's shape.</summary>
[MatLM(Layers = 4, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(256, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned), Embedding(Tied = false)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class RoundedClassic;

/// <summary>Training in bfloat16 learns what training in float32 does.</summary>
public sealed class BFloat16Tests : IDisposable
{
    private const int Steps = 300;

    // At twice that, losses fall by a fifth within a few of these steps, some steps sooner or later for any rounding at all: the same run in
    // float32 from weights moved by 0.1% ends up to 0.7% off.
    private const double LearningRate = 5e-4;
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-bfloat16-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void LossesAfter300StepsAreWithinOnePercent()
    {
        var text = Path.Combine(_folder, "text");
        Write(text);
        using var corpus = TextCorpus.Open(text, _folder);
        Compare<RoundedLlama>(corpus, Objective.Sampled);
        Compare<RoundedLlama>(corpus, Objective.Joint);
        Compare<RoundedClassic>(corpus, Objective.Sampled);
    }

    private static void Compare<TModel>(TextCorpus corpus, Objective objective)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var (exact, rounded) = (Losses<TModel>(corpus, objective, ScalarType.Float32), Losses<TModel>(corpus, objective, ScalarType.BFloat16));
        foreach (var ((name, expected), (_, actual)) in exact.Zip(rounded))
        {
            Assert.True(
                Math.Abs(actual - expected) <= 0.01 * expected,
                $"{typeof(TModel).Name}, {objective}: the loss of {name} is {expected} in float32, but {actual} in bfloat16");
            Assert.InRange(expected, 0, 2.4); // the letters alone have 3
        }
    }

    private static List<(string Name, double Loss)> Losses<TModel>(TextCorpus corpus, Objective objective, ScalarType type)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(6);
        using var model = TModel.Create();
        model.ComputeType = type;
        using var trainer = new Trainer<TModel>(
            model, new TrainerOptions { Objective = objective, Steps = Steps, Batch = 8, LearningRate = LearningRate });
        for (var step = 0; step < Steps; step++) trainer.Step(corpus);
        return [.. Evaluator.Run(model, corpus).Rows.Where(row => row.Costs.IsGranularity).Select(row => (row.Costs.Name, row.NatsPerToken))];
    }

    // Made-up words, some of them frequent, each followed by a few others, some of them often.
    private static void Write(string folder)
    {
        Directory.CreateDirectory(folder);
        var random = new Random(8);
        string[] words = [.. Enumerable.Range(0, 150).Select(_ => string.Concat(Enumerable.Range(0, 1 + random.Next(3)).Select(_ => Syllable())))];
        int[][] followers = [.. words.Select(_ => Enumerable.Range(0, 12).Select(_ => Often(words.Length)).ToArray())];
        for (var document = 0; document < 40; document++)
        {
            var text = new StringBuilder();
            for (int position = 0, word = 0; position < 1500; position++)
            {
                word = followers[word][Often(followers[word].Length)];
                text.Append(words[word]).Append(random.Next(9) == 0 ? ".\n" : " ");
            }

            File.WriteAllText(Path.Combine(folder, $"{document:D2}.txt"), text.ToString());
        }

        string Syllable() => $"{"bdfgklmnprstvz"[random.Next(14)]}{"aeiou"[random.Next(5)]}";
        int Often(int count) => (int)(count * Math.Pow(random.NextDouble(), 2));
    }
}
