using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests models whose tokens are routed to granularities. OracleTests compares them with PyTorch.</summary>
public sealed class RoutingTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-routing-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>
    /// The shares of tokens were found by a search over a grid of all distributions, refined around the best, in Python. The widths are an
    /// eighth, a quarter, a half and all.
    /// </summary>
    [Theory]
    [InlineData(0.2, 0.6009, 0.3104, 0.0828, 0.0059)]
    [InlineData(0.4, 0.3070, 0.2825, 0.2391, 0.1714)]
    [InlineData(0.6, 0.1612, 0.1844, 0.2413, 0.4131)]
    [InlineData(0.9, 0.0222, 0.0373, 0.1052, 0.8353)]
    public void CapacitiesHaveTheGreatestEntropy(double budget, params double[] expected)
    {
        var spec = Spec([4, 8, 16, 32], tokens: 100_000);
        var tokens = RoutingBudget.Of(spec, budget).Layers[0]!.Tokens;
        Assert.Equal(expected.Length, tokens.Length);
        for (var i = 0; i < expected.Length; i++) Assert.Equal(expected[i], tokens[i] / 100_000.0, 1e-4);
    }

    [Fact]
    public void NoLayerTakesMoreThanItsBudgetAndNoneLeavesMuch()
    {
        var random = new Random(1);
        for (var drawn = 0; drawn < 300; drawn++)
        {
            var widths = new SortedSet<int>();
            while (widths.Count < random.Next(2, 6)) widths.Add(random.Next(1, 200));
            var (tokens, least) = (random.Next(1, 300), (double)widths.Min / widths.Max);
            var share = drawn % 10 == 0 ? 1 : drawn % 10 == 1 ? least : least + ((1 - least) * random.NextDouble());
            var layer = RoutingBudget.Of(Spec([.. widths], tokens), share).Layers[0]!;
            Assert.Equal(tokens, layer.Tokens.Sum());
            Assert.All(layer.Tokens, count => Assert.True(count >= 0));
            Assert.InRange(layer.Share, least - 1e-9, share + 1e-6);

            // If the narrowest granularity has a token, lifting it by one granularity would be too much.
            if (layer.Tokens[0] == 0) continue;
            var lifted = (layer.Share * tokens) + ((double)layer.Widths[1] / layer.Widths[^1]) - least;
            Assert.True(lifted > (share * tokens) - 1e-6);
        }
    }

    [Fact]
    public void ABudgetOf1IsTheWholeModelAndTheLeastIsTheNarrowest()
    {
        var spec = TokenViT.Spec;
        var all = RoutingBudget.Of(spec, 1);
        Assert.All(all.Layers, layer => Assert.Equal([0, 0, 16], layer!.Tokens));
        Assert.All(RoutingBudget.Of(spec, 0.25).Layers, layer => Assert.Equal([16, 0, 0], layer!.Tokens));
        long routers = 3 * 2L * 16 * 3 * 32;
        Assert.Equal(TokenViT.FlopsPerImage + routers, all.Flops);
        Assert.Equal(RoutedViT.FlopsPerImage + (2 * 2L * 17 * 3 * 24), RoutingBudget.Of(RoutedViT.Spec, 1).Flops);

        // At the least, a model whose sizes keep all heads takes as long as its narrowest size, but for layers that are not routed.
        var narrow = new Profile<RoutedViT>("XL S S", "XL S S");
        Assert.Equal(narrow.Flops + (2 * 2L * 17 * 3 * 24), RoutingBudget.Of(RoutedViT.Spec, 0.25).Flops);
    }

    /// <summary>The scales of the scores begin at 0, so a new model routes but does not weigh.</summary>
    [Theory]
    [InlineData(1.0, "XL XL XL")]
    [InlineData(0.25, "XL S S")]
    public void AtTheEndsOfItsRangeANewModelIsAProfile(double budget, string pattern)
    {
        manual_seed(1);
        using var model = DrawnModel.New<RoutedViT>();
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(RoutedViT.Spec, 5);
        Assert.True(allclose(model.Forward(new Profile<RoutedViT>("P", pattern), pixels), model.Forward(budget, pixels), 1e-5, 1e-6));
    }

    [Fact]
    public void TheRouteOfAnImageDoesNotDependOnItsBatch()
    {
        using var model = TrainingRuns.Drawn<TokenViT>();
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(TokenViT.Spec, 4);
        var all = model.Forward(0.6, pixels);
        for (var i = 0; i < 4; i++)
        {
            using var alone = model.Forward(0.6, pixels.narrow(0, i, 1));
            Assert.True(allclose(all.narrow(0, i, 1), alone, 1e-4, 1e-5));
        }
    }

    [Fact]
    public void ABudgetThatCannotBeMetIsRefused()
    {
        using var model = TrainingRuns.Drawn<TokenViT>();
        var pixels = Inputs.Of(TokenViT.Spec, 1);
        foreach (var budget in (double[])[0.24, 1.01, double.NaN])
        {
            var refused = Assert.Throws<ArgumentException>(() => model.Forward(budget, pixels));
            Assert.Contains("it is from 0.25, the share of 'S', to 1", refused.Message, StringComparison.Ordinal);
        }

        using var slice = model.Extract<TokenViT.XL>();
        var ofSlice = Assert.Throws<NotSupportedException>(() => slice.Forward(0.5, pixels));
        Assert.Contains("is a slice and has no routers", ofSlice.Message, StringComparison.Ordinal);
        using var other = DrawnModel.New<OtherViT>();
        var ofOther = Assert.Throws<NotSupportedException>(() => other.Forward(0.5, pixels));
        Assert.Contains("declare [Routing]", ofOther.Message, StringComparison.Ordinal);
        var ofStreams = Assert.Throws<ArgumentException>(() => Streams.Routed<OtherViT>(0.5));
        Assert.Contains("declare [Routing]", ofStreams.Message, StringComparison.Ordinal);
        var option = Assert.Throws<ArgumentException>(() => new Trainer<OtherViT>(other, new() { RoutedShare = 0.5 }));
        Assert.Contains("OtherViT declares no [Routing]", option.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ASavedModelRoutesAsBeforeAndItsSlicesHaveNoRouters()
    {
        var path = PathOf("model.safetensors");
        using var model = TrainingRuns.Drawn<TokenViT>();
        model.Save(path);
        using var opened = Checkpoint.OpenUniversal<TokenViT>(path);
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(TokenViT.Spec, 3);
        Assert.Equal(Bits(model.Forward(0.5, pixels)), Bits(opened.Forward(0.5, pixels)));
        foreach (var profile in TokenViT.Granularities.Concat(TokenViT.Profiles))
        {
            var slice = PathOf(profile.Name + ".safetensors");
            Extraction.ToSafetensors(path, profile, slice);
            using var cut = Checkpoint.Open<TokenViT>(slice);
            Assert.False(cut.IsUniversal);
            Assert.DoesNotContain(cut.named_parameters(), p => p.Item1.Contains("router", StringComparison.Ordinal));
            Assert.Equal(profile.ParameterCount, cut.parameters().Sum(p => p.numel()));
            Assert.Equal(Bits(model.Forward(profile, pixels)), Bits(cut.call(pixels)));
            var refused = Assert.Throws<CheckpointException>(() => Checkpoint.OpenUniversal<TokenViT>(slice));
            Assert.Contains("slice", refused.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void WeightsWithoutRoutersAreABeginning()
    {
        var path = PathOf("model.safetensors");
        using var dense = DrawnModel.New<OracleViT>();
        dense.Save(path);
        manual_seed(2);
        using var model = DrawnModel.New<PlainRoutedViT>();
        var before = Bits(Router(model));
        model.LoadNamed(path);
        Assert.Equal(before, Bits(Router(model)));
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(OracleViT.Spec, 3);
        Assert.Equal(Bits(dense.forward(pixels)), Bits(model.forward(pixels)));
        var refused = Assert.Throws<CheckpointException>(() => dense.LoadNamed(Saved(model)));
        Assert.Contains("declare [Routing]", refused.Message, StringComparison.Ordinal);

        static Tensor Router(PlainRoutedViT model) =>
            model.named_parameters().First(p => p.Item1.EndsWith("router.weight", StringComparison.Ordinal)).Item2;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void RoutedPassesAndSizesLearnTogether(bool distilled)
    {
        using var data = TestImages.Open(_folder);
        manual_seed(1);
        using var model = DrawnModel.New<TokenViT>();
        using var trainer = new Trainer<TokenViT>(model, TrainingRuns.ToLearn(distilled));
        var names = new HashSet<string>();
        trainer.Fit(data, step => names.UnionWith(step.Losses.Select(loss => loss.Granularity)));
        Assert.Equal(["S", "XL", "mix", "routed-0.4375", "routed-0.625", "routed-0.8125"], names.Order(StringComparer.Ordinal));
        var evaluation = ImageEvaluator.Run(model, data);
        Assert.Equal((3 + 1 + 3) * 2, evaluation.Rows.Length);

        // No step trains the profile that leaves a layer out.
        var trained = evaluation.Whole.Where(row => row.Costs.Name != "Short");
        Assert.All(trained, row => Assert.True(row.Accuracy > 0.8, $"{row.Costs.Name}: {row.Accuracy}"));
        Assert.Equal([0.4375, 0.625, 0.8125], evaluation.Whole.Select(row => row.Costs.Budget).OfType<double>());
        foreach (var (name, weight) in model.named_parameters())
            if (name.EndsWith("router.alpha", StringComparison.Ordinal)) Assert.NotEqual(0, weight.item<float>());
    }

    [Fact]
    public void AResumedRunEqualsAnUninterruptedOne()
    {
        using var data = TestImages.Open(_folder);
        var options = new TrainerOptions { Steps = 8, Batch = 4, RoutedShare = 0.75, CheckpointEvery = 4, Shift = 1 };
        using var trained = TrainingRuns.AssertResumes<TokenViT>(data, options, PathOf("whole"), PathOf("half"));
        using var other = new Trainer<TokenViT>(trained, options with { RoutedShare = 0.5 });
        var refused = Assert.Throws<CheckpointException>(() => other.Resume(PathOf("half/checkpoint.safetensors")));
        Assert.Contains("routed_share", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void RoutedStepsAndPassesLeakNoTensors()
    {
        using var data = TestImages.Open(_folder);
        var pixels = Inputs.Of(TokenViT.Spec, 3);
        TrainingRuns.AssertLeaksNothing<TokenViT>(data, 4, model => model.Forward(0.5, pixels), model => model.Embed(0.5, pixels, 8));
    }

    [Fact]
    public void InBFloat16ARoutedPassIsCloseToFloat32()
    {
        using var model = TrainingRuns.Drawn<TokenViT>();
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(TokenViT.Spec, 8);
        var wide = model.Forward(0.9, pixels);
        model.ComputeType = ScalarType.BFloat16;
        var narrow = model.Forward(0.9, pixels);
        Assert.Equal(ScalarType.Float32, narrow.dtype);

        // A rounded score may send a token elsewhere, so only the mean is close.
        Assert.InRange((wide - narrow).abs().mean().item<float>(), 0, 0.1 * wide.abs().mean().item<float>());
    }

    [Fact]
    public async Task TheProgramKnowsBudgetsBesideSizes()
    {
        var (images, output) = (PathOf("images"), PathOf("out"));
        TestImages.Write(images);
        var train = await Run("train", "--data", images, "--steps", "6", "--batch", "8", "--routed-share", "0.8", "--out", output);
        Assert.True(train.Code == 0, train.Errors);
        var page = Path.Combine(output, "eval.html");
        var eval = await Run("eval", "--out", output, "--data", images, "--report", page, "--sweep", "1", "--json");
        Assert.True(eval.Code == 0, eval.Errors);
        using var document = JsonDocument.Parse(eval.Output);
        var results = document.RootElement.GetProperty("results").EnumerateArray();
        var routed = results.Where(r => r.GetProperty("kind").GetString() == "routed").ToList();
        Assert.Equal([0.4375, 0.4375, 0.625, 0.625, 0.8125, 0.8125], routed.Select(r => r.GetProperty("budget").GetDouble()));
        Assert.Equal(RoutingBudget.Of(TokenViT.Spec, 0.4375).Flops, routed[0].GetProperty("flops_per_image").GetInt64());
        Assert.Contains("routed-0.625", await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        var sweep = document.RootElement.GetProperty("sweep").EnumerateArray();
        var swept = sweep.Where(mix => mix.GetProperty("shape").GetString() == "routed");
        Assert.Equal([0.4375, 0.625, 0.8125], swept.Select(mix => mix.GetProperty("budget").GetDouble()));

        var profiles = await Run("profiles", "--json");
        Assert.Contains("routed-0.625", profiles.Errors, StringComparison.Ordinal);
        using var listed = JsonDocument.Parse(profiles.Output);
        var costs = listed.RootElement.GetProperty("profiles").EnumerateArray().Where(p => p.GetProperty("kind").GetString() == "routed");
        Assert.Equal(
            Budgets.Select(budget => RoutingBudget.Of(TokenViT.Spec, budget).Flops),
            costs.Select(p => p.GetProperty("flops_per_image").GetInt64()));
    }

    /// <summary>A plan measures budgets beside the mixes. No profile can be declared for them, so none of them is the best.</summary>
    [Fact]
    [Trait("Kernels", "any")]
    public async Task APlanShowsBudgetsBesideMixes()
    {
        var (images, output, page) = (PathOf("images"), PathOf("out"), PathOf("plan.html"));
        TestImages.Write(images);
        Directory.CreateDirectory(output);
        using (var model = TrainingRuns.Drawn<PlannedViT>()) model.Save(Path.Combine(output, "model.safetensors"));
        var plan = await Run<PlannedViT>(
            "plan", "--out", output, "--data", images, "--examples", "100", "--points", "2", "--dtype", "f32", "--report", page, "--json",
            "--max-flops-per-image", $"{PlannedViT.FlopsPerImage}");
        Assert.True(plan.Code == 0, plan.Errors);
        Assert.Contains("routed-0.7", await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        using var document = JsonDocument.Parse(plan.Output);
        var mixes = document.RootElement.GetProperty("mixes").EnumerateArray().ToList();
        var routed = mixes.Where(mix => mix.TryGetProperty("budget", out _)).OrderBy(mix => mix.GetProperty("budget").GetDouble()).ToList();
        Assert.Equal([0.4, 0.7], routed.Select(mix => mix.GetProperty("budget").GetDouble()));
        using var corpus = ImageCorpus.Open(images);
        using var opened = Checkpoint.OpenUniversal<PlannedViT>(Path.Combine(output, "model.safetensors"));
        var rows = ImageEvaluator.Run(opened, corpus).Rows.ToLookup(row => row.Costs.Name);
        foreach (var mix in routed)
        {
            var its = rows[mix.GetProperty("name").GetString()!].ToList();
            Assert.Equal(its.Average(row => row.NatsPerImage), mix.GetProperty("nats_per_image").GetDouble(), 1e-4);
            Assert.Equal(its[0].Costs.Flops, mix.GetProperty("flops_per_image").GetInt64());
            Assert.True(mix.GetProperty("ms_per_image").GetDouble() > 0);
            Assert.False(mix.TryGetProperty("predicted_ms_per_image", out _));
        }

        Assert.DoesNotContain("routed", document.RootElement.GetProperty("best").GetProperty("name").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnImageIsClassifiedAtABudget()
    {
        var (images, file, slice, picture) = (PathOf("images"), PathOf("model.safetensors"), PathOf("S.safetensors"), PathOf("image.pgm"));
        TestImages.Write(images);
        using var corpus = ImageCorpus.Open(images);
        var pixels = corpus.Validation.Pixels(0).ToArray();
        await File.WriteAllBytesAsync(picture, [.. "P5 8 8 255\n"u8, .. pixels]);
        using var model = TrainingRuns.Drawn<TokenViT>();
        model.Save(file);
        var classify = await Run("classify", "--checkpoint", file, "--image", picture, "--budget", "0.5", "--dtype", "f32", "--json");
        Assert.True(classify.Code == 0, classify.Errors);
        using var document = JsonDocument.Parse(classify.Output);
        Assert.Equal("routed-0.5", document.RootElement.GetProperty("profile").GetString());
        using var unrecorded = no_grad();
        using var input = tensor(Array.ConvertAll(pixels, value => (value / 127.5f) - 1), [1, 1, 8, 8]);
        using var expected = model.Forward(0.5, input).softmax(-1);
        var chances = document.RootElement.GetProperty("probabilities").EnumerateArray().Select(p => p.GetSingle());
        Assert.Equal(expected.data<float>().ToArray(), chances, (one, other) => Math.Abs(one - other) < 1e-5);

        Extraction.ToSafetensors(file, TokenViT.Profile.S, slice);
        await Refuses("it is from 0.25, the share of 'S', to 1", "--checkpoint", file, "--budget", "0.1");
        await Refuses("--budget must be within 0 and 1", "--checkpoint", file, "--budget", "2");
        await Refuses("give one of them", "--checkpoint", file, "--budget", "0.5", "--profile", "S");
        await Refuses("is the slice S", "--checkpoint", slice, "--budget", "0.5");

        async Task Refuses(string says, params string[] arguments)
        {
            var refused = await Run(["classify", "--image", picture, .. arguments]);
            Assert.Equal(2, refused.Code);
            Assert.Contains(says, refused.Errors, StringComparison.Ordinal);
        }
    }

    private static double[] Budgets => [0.4375, 0.625, 0.8125];

    private static Task<(int Code, string Output, string Errors)> Run(params string[] arguments) => Run<TokenViT>(arguments);

    private static async Task<(int Code, string Output, string Errors)> Run<TModel>(params string[] arguments)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<TModel>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }

    // A spec of one routed layer.
    private static ModelSpec Spec(int[] widths, int tokens) => TokenViT.Spec with
    {
        Context = tokens,
        Blocks = [TokenViT.Spec.Blocks[0] with { HiddenWidth = widths[^1] }],
        Granularities = [.. widths.Select((width, i) => new Granularity($"G{i}", [(1, new LayerSlice(width, 4))]))],
        Routing = new([], [0]),
    };

    private string Saved(MatFormerModel model)
    {
        var path = PathOf("saved.safetensors");
        model.Save(path);
        return path;
    }

    internal static byte[] Bits(Tensor x) => x.detach().contiguous().bytes.ToArray();

    private string PathOf(string name) => Path.Combine(_folder, name);
}

/// <summary>OracleViT with routers.</summary>
[MatViT(Image = 12, Patch = 4, Channels = 3, Classes = 7, Layers = 3, Width = 24, Heads = 4)]
[FeedForward(48, Activation.Gelu, Bias = true), Attention(Bias = true), Routing(0.5)]
[Granularity("S", 12), Granularity("M", 24), Granularity("XL", 48)]
public sealed partial class PlainRoutedViT;
