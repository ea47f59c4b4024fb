using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A model of Llama's shape, large enough that rounding errors could add up.</summary>
[MatLM(Layers = 4, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(256, Activation.SwiGlu)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class RoundedLlama;

/// <summary>A model of GPT-2's shape.</summary>
[MatLM(Layers = 4, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(256, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned), Embedding(Tied = false)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class RoundedClassic;

/// <summary>A model of ViT's shape.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 3, Width = 32, Heads = 4)]
[FeedForward(128, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 32), Granularity("M", 64), Granularity("XL", 128)]
public sealed partial class RoundedViT;

/// <summary>A text encoder.</summary>
[MatEncoder(Layers = 3, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(128, Activation.SwiGlu), NestedEmbedding(8, 16)]
[Granularity("S", 32), Granularity("M", 64), Granularity("XL", 128)]
public sealed partial class RoundedEncoder;

/// <summary>Training in bfloat16 learns as much as training in float32.</summary>
public sealed class BFloat16Tests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-bfloat16-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // At twice this learning rate, the losses of text fall by a fifth within a few steps, and any rounding shifts these steps: the same run
    // in float32 from weights that differ by 0.1% ends with losses that differ by up to 0.7%.
    [Fact]
    public void LossesInBFloat16AreWithinOnePercent()
    {
        var text = Path.Combine(_folder, "text");
        Write(text);
        using var corpus = TextCorpus.Open(text, _folder);
        TrainerOptions options = new() { Steps = 300, Batch = 8, LearningRate = 5e-4 };
        Compare<RoundedLlama>(corpus, options, within: 2.4); // the frequencies of the letters alone give 3
        using var images = TestImages.Open(_folder, noise: 200);
        var ofImages = new TrainerOptions { Steps = 120, Batch = 20, LearningRate = 5e-4 };
        Compare<RoundedViT>(images, ofImages, within: 1.2); // guessing gives 1.6
        using var pairs = TestPairs.Open(_folder);

        // The losses of pairs fall by a tenth in a step. After more steps, rounding shifts them by more than a percent.
        var ofPairs = ofImages with { Steps = 10 };
        Compare<RoundedEncoder>(pairs, ofPairs, within: 1.5); // guessing among seven pairs gives 1.9

        // TorchSharp's operations compute bfloat16 in software on many CPUs, where all streams at once would take minutes.
        if (!Kernels.Cpu.IsEnabled) return;
        Compare<RoundedLlama>(corpus, options with { Objective = Objective.Joint }, within: 2.4);
        Compare<RoundedClassic>(corpus, options, within: 2.4);
        Compare<RoundedViT>(images, ofImages with { Objective = Objective.Joint, Distillation = new() }, within: 1.2);
        Compare<RoundedEncoder>(pairs, ofPairs with { Objective = Objective.Joint, Distillation = new() }, within: 1.5);
    }

    private static void Compare<TModel>(TrainingData data, TrainerOptions options, double within)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var (exact, rounded) = (Losses<TModel>(data, options, ScalarType.Float32), Losses<TModel>(data, options, ScalarType.BFloat16));
        foreach (var ((name, expected), (_, actual)) in exact.Zip(rounded))
        {
            Assert.True(
                Math.Abs(actual - expected) <= 0.01 * expected,
                $"{typeof(TModel).Name}, {options.Objective}: the loss of {name} is {expected} in float32, but {actual} in bfloat16");
            Assert.InRange(expected, 0, within);
        }
    }

    private static IEnumerable<(string Name, float Loss)> Losses<TModel>(TrainingData data, TrainerOptions options, ScalarType type)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(6);
        using var model = DrawnModel.New<TModel>();
        model.ComputeType = type;
        using var trainer = new Trainer<TModel>(model, options with { EvaluateEvery = options.Steps, EvaluationWindows = 200 });
        return trainer.Fit(data).Last!.Validation;
    }

    // Writes made-up words, some of which are frequent. Each is followed by one of a few others, some of which follow often.
    private static void Write(string folder)
    {
        Directory.CreateDirectory(folder);
        var random = new Random(8);
        string[] words =
            [.. Enumerable.Range(0, 150).Select(_ => string.Concat(Enumerable.Range(0, 1 + random.Next(3)).Select(_ => Syllable())))];
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
