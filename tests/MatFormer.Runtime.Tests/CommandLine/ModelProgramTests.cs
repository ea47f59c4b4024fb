using System.Text.Json;
using MatFormer.Tests;

namespace MatFormer.Runtime.Tests.CommandLine;

public sealed class ModelProgramTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _texts;
    private readonly string _out;

    public ModelProgramTests()
    {
        _texts = _folder.WriteTexts();
        _out = _folder["out"];
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("'many'", "train --batch many")]
    [InlineData("--steps must be 1 or more, not '-3'", "train --steps -3")]
    [InlineData("--steps must be 1 or more, not '0.5'", "train --steps 0.5")]
    [InlineData("--steps must be a whole number such as 20, not '1.5'", "train --steps 1.5")]
    [InlineData("--steps must be a whole number such as 20, not '1e6'", "train --steps 1e6")]
    [InlineData("--steps 99999999999 is too large; give at most 2147483647.", "train --steps 99999999999")]
    [InlineData("--seed 9223372036854775808 is too large; give at most 9223372036854775807.", "train --seed 9223372036854775808")]
    [InlineData("--draft-length 1e99 is too large; give at most 8.", "generate --draft-length 1e99")]
    [InlineData("--learning-rate 1e999 is too large", "train --learning-rate 1e999")]
    [InlineData("--steps must be a number such as 20, not 'many'", "train --steps many")]
    [InlineData("--threads must be from 1 to 4096, not '100000'", "train --threads 100000")]
    [InlineData("--learning-rate must be a number such as 0.5, not '0,001'", "train --learning-rate 0,001")]
    [InlineData("--max-ms-per-token must be a number such as 0.5, not '1ms'", "plan --max-ms-per-token 1ms")]
    [InlineData("--minutes must be more than 0, not '0'", "demo --minutes 0")]
    [InlineData("--minutes", "demo --minutes NaN")]
    [InlineData("A command is missing before --minutes", "--minutes 1")]
    [InlineData(
        "--objective must be sampled, joint, split, sampled-per-layer, sandwich or branching, not 'bagged'", "train --objective bagged")]
    [InlineData("--loss-weights must be numbers with commas between them", "train --loss-weights 1;2")]
    [InlineData("--probabilities is (1, 2); it must be left out, or 3 numbers", "train --probabilities 1,2")]
    [InlineData("--probabilities is (1, 1, 1); it must be left out for the objective sampled-per-layer",
        "train --objective sampled-per-layer --probabilities 1,1,1")]
    [InlineData("--routed-share is 0.5; it must be left out, as TinyModel declares no [Routing]", "train --routed-share 0.5")]
    [InlineData("--stochastic-depth is 1; it must be from 0 to below 1", "train --stochastic-depth 1")]
    [InlineData("--reduction is Sum; it must be Mean for the objective sampled", "train --reduction sum")]
    [InlineData("--bit-weights is (1, 2); it must be left out, or 1 number above 0", "train --bit-weights 1,2")]
    [InlineData("--distillation must be above 0, at most 1, not '2'", "train --distillation 2")]
    [InlineData("--distillation-temperature is given, but nothing is distilled", "train --distillation-temperature 2")]
    [InlineData("--dtype must be f32 or bf16", "train --dtype f16")]
    [InlineData("--device must be cpu or cuda", "train --device tpu")]
    [InlineData("--batch is 2000000000; it must be at most 16777216", "train --batch 2000000000")]
    [InlineData("--frobnicate", "train --frobnicate")]
    [InlineData("There is no command 'frobnicate'. See", "frobnicate")]
    [InlineData("search is a command of text encoders, and TinyModel is none of them. See", "search --query x")]
    [InlineData("There is no command 'trian'; did you mean 'train'?", "trian")]
    [InlineData("train has no option '--stesp'; did you mean '--steps'?", "train --stesp 3")]
    [InlineData("train does not take 'folder'", "train folder")]
    [InlineData("'dotnet add package MatFormer.Server'", "serve")]
    [InlineData("await ModelProgram.RunAsync<TinyModel>(args, ServeCommand.For<TinyModel>());", "serve --port 1")]
    [InlineData("train does not take 'maybe'", "train --resume=maybe")]
    [InlineData("--resume continues the run that --overwrite would replace", "train --resume --overwrite")]
    [InlineData("--max-memory 20 has no unit; give one, such as 20MB", "plan --max-memory 20")]
    [InlineData("--data needs PATH after it", "train --data --resume")]
    [InlineData("--steps needs N after it.", "train --out nowhere --steps")]
    [InlineData("--prompt needs TEXT after it.", "generate --out nowhere --prompt")]
    [InlineData("--out is empty", "train --out ''")]
    [InlineData("--steps", "train --steps 1 --steps 2")]
    [InlineData("--profile is missing", "extract")]
    [InlineData("'Huge' is not a profile of TinyModel", "extract --profile Huge")]
    [InlineData("--format must be safetensors, huggingface or gguf, not 'pickle'", "extract --profile S --format pickle")]
    [InlineData("--format must be safetensors, huggingface or gguf, not 'onnx'", "extract --profile S --format onnx")]
    [InlineData("--type q8_0 is not available in --format huggingface", "extract --profile S --format huggingface --type q8_0")]
    [InlineData("'3*S' names more layers than the 2 of TinyModel", "generate --profile 3*S")]
    [InlineData("nowhere.safetensors", "generate --checkpoint nowhere.safetensors")]
    [InlineData("--top-k must be 1 or more, not '0'", "generate --top-k 0")]
    [InlineData("--top-p must be above 0, at most 1, not '0'", "generate --top-p 0")]
    [InlineData("--top-p must be above 0, at most 1, not '1.01'", "generate --top-p 1.01")]
    [InlineData("--min-p must be within 0 and 1, not '-0.1'", "generate --min-p -0.1")]
    [InlineData("--repetition-penalty must be more than 0, not '0'", "generate --repetition-penalty 0")]
    [InlineData("--stop is empty", "generate --stop a --stop ''")]
    [InlineData("--stop needs TEXT after it, not '--json'", "generate --stop --json")]
    [InlineData("nowhere.safetensors", "eval --checkpoint nowhere.safetensors")]
    [InlineData("--from is missing", "import")]
    [InlineData("'nowhere' does not exist", "import --from nowhere")]
    [InlineData("'nowhere' does not exist", "import --from nowhere --declare")]
    [InlineData("nowhere.safetensors", "plan --checkpoint nowhere.safetensors")]
    [InlineData("--max-ms-per-token must be more than 0, not '0'", "plan --max-ms-per-token 0")]
    [InlineData("--max-memory must be a size such as 20MB or 1.5GiB, not '20XB'", "plan --max-memory 20XB")]
    [InlineData("--max-parameters must be 1 or more, not '0'", "plan --max-parameters 0")]
    [InlineData("--max-flops-per-token must be a whole number such as 20, not '1.5'", "plan --max-flops-per-token 1.5")]
    [InlineData("--search must be increasing, evolutionary or learned, not 'random'", "plan --search random")]
    [InlineData("--search learned finds the mix for a budget, but none is given", "plan --search learned")]
    [InlineData("--points must be 1 or more, not '0'", "plan --points 0")]
    [InlineData("--tokens 16 leaves no room", "plan --tokens 16")]
    [InlineData("--name Phone is taken: TinyModel has S, M, XL, Phone", "plan --name Phone")]
    [InlineData("--name 2fast is not a class name", "plan --name 2fast")]
    [InlineData("there is no", "train --resume")]
    [InlineData("--patience counts evaluations on validation data", "train --patience 2")]
    [InlineData("--accumulation must be 1 or more, not '0'", "train --accumulation 0")]
    [InlineData("--init has no use", "train --resume --init weights.safetensors")]
    [InlineData("'nowhere' does not exist", "train --data nowhere")]
    public async Task WrongUsageExitsWithCode2AndOneLine(string says, string command)
    {
        var arguments = command.Split(' ').Select(a => a == "''" ? string.Empty : a).ToArray();
        if (!command.Contains("--out", StringComparison.Ordinal) && command != "frobnicate") arguments = [.. arguments, "--out", _out];
        var before = _folder.Files;
        var (code, output, error) = await Run(arguments);
        Assert.Equal(2, code);
        Assert.Contains(says, error, StringComparison.Ordinal);
        Assert.Single(error.Trim().Split('\n'));
        Assert.Equal(string.Empty, output);
        Assert.Equal(before, _folder.Files);
    }

    [Fact]
    public void AnErrorOfLibtorchIsShownWithoutItsStack() => Assert.Equal(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 53248000000 bytes.\nFree some.",
        ModelProgram.WithoutFrames("""
            DefaultCPUAllocator: can't allocate memory: you tried to allocate 53248000000 bytes.
            Free some.
            Exception raised from alloc_cpu at alloc_cpu.cpp:127 (most recent call first):
            frame #0: c10::alloc_cpu(unsigned long) + 0x358 (0x7f9fece9a148 in libc10.so)
            frame #1: clone + 0x44 (0x7f9fece9a148 in libc.so.6)

            """.ReplaceLineEndings("\n")));

    [Fact]
    public async Task AReportNeedsAFileAndARunAFolder()
    {
        Directory.CreateDirectory(_out);
        var report = await Run("eval", "--report", _out);
        Assert.Equal((2, string.Empty), (report.Code, report.Output));
        Assert.StartsWith($"--report '{_out}' is a folder; give a file.", report.Error, StringComparison.Ordinal);
        var file = Path.Combine(_texts, "00.txt");
        var run = await Run("extract", "--profile", "S", "--out", file);
        Assert.Equal((2, string.Empty), (run.Code, run.Output));
        Assert.StartsWith($"--out '{file}' is a file; give a folder.", run.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("generate")]
    [InlineData("eval")]
    [InlineData("extract --profile S")]
    public async Task ACommandBeforeTrainingSaysThatAModelIsNeeded(string command)
    {
        var (code, output, error) = await Run([.. command.Split(' '), "--out", _out]);
        Assert.Equal((2, string.Empty), (code, output));
        Assert.Equal(
            $"There is no '{Path.Combine(_out, "model.safetensors")}'; train a model first, or give --checkpoint or --out.",
            error.TrimEnd());
    }

    [Fact]
    public async Task ARunThatCannotBeResumedSaysOnlyWhy()
    {
        await Train();
        using (await Json("train", "--resume", "--out", _out, "--steps", "2")) { }

        var (code, _, error) = await Run("train", "--resume", "--out", _out, "--steps", "1");
        Assert.Equal(2, code);
        Assert.Contains("has 2 steps already", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
    }

    [Fact]
    public async Task CudaIsRefusedIfThereIsNoDevice()
    {
        if (TorchSharp.torch.cuda.is_available()) return;
        var (code, output, error) = await Run("train", "--data", _texts, "--device", "cuda", "--out", _out);
        Assert.Equal((2, string.Empty), (code, output));
        Assert.Contains("no CUDA device", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
        Assert.False(Directory.Exists(_out));
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("train --help")]
    [InlineData("generate --help")]
    [InlineData("plan --help")]
    [InlineData("--version")]
    public async Task HelpAndVersionArePrinted(string arguments)
    {
        var (code, output, error) = await Run(arguments.Split(' '));
        Assert.Equal((0, string.Empty), (code, error));
        Assert.NotEqual(string.Empty, output);
    }

    [Fact]
    public async Task TheProfilesCommandNeedsNoWeights()
    {
        var (code, output, _) = await Run("profiles");
        Assert.Equal(0, code);
        Assert.Contains("1*S 1*XL", output, StringComparison.Ordinal);
        using var document = await Json("profiles");
        var phone = document.RootElement.GetProperty("profiles").EnumerateArray().Last();
        Assert.Equal("Phone", phone.GetProperty("name").GetString());
        Assert.Equal((320 * 16) + (40 * 32), phone.GetProperty("parameters").GetInt64());
    }

    [Fact]
    public async Task AModelIsTrainedEvaluatedExtractedAndGeneratesText()
    {
        using (var trained = await Json("train", "--data", _texts, "--steps", "30", "--batch", "2", "--dtype", "f32", "--out", _out))
        {
            Assert.Equal(30, trained.RootElement.GetProperty("steps").GetInt32());
            Assert.All(trained.RootElement.GetProperty("files").EnumerateArray(), f => Assert.True(File.Exists(f.GetString())));
        }

        var model = Path.Combine(_out, "model.safetensors");
        using (var evaluated = await Json("eval", "--data", _texts, "--checkpoint", model, "--dtype", "f32", "--out", _out))
        {
            var results = evaluated.RootElement.GetProperty("results").EnumerateArray().ToList();
            Assert.Equal(["S", "M", "XL", "Phone"], results.Select(r => r.GetProperty("name").GetString()));
            Assert.Equal(1, results[2].GetProperty("agreement").GetDouble());
        }

        var page = _folder["eval.html"];
        using (var swept = await Json(
            "eval", "--data", _texts, "--checkpoint", model, "--dtype", "f32",
            "--out", _out, "--sweep", "2", "--windows", "8", "--report", page))
        {
            var mixes = swept.RootElement.GetProperty("sweep").EnumerateArray().ToList();
            Assert.Equal(8 * 16, swept.RootElement.GetProperty("validation_tokens").GetInt32());
            Assert.Contains("increasing", mixes.Select(m => m.GetProperty("shape").GetString()));
            Assert.All(mixes, m => Assert.True(double.IsFinite(m.GetProperty("bits_per_byte_above_line").GetDouble())));
            Assert.Contains("1*S 1*M", File.ReadAllText(page), StringComparison.Ordinal);
        }

        using (var extracted = await Json("extract", "--profile", "Phone", "--checkpoint", model, "--out", _out))
            Assert.Equal(Path.Combine(_out, "phone.safetensors"), extracted.RootElement.GetProperty("file").GetString());
        using (var pattern = await Json("extract", "--profile", "2*M", "--checkpoint", model, "--out", _out))
            Assert.Equal(Path.Combine(_out, "2xm.safetensors"), pattern.RootElement.GetProperty("file").GetString());
        var phone = Path.Combine(_out, "phone.safetensors");
        using (var evaluated = await Json("eval", "--data", _texts, "--checkpoint", phone, "--dtype", "f32", "--out", _out))
            Assert.Equal("Phone",
                Assert.Single(evaluated.RootElement.GetProperty("results").EnumerateArray()).GetProperty("name").GetString());
        var (refused, _, reason) = await Run("eval", "--data", _texts, "--checkpoint", phone, "--out", _out, "--sweep", "2");
        Assert.Equal(2, refused);
        Assert.Contains("is the slice Phone", reason, StringComparison.Ordinal);

        string[] generate = ["generate", "--prompt", "the ", "--tokens", "20", "--dtype", "f32", "--temperature", "0"];
        using var fromView = await Json([.. generate, "--checkpoint", model, "--profile", "Phone"]);
        using var fromSlice = await Json([.. generate, "--checkpoint", phone]);
        Assert.Equal(20, fromView.RootElement.GetProperty("tokens").GetInt32());
        Assert.Equal("length", fromView.RootElement.GetProperty("finish_reason").GetString());
        Assert.Equal(fromView.RootElement.GetProperty("text").GetString(), fromSlice.RootElement.GetProperty("text").GetString());

        // If one token is left, it is the likeliest, whatever the temperature. Text ends before either of two stop strings.
        var greedy = fromView.RootElement.GetProperty("text").GetString()!;
        foreach (string[] narrow in (string[][])[["--top-k", "1"], ["--top-p", "0.000001"], ["--min-p", "1"]])
        {
            using var drawn = await Json([.. generate[..^2], "--temperature", "2", "--checkpoint", phone, .. narrow]);
            Assert.Equal(greedy, drawn.RootElement.GetProperty("text").GetString());
        }

        using var varied = await Json([.. generate, "--checkpoint", phone, "--repetition-penalty", "1000"]);
        Assert.NotEqual(greedy, varied.RootElement.GetProperty("text").GetString());
        var stop = greedy.Substring(3, 2);
        using var stopped = await Json([.. generate, "--checkpoint", phone, "--stop", "never said", "--stop", stop]);
        Assert.Equal("stop", stopped.RootElement.GetProperty("finish_reason").GetString());
        Assert.Equal(greedy[..greedy.IndexOf(stop, StringComparison.Ordinal)], stopped.RootElement.GetProperty("text").GetString());

        var (begun, _, said) = await Run("train", "--data", _texts, "--steps", "1", "--init", model, "--out", _folder["again"]);
        Assert.True(begun == 0, said);
        Assert.Contains($"Beginning with {model}.", said, StringComparison.Ordinal);

        var before = _folder.Files;
        foreach (string[] arguments in (
            string[][])[["generate", "--checkpoint", phone, "--profile", "S"],
            ["extract", "--checkpoint", phone, "--profile", "S", "--out", _out]])
        {
            var (code, _, error) = await Run(arguments);
            Assert.Equal(2, code);
            Assert.Contains("the slice Phone", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
        }

        Assert.Equal(before, _folder.Files);
    }

    [Fact]
    public async Task ABytePairModelIsTrainedEvaluatedExtractedAndGeneratesText()
    {
        using (var learnt = await Json("tokenizer", "--data", _texts, "--vocabulary", "300", "--out", _folder["pairs"]))
            Assert.True(learnt.RootElement.GetProperty("validation_bytes_per_token").GetDouble() > 2);
        var file = _folder["pairs/tokenizer.json"];
        string[] small = ["--data", _texts, "--batch", "2", "--dtype", "f32"];
        using (await Json(["demo", .. small, "--tokenizer", file, "--steps", "20", "--tokens", "5", "--out", _out]))
        {
            Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(_out, "tokenizer.json")));
        }

        // The tokenizer is found beside the weights, and in --out when resuming.
        var model = Path.Combine(_out, "model.safetensors");
        using (var evaluated = await Json(["eval", .. small, "--checkpoint", model, "--out", _out]))
        {
            var (tokens, bytes) = (evaluated.RootElement.GetProperty("validation_tokens").GetInt64(),
                evaluated.RootElement.GetProperty("validation_bytes").GetInt64());
            Assert.True(bytes > 2 * tokens, $"{bytes} {tokens}");
            foreach (var row in evaluated.RootElement.GetProperty("results").EnumerateArray())
            {
                var bits = row.GetProperty("nats_per_token").GetDouble() / Math.Log(2) * tokens / bytes;
                Assert.Equal(bits, row.GetProperty("bits_per_byte").GetDouble(), 9);
            }
        }

        using (await Json(["train", .. small, "--resume", "--out", _out])) { }
        using (await Json("extract", "--profile", "Phone", "--checkpoint", model, "--out", _folder["slice"])) { }
        string[] generate = ["generate", "--prompt", "the model", "--tokens", "20", "--temperature", "0", "--dtype", "f32"];
        using var fromView = await Json([.. generate, "--checkpoint", model, "--profile", "Phone"]);
        using var fromSlice = await Json([.. generate, "--checkpoint", _folder["slice/phone.safetensors"]]);
        Assert.Equal(fromView.RootElement.GetProperty("text").GetString(), fromSlice.RootElement.GetProperty("text").GetString());
        var (_, printed, _) = await Run([.. generate, "--checkpoint", model, "--profile", "Phone"]);
        Assert.Equal("the model" + fromView.RootElement.GetProperty("text").GetString(), printed.TrimEnd('\n'));

        // A tokenizer that weights need is not replaced by another one.
        using (await Json("tokenizer", "--data", _texts, "--vocabulary", "300", "--out", _out)) { }
        foreach (string[] command in (string[][])[
            ["tokenizer", "--data", _texts, "--vocabulary", "290", "--out", _out],
            ["extract", "--profile", "Phone", "--checkpoint", model, "--out", _folder["other"]]])
        {
            if (command[0] == "extract") Tokenizer.ByteLevel.Save(_folder["other/tokenizer.json"]);
            var (code, _, error) = await Run(command);
            Assert.Equal(2, code);
            Assert.Contains("is another tokenizer", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
        }

        Assert.False(File.Exists(_folder["other/phone.safetensors"]));

        // Another tokenizer, or none, is refused before anything is written.
        File.WriteAllText(_folder["other.json"], File.ReadAllText(file).Replace("<|endoftext|>", "<|end|>", StringComparison.Ordinal));
        var before = _folder.Files;
        foreach (var other in new[] { "bytes", _folder["other.json"] })
        {
            foreach (string[] command in (string[][])[
                [.. generate, "--checkpoint", model], ["eval", .. small, "--checkpoint", model, "--out", _out],
                ["train", .. small, "--resume", "--out", _out], ["generate", "--checkpoint", _folder["slice/phone.safetensors"]]])
            {
                var (code, output, error) = await Run([.. command, "--tokenizer", other]);
                Assert.Equal((2, string.Empty), (code, output.Replace("the model", string.Empty, StringComparison.Ordinal)));
                Assert.Contains("trained with another tokenizer", error.Trim().Split('\n')[^1], StringComparison.Ordinal);
            }
        }

        Assert.Equal(before.Where(f => f != "out/tokens.bin"), _folder.Files.Where(f => f != "out/tokens.bin"));
    }

    [Theory]
    [InlineData("--vocabulary 321 is more than the 320 tokens that TinyModel declares", "tokenizer --vocabulary 321")]
    [InlineData("--vocabulary is 256; it must be at least 257", "tokenizer --vocabulary 256")]
    [InlineData("'nowhere.json' does not exist", "train --tokenizer nowhere.json")]
    public async Task AWrongTokenizerExitsWithCode2AndOneLine(string says, string command) =>
        await WrongUsageExitsWithCode2AndOneLine(says, command);

    [Fact]
    public async Task TheDemoWritesItsReport()
    {
        using var demo = await Json(
            "demo", "--data", _texts, "--steps", "40", "--batch", "2", "--tokens", "30", "--out", _out, "--prompt", "<b>&the");
        Assert.Equal(4, demo.RootElement.GetProperty("results").GetArrayLength());
        Assert.True(demo.RootElement.GetProperty("extracted").GetProperty("bit_equal").GetBoolean());
        Assert.Equal(["S", "Phone", "XL"],
            demo.RootElement.GetProperty("samples").EnumerateArray().Select(s => s.GetProperty("profile").GetString()));
        var files = demo.RootElement.GetProperty("files").EnumerateArray().Select(f => f.GetString()!).ToList();
        Assert.All(files, f => Assert.True(File.Exists(f), f));
        var report = await File.ReadAllTextAsync(files.Single(f => f.EndsWith("report.html", StringComparison.Ordinal)));
        Assert.Contains("&lt;b&gt;&amp;the", report, StringComparison.Ordinal);
        Assert.DoesNotContain("<b>&the", report, StringComparison.Ordinal);
        Assert.DoesNotContain("http", report, StringComparison.Ordinal);

        var (code, output, error) = await Run("demo", "--resume", "--tokens", "5", "--out", _out);
        Assert.True(code == 0, error);
        Assert.Contains("report.html", output, StringComparison.Ordinal);
        Assert.Contains("bit for bit", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheDemoChoosesItsStepsByTheMinutes()
    {
        using var demo = await Json("demo", "--data", _texts, "--minutes", "0.001", "--batch", "2", "--tokens", "5", "--out", _out);
        Assert.Equal(0, demo.RootElement.GetProperty("steps").GetInt32() % 10);
        Assert.True(demo.RootElement.GetProperty("steps").GetInt32() >= 10);
    }

    [Fact]
    public async Task AnInterruptedRunIsSavedAndCanBeResumed()
    {
        using var stop = new CancellationTokenSource();
        var error = new StopAtLine("Training", stop);
        var code = await ModelProgram.RunAsync<TinyModel>(
            ["train", "--data", _texts, "--steps", "50", "--batch", "2", "--evaluate-every", "10", "--patience", "40", "--out", _out],
            TextWriter.Null, error, stop.Token);
        Assert.Equal(130, code);
        Assert.Contains($"To resume: train --resume --out {_out}", error.ToString(), StringComparison.Ordinal);
        var (resumed, _, text) = await Run("train", "--resume", "--out", _out);
        Assert.True(resumed == 0, text);

        // The resumed run keeps its options: it still evaluates on the validation text and reports the losses.
        Assert.Contains("  validation S ", text, StringComparison.Ordinal);
        var steps = MetricsFile.Read(Path.Combine(_out, "metrics.jsonl")).ToList();
        Assert.Equal(50, steps.Count);
        Assert.Equal([10, 20, 30, 40, 50], steps.Where(step => !step.Validation.IsEmpty).Select(step => step.Step));
    }

    [Fact]
    public async Task AResumedRunAddsAnEventFileUnlessItIsToldNotTo()
    {
        string[] train = ["train", "--data", _texts, "--batch", "2", "--out", _out];
        using (var trained = await Json([.. train, "--steps", "3", "--tensorboard"]))
            Assert.Contains(
                Path.Combine(_out, "tensorboard"), trained.RootElement.GetProperty("files").EnumerateArray().Select(f => f.GetString()));
        var (code, _, error) = await Run("train", "--resume", "--out", _out, "--steps", "5");
        Assert.True(code == 0, error);
        var files = EventFiles.Read(Path.Combine(_out, "tensorboard"));
        Assert.Equal(["0 1 2 3", "0 4 4 5"], files.Select(file => string.Join(' ', file.Select(e => e.Step))));

        (code, _, error) = await Run("train", "--resume", "--out", _out, "--steps", "6", "--tensorboard", "false");
        Assert.True(code == 0, error);
        Assert.Equal(2, Directory.GetFiles(Path.Combine(_out, "tensorboard")).Length);
    }

    [Fact]
    public async Task OptionsThatAreGivenAgainWin()
    {
        await Train();
        var (code, _, error) = await Run("train", "--resume", "--out", _out, "--steps", "3", "--batch", "3");
        Assert.True(code == 0, error);
        Assert.Contains("From here on with steps 3 (was 1), batch 3 (was 2), so", error, StringComparison.Ordinal);
        using var reader = SafetensorsReader.Open(Path.Combine(_out, "checkpoint.safetensors"));
        Assert.Equal(("3", "3"), (reader.Metadata["training.step"], reader.Metadata["training.batch"]));
    }

    [Fact]
    public async Task AResumedRunIsToldIfItsDataChanged()
    {
        await Train();
        File.AppendAllText(Path.Combine(_texts, "00.txt"), "more");
        var (code, _, error) = await Run("train", "--resume", "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains($"{_texts}", error, StringComparison.Ordinal);
        Assert.Contains("differ from those of the resumed run", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AResumedRunIsToldIfItsDataAreGone()
    {
        await Train();
        Directory.Move(_texts, _folder["moved"]);
        var (code, _, error) = await Run("train", "--resume", "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains($"'{_texts}' does not exist", error, StringComparison.Ordinal);
        Assert.Contains("The run was started with these data; if they lie elsewhere now, give --data.", error, StringComparison.Ordinal);
        (code, _, error) = await Run("train", "--resume", "--out", _out, "--data", _folder["moved"]);
        Assert.True(code == 0, error);
    }

    [Fact]
    public async Task ACheckpointRemembersTheOptionsOfTheProgram()
    {
        await Train("--threads", "1", "--device", "cpu");
        await Run("train", "--resume", "--out", _out); // what is remembered is remembered again
        using var reader = SafetensorsReader.Open(Path.Combine(_out, "checkpoint.safetensors"));
        Assert.Equal((_texts, "cpu", "1"),
            (reader.Metadata[RememberedData.PathKey], reader.Metadata["program.device"], reader.Metadata["program.threads"]));
    }

    [Theory]
    [InlineData("train")]
    [InlineData("demo")]
    public async Task AModelIsNotReplacedUnasked(string command)
    {
        WriteCheckpoint(250);
        var before = _folder.Files;
        var (code, output, error) = await Run(command, "--data", _texts, "--out", _out);
        Assert.Equal((2, string.Empty), (code, output));
        Assert.Equal(
            $"'{_out}' holds a model with 250 trained steps. Use --resume to continue, another --out, or --overwrite to replace it.",
            error.Trim());
        Assert.Equal(before, _folder.Files);
    }

    [Theory]
    [InlineData("train", "model.safetensors")]
    [InlineData("train", "checkpoint.safetensors")]
    [InlineData("demo", "phone.safetensors")]
    public async Task OtherWeightsAreNotReplacedUnasked(string command, string file)
    {
        Directory.CreateDirectory(_out);
        File.WriteAllText(Path.Combine(_out, file), "weights of another program");
        var (code, _, error) = await Run(command, "--data", _texts, "--out", _out);
        Assert.Equal(2, code);
        Assert.Equal($"'{_out}' holds the weights {file}. Use another --out, or --overwrite to replace it.", error.Trim());
    }

    [Fact]
    public async Task AModelIsReplacedIfAsked()
    {
        WriteCheckpoint(250);
        await Train("--overwrite");
        Assert.Equal(1, TrainingCheckpoint.StepsOf(Path.Combine(_out, "checkpoint.safetensors"), TinyModel.Spec));
    }

    [Fact]
    public async Task AFileIsReplacedByAnExtractOnlyIfAsked()
    {
        var (model, file) = (_folder["model.safetensors"], Path.Combine(_out, "phone.safetensors"));
        using (var untrained = TinyModel.Create()) untrained.Save(model);
        Directory.CreateDirectory(_out);
        File.WriteAllText(file, "weights of another model");
        string[] extract = ["extract", "--checkpoint", model, "--profile", "Phone", "--out", _out];
        var (code, output, error) = await Run(extract);
        Assert.Equal((2, string.Empty), (code, output));
        Assert.Equal($"'{file}' already exists; give another --out, or --overwrite to replace it.", error.Trim());
        Assert.Equal("weights of another model", File.ReadAllText(file));
        (code, _, error) = await Run([.. extract, "--overwrite"]);
        Assert.True(code == 0, error);
        Assert.InRange(new FileInfo(file).Length, 1000, long.MaxValue);
        File.Delete(file);
        Directory.CreateDirectory(file);
        (code, _, error) = await Run([.. extract, "--overwrite"]);
        Assert.Equal((2, $"'{file}' is a folder; give another --out, or delete it."), (code, error.Trim()));
    }

    [Fact]
    public async Task ATokenizerThatWeightsMayNeedIsNotReplacedUnasked()
    {
        Directory.CreateDirectory(_out);
        var other = TokenizerContent.Bytes with { Pattern = WordPattern.Gpt2 };
        File.WriteAllBytes(Path.Combine(_out, "tokenizer.json"), TokenizerFile.Write(other));
        var (code, _, error) = await Run("train", "--data", _texts, "--tokenizer", "bytes", "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains("is another tokenizer", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ASecondRunInAFolderIsRefused()
    {
        using var other = RunFolder.Lock(_out);
        var (code, _, error) = await Run("train", "--data", _texts, "--overwrite", "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains($"Another run, process {Environment.ProcessId}, is writing in '{_out}'", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AProgramWithoutArgumentsPrintsItsHelp()
    {
        var (code, output, error) = await Run();
        Assert.Equal((0, string.Empty), (code, error));
        Assert.Equal((await Run("--help")).Output, output);
    }

    [Fact]
    public async Task ASliceIsNoUniversalModelToBeginWith()
    {
        var path = _folder["phone.safetensors"];
        using (var model = TinyModel.Create())
        using (var phone = model.Extract(TinyModel.Profiles[0])) phone.Save(path);
        var (code, _, error) = await Run("train", "--data", _texts, "--init", path, "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains(
            $"'{path}' is the slice Phone of TinyModel and has no other profile's weights, but the universal model is needed", error,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task AGgufFileIsCalledOne()
    {
        var path = _folder["model.gguf"];
        File.WriteAllBytes(path, "GGUF\u0003\0\0\0\0\0\0\0"u8.ToArray());
        var (code, _, error) = await Run("generate", "--checkpoint", path);
        Assert.Equal(2, code);
        Assert.Contains($"'{path}' is a GGUF file", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AJsonProblemNamesTheLine()
    {
        var path = _folder["tokenizer.json"];
        File.WriteAllText(path, "{\n  x");
        var (code, _, error) = await Run("train", "--data", _texts, "--tokenizer", path, "--out", _out);
        Assert.Equal(2, code);
        Assert.Contains("is not valid JSON (line 2: 'x' is an invalid start", error, StringComparison.Ordinal);
        Assert.DoesNotContain("LineNumber", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheWeightsThatTrainingBeginsWithAreNotReplaced()
    {
        using (await Json("train", "--data", _texts, "--steps", "2", "--batch", "2", "--out", _out)) { }
        var before = _folder.Files;
        var (code, _, error) = await Run(
            "train", "--data", _texts, "--steps", "2", "--init", Path.Combine(_out, "model.safetensors"), "--out", _out + "/");
        Assert.Equal(2, code);
        Assert.Contains("lies in --out", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
        Assert.Equal(before, _folder.Files);
        using (await Json(
            "train", "--data", _texts, "--steps", "2", "--init", Path.Combine(_out, "model.safetensors"), "--out", _folder["more"])) { }
    }

    private async Task Train(params string[] more)
    {
        var (code, _, error) = await Run(["train", "--data", _texts, "--steps", "1", "--batch", "2", "--out", _out, .. more]);
        Assert.True(code == 0, error);
    }

    // Writes the checkpoint that a run leaves, without training.
    private void WriteCheckpoint(int steps)
    {
        using var model = TinyModel.Create();
        model.Consolidate();
        var options = new TrainerOptions { Steps = steps, Batch = 2 };
        using var optimizer = new AdamWState(model.Flat!, options);
        using var moments = optimizer.Gather();
        TrainingCheckpoint.Save(
            Path.Combine(_out, "checkpoint.safetensors"), model, moments!, options, new(steps, 0, EarlyStop.None, "data"),
            new Dictionary<string, string>());
    }

    [Fact]
    public async Task ProgressThatCannotBeWrittenDoesNotEndTraining()
    {
        using var output = new StringWriter();
        using var error = new FullDisk();
        string[] train = ["train", "--data", _texts, "--steps", "3", "--batch", "2", "--evaluate-every", "1", "--out", _out];
        Assert.Equal(0, await ModelProgram.RunAsync<TinyModel>(train, output, error, CancellationToken.None));
        Assert.True(error.Writes > 3);
        Assert.True(File.Exists(Path.Combine(_out, "model.safetensors")));
        string[] evaluate = ["eval", "--data", _texts, "--windows", "2", "--out", _out, "--json"];
        Assert.Equal(0, await ModelProgram.RunAsync<TinyModel>(evaluate, output, error, CancellationToken.None));
    }

    [Theory]
    [InlineData("train --steps none")]
    [InlineData("train --data nowhere")]
    public async Task AnErrorThatCannotBeWrittenKeepsItsExitCode(string command)
    {
        using var error = new FullDisk();
        Assert.Equal(2, await ModelProgram.RunAsync<TinyModel>(command.Split(' '), TextWriter.Null, error, CancellationToken.None));
        Assert.True(error.Writes > 0);
    }

    // A writer like standard error that goes to /dev/full.
    private sealed class FullDisk : TextWriter
    {
        public int Writes { get; private set; }

        public override System.Text.Encoding Encoding => System.Text.Encoding.UTF8;

        public override void Write(char value)
        {
            Writes++;
            throw new IOException("No space left on device");
        }
    }

    private static async Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        var code = await ModelProgram.RunAsync<TinyModel>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }

    private static async Task<JsonDocument> Json(params string[] arguments)
    {
        var (code, output, error) = await Run([.. arguments, "--json"]);
        Assert.True(code == 0, error);
        return JsonDocument.Parse(output);
    }

    /// <summary>Cancels when a line that begins with <paramref name="start"/> is written.</summary>
    private sealed class StopAtLine(string start, CancellationTokenSource stop) : StringWriter
    {
        public override void WriteLine(string? value)
        {
            base.WriteLine(value);
            if (value?.StartsWith(start, StringComparison.Ordinal) == true) stop.Cancel();
        }
    }
}
