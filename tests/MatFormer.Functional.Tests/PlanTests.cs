using System.Collections.Immutable;
using System.Text;
using System.Text.Json;

namespace MatFormer.Functional.Tests;

/// <summary>Planning with real models and a real clock; no test asserts a time.</summary>
public sealed class PlanTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-plan-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void MemoryIsWhatAnEngineTakes()
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
        using var model = TModel.Create();
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
    public void EveryProbeOfEveryKindOfModelCanBeDecoded()
    {
        ProbesRun<OracleElastic>();
        ProbesRun<OracleUneven>();
        ProbesRun<OracleOdd>();
    }

    private static void ProbesRun<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var model = TModel.Create();
        var space = new MixSpace(TModel.Spec);
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        engine.Append(0, [1, 2]);
        engine.Run();
        foreach (var mix in LatencyModel.Probes(space).Concat(LossModel.Probes(space)))
        {
            // Each goes on where the whole model left off, and comes out as that mix.
            var layers = space.LayersOf(mix);
            engine.Use(0, layers);
            engine.Append(0, [3]);
            engine.Run();
            Assert.All(engine.Logits(0).ToArray(), logit => Assert.True(float.IsFinite(logit)));
            engine.Truncate(0, 2);
            Assert.Equal<LayerSlice>(layers.AsSpan(), new Profile<TModel>("it", TModel.Spec.FormatPattern(layers.AsSpan())).Layers.AsSpan());
        }
    }

    [Fact]
    public void WhatIsPrintedCompiles()
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
    public async Task TheCommandPlans()
    {
        var (corpus, output) = (Path.Combine(_folder, "corpus"), Path.Combine(_folder, "out"));
        TestCorpus.Write(corpus);
        await Json("train", "--data", corpus, "--steps", "60", "--batch", "2", "--dtype", "f32", "--out", output);
        var mixed = new Profile<OracleBytes>("between", "1*S 1*M").ParameterCount; // which has the shape of TinyLm
        var page = Path.Combine(_folder, "plan.html");
        string[] plan = ["plan", "--data", corpus, "--windows", "4", "--dtype", "f32", "--out", output];
        foreach (var search in new[] { "increasing", "evolutionary" })
        {
            var found = await Json(
                [
                    .. plan, "--max-parameters", $"{mixed}", "--max-memory", "1GiB", "--max-ms-per-token", "60000", "--search", search,
                    "--name", "Small", "--weights", "int8", "--report", page,
                ]);
            var best = found.GetProperty("best");
            Assert.Equal((6, "int8", 16), (found.GetProperty("increasing_mixes").GetInt32(), found.GetProperty("weights").GetString(), found.GetProperty("cache_tokens").GetInt32()));
            var mixes = found.GetProperty("mixes").EnumerateArray().ToList();
            foreach (var name in new[] { "S", "M", "XL", "Mixed" })
                Assert.Contains(mixes, m => m.GetProperty("name").GetString() == name);
            foreach (var mix in mixes)
            {
                Assert.True(mix.GetProperty("ms_per_token").GetDouble() > 0);
                Assert.Equal(mix.GetProperty("parameters").GetInt64() <= mixed, mix.GetProperty("fits").GetBoolean());
                if (mix.GetProperty("fits").GetBoolean())
                    Assert.True(mix.GetProperty("bits_per_byte").GetDouble() >= best.GetProperty("bits_per_byte").GetDouble());
            }

            // A granularity's loss is predicted as it is.
            var whole = mixes.Single(m => m.GetProperty("name").GetString() == "XL");
            Assert.Equal(whole.GetProperty("bits_per_byte").GetDouble(), whole.GetProperty("predicted_bits_per_byte").GetDouble(), 1e-6);

            var pattern = best.GetProperty("pattern").GetString();
            var isKnown = best.GetProperty("name").GetString() != pattern;
            Assert.Equal(isKnown ? null : $"[Profile(\"Small\", \"{pattern}\")]", found.TryGetProperty("declaration", out var line) ? line.GetString() : null);
            var extract = found.GetProperty("extract").GetString()!.Replace("'", "\"", StringComparison.Ordinal);
            var cut = await Json([.. System.CommandLine.Parsing.CommandLineParser.SplitCommandLine(extract), "--out", output]);
            Assert.Equal(best.GetProperty("parameters").GetInt64(), cut.GetProperty("parameters").GetInt64());
            Assert.Contains(pattern!, await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        }

        Assert.False((await Json([.. plan, "--weights", "f32", "--tokens", "31"])).TryGetProperty("best", out _));
        var (code, text, error) = await Run([.. plan, "--max-ms-per-token", "0.000001"]);
        Assert.Equal((2, string.Empty), (code, text));
        Assert.Contains("the fastest of them, ", error, StringComparison.Ordinal);
    }

    private static async Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        var code = await ModelProgram.RunAsync<OracleBytes>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }

    private static async Task<JsonElement> Json(params string[] arguments)
    {
        var (code, output, error) = await Run([.. arguments, "--json"]);
        Assert.True(code == 0, error);
        using var document = JsonDocument.Parse(output);
        return document.RootElement.Clone();
    }
}
