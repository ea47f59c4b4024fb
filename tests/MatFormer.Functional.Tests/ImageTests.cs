using System.Text.Json;
using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests vision transformers, from a folder of images to a report.</summary>
public sealed class ImageTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-images-").FullName;
    private readonly string _data;

    public ImageTests()
    {
        _data = Path.Combine(_folder, "images");
        TestImages.Write(_data);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AllSizesOfATrainedModelAreMeasured()
    {
        using var corpus = ImageCorpus.Open(_data);
        manual_seed(1);
        using var model = DrawnModel.New<OtherViT>();
        using var trainer = new Trainer<OtherViT>(model, new()
        {
            Steps = 150,
            Batch = 40,
            LearningRate = 3e-3,
            Objective = Objective.Split,
            LabelSmoothing = 0.1,
            Shift = 1,
        });
        for (var step = 0; step < 150; step++) trainer.Step(corpus);
        var evaluation = ImageEvaluator.Run(model, corpus);
        Assert.Equal(100, evaluation.Images);
        Assert.All(
            evaluation.Rows.Where(r => r.Costs.IsGranularity), row => Assert.True(row.Accuracy > 0.8, $"{row.Costs.Name}: {row.Accuracy}"));
        Assert.Equal(5 * 3, evaluation.Rows.Length);
        Assert.Equal([8, 16, 32], evaluation.Rows.Select(r => r.Dimension).Distinct());
        var whole = evaluation.Whole.Single(r => r.Costs.Name == "XL");
        Assert.Equal((1.0, 0.0), (whole.Agreement, whole.Divergence));
        Assert.Equal(Math.Round((1 - whole.Accuracy) * 100), evaluation.Confusions.Length);

        // A slice has the same figures, but no agreement, because there is no whole model to compare with.
        using var slice = model.Extract<OtherViT.S>();
        var alone = ImageEvaluator.RunSlice(slice, ProfileCosts.Of(OtherViT.Profile.S, true), corpus).Rows;
        Assert.Equal(
            evaluation.Rows.Take(3).Select(r => (r.Dimension, r.Accuracy, r.NatsPerImage, (double?)null)),
            alone.Select(r => (r.Dimension, r.Accuracy, r.NatsPerImage, r.Agreement)));
    }

    [Fact]
    public void APrefixIsClassifiedAsIfTheRestOfTheEmbeddingWereZero()
    {
        manual_seed(1);
        using var model = DrawnModel.New<OtherViT>();
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var pixels = Inputs.Of(OtherViT.Spec, 5);
        var profile = OtherViT.Profile.Mixed;
        Assert.True(model.Classify(profile, pixels).equal(model.Forward(profile, pixels)).all().item<bool>());
        var prefix = model.Classify(profile, pixels, 8);
        var head = (Tensor)model.named_parameters().Single(p => p.Item1 == "classifier.weight").Item2;
        head.narrow(1, 8, 24).zero_();
        Assert.True(allclose(model.Forward(profile, pixels), prefix, 1e-5, 1e-6));
        using var mixed = model.Extract<OtherViT.Mixed>();
        Assert.True(mixed.Classify(pixels, 8).equal(prefix).all().item<bool>());
        Assert.Throws<ArgumentException>(() => model.Classify(profile, pixels, 9));
    }

    [Fact]
    public void DataOfAnotherKindIsRefused()
    {
        using var images = ImageCorpus.Open(_data);
        using var vision = DrawnModel.New<OracleViT>();
        using var trainer = new Trainer<OracleViT>(vision, new() { Batch = 4 });
        var size = Assert.Throws<DataException>(() => trainer.Step(images));
        Assert.Contains("8 x 8 pixels grey, but OracleViT takes 12 x 12 pixels and 3 channels", size.Message, StringComparison.Ordinal);
        using var text = TestCorpus.Open(_folder);
        var kind = Assert.Throws<DataException>(() => trainer.Step(text));
        Assert.Contains("OracleViT is not a language model", kind.Message, StringComparison.Ordinal);
        using var language = DrawnModel.New<OracleBytes>();
        using var other = new Trainer<OracleBytes>(language, new() { Batch = 4 });
        Assert.Contains(
            "OracleBytes takes no images", Assert.Throws<DataException>(() => other.Step(images)).Message, StringComparison.Ordinal);
        var option = Assert.Throws<ArgumentException>(() => new Trainer<OracleBytes>(language, new() { Mixup = 1 }));
        Assert.Contains("OracleBytes takes no images", option.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheProgramOfAVisionTransformerTrainsEvaluatesAndClassifies()
    {
        var output = Path.Combine(_folder, "out");
        var demo = await Run("demo", "--data", _data, "--steps", "60", "--batch", "32",
            "--learning-rate", "0.003", "--shift", "1", "--json", "--out", output);
        Assert.True(demo.Code == 0, demo.Errors);
        using var document = JsonDocument.Parse(demo.Output);
        Assert.Equal(100, document.RootElement.GetProperty("validation_images").GetInt32());
        Assert.Equal(15, document.RootElement.GetProperty("results").GetArrayLength());
        Assert.True(document.RootElement.GetProperty("extracted").GetProperty("bit_equal").GetBoolean());
        var report = await File.ReadAllTextAsync(Path.Combine(output, "report.html"));
        Assert.Contains("FLOPs per image", report, StringComparison.Ordinal);
        Assert.Contains("granularities, 16 dimensions", report, StringComparison.Ordinal);
        Assert.DoesNotContain("NaN", report, StringComparison.Ordinal);

        var model = Path.Combine(output, "model.safetensors");
        var extract = await Run("extract", "--checkpoint", model, "--profile", "S M M", "--type", "bf16", "--out", output);
        Assert.True(extract.Code == 0, extract.Errors);
        var eval = await Run("eval", "--checkpoint", Path.Combine(output, "s-m-m.safetensors"),
            "--report", Path.Combine(output, "eval.html"), "--out", output);
        Assert.True(eval.Code == 0, eval.Errors);
        Assert.StartsWith($"Held-out images of '{_data}': 400 images to train on", eval.Output, StringComparison.Ordinal);
        var other = Path.Combine(_folder, "other");
        TestImages.Write(other, noise: 50);
        eval = await Run("eval", "--data", other, "--checkpoint", model, "--out", output);
        Assert.Contains(
            $"Measured on '{other}', but the model was trained on '{_data}' (other images).", eval.Output, StringComparison.Ordinal);
        eval = await Run("eval", "--checkpoint", Path.Combine(output, "s-m-m.safetensors"), "--data", _data, "--out", output);
        Assert.True(eval.Code == 0, eval.Errors);
        Assert.Contains("S M M", eval.Output, StringComparison.Ordinal);

        var page = Path.Combine(output, "sweep.html");
        var swept = await Run("eval", "--checkpoint", model, "--data", _data, "--sweep", "2", "--report", page, "--json", "--out", output);
        Assert.True(swept.Code == 0, swept.Errors);
        using (var mixes = JsonDocument.Parse(swept.Output))
        {
            var rows = mixes.RootElement.GetProperty("sweep").EnumerateArray().ToList();
            Assert.Equal(Mixes.Sweep<OtherViT>(2).Select(m => m.Pattern).Order(),
                rows.Select(row => row.GetProperty("pattern").GetString()).Order());
            Assert.All(rows, row => Assert.True(double.IsFinite(row.GetProperty("nats_per_image_above_line").GetDouble())));
            Assert.All(rows, row => Assert.Equal(32, row.GetProperty("dimension").GetInt32()));
        }

        Assert.Contains("increasing: ", swept.Errors, StringComparison.Ordinal);
        Assert.Contains("Nats per image above the line", await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        var sliced = await Run(
            "eval", "--checkpoint", Path.Combine(output, "s-m-m.safetensors"), "--data", _data, "--sweep", "2", "--out", output);
        Assert.Equal(2, sliced.Code);
        Assert.Contains("--sweep needs all granularities", sliced.Errors, StringComparison.Ordinal);

        var picture = Path.Combine(_folder, "three.png");
        using var corpus = ImageCorpus.Open(_data);
        ImageFiles.Register();
        await File.WriteAllBytesAsync(picture, Png.Encode(corpus.Validation.Pixels(0), 1, TestImages.Size, TestImages.Size));
        var classify = await Run("classify", "--checkpoint", model, "--image", picture, "--profile", "S", "--json", "--out", output);
        Assert.True(classify.Code == 0, classify.Errors);
        using var shown = JsonDocument.Parse(classify.Output);
        Assert.Equal(1, shown.RootElement.GetProperty("probabilities").EnumerateArray().Sum(p => p.GetDouble()), 1e-4);

        var resumed = await Run(
            "train", "--data", _data, "--steps", "3", "--batch", "8", "--init", model, "--out", Path.Combine(_folder, "again"),
            "--tensorboard", "--recompute-activations");
        Assert.True(resumed.Code == 0, resumed.Errors);
        Assert.Contains("Beginning with", resumed.Errors, StringComparison.Ordinal);
        Assert.Equal([0L, 1, 2, 3], Assert.Single(EventFiles.Read(Path.Combine(_folder, "again", "tensorboard"))).Select(e => e.Step));

        // Flags are remembered too.
        resumed = await Run("train", "--resume", "--steps", "4", "--out", Path.Combine(_folder, "again"));
        Assert.True(resumed.Code == 0, resumed.Errors);
        using var reader = SafetensorsReader.Open(Path.Combine(_folder, "again", "checkpoint.safetensors"));
        Assert.Equal(("1", "1"), (reader.Metadata["training.tensorboard"], reader.Metadata["training.recompute_activations"]));
    }

    [Fact]
    public async Task AFolderForHuggingFaceDescribesItsModel()
    {
        using var model = DrawnModel.New<OracleViT>();
        var folder = WriteHuggingFace(model);
        using var config = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "config.json")));
        Assert.Equal("ViTForImageClassification", config.RootElement.GetProperty("architectures")[0].GetString());
        Assert.Equal((24, 3, 4, 24, 12, 4, 3), (Number("hidden_size"), Number("num_hidden_layers"), Number("num_attention_heads"),
            Number("intermediate_size"), Number("image_size"), Number("patch_size"), Number("num_channels")));
        Assert.Equal(7, config.RootElement.GetProperty("id2label").EnumerateObject().Count());
        Assert.True(File.Exists(Path.Combine(folder, "preprocessor_config.json")));

        int Number(string name) => config.RootElement.GetProperty(name).GetInt32();
    }

    /// <summary>Names, shapes and values are those of Hugging Face's transformers, so they can be read again.</summary>
    [Fact]
    public void AFolderForHuggingFaceLoadsAgain()
    {
        manual_seed(5);
        using var model = DrawnModel.New<OracleViT>();
        using var slice = OracleViT.CreateSubmodel(OracleViT.Profile.M);
        slice.LoadNamed(WriteHuggingFace(model));
        using var pixels = Inputs.Of(OracleViT.Spec, 3);
        using var expected = model.Forward(OracleViT.Profile.M, pixels);
        using var actual = slice.forward(pixels);
        Assert.True(expected.eq(actual).all().item<bool>());
    }

    [Fact]
    public void AVisionTransformerThatHuggingFaceCannotExpressIsRefused()
    {
        var file = Path.Combine(_folder, "vit.safetensors");
        using var model = DrawnModel.New<OracleViT>();
        model.Save(file);
        var mixed = Assert.Throws<ExtractionException>(
            () => Extraction.ToHuggingFace(file, OracleViT.Profile.Mixed, Path.Combine(_folder, "mixed"), tokenizer: null));
        Assert.Contains("different sizes", mixed.Message, StringComparison.Ordinal);
        using var other = DrawnModel.New<OtherViT>();
        other.Save(file);
        var gated = Assert.Throws<ExtractionException>(
            () => Extraction.ToHuggingFace(file, OtherViT.Profile.XL, Path.Combine(_folder, "gated"), tokenizer: null));
        Assert.Contains("fewer heads", gated.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder, "mixed")) || Directory.Exists(Path.Combine(_folder, "gated")));
    }

    [Theory]
    [InlineData("--data is missing", "train")]
    [InlineData("does not exist", "train", "--data", "nowhere")]
    [InlineData("--image is missing", "classify")]
    [InlineData("--format must be safetensors, huggingface or onnx, not 'gguf'", "extract", "--profile", "S", "--format", "gguf")]
    public async Task WrongInputEndsWithExitCode2AndOneLine(string says, params string[] arguments)
    {
        var run = await Run([.. arguments, "--out", Path.Combine(_folder, "none")]);
        Assert.Equal(2, run.Code);
        Assert.Contains(says, run.Errors, StringComparison.Ordinal);
        Assert.Single(run.Errors.TrimEnd().Split('\n'));
    }

    // Saves a model, and writes its granularity M into a folder for Hugging Face.
    private string WriteHuggingFace(OracleViT model)
    {
        var (file, folder) = (Path.Combine(_folder, "vit.safetensors"), Path.Combine(_folder, "vit"));
        model.Save(file);
        Extraction.ToHuggingFace(file, OracleViT.Profile.M, folder, tokenizer: null);
        return folder;
    }

    private static async Task<(int Code, string Output, string Errors)> Run(params string[] arguments)
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<OtherViT>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }
}
