using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>
/// Tests models whose compressed tokens do the heavy work. OracleTests compares them with PyTorch, and SliceTests, StreamsTests and
/// TrainingTests have them too.
/// </summary>
public sealed class LookupTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-lookup-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AGridIsAChoiceAndTheLargestIsTheDefault()
    {
        manual_seed(1);
        using var model = DrawnModel.New<CompressedViT>();
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(CompressedViT.Spec, 3);
        Assert.Equal(Bits(model.forward(pixels)), Bits(model.Forward(4, pixels)));
        Assert.Equal(Bits(model.Embed(pixels, 8)), Bits(model.Embed(4, pixels, 8)));
        Assert.Equal(Bits(model.Classify(pixels, 8)), Bits(model.Classify(4, pixels, 8)));
        Assert.Equal(Bits(model.Forward(CompressedViT.Profile.XL.At(2), pixels)), Bits(model.Forward(2, pixels)));
        var outputs = CompressedViT.Spec.Lookup!.Grids.Select(grid => Bits(model.Forward(grid, pixels))).ToList();
        Assert.False(outputs[0].SequenceEqual(outputs[1]) || outputs[1].SequenceEqual(outputs[2]));
    }

    [Fact]
    public void SlicesAndTheirFilesHaveAllGrids()
    {
        var path = PathOf("model.safetensors");
        manual_seed(1);
        using var model = DrawnModel.New<CompressedViT>();
        model.Save(path);
        using var opened = Checkpoint.OpenUniversal<CompressedViT>(path);
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(CompressedViT.Spec, 3);
        foreach (var profile in CompressedViT.Granularities.Concat(CompressedViT.Profiles))
        {
            var file = PathOf(profile.Name + ".safetensors");
            Extraction.ToSafetensors(path, profile, file);
            using var slice = Checkpoint.Open<CompressedViT>(file);
            foreach (var grid in CompressedViT.Spec.Lookup!.Grids)
            {
                var at = profile.At(grid);
                AssertAgree(model.Forward(at, pixels), opened.Forward(at, pixels));
                AssertAgree(model.Forward(at, pixels), slice.Forward(grid, pixels));
                AssertAgree(model.Embed(at, pixels, 8), slice.Embed(grid, pixels, 8));
                AssertAgree(model.Classify(at, pixels, 8), slice.Classify(grid, pixels, 8));
            }
        }
    }

    /// <summary>The FLOPs of each product, in a model of 16 patches, 24 channels, 48 hidden units and a light feed-forward of 10.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void FlopsAreThoseOfTheProducts(int grid)
    {
        const long width = 24, patches = 16, hidden = 48, light = 10;
        long compressed = grid * grid;
        var projections = (compressed * (2 + 4) * width * width) + (patches * 2 * width * width); // gather and attention; keys and values
        var products = (2 * compressed * patches * width) + (2 * compressed * compressed * width);
        var heavy = compressed * 2 * width * hidden;
        var spread = (compressed * width * width) + (compressed * patches * width) + (patches * 2 * width * light);
        var layers = (2 * (projections + products + heavy)) + spread; // the last layer gives nothing back
        var around = (patches * 3 * 9 * width) + (width * 7);
        var whole = LookupViT.Profile.XL;
        Assert.Equal(2 * (layers + around), whole.At(grid).Flops);
        Assert.Equal(2 * 2 * compressed * 2 * width * (hidden - 12), whole.At(grid).Flops - LookupViT.Profile.S.At(grid).Flops);
        Assert.Equal(whole.At(3).Flops, whole.Flops);
        Assert.Equal(LookupViT.FlopsPerImage, whole.Flops);
        Assert.Equal(whole.ParameterCount, whole.At(grid).ParameterCount);
    }

    [Fact]
    public void AGridThatIsNotDeclaredIsRefused()
    {
        using var model = DrawnModel.New<LookupViT>();
        using var slice = model.Extract<LookupViT.S>();
        var pixels = Inputs.Of(LookupViT.Spec, 1);
        Action[] calls =
        [
            () => model.Forward(4, pixels), () => slice.Forward(4, pixels), () => slice.Embed(4, pixels), () => slice.Classify(0, pixels),
            () => LookupViT.Profile.S.At(-1),
        ];
        foreach (var call in calls)
            Assert.Contains("grids of side 2, 3, not", Assert.Throws<ArgumentException>(call).Message, StringComparison.Ordinal);
        using var other = DrawnModel.New<OtherViT>();
        var ofModel = Assert.Throws<NotSupportedException>(() => other.Forward(3, pixels));
        Assert.Contains("declare [Lookup]", ofModel.Message, StringComparison.Ordinal);
        var ofProfile = Assert.Throws<ArgumentException>(() => OtherViT.Profile.S.At(3));
        Assert.Contains("declare [Lookup]", ofProfile.Message, StringComparison.Ordinal);
        using var routed = DrawnModel.New<RoutedViT>();
        var whole = Assert.Throws<NotSupportedException>(() => routed.Forward(1, pixels));
        Assert.Contains("write the routing budget as 1.0", whole.Message, StringComparison.Ordinal);
        var mixed = Assert.Throws<ArgumentException>(() => Streams.Of<LookupViT>(LookupViT.Profile.XL.At(2), LookupViT.Profile.S.At(3)));
        Assert.Contains("different grids", mixed.Message, StringComparison.Ordinal);
    }

    /// <summary>The teacher is the whole model at the grid of its students, whether it is one of the streams or not.</summary>
    [Fact]
    public void AStudentLearnsFromTheWholeModelAtItsGrid()
    {
        manual_seed(1);
        using var model = DrawnModel.New<LookupViT>();
        var (pixels, targets) = (Inputs.Of(LookupViT.Spec, 4), tensor([0L, 1, 2, 3]));
        foreach (var grid in LookupViT.Spec.Lookup!.Grids)
        {
            using var scope = NewDisposeScope();
            var (whole, small) = (LookupViT.Profile.XL.At(grid), LookupViT.Profile.S.At(grid));
            var together = model.DistilledLosses(Streams.Of<LookupViT>(whole, small), pixels, targets, 2)[1, 1].item<float>();
            var alone = model.DistilledLosses(Streams.Of(small), pixels, targets, 2)[1, 0].item<float>();
            Assert.True(together > 0);
            Assert.Equal(together, alone, 1e-5f);
        }
    }

    [Fact]
    public void EachStepTrainsAtADrawnGrid()
    {
        var planner = new Planner<CompressedViT>(new() { Objective = Objective.Joint, Seed = 3 });
        var drawn = Enumerable.Range(1, 600).Select(step => planner.At(step).Streams.Grid!.Value).CountBy(grid => grid).ToDictionary();
        Assert.Equal([1, 2, 4], drawn.Keys.Order());
        Assert.All(drawn.Values, count => Assert.InRange(count, 150, 250));
        var again = new Planner<CompressedViT>(new() { Objective = Objective.Joint, Seed = 3 });
        Assert.Equal(planner.At(17).Streams.Grid, again.At(17).Streams.Grid);
        Assert.Equal(1, planner.Typical().Sum(typical => typical.Share), 1e-9);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AllGridsAndSizesLearnTogether(bool distilled)
    {
        using var data = TestImages.Open(_folder);
        manual_seed(1);
        using var model = DrawnModel.New<CompressedViT>();
        using var trainer = new Trainer<CompressedViT>(model, TrainingRuns.ToLearn(distilled));
        trainer.Fit(data);
        var evaluation = ImageEvaluator.Run(model, data);
        Assert.Equal((3 + 2) * 3 * 2, evaluation.Rows.Length);
        Assert.Equal([4, 2, 1], evaluation.Whole.Select(row => row.Costs.Grid).Distinct());
        Assert.Equal("XL-1x1", evaluation.Whole.Last(row => row.Costs.IsGranularity).Costs.Name);

        // No step trains the profile that leaves a layer out.
        var trained = evaluation.Whole.Where(row => !row.Costs.Name.StartsWith("Short", StringComparison.Ordinal));
        Assert.All(trained, row => Assert.True(row.Accuracy > 0.8, $"{row.Costs.Name}: {row.Accuracy}"));
        using var slice = model.Extract<CompressedViT.S>();
        var alone = ImageEvaluator.RunSlice(slice, ProfileCosts.Of(CompressedViT.Profile.S, true), data);
        Assert.Equal(["S", "S-2x2", "S-1x1"], alone.Whole.Select(row => row.Costs.Name));
        var ofModel = evaluation.Whole.Where(row => alone.Whole.Any(its => its.Costs.Name == row.Costs.Name));
        Assert.Equal(ofModel.Select(row => (row.Costs.Flops, row.Accuracy)), alone.Whole.Select(row => (row.Costs.Flops, row.Accuracy)));
    }

    [Fact]
    public void PassesAtGridsLeakNoTensors()
    {
        using var model = DrawnModel.New<CompressedViT>();
        using var slice = model.View<CompressedViT.M>();
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(CompressedViT.Spec, 3);
        Pass();
        var before = LiveTensors.Count();
        for (var pass = 0; pass < 10; pass++) Pass();
        Assert.Equal(before, LiveTensors.Count());

        void Pass()
        {
            model.Forward(2, pixels).Dispose();
            model.Embed(1, pixels, 8).Dispose();
            slice.Forward(2, pixels).Dispose();
            slice.Classify(1, pixels).Dispose();
        }
    }

    [Fact]
    public void InBFloat16AGridIsCloseToFloat32()
    {
        manual_seed(1);
        using var model = DrawnModel.New<CompressedViT>();
        using var unrecorded = no_grad();
        var pixels = Inputs.Of(CompressedViT.Spec, 8);
        var wide = model.Forward(2, pixels);
        model.ComputeType = ScalarType.BFloat16;
        var narrow = model.Forward(2, pixels);
        Assert.Equal(ScalarType.Float32, narrow.dtype);
        Assert.InRange((wide - narrow).abs().max().item<float>(), 0, 0.05 * wide.abs().max().item<float>());
    }

    [Fact]
    public void OtherFormatsRefuseCompressedTokens()
    {
        var path = PathOf("model.safetensors");
        using var model = DrawnModel.New<LookupViT>();
        model.Save(path);
        var onnx = Assert.Throws<ExtractionException>(() => Extraction.ToOnnx(path, LookupViT.Profile.S, PathOf("model.onnx")));
        Assert.Contains("it has [Lookup]", onnx.Message, StringComparison.Ordinal);
        var folder = Assert.Throws<ExtractionException>(
            () => Extraction.ToHuggingFace(path, LookupViT.Profile.S, PathOf("vit"), tokenizer: null));
        Assert.Contains("remove [Lookup]", folder.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheProgramTrainsMeasuresAndClassifiesAtGrids()
    {
        var (images, output) = (PathOf("images"), PathOf("out"));
        TestImages.Write(images);
        var train = await Run("train", "--data", images, "--steps", "6", "--batch", "8", "--out", output);
        Assert.True(train.Code == 0, train.Errors);
        var page = Path.Combine(output, "eval.html");
        var eval = await Run("eval", "--out", output, "--data", images, "--report", page, "--sweep", "1", "--json");
        Assert.True(eval.Code == 0, eval.Errors);
        using var document = JsonDocument.Parse(eval.Output);
        var results = document.RootElement.GetProperty("results").EnumerateArray().ToList();
        Assert.Equal([4, 2, 1], results.Select(r => r.GetProperty("grid").GetInt32()).Distinct());
        var small = results.First(r => r.GetProperty("name").GetString() == "S-2x2");
        Assert.Equal(CompressedViT.Profile.S.At(2).Flops, small.GetProperty("flops_per_image").GetInt64());
        Assert.Contains("2 x 2 compressed tokens", await File.ReadAllTextAsync(page), StringComparison.Ordinal);

        // One grid alone, with the sweep at it, of the universal model and of a slice.
        var one = await Run("eval", "--out", output, "--data", images, "--grid", "2", "--sweep", "1", "--json");
        Assert.True(one.Code == 0, one.Errors);
        using var oneDocument = JsonDocument.Parse(one.Output);
        string[] sizes = ["S-2x2", "M-2x2", "XL-2x2", "Mixed-2x2", "Short-2x2"];
        var ofOne = oneDocument.RootElement.GetProperty("results");
        Assert.Equal(sizes, Names(ofOne).Distinct());
        var ofAll = results.Where(r => r.GetProperty("grid").GetInt32() == 2).Select(r => r.GetProperty("nats_per_image").GetDouble());
        Assert.Equal(ofAll, ofOne.EnumerateArray().Select(r => r.GetProperty("nats_per_image").GetDouble()));
        Assert.All(oneDocument.RootElement.GetProperty("sweep").EnumerateArray(), r => Assert.Equal(2, r.GetProperty("grid").GetInt32()));
        var extract = await Run("extract", "--out", output, "--profile", "S");
        Assert.True(extract.Code == 0, extract.Errors);
        var ofSlice = await Run(
            "eval", "--checkpoint", Path.Combine(output, "s.safetensors"), "--data", images, "--grid", "2", "--json");
        Assert.True(ofSlice.Code == 0, ofSlice.Errors);
        using var sliceDocument = JsonDocument.Parse(ofSlice.Output);
        Assert.Equal(["S-2x2"], Names(sliceDocument.RootElement.GetProperty("results")).Distinct());
        var undeclared = await Run("eval", "--out", output, "--data", images, "--grid", "3");
        Assert.Equal(2, undeclared.Code);
        Assert.Contains("--grid: CompressedViT is trained for compressed tokens in grids", undeclared.Errors, StringComparison.Ordinal);
        var costs = await Run("profiles", "--json");
        using var costsDocument = JsonDocument.Parse(costs.Output);
        Assert.Equal(
            results.Select(r => r.GetProperty("name").GetString()).Distinct(), Names(costsDocument.RootElement.GetProperty("profiles")));

        var image = PathOf("image.pgm");
        await File.WriteAllBytesAsync(image, [.. "P5 8 8 255\n"u8, .. Enumerable.Range(0, 64).Select(i => (byte)(4 * i))]);
        var classify = await Run("classify", "--out", output, "--image", image, "--profile", "S", "--grid", "1", "--json");
        Assert.True(classify.Code == 0, classify.Errors);
        var wrong = await Run("classify", "--out", output, "--image", image, "--grid", "3");
        Assert.Equal(2, wrong.Code);
        Assert.Contains("--grid: CompressedViT is trained for compressed tokens in grids", wrong.Errors, StringComparison.Ordinal);

        static IEnumerable<string?> Names(JsonElement rows) => rows.EnumerateArray().Select(r => r.GetProperty("name").GetString());
    }

    [Fact]
    [Trait("Kernels", "any")]
    public async Task APlanIsThatOfTheGrid()
    {
        var (images, output, page) = (PathOf("images"), PathOf("out"), PathOf("plan.html"));
        TestImages.Write(images);
        Directory.CreateDirectory(output);
        using (var model = DrawnModel.New<CompressedViT>()) model.Save(Path.Combine(output, "model.safetensors"));
        string[] plan = ["plan", "--out", output, "--data", images, "--examples", "100", "--points", "2", "--dtype", "f32"];
        var small = CompressedViT.Profile.XL.At(1).Flops;
        var at = await Run([.. plan, "--grid", "1", "--max-flops-per-image", $"{small}", "--report", page, "--json"]);
        Assert.True(at.Code == 0, at.Errors);
        Assert.Contains("with 1 x 1 compressed tokens", await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        using var document = JsonDocument.Parse(at.Output);
        Assert.Equal(1, document.RootElement.GetProperty("grid").GetInt32());
        using var corpus = ImageCorpus.Open(images);
        using var opened = Checkpoint.OpenUniversal<CompressedViT>(Path.Combine(output, "model.safetensors"));
        var rows = ImageEvaluator.Run(opened, corpus).Rows.ToLookup(row => row.Costs.Name);
        var mixes = document.RootElement.GetProperty("mixes").EnumerateArray().ToDictionary(mix => mix.GetProperty("name").GetString()!);
        foreach (var size in CompressedViT.Granularities)
        {
            // The loss of a plan is the one that is trained: the mean of both dimensions.
            var (mix, its) = (mixes[size.Name], rows[size.Name + "-1x1"].ToList());
            Assert.Equal(its[0].Costs.Flops, mix.GetProperty("flops_per_image").GetInt64());
            Assert.Equal(its.Average(row => row.NatsPerImage), mix.GetProperty("nats_per_image").GetDouble(), 1e-4);
            Assert.True(mix.GetProperty("fits").GetBoolean());
        }

        var undeclared = await Run([.. plan, "--grid", "3"]);
        Assert.Equal(2, undeclared.Code);
        Assert.Contains("--grid: CompressedViT is trained for compressed tokens in grids", undeclared.Errors, StringComparison.Ordinal);
        var learned = await Run([.. plan, "--grid", "1", "--search", "learned", "--max-flops-per-image", $"{small}"]);
        Assert.Equal(2, learned.Code);
        Assert.Contains("leave --grid out", learned.Errors, StringComparison.Ordinal);
    }

    private static async Task<(int Code, string Output, string Errors)> Run(params string[] arguments)
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<CompressedViT>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }

    // Fused loops give the same bits. The rounding of libtorch's matrix products depends on the memory layout of their operands.
    private static void AssertAgree(Tensor expected, Tensor actual)
    {
        if (Kernels.Cpu.IsEnabled) Assert.Equal(Bits(expected), Bits(actual));
        else Assert.True(allclose(expected, actual, 1e-4, 1e-6));
    }

    private static byte[] Bits(Tensor x) => x.detach().contiguous().bytes.ToArray();

    private string PathOf(string name) => Path.Combine(_folder, name);
}
