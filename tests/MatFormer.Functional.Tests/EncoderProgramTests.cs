using System.Text.Json;
using MatFormer.Tests;

namespace MatFormer.Functional.Tests;

public sealed class EncoderProgramTests : IDisposable
{
    private static readonly (long Small, long Medium, long Whole) s_flops =
        (ByteEncoder.Profile.S.Flops, ByteEncoder.Profile.M.Flops, ByteEncoder.Profile.XL.Flops);

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-encoder-").FullName;

    private string PairsPath => Path.Combine(_folder, "pairs.tsv");

    private string OutputPath => Path.Combine(_folder, "out");

    // The file that eval-retrieval writes and a search with --cheap-first reads.
    private string CalibrationPath => Path.Combine(OutputPath, "index.cheap-first.json");

    // The options of a search with the slice S.
    private string[] Slice => ["--checkpoint", Path.Combine(OutputPath, "s.safetensors")];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task TheProgramOfATextEncoderTrainsSearchesAndEvaluates()
    {
        using var pairs = TestPairs.Open(_folder);
        var (data, output) = (Path.Combine(_folder, "pairs.tsv"), Path.Combine(_folder, "out"));
        string[] where = ["--data", data, "--out", output];
        var demo = await Run(["demo", .. where, "--steps", "300", "--batch", "32", "--learning-rate", "0.005", "--json"]);
        Assert.True(demo.Code == 0, demo.Errors);
        using (var document = JsonDocument.Parse(demo.Output))
        {
            var root = document.RootElement;
            Assert.Equal((7, 144), (root.GetProperty("queries").GetInt32(), root.GetProperty("documents").GetInt32()));
            Assert.Equal(12, root.GetProperty("results").GetArrayLength()); // four profiles at three dimensions
            Assert.All(
                root.GetProperty("results").EnumerateArray(), row => Assert.InRange(row.GetProperty("recall_at_10").GetDouble(), 0, 1));
            Assert.InRange(root.GetProperty("escalation").GetProperty("compute_share").GetDouble(), 0.1, 2);
            Assert.Equal(0.005, root.GetProperty("escalation").GetProperty("tolerance").GetDouble());
            Assert.True(root.GetProperty("extracted").GetProperty("bit_equal").GetBoolean());
            Assert.All(root.GetProperty("files").EnumerateArray(), file => Assert.True(File.Exists(file.GetString()), file.GetString()));
        }

        var report = await File.ReadAllTextAsync(Path.Combine(output, "report.html"));
        Assert.Contains("Its embeddings equal those of the universal model, bit for bit.", report, StringComparison.Ordinal);
        Assert.DoesNotContain("NaN", report, StringComparison.Ordinal);

        var search = await Run(
            "search", "--out", output, "--query", "red blue", "--profile", "S", "--dimension", "8", "--top", "3", "--json");
        Assert.True(search.Code == 0, search.Errors);
        using (var document = JsonDocument.Parse(search.Output))
        {
            var hits = document.RootElement.GetProperty("hits").EnumerateArray().ToList();
            Assert.Equal(3, hits.Count);
            Assert.Contains("RED-BLUE.", hits.Select(hit => hit.GetProperty("text").GetString()));
            Assert.Equal(8, document.RootElement.GetProperty("dimension").GetInt32());
        }

        // A slice searches the index of its model, and makes another index.
        var extract = await Run("extract", "--out", output, "--profile", "Mixed", "--overwrite");
        Assert.True(extract.Code == 0, extract.Errors);
        var slice = Path.Combine(output, "mixed.safetensors");
        var sliced = await Run("search", "--out", output, "--checkpoint", slice, "--query", "old new");
        Assert.True(sliced.Code == 0, sliced.Errors);
        Assert.Contains("[Mixed, 16 of 16 dimensions", sliced.Output, StringComparison.Ordinal);
        var own = Path.Combine(_folder, "slice-index.safetensors");
        var index = await Run(["index", .. where, "--checkpoint", slice, "--index", own]);
        Assert.True(index.Code == 0, index.Errors);
        Assert.Contains($"144 documents of '{data}', embedded by Mixed", index.Output, StringComparison.Ordinal);

        // An encoder that was trained separately cannot search that index.
        var alone = Path.Combine(_folder, "alone");
        var train = await Run(
            "train", "--data", data, "--out", alone, "--steps", "20", "--batch", "32", "--probabilities", "1,0,0", "--seed", "2",
            "--tokenizer", "bytes", "--tensorboard");
        Assert.True(train.Code == 0, train.Errors);
        Assert.Equal(21, Assert.Single(EventFiles.Read(Path.Combine(alone, "tensorboard"))).Count);
        var other = Path.Combine(alone, "model.safetensors");
        var page = Path.Combine(_folder, "retrieval.html");
        var eval = await Run(["eval-retrieval", .. where, "--alone", other, "--report", page]);
        Assert.True(eval.Code == 0, eval.Errors);
        Assert.Contains("S alone, on its own index", eval.Output, StringComparison.Ordinal);
        Assert.Contains("S alone, on this index", await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        Assert.Contains("Cheap first", eval.Output, StringComparison.Ordinal);
        var ofSlice = await Run("eval-retrieval", "--out", output, "--checkpoint", slice, "--json"); // the index remembers its pairs
        Assert.True(ofSlice.Code == 0, ofSlice.Errors);
        Assert.Contains($"Held-out pairs of '{data}': 1 file,", ofSlice.Errors, StringComparison.Ordinal);
        using (var document = JsonDocument.Parse(ofSlice.Output))
            Assert.Equal(3, document.RootElement.GetProperty("results").GetArrayLength());
        var refused = await Run("search", "--out", output, "--checkpoint", other, "--query", "old new");
        Assert.Equal(2, refused.Code);
        Assert.Contains("with the weights", refused.Errors, StringComparison.Ordinal);

        var found = await Run("search", "--out", output, "--query", "old new");
        Assert.Contains($"144 documents of '{data}']", found.Output, StringComparison.Ordinal);
        var fewer = Path.Combine(_folder, "fewer.tsv");
        await File.WriteAllLinesAsync(fewer, (await File.ReadAllLinesAsync(data)).SkipLast(1));
        var others = await Run("index", "--out", output, "--data", fewer, "--index", own);
        Assert.Contains(
            $"Indexed '{fewer}', but the model was trained on '{data}' (other pairs).", others.Output, StringComparison.Ordinal);
        var ofOthers = await Run("eval-retrieval", "--out", output, "--index", own);
        Assert.Contains(
            $"Measured on '{fewer}', but the model was trained on '{data}' (other pairs).", ofOthers.Output, StringComparison.Ordinal);
        File.Move(fewer, fewer + ".moved");
        var gone = await Run("eval-retrieval", "--out", output, "--index", own);
        Assert.Contains($"These are the data that '{own}' remembers", gone.Errors, StringComparison.Ordinal);

        var losses = await Run("eval", "--out", output, "--batch", "7", "--sweep", "1", "--json");
        Assert.True(losses.Code == 0, losses.Errors);
        using (var document = JsonDocument.Parse(losses.Output))
        {
            Assert.All(
                document.RootElement.GetProperty("sweep").EnumerateArray(),
                mix => Assert.True(double.IsFinite(mix.GetProperty("nats_per_choice_above_line").GetDouble())));
            Assert.Equal(["S", "M", "XL"], document.RootElement.GetProperty("nats_per_choice").EnumerateObject().Select(loss => loss.Name));
        }

        Assert.Equal(0, (await Run("profiles", "--json")).Code);
    }

    [Fact]
    [Trait("Kernels", "any")]
    public async Task SlicesWhoseNamesTrainingTakesAreWrittenBesideItsFiles()
    {
        using var pairs = TestPairs.Open(_folder);
        string[] where = ["--data", PairsPath, "--out", OutputPath];
        var demo = await Run<TakenEncoder>(
            ["demo", .. where, "--steps", "4", "--batch", "8", "--evaluate-every", "2", "--checkpoint-every", "2"]);
        Assert.True(demo.Code == 0, demo.Errors);
        var written = Directory.GetFiles(OutputPath, "*.safetensors").ToDictionary(path => path, File.ReadAllBytes);
        Assert.Equal(
            ["best", "best-slice", "checkpoint", "index", "model"],
            written.Keys.Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal));
        foreach (var profile in TakenEncoder.Granularities.Concat(TakenEncoder.Profiles))
        {
            var extract = await Run<TakenEncoder>("extract", "--out", OutputPath, "--profile", profile.Name, "--overwrite", "--json");
            Assert.True(extract.Code == 0, extract.Errors);
            using var slice = Checkpoint.Open<TakenEncoder>(
                Path.Combine(OutputPath, profile.Name.ToLowerInvariant() + "-slice.safetensors"));
            Assert.Equal(profile.Name, slice.ProfileName);
        }

        Assert.All(written, file => Assert.Equal(file.Value, File.ReadAllBytes(file.Key)));
    }

    [Fact]
    public async Task ABudgetChoosesTheProfileThatAnswers()
    {
        var (small, medium, whole) = s_flops;
        await WriteIndex();
        await Answers("XL", 1);
        await Answers("M", (double)medium / whole, "--max-flops-per-text", $"{medium}");
        await Answers("Mixed", (double)ByteEncoder.Profile.Mixed.Flops / whole, "--max-flops-per-text", $"{whole - 1}");
        await Refused($"--max-flops-per-text is {small - 1}, but S, the smallest, takes {small}", "--max-flops-per-text", $"{small - 1}");
        await Answers("S", (double)small / whole, [.. Slice, "--max-flops-per-text", $"{whole}"]);
        await Refused("but S, the smallest, takes", [.. Slice, "--max-flops-per-text", $"{small - 1}"]);
    }

    [Fact]
    public async Task CheapFirstIsRefusedBeforeCalibration()
    {
        await WriteIndex();
        await Refused("index.cheap-first.json' does not exist; run eval-retrieval --checkpoint", "--cheap-first");
    }

    // S may lose everything, so its threshold is the smallest margin of the queries for calibration. Of the other queries, those with a
    // still smaller margin go on to XL.
    [Fact]
    public async Task AToleranceOfOneLeavesOutTheProfilesBetweenTheSmallestAndTheWhole()
    {
        await WriteIndex();
        var eval = await Calibrate();
        using var document = JsonDocument.Parse(eval.Output);
        var escalation = document.RootElement.GetProperty("escalation");
        var (smallest, most) = ((double)s_flops.Small / s_flops.Whole, (double)(s_flops.Small + s_flops.Whole) / s_flops.Whole);
        Assert.Equal(1, escalation.GetProperty("tolerance").GetDouble());
        Assert.InRange(escalation.GetProperty("compute_share").GetDouble(), smallest - 1e-9, most + 1e-9);
        Assert.Equal([CalibrationPath], document.RootElement.GetProperty("files").EnumerateArray().Select(f => f.GetString()));
        Assert.Contains("to lose at most 100.0%", eval.Errors, StringComparison.Ordinal);
        using var calibrated = JsonDocument.Parse(await File.ReadAllTextAsync(CalibrationPath));
        var profiles = calibrated.RootElement.GetProperty("profiles").EnumerateArray()
            .Select(profile => profile.GetProperty("name").GetString());
        Assert.Equal(["S", "XL"], profiles);
    }

    [Fact]
    public async Task TheMarginChoosesTheProfileThatAnswers()
    {
        var (small, _, whole) = s_flops;
        await WriteIndex();
        await Calibrate();
        var calibrated = await File.ReadAllTextAsync(CalibrationPath);
        await WriteMargin(calibrated, "0");
        await Answers("S", (double)small / whole, "--cheap-first");
        await WriteMargin(calibrated, "2.5"); // two cosines differ by at most 2
        await Answers("XL", (double)(small + whole) / whole, "--cheap-first");
        await Refused("is the slice S", [.. Slice, "--cheap-first"]);
    }

    [Fact]
    public async Task ADamagedCalibrationIsRefused()
    {
        await WriteIndex();
        await Calibrate();
        var calibrated = await File.ReadAllTextAsync(CalibrationPath);
        await WriteMargin(calibrated, "-1");
        await Refused("is damaged: The thresholds -1", "--cheap-first");
        await WriteMargin(calibrated, "\"much\"");
        await Refused("has no 'answers_from_margin'", "--cheap-first");
        await File.WriteAllTextAsync(CalibrationPath, calibrated.Replace("\"2*S\"", "\"S M\""));
        await Refused("was calibrated with S as 'S M'", "--cheap-first");
        await File.WriteAllTextAsync(CalibrationPath, calibrated[..^9]);
        await Refused("is not valid JSON", "--cheap-first");
    }

    [Fact]
    public async Task ACalibrationOfAnotherIndexIsRefused()
    {
        await WriteIndex();
        await Calibrate();
        Assert.Equal(0, (await Run("index", "--data", PairsPath, "--out", OutputPath, "--profile", "M")).Code);
        await Refused("was calibrated on another index", "--cheap-first");
    }

    [Fact]
    public async Task ATokenizerIsLearntIfThereIsNone()
    {
        using var pairs = TestPairs.Open(_folder);
        var (data, output) = (Path.Combine(_folder, "pairs.tsv"), Path.Combine(_folder, "out"));
        var train = await Run<WordEncoder>("train", "--data", data, "--out", output, "--steps", "2", "--batch", "4");
        Assert.True(train.Code == 0, train.Errors);
        var learnt = Tokenizer.Load(Path.Combine(output, "tokenizer.json"));
        Assert.False(learnt.VocabularySize == 256);
        var tokenizer = await Run<WordEncoder>("tokenizer", "--data", data, "--out", Path.Combine(_folder, "again"), "--json");
        Assert.True(tokenizer.Code == 0, tokenizer.Errors);
        Assert.Contains(learnt.Fingerprint, tokenizer.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("does not exist", "train", "--data", "nowhere")]
    [InlineData("at least 2", "train", "--batch", "1")]
    [InlineData("--json is for one query", "search", "--json")]
    [InlineData("--dimension 5", "search", "--query", "a", "--dimension", "5")]
    [InlineData("--profile and --cheap-first both choose", "search", "--cheap-first", "--profile", "S")]
    [InlineData("--profile and --max-flops-per-text both choose", "search", "--max-flops-per-text", "9", "--profile", "S")]
    [InlineData("leave --dimension out", "search", "--cheap-first", "--dimension", "4")]
    [InlineData("at most 10", "search", "--cheap-first", "--top", "11")]
    [InlineData("--tolerance must be within 0 and 1", "eval-retrieval", "--tolerance", "2")]
    [InlineData("'dotnet add package MatFormer.Server'", "serve")]
    [InlineData("--profile is missing", "extract")]
    [InlineData("train a model first", "index")]
    [InlineData("--batch 1", "eval", "--batch", "1")]
    public async Task WrongInputEndsWithExitCode2AndOneLine(string says, params string[] arguments)
    {
        using var pairs = TestPairs.Open(_folder);
        string[] data = arguments.Contains("--data") || arguments[0] is "search" or "extract"
            ? [] : ["--data", Path.Combine(_folder, "pairs.tsv")];
        using (var model = new ByteEncoder())
        {
            if (arguments[0] is "eval" or "extract") model.Save(Path.Combine(_folder, "none", "model.safetensors"));
        }

        var run = await Run([.. arguments, .. data, "--out", Path.Combine(_folder, "none")]);
        Assert.Equal(2, run.Code);
        Assert.Contains(says, run.Errors, StringComparison.Ordinal);
        Assert.Single(run.Errors.TrimEnd().Split('\n'), line => line.Contains(says, StringComparison.Ordinal));
    }

    // Saves an untrained model and its slice S, and writes the index of the model.
    private async Task WriteIndex()
    {
        using var pairs = TestPairs.Open(_folder);
        using (var model = new ByteEncoder())
        {
            model.Save(Path.Combine(OutputPath, "model.safetensors"));
            using var extracted = model.Extract(ByteEncoder.Profile.S);
            extracted.Save(Path.Combine(OutputPath, "s.safetensors"));
        }

        Assert.Equal(0, (await Run("index", "--data", PairsPath, "--out", OutputPath)).Code);
    }

    private async Task<(int Code, string Output, string Errors)> Calibrate()
    {
        var eval = await Run("eval-retrieval", "--data", PairsPath, "--out", OutputPath, "--tolerance", "1", "--json");
        Assert.True(eval.Code == 0, eval.Errors);
        return eval;
    }

    private Task WriteMargin(string calibrated, string margin) => File.WriteAllTextAsync(
        CalibrationPath, System.Text.RegularExpressions.Regex.Replace(calibrated, "(?<=\"answers_from_margin\": )[^\n]+", margin));

    private async Task Answers(string profile, double share, params string[] arguments)
    {
        var run = await Search(arguments);
        Assert.True(run.Code == 0, run.Errors);
        using var document = JsonDocument.Parse(run.Output);
        Assert.Equal(profile, document.RootElement.GetProperty("profile").GetString());
        Assert.Equal(share, document.RootElement.GetProperty("compute_share").GetDouble(), 9);
        Assert.Equal(3, document.RootElement.GetProperty("hits").GetArrayLength());
        Assert.Contains($"[{profile}, 16 of 16 dimensions, {Math.Round(100 * share, MidpointRounding.AwayFromZero)}% of XL's compute",
            run.Errors, StringComparison.Ordinal);
    }

    private async Task Refused(string says, params string[] arguments)
    {
        var run = await Search(arguments);
        Assert.Equal(2, run.Code);
        Assert.Contains(says, run.Errors, StringComparison.Ordinal);
    }

    private Task<(int Code, string Output, string Errors)> Search(string[] arguments) =>
        Run(["search", "--out", OutputPath, "--query", "red blue", "--top", "3", "--json", .. arguments]);

    private static Task<(int Code, string Output, string Errors)> Run(params string[] arguments) => Run<ByteEncoder>(arguments);

    private static async Task<(int Code, string Output, string Errors)> Run<TModel>(params string[] arguments)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<TModel>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }
}
