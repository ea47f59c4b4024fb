using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests text encoders whose tokens are routed to granularities. OracleTests compares one with PyTorch.</summary>
public sealed class RoutedEncoderTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-routed-encoder-").FullName;

    private string PairsPath => Path.Combine(_folder, "pairs.tsv");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void TheFlopsAreThoseOfATextThatFillsTheContext()
    {
        // There are 20 tokens and the class token.
        var routers = 2 * 2L * 21 * 3 * 24;
        var spec = RoutedEncoder.Spec;
        Assert.Equal(RoutedEncoder.FlopsPerText + routers, RoutingBudget.Of(spec, 1).Flops);
        Assert.Equal(new Profile<RoutedEncoder>("P", "XL S S").Flops + routers, RoutingBudget.Of(spec, 0.25).Flops);
        Assert.Equal(21, RoutingBudget.Of(spec, 0.4).Layers[1]!.Tokens.Sum());
    }

    /// <summary>The scales of the scores begin at 0, so a new model routes but does not weigh.</summary>
    [Theory]
    [InlineData(1.0, "XL XL XL")]
    [InlineData(0.25, "XL S S")]
    public void AtTheEndsOfItsRangeANewModelIsAProfile(double budget, string pattern)
    {
        manual_seed(1);
        using var model = new RoutedEncoder();
        using var unrecorded = no_grad();
        var tokens = Inputs.Of(RoutedEncoder.Spec, 6);
        var expected = model.Forward(new Profile<RoutedEncoder>("P", pattern), tokens);
        Assert.True(allclose(expected, model.Forward(budget, tokens), 1e-5, 1e-6));
    }

    [Fact]
    public void TheRouteOfATextDependsNeitherOnItsBatchNorOnItsPadding()
    {
        using var model = TrainingRuns.Drawn<RoutedEncoder>();
        using var unrecorded = no_grad();
        var tokens = full([5, 20], -1, ScalarType.Int64);
        int[] lengths = [20, 1, 7, 13, 2];
        for (var i = 0; i < lengths.Length; i++) tokens[i, ..lengths[i]] = randint(0, 64, [lengths[i]], ScalarType.Int64);
        foreach (var budget in (double[])[0.3, 0.4, 0.65, 0.9])
        {
            using var all = model.Forward(budget, tokens);
            for (var i = 0; i < lengths.Length; i++)
            {
                using var alone = model.Forward(budget, tokens[TensorIndex.Slice(i, i + 1), ..lengths[i]]);
                Assert.True(allclose(all.narrow(0, i, 1), alone, 1e-4, 1e-5), $"budget {budget}, {lengths[i]} tokens");
            }
        }
    }

    [Fact]
    public void NoTextOfAnyLengthTakesMoreThanTheBudget()
    {
        var budget = RoutingBudget.Of(RoutedEncoder.Spec, 0.6);
        for (var length = 1; length <= 21; length++)
        {
            var layer = budget.Over(1, length);
            Assert.Equal(length, layer.Tokens.Sum());
            Assert.True(layer.Share <= 0.6 + 1e-9);
        }

        Assert.Equal(budget.Layers[1]!.Tokens, budget.Over(1, 21).Tokens);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void RoutedPassesAndSizesLearnTogether(bool distilled)
    {
        using var pairs = TestPairs.Open(_folder);
        manual_seed(1);
        using var model = new RoutedByteEncoder();
        using var trainer = new Trainer<RoutedByteEncoder>(model, TrainingRuns.ToLearn(distilled) with { Steps = 400 });
        var names = new HashSet<string>();
        trainer.Fit(pairs, step => names.UnionWith(step.Losses.Select(loss => loss.Granularity)));
        Assert.Equal(["S", "XL", "mix", "routed-0.5", "routed-0.75"], names.Order(StringComparer.Ordinal));
        var path = Path.Combine(_folder, "index.safetensors");
        TextEmbedder.Of(model, RoutedByteEncoder.Profile.XL, pairs.Tokenizer)
            .WriteIndex(path, pairs.Training.Concat(pairs.Validation).Select(pair => new IndexEntry(pair.Title, pair.Document)));
        using var index = VectorIndex.Open(path);
        var evaluation = RetrievalEvaluator.Run(model, pairs, index);
        Assert.Equal(["S", "M", "XL", "Mixed", "routed-0.5", "routed-0.75"], evaluation.Rows.Select(row => row.Costs.Name).Distinct());
        Assert.All(
            evaluation.Rows.Where(row => row.Dimension == 16),
            row => Assert.True(row.RecallAt10.Value > 0.7, $"{row.Costs.Name} {row.RecallAt10}"));
        foreach (var (name, weight) in model.named_parameters())
            if (name.EndsWith("router.alpha", StringComparison.Ordinal)) Assert.NotEqual(0, weight.item<float>());
        var losses = RetrievalEvaluator.Losses(model, pairs, 4);
        Assert.Equal(["S", "M", "XL", "routed-0.5", "routed-0.75"], losses.Select(loss => loss.Granularity));

        // Every size is far better than a guess among 4.
        Assert.All(losses, loss => Assert.InRange(loss.Loss, 0, 0.5 * Math.Log(4)));
    }

    [Fact]
    public void AResumedRunEqualsAnUninterruptedOne()
    {
        using var pairs = TestPairs.Open(_folder);
        var options = new TrainerOptions { Steps = 8, Batch = 4, RoutedShare = 0.75, CheckpointEvery = 4 };
        using var trained = TrainingRuns.AssertResumes<RoutedByteEncoder>(
            pairs, options, Path.Combine(_folder, "whole"), Path.Combine(_folder, "half"));
    }

    [Fact]
    public void RoutedStepsAndPassesLeakNoTensors()
    {
        using var pairs = TestPairs.Open(_folder);
        var tokens = Inputs.Of(RoutedByteEncoder.Spec, 3);
        TrainingRuns.AssertLeaksNothing<RoutedByteEncoder>(
            pairs, 4, model => model.Forward(0.5, tokens), model => model.Embed(0.5, tokens, 8));
    }

    [Fact]
    [Trait("Kernels", "any")]
    public async Task TheProgramKnowsBudgetsBesideSizes()
    {
        using var pairs = TestPairs.Open(_folder);
        var output = Path.Combine(_folder, "out");
        string[] where = ["--data", PairsPath, "--out", output];
        var demo = await Run([
            "demo", .. where, "--tokenizer", "bytes", "--steps", "6", "--batch", "8", "--routed-share", "0.8", "--json"]);
        Assert.True(demo.Code == 0, demo.Errors);
        using (var document = JsonDocument.Parse(demo.Output))
        {
            var results = document.RootElement.GetProperty("results").EnumerateArray().ToList();
            var routed = results.Where(r => r.GetProperty("kind").GetString() == "routed").ToList();
            Assert.Equal([0.5, 0.5, 0.5, 0.75, 0.75, 0.75], routed.Select(r => r.GetProperty("budget").GetDouble()));
            Assert.Equal(RoutingBudget.Of(RoutedByteEncoder.Spec, 0.5).Flops, routed[0].GetProperty("flops_per_text").GetInt64());

            // A budget is no profile, which cheap first could choose.
            var escalation = document.RootElement.GetProperty("escalation").GetProperty("profiles").EnumerateArray();
            Assert.DoesNotContain(escalation, name => name.GetString()!.StartsWith("routed", StringComparison.Ordinal));
        }

        Assert.Contains(
            "tokens routed at a budget", await File.ReadAllTextAsync(Path.Combine(output, "report.html")), StringComparison.Ordinal);
        var eval = await Run(["eval", .. where, "--batch", "4", "--sweep", "2", "--json"]);
        Assert.True(eval.Code == 0, eval.Errors);
        using (var document = JsonDocument.Parse(eval.Output))
        {
            var losses = document.RootElement.GetProperty("nats_per_choice").EnumerateObject().Select(loss => loss.Name);
            Assert.Equal(["S", "M", "XL", "routed-0.5", "routed-0.75"], losses);
            var swept = document.RootElement.GetProperty("sweep").EnumerateArray().Where(mix => mix.TryGetProperty("budget", out _));
            Assert.Equal([0.5, 0.75], swept.Select(mix => mix.GetProperty("budget").GetDouble()));
        }

        var plan = await Run([
            "plan", .. where, "--examples", "4", "--points", "2", "--max-flops-per-text", $"{RoutedByteEncoder.FlopsPerText}", "--json"]);
        Assert.True(plan.Code == 0, plan.Errors);
        using (var document = JsonDocument.Parse(plan.Output))
        {
            var routed = document.RootElement.GetProperty("mixes").EnumerateArray().Where(mix => mix.TryGetProperty("budget", out _));
            Assert.Equal([0.5, 0.75], routed.Select(mix => mix.GetProperty("budget").GetDouble()).Order());
        }

        var search = await Run("search", "--out", output, "--query", "red blue", "--budget", "0.6", "--json");
        Assert.True(search.Code == 0, search.Errors);
        using (var document = JsonDocument.Parse(search.Output))
        {
            Assert.Equal("routed-0.6", document.RootElement.GetProperty("profile").GetString());
            var share = (double)RoutingBudget.Of(RoutedByteEncoder.Spec, 0.6).Flops / RoutedByteEncoder.FlopsPerText;
            Assert.Equal(share, document.RootElement.GetProperty("compute_share").GetDouble(), 1e-9);
        }

        var slice = Path.Combine(output, "s.safetensors");
        Assert.Equal(0, (await Run("extract", "--out", output, "--profile", "S")).Code);
        await Refuses("is out of range: it is from 0.25, the share of 'S', to 1", "--budget", "0.2");
        await Refuses("--budget routes tokens among all sizes", "--budget", "0.5", "--profile", "S");
        await Refuses("--budget and --cheap-first both choose", "--budget", "0.5", "--cheap-first");
        await Refuses("is the slice S", "--budget", "0.5", "--checkpoint", slice);

        async Task Refuses(string says, params string[] arguments)
        {
            var refused = await Run(["search", "--out", output, "--query", "red blue", .. arguments]);
            Assert.Equal(2, refused.Code);
            Assert.Contains(says, refused.Errors, StringComparison.Ordinal);
        }
    }

    private static async Task<(int Code, string Output, string Errors)> Run(params string[] arguments)
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<RoutedByteEncoder>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }
}
