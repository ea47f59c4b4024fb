using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests the command <c>import</c>, and training that starts from imported weights.</summary>
public sealed class ImportCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-imports-").FullName;
    private readonly string _dense;
    private readonly string _texts;

    public ImportCommandTests()
    {
        manual_seed(7);
        using (var model = DrawnModel.New<OracleBytes>()) model.Save(PathOf("saved.safetensors"));
        Extraction.ToHuggingFace(PathOf("saved.safetensors"), OracleBytes.Profile.XL, PathOf("extracted"), Tokenizer.ByteLevel);
        _dense = DenseFolder.Split(PathOf("extracted"), PathOf("dense"), 3);
        _texts = PathOf("texts");
        TestCorpus.Write(_texts);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task WithoutTextHiddenUnitsKeepTheirOrder()
    {
        Tokenizer.ByteLevel.Save(Path.Combine(_dense, "tokenizer.json"));
        var (code, output, error) = await Run("import", "--from", _dense, "--out", PathOf("out"));
        Assert.Equal((0, string.Empty), (code, error));
        Assert.Contains("with --data TEXT they are ordered by importance", output, StringComparison.Ordinal);
        using var imported = Checkpoint.OpenUniversal<OracleBytes>(PathOf("out/model.safetensors"));
        Assert.Equal(Tokenizer.ByteLevel.Fingerprint, imported.TokenizerFingerprint);
        using var saved = Checkpoint.OpenUniversal<OracleBytes>(PathOf("saved.safetensors"));
        foreach (var (its, expected) in imported.parameters().Zip(saved.parameters())) Assert.True(its.eq(expected).all().item<bool>());
        Assert.True(File.Exists(PathOf("out/tokenizer.json")));
        var (evaluated, _, failure) = await Run("eval", "--data", _texts, "--windows", "8", "--out", PathOf("out"));
        Assert.True(evaluated == 0, failure);
    }

    [Fact]
    public async Task TheChatTemplateIsCopied()
    {
        string[] names = ["tokenizer_config.json", "chat_template.jinja"];
        foreach (var name in names) File.WriteAllText(Path.Combine(_dense, name), $"of {name}");
        var (code, output, error) = await Run("import", "--from", _dense, "--out", PathOf("out"), "--json");
        Assert.True(code == 0, error);
        foreach (var name in names) Assert.Equal($"of {name}", File.ReadAllText(PathOf("out/" + name)));
        using var document = JsonDocument.Parse(output);
        Assert.Equal(
            ["model.safetensors", .. names],
            document.RootElement.GetProperty("files").EnumerateArray().Select(f => Path.GetFileName(f.GetString()!)));

        // Another template is not replaced.
        File.Delete(PathOf("out/model.safetensors"));
        File.WriteAllText(PathOf("out/chat_template.jinja"), "another");
        (code, _, error) = await Run("import", "--from", _dense, "--out", PathOf("out"));
        Assert.Equal(2, code);
        Assert.Contains("out/chat_template.jinja' is another file than '", error, StringComparison.Ordinal);
        Assert.False(File.Exists(PathOf("out/model.safetensors")));
    }

    [Fact]
    public async Task WithTextHiddenUnitsAreOrderedByImportance()
    {
        Tokenizer.ByteLevel.Save(Path.Combine(_dense, "tokenizer.json"));
        var path = PathOf("out/imported.safetensors");
        var (code, output, error) = await Run("import", "--from", _dense, "--data", _texts, "--dtype", "f32", "--out", path, "--json");
        Assert.True(code == 0, error);
        using (var document = JsonDocument.Parse(output))
        {
            Assert.True(document.RootElement.GetProperty("ordered").GetBoolean());
            Assert.Equal([path, PathOf("out/tokenizer.json")],
                document.RootElement.GetProperty("files").EnumerateArray().Select(f => f.GetString()));
        }

        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        using OracleBytes imported = Checkpoint.OpenUniversal<OracleBytes>(path),
            saved = Checkpoint.OpenUniversal<OracleBytes>(PathOf("saved.safetensors"));
        var tokens = randint(256, [2, 32], ScalarType.Int64);
        Assert.True(allclose(imported.call(tokens), saved.call(tokens), 1e-4, 1e-4));
        Assert.False(imported.get_parameter("model.layers.0.mlp.up_proj.weight")!
            .eq(saved.get_parameter("model.layers.0.mlp.up_proj.weight")!).all().item<bool>());
        Assert.Equal(Tokenizer.ByteLevel.Fingerprint, imported.TokenizerFingerprint);
    }

    [Fact]
    public async Task AModelThatMatFormerWroteKeepsItsOrder()
    {
        var (code, output, error) = await Run("import", "--from", PathOf("extracted"), "--data", _texts, "--out", PathOf("out"));
        Assert.True(code == 0, error);
        Assert.Contains("nested as MatFormer trained them", output, StringComparison.Ordinal);
        using var imported = Checkpoint.OpenUniversal<OracleBytes>(PathOf("out/model.safetensors"));
        using var saved = Checkpoint.OpenUniversal<OracleBytes>(PathOf("saved.safetensors"));
        foreach (var (its, expected) in imported.parameters().Zip(saved.parameters())) Assert.True(its.eq(expected).all().item<bool>());
    }

    [Fact]
    public async Task TheDeclarationIsPrinted()
    {
        var (code, output, error) = await Run("import", "--from", _dense, "--declare");
        Assert.Equal((0, string.Empty), (code, error));
        Assert.Equal(DenseModel.Declare(_dense, "OracleBytes"), output);
        DenseFolder.Configure(_dense, ("model_type", "\"gemma3n\""), ("altup_num_inputs", "4"));
        (code, output, error) = await Run("import", "--from", _dense, "--declare");
        Assert.Equal((2, string.Empty), (code, output));
        Assert.Contains("AltUp", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
    }

    [Fact]
    public async Task MissingFilesOfAFolderAreReported()
    {
        File.Delete(Path.Combine(_dense, "config.json"));
        var (code, _, error) = await Run("import", "--from", _dense, "--out", PathOf("out"));
        Assert.Equal(0, code);
        Assert.Contains("There is no config.json beside --from", error, StringComparison.Ordinal);
        Assert.Contains("There is no tokenizer.json beside --from", error, StringComparison.Ordinal);
        Assert.False(File.Exists(PathOf("out/tokenizer.json")));
    }

    [Fact]
    public async Task ARefusedImportWritesNothing()
    {
        await Refused("--data: there is no tokenizer.json beside --from", "--from", _dense, "--data", _texts);
        await Refused("'" + PathOf("saved.safetensors") + "' already exists", "--from", _dense, "--out", PathOf("saved.safetensors"));
        await Refused("is the folder of --from", "--from", _dense, "--out", _dense);
        await Refused("is the folder of --from", "--from", Path.Combine(_dense, "model.safetensors.index.json"), "--out", _dense + "/");
        await Refused("does not exist", "--from", PathOf("nowhere"));
        await Refused("is a folder with neither", "--from", _texts);
        var swapped = Swapped();
        swapped.Save(PathOf("full/tokenizer.json"));
        await Refused("is another tokenizer", "--from", PathOf("extracted"), "--out", PathOf("full"));
        File.WriteAllText(Path.Combine(_dense, "tokenizer.json"), "{}");
        await Refused("tokenizer.json", "--from", _dense);
        Tokenizer.ByteLevel.Save(Path.Combine(_dense, "tokenizer.json"));
        await Refused("nowhere", "--from", _dense, "--data", PathOf("nowhere"));
        DenseFolder.Configure(_dense, ("rope_theta", "5000"), ("rope_parameters", null));
        await Refused("declare [Attention(RotaryBase = 5000)]", "--from", _dense, "--data", _texts);

        async Task Refused(string says, params string[] arguments)
        {
            if (!arguments.Contains("--out")) arguments = [.. arguments, "--out", PathOf("out")];
            var before = Files();
            var (code, output, error) = await Run(["import", .. arguments]);
            Assert.Equal((2, string.Empty), (code, output));
            Assert.Contains(says, Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
            Assert.Equal(before, Files());
        }
    }

    /// <summary>Training starts from a folder as from a file, and uses the tokenizer in that folder.</summary>
    [Fact]
    public async Task TrainingStartsFromAFolder()
    {
        var swapped = Swapped();
        swapped.Save(Path.Combine(_dense, "tokenizer.json"));
        string[] train = ["train", "--data", _texts, "--steps", "1", "--batch", "2", "--out"];
        var (code, _, error) = await Run([.. train, PathOf("trained"), "--init", _dense]);
        Assert.True(code == 0, error);
        Assert.Contains("its hidden units ordered by importance", error, StringComparison.Ordinal);
        Assert.Equal(swapped.Fingerprint, Tokenizer.Load(PathOf("trained/tokenizer.json")).Fingerprint);

        (code, _, error) = await Run([.. train, _dense, "--init", _dense]);
        Assert.Equal(2, code);
        Assert.Contains("lies in --out", error, StringComparison.Ordinal);
        DenseFolder.Configure(_dense, ("rms_norm_eps", "0.5"));
        (code, _, error) = await Run([.. train, PathOf("other"), "--init", _dense]);
        Assert.Equal(2, code);
        Assert.Contains("declare [Norm(NormKind.Rms, Epsilon = 0.5)]", error, StringComparison.Ordinal);
    }

    /// <summary>What was trained from a chat model, and its slices, keep the chat template.</summary>
    [Fact]
    public async Task TrainingAndExtractsKeepTheChatTemplate()
    {
        Tokenizer.ByteLevel.Save(Path.Combine(_dense, "tokenizer.json"));
        File.WriteAllText(Path.Combine(_dense, "chat_template.jinja"), "a template");
        var (code, _, error) = await Run(
            "train", "--data", _texts, "--steps", "1", "--batch", "2", "--init", _dense, "--out", PathOf("trained"));
        Assert.True(code == 0, error);
        string[] extract = ["extract", "--checkpoint", PathOf("trained/model.safetensors"), "--profile", "S", "--out"];
        (code, _, error) = await Run([.. extract, PathOf("slices")]);
        Assert.True(code == 0, error);
        (code, _, error) = await Run([.. extract, PathOf("exported"), "--format", "huggingface"]);
        Assert.True(code == 0, error);
        Assert.All(
            (string[])["trained", "slices", "exported/s"],
            folder => Assert.Equal("a template", File.ReadAllText(PathOf(folder + "/chat_template.jinja"))));
    }

    [Fact]
    public async Task AFolderForHuggingFaceReplacesNoTrainedWeights()
    {
        var (code, _, error) = await Run("train", "--data", _texts, "--steps", "2", "--batch", "2", "--out", PathOf("runs/s"));
        Assert.True(code == 0, error);
        var weights = PathOf("runs/s/model.safetensors");
        var trained = File.ReadAllBytes(weights);
        string[] extract = ["extract", "--checkpoint", weights, "--profile", "S", "--format", "huggingface", "--out"];
        (code, _, error) = await Run([.. extract, PathOf("runs")]);
        Assert.Equal(2, code);
        Assert.Contains("would replace the weights that it is extracted from", error, StringComparison.Ordinal);
        extract[2] = PathOf("copy.safetensors");
        File.Copy(weights, extract[2]);
        (code, _, error) = await Run([.. extract, PathOf("runs")]);
        Assert.Equal(2, code);
        Assert.Contains("holds a model with 2 trained steps, which the extracted files would replace", error, StringComparison.Ordinal);
        File.Delete(PathOf("runs/s/checkpoint.safetensors"));
        (code, _, error) = await Run([.. extract, PathOf("runs")]);
        Assert.Equal(2, code);
        Assert.Contains("holds the weights model.safetensors, which", error, StringComparison.Ordinal);
        Assert.Equal(trained, File.ReadAllBytes(weights));

        // What an extraction wrote is replaced by another one only if that is asked for.
        (code, _, error) = await Run([.. extract, PathOf("extracted")]);
        Assert.True(code == 0, error);
        var extracted = PathOf("extracted/s");
        (code, _, error) = await Run([.. extract, PathOf("extracted")]);
        Assert.Equal((2, $"'{extracted}' already exists; give another --out, or --overwrite to replace it."), (code, error.TrimEnd()));
        (code, _, error) = await Run([.. extract, PathOf("extracted"), "--overwrite"]);
        Assert.True(code == 0, error);
        File.WriteAllText(PathOf("s"), "a file");
        (code, _, error) = await Run([.. extract, _folder, "--overwrite"]);
        Assert.Equal((2, $"'{PathOf("s")}' is a file; give another --out, or delete it."), (code, error.TrimEnd()));
    }

    // A byte-level tokenizer in which two bytes have each other's token.
    private static Tokenizer Swapped()
    {
        var tokens = TokenizerContent.Bytes.Tokens.ToArray();
        (tokens['a'], tokens['b']) = (tokens['b'], tokens['a']);
        return new Tokenizer(TokenizerContent.Bytes with { Tokens = [.. tokens], Pattern = WordPattern.Gpt2 });
    }

    private string[] Files() => [.. Directory.GetFiles(_folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];

    private string PathOf(string name) => Path.Combine(_folder, name);

    private static async Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<OracleBytes>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }
}
