using System.Collections.Immutable;
using System.Text;
using System.Text.Json;

namespace MatFormer.Functional.Tests;

/// <summary>Tests planning with real models and a real clock. No test asserts a time.</summary>
[Trait("Kernels", "any")]
public sealed class PlanTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-plan-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void ThePlannedMemoryIsWhatAnEngineTakes()
    {
        MemoryOf<OracleLlama>();
        MemoryOf<OracleClassic>();
        MemoryOf<OracleGemma>();
        MemoryOf<OracleOdd>();
        MemoryOf<OracleElastic>();
        MemoryOf<OracleUneven>();
    }

    private static void MemoryOf<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var model = DrawnModel.New<TModel>();
        var space = new MixSpace(TModel.Spec);
        foreach (var weights in Enum.GetValues<DecodingWeights>())
        {
            var sizes = MixTable.OfSizes(space, layers => DecodingPass.MemoryBytes<TModel>([.. layers], weights));
            foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
            {
                using var slice = model.Extract(profile);
                using var engine = DecodingEngine.Create(slice, new DecodingOptions { Weights = weights, Threads = 1 });
                Assert.Equal(engine.WeightBytes + engine.SequenceBytes, sizes.Of(space.MixOf(profile.Layers)).MemoryBytes);
            }
        }
    }

    [Fact]
    public void EveryProbeCanBeDecoded()
    {
        ProbesRun<OracleElastic>();
        ProbesRun<OracleUneven>();
        ProbesRun<OracleOdd>();
    }

    private static void ProbesRun<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var model = DrawnModel.New<TModel>();
        var space = new MixSpace(TModel.Spec);
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        engine.Append(0, [1, 2]);
        engine.Run();
        foreach (var mix in LatencyModel.Probes(space).Concat(LossModel.Probes(space)))
        {
            // The mix continues the sequence of the whole model, and its pattern gives the same layers.
            var layers = space.LayersOf(mix);
            engine.Use(0, layers);
            engine.Append(0, [3]);
            engine.Run();
            Assert.All(engine.Logits(0).ToArray(), logit => Assert.True(float.IsFinite(logit)));
            engine.Truncate(0, 2);
            Assert.Equal<LayerSlice>(
                layers.AsSpan(), new Profile<TModel>("it", TModel.Spec.FormatPattern(layers.AsSpan())).Layers.AsSpan());
        }
    }

    [Fact]
    public void PrintedDeclarationsCompile()
    {
        var space = new MixSpace(OracleUneven.Spec);
        var source = new StringBuilder("""
            using MatFormer;
            namespace Planned;
            [MatLM(Layers = 4, Width = 16, Heads = 4, Context = 11, Vocabulary = 21)]
            [FeedForward(32, Activation.GeGlu), FeedForward(24, Activation.Gelu, Bias = true, Layers = "2")]
            [Attention(KeyValueHeads = 2, Window = 3), Attention(KeyValueHeads = 4, Window = 11, Layers = "1")]
            [Granularity("S", 0.25), Granularity("M", 0.5), Granularity("XL", 1.0), Granularity("S", 16, Layers = "0")]

            """);
        var planned = new List<ImmutableArray<LayerSlice>>();
        space.Increasing(MixTable.OfSizes(space, _ => 0), (mix, cost) =>
        {
            var layers = space.LayersOf(mix);
            var pattern = OracleUneven.Spec.FormatPattern(layers.AsSpan());
            if (OracleUneven.Granularities.Any(g => g.Pattern == pattern)) return;
            source.AppendLine(PlanOutput.Declaration($"P{planned.Count}", new PlannedMix(pattern, pattern, layers, true, cost, cost)));
            planned.Add(layers);
        });
        source.AppendLine("public sealed partial class Uneven;");
        var model = RandomDeclarations.Compile(source.ToString()).GetType("Planned.Uneven", throwOnError: true)!;
        var profiles = (IReadOnlyList<object>)model.GetProperty("Profiles")!.GetValue(null)!;
        Assert.Equal(planned.Count, profiles.Count);
        for (var i = 0; i < planned.Count; i++)
        {
            var layers = (ImmutableArray<LayerSlice>)profiles[i].GetType().GetProperty("Layers")!.GetValue(profiles[i])!;
            Assert.Equal<LayerSlice>(planned[i].AsSpan(), layers.AsSpan());
        }
    }

    [Fact]
    public async Task TheCommandPlansForLanguageModels()
    {
        var corpus = Path.Combine(_folder, "corpus");
        TestCorpus.Write(corpus);
        var (plan, found) = await Plans<OracleBytes>(corpus, "token", "bits_per_byte", ["--windows", "4"], ["--weights", "int8"]);
        Assert.Equal((6, "int8", 16), (found.GetProperty("increasing_mixes").GetInt32(),
            found.GetProperty("weights").GetString(), found.GetProperty("cache_tokens").GetInt32()));
        Assert.False((await Json<OracleBytes>([.. plan, "--weights", "f32", "--tokens", "31"])).TryGetProperty("best", out _));
        var (code, text, error) = await Run<OracleBytes>([.. plan, "--max-ms-per-token", "0.000001"]);
        Assert.Equal((2, string.Empty), (code, text));
        Assert.Contains("the fastest of them, ", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheCommandPlansForVisionTransformers()
    {
        var images = Path.Combine(_folder, "images");
        TestImages.Write(images);
        var (plan, found) = await Plans<OtherViT>(images, "image", "nats_per_image", ["--examples", "100"], ["--points", "3"]);
        Assert.Equal(100, found.GetProperty("validation_images").GetInt32());

        // A measured loss is the mean of the evaluator's losses over the prefixes of the embedding.
        using var corpus = ImageCorpus.Open(images);
        using var model = Checkpoint.OpenUniversal<OtherViT>(Path.Combine(plan[^1], "model.safetensors"));
        var losses = ImageEvaluator.Run(model, corpus).Rows.GroupBy(row => row.Costs.Name)
            .ToDictionary(g => g.Key, g => g.Average(row => row.NatsPerImage));
        foreach (var mix in found.GetProperty("mixes").EnumerateArray().Where(m => losses.ContainsKey(m.GetProperty("name").GetString()!)))
            Assert.Equal(losses[mix.GetProperty("name").GetString()!], mix.GetProperty("nats_per_image").GetDouble(), 1e-4);
    }

    [Fact]
    public async Task TheCommandPlansForTextEncoders()
    {
        using (TestPairs.Open(_folder))
        {
            var (plan, found) = await Plans<ByteEncoder>(
                Path.Combine(_folder, "pairs.tsv"), "text", "nats_per_choice", ["--examples", "5"], ["--tokens", "9", "--points", "3"]);
            Assert.Equal((5, 9), (found.GetProperty("validation_pairs").GetInt32(), found.GetProperty("text_tokens").GetInt32()));
            var (code, _, error) = await Run<ByteEncoder>([.. plan, "--tokens", "25"]);
            Assert.Equal(2, code);
            Assert.Contains("the context of ByteEncoder is 24", error, StringComparison.Ordinal);
        }
    }

    // Trains a little and plans. Returns the arguments of the command and the result of the last search.
    private async Task<(string[] Plan, JsonElement Found)> Plans<TModel>(
        string data, string unit, string loss, string[] amount, string[] more)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var output = Path.Combine(_folder, "out");
        await Json<TModel>("train", "--data", data, "--steps", "60", "--batch", "4", "--dtype", "f32", "--out", output);
        var space = new MixSpace(TModel.Spec);
        var mixed = TModel.Spec.ParameterCount([.. TModel.Granularities[0].Layers[..^1], TModel.Granularities[1].Layers[^1]]);
        var page = Path.Combine(_folder, "plan.html");
        string[] plan = ["plan", "--data", data, "--dtype", "f32", .. amount, "--out", output];
        JsonElement found = default;

        // A pass of an encoder takes longer than a token, and so does planning, so encoders are planned with one search only.
        foreach (var search in unit == "token" ? ["increasing", "learned", "evolutionary"] : (string[])["evolutionary"])
        {
            found = await Json<TModel>(
                [
                    .. plan, .. more, "--max-parameters", $"{mixed}", "--max-memory", "1GiB", $"--max-ms-per-{unit}", "60000",
                    "--search", search, $"--max-flops-per-{unit}", $"{TModel.Granularities[^1].Flops}", "--name", "Small",
                    "--report", page,
                ]);
            var best = found.GetProperty("best");
            Assert.Equal((int)space.IncreasingCount, found.GetProperty("increasing_mixes").GetInt32());
            var mixes = found.GetProperty("mixes").EnumerateArray().ToList();
            foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
            {
                var its = mixes.Single(m => m.GetProperty("name").GetString() == profile.Name);
                Assert.Equal(profile.Flops, its.GetProperty("flops_per_" + unit).GetInt64());
                if (unit != "token") Assert.Equal(4 * profile.ParameterCount, its.GetProperty("memory_bytes").GetInt64());
            }

            foreach (var mix in mixes)
            {
                Assert.True(mix.GetProperty("ms_per_" + unit).GetDouble() > 0);
                Assert.Equal(mix.GetProperty("parameters").GetInt64() <= mixed, mix.GetProperty("fits").GetBoolean());
                if (mix.GetProperty("fits").GetBoolean())
                    Assert.True(mix.GetProperty(loss).GetDouble() >= best.GetProperty(loss).GetDouble());
            }

            var learned = mixes.SingleOrDefault(m => m.TryGetProperty("is_learned", out _));
            Assert.Equal(search == "learned", learned.ValueKind == JsonValueKind.Object);
            Assert.Equal(search == "learned", mixes.Any(m => m.TryGetProperty("is_solved", out _)));
            if (search == "learned") Assert.True(learned.GetProperty("fits").GetBoolean());

            // The predicted loss of a granularity is the measured one.
            var whole = mixes.Single(m => m.GetProperty("name").GetString() == "XL");
            Assert.Equal(whole.GetProperty(loss).GetDouble(), whole.GetProperty("predicted_" + loss).GetDouble(), 1e-6);

            var pattern = best.GetProperty("pattern").GetString();
            var isKnown = best.GetProperty("name").GetString() != pattern;
            Assert.Equal(isKnown ? null : $"[Profile(\"Small\", \"{pattern}\")]",
                found.TryGetProperty("declaration", out var line) ? line.GetString() : null);
            var extract = found.GetProperty("extract").GetString()!.Replace("'", "\"", StringComparison.Ordinal);
            var cut = await Json<TModel>(
                [.. System.CommandLine.Parsing.CommandLineParser.SplitCommandLine(extract), "--out", output, "--overwrite"]);
            Assert.Equal(best.GetProperty("parameters").GetInt64(), cut.GetProperty("parameters").GetInt64());
            var html = await File.ReadAllTextAsync(page);
            Assert.Contains(pattern!, html, StringComparison.Ordinal);
            Assert.Contains("ms per " + unit, html, StringComparison.Ordinal);
        }

        var (code, text, error) = await Run<TModel>([.. plan, "--max-memory", "1KB"]);
        Assert.Equal((2, string.Empty), (code, text));
        Assert.Contains("of memory: the smallest one, ", error, StringComparison.Ordinal);
        return (plan, found);
    }

    private static async Task<(int Code, string Output, string Error)> Run<TModel>(params string[] arguments)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        var code = await ModelProgram.RunAsync<TModel>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }

    private static async Task<JsonElement> Json<TModel>(params string[] arguments)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var (code, output, error) = await Run<TModel>([.. arguments, "--json"]);
        Assert.True(code == 0, error);
        using var document = JsonDocument.Parse(output);
        return document.RootElement.Clone();
    }
}
