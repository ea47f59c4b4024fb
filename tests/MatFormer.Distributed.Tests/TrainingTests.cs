using System.Text.Json;
using MatFormer.Functional.Tests;

namespace MatFormer.Distributed.Tests;

/// <summary>Trains on several ranks and compares with one process. A batch is the same, however many ranks share it.</summary>
public sealed class TrainingTests : RankTests
{
    private static readonly string[] s_combinations =
    [
        "--objective sampled --accumulation 2",
        "--objective joint --distillation 0.5",
        "--objective split --distillation 0.5 --recompute-activations",
        "--objective sampled-per-layer --recompute-activations",
        "--objective sandwich --distillation 0.5 --accumulation 2",
        "--objective branching --stochastic-depth 0.3 --accumulation 2 --recompute-activations",
        "TinyEncoder --objective sampled --recompute-activations",
        "TinyEncoder --objective split --distillation 0.5 --accumulation 2",
        "TinyEncoder --objective branching",
        "TinyWidthEncoder --objective joint --distillation 0.5 --recompute-activations",
    ];

    /// <summary>
    /// An MPI, a number of ranks and options: a few, or all with the environment variable <c>MATFORMER_COMBINATIONS</c>.
    /// </summary>
    public static TheoryData<string, int, string> Combinations
    {
        get
        {
            if (Environment.GetEnvironmentVariable("MATFORMER_COMBINATIONS") is null or "")
            {
                return new()
                {
                    { Mpi.Open, 2, s_combinations[1] }, { Mpi.Open, 4, s_combinations[2] }, { Mpi.Mpich, 4, s_combinations[4] },
                };
            }

            var all = new TheoryData<string, int, string>();
            foreach (var mpi in (string[])[Mpi.Open, Mpi.Mpich])
            {
                foreach (var ranks in (int[])[1, 2, 4])
                {
                    foreach (var options in s_combinations) all.Add(mpi, ranks, options);
                }
            }

            return all;
        }
    }

    [Theory]
    [InlineData(Mpi.Open, 1, "--objective sampled")]
    [InlineData(Mpi.Open, 3, "--objective branching --accumulation 2 --recompute-activations --stochastic-depth 0.3")]
    [InlineData(Mpi.Mpich, 2, "--objective sampled --evaluate-every 10 --patience 1")]
    [InlineData(Mpi.Mpich, 2, "--objective sandwich --loss-weights 3,2,1")]
    [InlineData(Mpi.Open, 2, "--objective joint --bits 32,8,4 --bit-weights 1,2,1")]
    public void TheLossesAreThoseOfOneProcess(string mpi, int ranks, string options)
    {
        string[] arguments = [.. Text(50), .. options.Split(' ')];
        AreAlike(arguments, mpi, ranks);
    }

    // Rounding to 2 bits has few values. Sooner or later a weight lies so near to the middle between two of them that the last bit of a sum
    // decides, so there are few steps.
    [Fact]
    public void TheLossesWithTwoBitsAreThoseOfOneProcess() => AreAlike(
        [.. Text(10), .. "--objective joint --bits 8,2 --accumulation 2 --distillation 0.5".Split(' ')], Mpi.Mpich, 3);

    [Theory]
    [InlineData(Mpi.Open, 2, "--objective joint --evaluate-every 25")]
    [InlineData(Mpi.Mpich, 3, "--objective split --distillation 0.5 --recompute-activations")]
    [InlineData(Mpi.Open, 4, "--objective sampled")]
    [InlineData(Mpi.Mpich, 1, "--objective sandwich --accumulation 2")]
    public void AnEncodersNegativesComeFromAllRanks(string mpi, int ranks, string options)
    {
        AreAlike([nameof(TinyEncoder), .. PairsOfText(50), .. options.Split(' ')], mpi, ranks);
    }

    [Theory]
    [InlineData(Mpi.Open, 2, "--objective joint --distillation 0.5")]
    [InlineData(Mpi.Mpich, 4, "--objective sandwich --recompute-activations")]
    public void AnEncodersStreamsMayHaveDifferentWidths(string mpi, int ranks, string options) =>
        AreAlike([nameof(TinyWidthEncoder), .. PairsOfText(50), .. options.Split(' ')], mpi, ranks);

    [Fact]
    public void AnEncodersStreamsOfDifferentWidthsDoNotDivideABatch()
    {
        string[] arguments = [nameof(TinyWidthEncoder), .. PairsOfText(5), "--objective", "split", "--distributed", "mpi"];
        var run = Mpi.On(Mpi.Mpich, 2, [.. arguments, "--out", Out("divided")]);
        Assert.Equal(2, run.Code);
        Assert.Contains("trained by one process with the objective Split", run.Errors, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Mpi.Open, 2, "--objective joint")]
    [InlineData(Mpi.Mpich, 3, "--objective sampled-per-layer --accumulation 2 --distillation 0.5 --recompute-activations")]
    public void TokensAreRoutedAsInOneProcess(string mpi, int ranks, string options)
    {
        var images = Path.Combine(Folder, "images");
        TestImages.Write(images);
        string[] arguments =
        [
            "TinyViT", "train", "--data", images, "--steps", "30", "--batch", "12", "--shift", "1", "--routed-share", "0.7",
            "--dtype", "f32", "--device", "cpu", .. options.Split(' '),
        ];
        AreAlike(arguments, mpi, ranks);
        var names = Steps(Out("together")).SelectMany(step => step.GetProperty("loss").EnumerateObject()).Select(loss => loss.Name);
        Assert.Equal(
            ["routed-0.4375", "routed-0.625", "routed-0.8125"],
            names.Where(name => name.StartsWith("routed", StringComparison.Ordinal)).Distinct().Order(StringComparer.Ordinal));

        // The routers learn: the scales of their scores begin at 0.
        using var reader = SafetensorsReader.Open(Path.Combine(Out("together"), "model.safetensors"));
        var scales = reader.Tensors.Where(entry => entry.Name.EndsWith("router.alpha", StringComparison.Ordinal)).ToList();
        Assert.Equal(2, scales.Count);
        foreach (var scale in scales)
        {
            var bytes = new byte[sizeof(float)];
            reader.Read(scale, 0, bytes);
            Assert.NotEqual(0, BitConverter.ToSingle(bytes));
        }
    }

    [Theory]
    [MemberData(nameof(Combinations))]
    public void TwoRunsOfOneWorldSizeAreBitEqual(string mpi, int ranks, string options)
    {
        string[] words = options.Split(' ');
        string[] arguments = words[0].StartsWith("Tiny", StringComparison.Ordinal) ? [words[0], .. PairsOfText(50), .. words[1..]]
            : [.. Text(50), .. words];
        AreAlike(arguments, mpi, ranks);
        var second = Out("second");
        Mpi.On(mpi, ranks, [.. arguments, "--distributed", "mpi", "--out", second]).Succeeded();
        Assert.Equal(Numbers(Out("together"), "model"), Numbers(second, "model"));
        Assert.Equal(0, LargestDifference(Steps(Out("together")), Steps(second)));
    }

    [Theory]
    [InlineData(Mpi.Open, 2, "--objective joint")]
    [InlineData(Mpi.Mpich, 3, "--objective sampled --evaluate-every 10 --accumulation 2")]
    public void DividedMomentsChangeNoNumber(string mpi, int ranks, string options)
    {
        string[] arguments = [.. Text(30), .. options.Split(' '), "--distributed", "mpi"];
        var (whole, divided) = (Out("whole"), Out("divided"));
        Mpi.On(mpi, ranks, [.. arguments, "--out", whole]).Succeeded();
        Mpi.On(mpi, ranks, [.. arguments, "--out", divided, "--shard-moments", "--tensorboard"]).Succeeded();
        Assert.Equal(0, LargestDifference(Steps(whole), Steps(divided)));
        foreach (var file in (string[])["model", "checkpoint"]) Assert.Equal(Numbers(whole, file), Numbers(divided, file));

        // A rank gives its shard of the weights besides its gradients.
        var shard = (Bytes(divided) - Bytes(whole)) / sizeof(float);
        var weights = TinyLm.Spec.ParameterCount(TinyLm.Spec.WholeLayers.AsSpan());
        Assert.InRange((double)shard * ranks / weights, 0.99, 1.1);
        Assert.Single(Directory.GetFiles(Path.Combine(divided, "tensorboard"))); // of the first rank

        static long Bytes(string folder) => Steps(folder)[0].GetProperty("communication").GetProperty("bytes").GetInt64();
    }

    [Fact]
    public void AStepSendsTheWeightsThatItTouches()
    {
        var output = Out("sent");
        var run = Mpi.On(Mpi.Open, 2, [.. Text(20), "--objective", "sampled", "--distributed", "mpi", "--out", output]).Succeeded();
        Assert.Contains("MB/step sent", run.Errors, StringComparison.Ordinal);
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var step in Steps(output))
        {
            var name = step.GetProperty("loss").EnumerateObject().Single().Name;
            names.Add(name);
            Assert.Equal(4 * Profile<TinyLm>.Parse(name).ParameterCount, step.GetProperty("communication").GetProperty("bytes").GetInt64());
        }

        Assert.Equal(["M", "S", "XL"], names.Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData(Mpi.Open, 3)]
    [InlineData(Mpi.Mpich, 2)]
    public void GradientsInBFloat16HalveTheBytesAndChangeLosses(string mpi, int ranks)
    {
        string[] arguments = [.. Text(50), "--objective", "joint", "--distributed", "mpi"];
        var (whole, half) = (Out("whole"), Out("half"));
        Mpi.On(mpi, ranks, [.. arguments, "--out", whole]).Succeeded();
        Mpi.On(mpi, ranks, [.. arguments, "--out", half, "--gradients", "bf16"]).Succeeded();
        var (one, other) = (Steps(whole), Steps(half));
        Assert.Equal(Bytes(one[^1]), 2 * Bytes(other[^1]));
        var difference = LargestDifference(one, other);
        Assert.InRange(difference, 1e-7, 0.01); // bfloat16 keeps 8 bits

        static long Bytes(JsonElement step) => step.GetProperty("communication").GetProperty("bytes").GetInt64();
    }

    [Theory]
    [InlineData(Mpi.Open)]
    [InlineData(Mpi.Mpich)]
    public void AKilledRankEndsTheRunAndItIsResumedOnAnyNumberOfRanks(string mpi)
    {
        string[] arguments = [.. Text(100), "--objective", "sampled", "--accumulation", "8", "--checkpoint-every", "5"];
        var (whole, killed) = (Out("whole"), Out("killed"));
        Mpi.Alone([.. arguments, "--out", whole]).Succeeded();
        var process = Mpi.Begin(mpi, 2, [.. arguments, "--distributed", "mpi", "--out", killed]);
        var checkpoint = Path.Combine(killed, "checkpoint.safetensors");
        while (!File.Exists(checkpoint) && !process.HasExited) Thread.Sleep(10);
        using var rank = System.Diagnostics.Process.GetProcessById(Mpi.ProcessOf(1, killed));
        rank.Kill();
        var run = Mpi.Finish(process);
        Assert.NotEqual(0, run.Code);

        // MPICH names the process, and the first line of the run says which rank it was.
        Assert.Matches(mpi == Mpi.Open ? "rank 1 .* signal 9" : $"ranks over MPICH.*: process .* on .*, {rank.Id} on ", run.Errors);
        Assert.False(File.Exists(Path.Combine(killed, "model.safetensors")));
        foreach (var ranks in (int[])[1, 2, 3])
        {
            var resumed = Out($"resumed{ranks}");
            Directory.CreateDirectory(resumed);
            foreach (var name in (string[])["checkpoint.safetensors", "metrics.jsonl", "tokenizer.json"])
                File.Copy(Path.Combine(killed, name), Path.Combine(resumed, name));
            Mpi.On(mpi, ranks, ["train", "--resume", "--distributed", "mpi", "--out", resumed]).Succeeded();
            Assert.InRange(LargestDifference(Steps(whole), Steps(resumed)), 0, Tolerance);
        }
    }

    [Fact]
    public void AStopOfOneRankStopsAllAtTheSameStep()
    {
        string[] arguments = [.. Text(100_000), "--checkpoint-every", "100000", "--distributed", "mpi"];
        var output = Out("stopped");
        var process = Mpi.Begin(Mpi.Mpich, 2, [.. arguments, "--out", output]);
        var metrics = Path.Combine(output, "metrics.jsonl");
        while (!(File.Exists(metrics) && new FileInfo(metrics).Length > 0) && !process.HasExited) Thread.Sleep(10);
        System.Diagnostics.Process.Start("kill", ["-TERM", $"{Mpi.ProcessOf(1, output)}"]).WaitForExit();
        var run = Mpi.Finish(process);
        Assert.Contains("Stopped at step", run.Errors, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(output, "checkpoint.safetensors")));
    }

    [Theory]
    [InlineData(Mpi.Open, "--seed 2", "option training.seed")]
    [InlineData(Mpi.Open, "--dtype bf16", "dtype")]
    [InlineData(Mpi.Mpich, "--data OTHER", "data fingerprint")]
    public void ADifferentSetUpIsRefusedBeforeTheFirstStep(string mpi, string other, string what)
    {
        var output = Out("refused");
        string[] common = ["train", "--steps", "20", "--distributed", "mpi", "--device", "cpu", "--out", output];
        string[] first = ["--data", Corpus, "--seed", "1", "--dtype", "f32"];
        var second = first.ToArray();
        var otherText = Path.Combine(Folder, "other");
        Directory.CreateDirectory(otherText);
        foreach (var file in Directory.GetFiles(Corpus).Skip(1)) File.Copy(file, Path.Combine(otherText, Path.GetFileName(file)));
        var changed = other.Replace("OTHER", otherText, StringComparison.Ordinal).Split(' ');
        second[Array.IndexOf(first, changed[0]) + 1] = changed[1];
        var run = Mpi.OnTwo(mpi, [.. common, .. first], [.. common, .. second]);
        Assert.Equal(2, run.Code);
        Assert.Contains($"Rank 1 has another {what} than rank 0", run.Errors, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(output, "metrics.jsonl")));
    }

    [Theory]
    [InlineData(Mpi.Open)]
    [InlineData(Mpi.Mpich)]
    public void AFailureOfOneRankEndsAll(string mpi)
    {
        string[] common = [.. Text(20), "--distributed", "mpi", "--out", Out("failed"), "--overwrite"];
        var run = Mpi.OnTwo(mpi, common, [.. common, "--init", Path.Combine(Folder, "nowhere.safetensors")]);
        Assert.NotEqual(0, run.Code);
        Assert.Contains("Rank 1 of 2 failed and ends the run", run.Errors, StringComparison.Ordinal);
        Assert.Contains("nowhere.safetensors", run.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void NumbersThatAreNotFiniteEndAllRanksWithOneMessage()
    {
        var run = Mpi.On(Mpi.Open, 2, [.. Text(30), "--learning-rate", "1e30", "--distributed", "mpi", "--out", Out("infinite")]);
        Assert.Equal(1, run.Code);
        Assert.Single(run.Errors.Split('\n'), line => line.StartsWith("In step ", StringComparison.Ordinal));
        Assert.Contains("rank 1: Skipped step", run.Errors, StringComparison.Ordinal); // with the same reason as rank 0
        Assert.Matches("(?m)^Skipped step", run.Errors);
    }

    [Fact]
    public void ABatchThatIsTooSmallIsRefused()
    {
        string[] arguments = ["train", "--data", Corpus, "--batch", "1", "--steps", "5", "--distributed", "mpi", "--out", Out("small")];
        var run = Mpi.On(Mpi.Mpich, 2, arguments);
        Assert.Equal(2, run.Code);
        Assert.Contains("A batch of 1 cannot be divided among 2 ranks", run.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatTheMachineLacksIsNamed()
    {
        // The machine may have NCCL, and even a GPU. A process that was started alone lacks the others then.
        var run = Mpi.Alone([.. Text(5), "--distributed", "nccl", "--out", Out("nccl")]);
        Assert.Equal(2, run.Code);
        const string problems = "libnccl.so.2 was not found; install it|NCCL needs an NVIDIA GPU|NCCL does not know the other processes";
        Assert.Matches(problems, run.Errors);
        Assert.Single(run.Errors.Trim().Split('\n'));
    }

    // Trains alone and on ranks, and compares the losses of all steps.
    private void AreAlike(string[] arguments, string mpi, int ranks)
    {
        var (alone, together) = (Out("alone"), Out("together"));
        Mpi.Need(mpi);
        Mpi.Alone([.. arguments, "--out", alone]).Succeeded();
        var run = Mpi.On(mpi, ranks, [.. arguments, "--distributed", "mpi", "--out", together]).Succeeded();
        Assert.Single(run.Output.Split('\n'), line => line.Contains("Trained", StringComparison.Ordinal));
        var (expected, actual) = (Steps(alone), Steps(together));
        Assert.InRange(LargestDifference(expected, actual), 0, ranks == 1 ? 0 : Tolerance);

        // AdamW hides a wrong factor of all gradients, but their norm shows it before rounding grows.
        Assert.InRange(Math.Abs((FirstNorm(actual) / FirstNorm(expected)) - 1), 0, 1e-6);

        static double FirstNorm(List<JsonElement> steps) => steps[0].GetProperty("gradient_norm").GetDouble();
    }
}
