using System.Text.Json;

namespace MatFormer.Runtime.Tests.CommandLine;

/// <summary>Weights remember the data that they were trained on, and results say which data they are of.</summary>
public sealed class RememberedDataTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _texts;
    private readonly string _out;

    public RememberedDataTests()
    {
        _texts = _folder.WriteTexts();
        _out = _folder["out"];
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task AllFilesOfWeightsRememberTheData()
    {
        await Train();
        await Succeed("extract", "--profile", "Phone", "--out", _out);
        using var corpus = TextCorpus.Open(_texts, _folder["cache"]);
        foreach (var name in (string[])["model.safetensors", "best.safetensors", "checkpoint.safetensors", "phone.safetensors"])
        {
            using var reader = SafetensorsReader.Open(Path.Combine(_out, name));
            Assert.Equal(new RememberedData(_texts, corpus.Fingerprint), RememberedData.In(reader.Metadata));
        }

        using var model = Checkpoint.Open<TinyModel>(Path.Combine(_out, "model.safetensors"));
        using var slice = ((TinyModel)model).Extract(TinyModel.Profiles[0]);
        slice.Save(_folder["saved.safetensors"]);
        Assert.Equal(
            File.ReadAllBytes(Path.Combine(_out, "phone.safetensors")), File.ReadAllBytes(_folder["saved.safetensors"]));
    }

    [Theory]
    [InlineData("model")]
    [InlineData("phone")]
    [InlineData("checkpoint")]
    public async Task TheRememberedDataAreMeasured(string weights)
    {
        await Train();
        await Succeed("extract", "--profile", "Phone", "--out", _out);
        string[] evaluate = ["eval", "--windows", "2", "--checkpoint", Path.Combine(_out, weights + ".safetensors"), "--out", _out];
        using var evaluated = await Json(evaluate);
        var data = evaluated.RootElement.GetProperty("data");
        Assert.Equal(_texts, data.GetProperty("path").GetString());
        Assert.True(data.GetProperty("is_training_data").GetBoolean());
        Assert.Equal(data.GetProperty("fingerprint").GetString(), data.GetProperty("trained_on").GetProperty("fingerprint").GetString());
        var output = await Succeed(evaluate);
        Assert.StartsWith($"Held-out text of '{_texts}': 60 files", output, StringComparison.Ordinal);
        Assert.DoesNotContain("trained on", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OtherDataAreNamedBesideThoseOfTraining()
    {
        await Train();
        var other = _folder.WriteTexts("other", documents: 50);
        var page = _folder["page.html"];
        string[] measure = ["eval", "--data", other, "--windows", "2", "--out", _out, "--report", page];
        var says = $"Measured on '{other}', but the model was trained on '{_texts}' (another text).";
        Assert.Contains(says, await Succeed(measure), StringComparison.Ordinal);
        Assert.Contains(says, System.Net.WebUtility.HtmlDecode(await File.ReadAllTextAsync(page)), StringComparison.Ordinal);
        using var evaluated = await Json(measure);
        Assert.False(evaluated.RootElement.GetProperty("data").GetProperty("is_training_data").GetBoolean());
    }

    [Fact]
    public async Task DataThatChangedAreSaidToHaveChanged()
    {
        await Train();
        File.AppendAllText(Path.Combine(_texts, "00.txt"), "more");
        Assert.Contains(
            $"Measured on '{_texts}', which has changed since the model was trained on it.",
            await Succeed("eval", "--windows", "2", "--out", _out),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task DataThatAreGoneAreNamed()
    {
        await Train();
        Directory.Move(_texts, _folder["moved"]);
        var (code, _, error) = await Run("eval", "--windows", "2", "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains($"The data '{_texts}' does not exist", error, StringComparison.Ordinal);
        Assert.Contains(
            $"These are the data that '{Path.Combine(_out, "model.safetensors")}' remembers; give --data with the place where they lie now",
            error, StringComparison.Ordinal);

        // Only the place changed, so these are still the data of training.
        Assert.DoesNotContain(
            "trained on", await Succeed("eval", "--windows", "2", "--data", _folder["moved"], "--out", _out), StringComparison.Ordinal);
    }

    [Fact]
    public async Task WeightsOfEarlierVersionsAreMeasuredAndSaidToRememberNothing()
    {
        using (var model = TinyModel.Create()) model.Save(_folder["old.safetensors"]);
        string[] evaluate = ["eval", "--data", _texts, "--windows", "2", "--checkpoint", _folder["old.safetensors"], "--out", _out];
        Assert.Contains("does not say what the model was trained on", await Succeed(evaluate), StringComparison.Ordinal);
        using var evaluated = await Json(evaluate);
        Assert.Equal(JsonValueKind.Null, evaluated.RootElement.GetProperty("data").GetProperty("is_training_data").ValueKind);
    }

    [Fact]
    public async Task ACheckpointOfAnEarlierVersionIsResumedWithItsData()
    {
        await Train();
        var path = Path.Combine(_out, "checkpoint.safetensors");
        Rewrite(path, metadata =>
        {
            metadata.Remove(RememberedData.PathKey);
            metadata.Remove(RememberedData.FingerprintKey);
            metadata["program.data"] = _texts;
        });
        Assert.Contains("Trained 2 steps", await Succeed("train", "--resume", "--steps", "2", "--out", _out), StringComparison.Ordinal);
    }

    [Fact]
    public void APathBelowTheCurrentFolderIsShownAsTheUserTypesIt()
    {
        Assert.Equal("'docs/a.txt'", new RememberedData(Path.GetFullPath("docs/a.txt"), "f").ToString());
        Assert.Equal($"'{_texts}'", new RememberedData(_texts, "f").ToString());
        Assert.Equal("the XML documentation of the .NET SDK", new RememberedData(null, "f").ToString());
    }

    [Fact]
    public void AnEmptyPathIsNotRemembered() => Assert.Null(RememberedData.In(new Dictionary<string, string>
    {
        [RememberedData.PathKey] = string.Empty,
        [RememberedData.FingerprintKey] = "f",
    }));

    [Theory]
    [InlineData("C:\\nowhere\\src")]
    [InlineData("/nowhere/a\0b")]
    public async Task APathOfAnotherSystemOrOfADamagedFileIsNotFound(string path)
    {
        await Train();
        Rewrite(Path.Combine(_out, "model.safetensors"), metadata => metadata[RememberedData.PathKey] = path);
        var (code, _, error) = await Run("eval", "--windows", "2", "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains($"The data '{path}' does not exist", error, StringComparison.Ordinal);
    }

    // Writes a file again with other metadata.
    private static void Rewrite(string path, Action<Dictionary<string, string>> change)
    {
        Dictionary<string, string> metadata;
        List<(SafetensorsEntry Entry, byte[] Bytes)> tensors;
        using (var reader = SafetensorsReader.Open(path))
        {
            metadata = new(reader.Metadata);
            tensors = [.. reader.Tensors.Select(entry => (entry, Read(reader, entry)))];
        }

        change(metadata);
        SafetensorsWriter.Write(
            path, [.. tensors.Select(t => new SafetensorsEntry(t.Entry.Name, t.Entry.Type, t.Entry.Shape))], metadata,
            (entry, stream) => stream.Write(tensors.Single(t => t.Entry.Name == entry.Name).Bytes));

        static byte[] Read(SafetensorsReader reader, SafetensorsEntry entry)
        {
            var values = new float[entry.Shape.Aggregate(1L, (count, size) => count * size)];
            reader.ReadValues(entry, 0, values);
            return System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
        }
    }

    private Task<string> Train() => Succeed(
        "train", "--data", _texts, "--steps", "1", "--batch", "2", "--evaluate-every", "1", "--dtype", "f32", "--out", _out);

    private static async Task<string> Succeed(params string[] arguments)
    {
        var (code, output, error) = await Run(arguments);
        Assert.True(code == 0, error);
        return output;
    }

    private static async Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<TinyModel>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }

    private static async Task<JsonDocument> Json(params string[] arguments) => JsonDocument.Parse(await Succeed([.. arguments, "--json"]));
}
