using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A model whose matrices end in shorter groups. Oracle/record.py records its gradients.</summary>
[MatLM(Layers = 1, Width = 40, Heads = 5, Context = 9, Vocabulary = 17)]
[FeedForward(72, Activation.SwiGlu)]
[Position(PositionKind.Learned), Embedding(Tied = false), Precision(8, 4, 2)]
[Granularity("S", 32, Heads = 4), Granularity("M", 64), Granularity("XL", 72)]
[Profile("Phone", "1*M", Bits = 4)]
public sealed partial class OracleNested;

/// <summary>A language model of bytes at three widths of its numbers.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu), Precision(8, 4, 2)]
[Granularity("S", 32), Granularity("XL", 64)]
[Profile("Phone", "1*S 1*XL", Bits = 4), Profile("Watch", MaxWeightBytes = 15_100)]
public sealed partial class NestedBytes;

/// <summary>A vision transformer in 8 and 4 bits.</summary>
[MatViT(Image = 8, Patch = 2, Classes = 5, Layers = 2, Width = 36, Heads = 4)]
[FeedForward(72, Activation.Gelu, Bias = true), Attention(Bias = true), Precision(8, 4)]
[Granularity("S", 32), Granularity("XL", 72)]
[Profile("Phone", "S XL", Bits = 4)]
public sealed partial class NestedViT;

/// <summary>A text encoder in 8 and 2 bits.</summary>
[MatEncoder(Layers = 2, Width = 48, Heads = 6, Context = 20, Vocabulary = 64, Embedding = 24)]
[FeedForward(96, Activation.GeGlu), Precision(8, 2)]
[Granularity("S", 32, Heads = 4), Granularity("XL", 96)]
[Profile("Phone", "S XL", Bits = 2)]
public sealed partial class NestedEncoder;

/// <summary>Tests weights of 8, 4 and 2 bits: their rounding, their training, and what files remember of them.</summary>
public sealed class PrecisionTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-precision-").FullName;
    private TextCorpus? _corpus;

    public static TheoryData<Objective> Objectives => [.. Enum.GetValues<Objective>()];

    private TextCorpus Corpus => _corpus ??= TestCorpus.Open(_folder);

    public void Dispose()
    {
        _corpus?.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>
    /// The numbers are those of <see cref="NestedRounding"/>, bit for bit, on the path of any device and on that of the CPU.
    /// </summary>
    [Theory]
    [InlineData(8)]
    [InlineData(4)]
    [InlineData(2)]
    public void TensorsAreRoundedAsTheDefinitionSays(int bits)
    {
        manual_seed(bits);
        foreach (var columns in (long[])[1, 31, 32, 33, 64, 100])
        {
            using var scope = NewDisposeScope();
            var matrix = randn(7, columns) * tensor((float[])[1, 1e-3f, 1e-7f, 0, 1e6f, 1e8f, -0.02f]).view(7, 1);
            var expected = new float[7 * columns];
            var given = matrix.data<float>().ToArray();
            for (var row = 0; row < 7; row++)
            {
                var (from, count) = (row * (int)columns, (int)columns);
                NestedRounding.Round(given.AsSpan(from, count), bits, expected.AsSpan(from, count));
            }

            using var anyDevice = RoundedWeights.Rounded(matrix, bits);
            using var onCpu = zeros_like(matrix);
            RoundedWeights.RoundTo(onCpu, matrix, bits);
            foreach (var rounded in (Tensor[])[anyDevice, onCpu])
                Assert.True(MemoryMarshal.AsBytes(expected.AsSpan()).SequenceEqual(rounded.bytes), $"{bits} bits, {columns} columns");
        }
    }

    [Fact]
    public void OnlyMatricesAreRoundedAndTheyAreFloat32AgainAfterwards()
    {
        using var model = DrawnModel.New<OracleNested>();
        var before = Numbers(model);
        using (var rounded = new RoundedWeights(model))
        {
            rounded.Round(32);
            Assert.Equal(before, Numbers(model));
            rounded.Round(4);
            foreach (var (name, weight) in model.named_parameters())
                Assert.True(weight.data<float>().ToArray().SequenceEqual(before[name]) == !ModelDecoding.IsRounded(name, weight), name);

            // Another width is rounded from float32, not from the rounded weights.
            rounded.Round(2);
            var twice = Numbers(model);
            rounded.Restore();
            Assert.Equal(before, Numbers(model));
            rounded.Round(2);
            Assert.Equal(twice, Numbers(model));
        }

        Assert.Equal(before, Numbers(model));
    }

    [Theory]
    [InlineData(8)]
    [InlineData(4)]
    [InlineData(2)]
    public void GradientsOfStraightThroughRoundingEqualPyTorch(int bits)
    {
        using var scope = NewDisposeScope();
        var recorded = OracleTests.ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "OracleNested.safetensors"));
        using var model = OracleTests.Load<OracleNested>(recorded);
        using var rounded = new RoundedWeights(model);
        var streams = Streams.Of<OracleNested>([.. OracleNested.Granularities.Reverse()]);
        model.Flat!.ClearGradients();
        rounded.Round(bits);
        var losses = model.Losses(streams, recorded["tokens"], recorded["targets"]);
        losses.mean().backward();
        rounded.Restore();
        model.Flat.GatherGradients();
        var width = bits.ToString(CultureInfo.InvariantCulture);
        OracleTests.AssertClose(recorded["losses." + width], losses.flip(0), "losses");
        foreach (var (name, parameter) in model.named_parameters())
            OracleTests.AssertClose(recorded[$"gradient.{width}.{name}"], parameter.grad!, $"gradient of {name} at {bits} bits");
    }

    [Fact]
    public void ASliceAtSomeBitsEqualsTheUniversalModelAtTheSameBits()
    {
        Compare<OracleNested>();
        Compare<NestedBytes>();
        Compare<NestedViT>();
        Compare<NestedEncoder>();

        static void Compare<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            manual_seed(5);
            using var model = DrawnModel.New<TModel>();
            using var unrecorded = no_grad();
            using var input = Inputs.Of(TModel.Spec, 3);
            foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
            {
                using var slice = model.Extract(profile);
                foreach (var bits in TModel.Spec.Precision)
                {
                    using var scope = NewDisposeScope();
                    using var roundedModel = new RoundedWeights(model);
                    using var roundedSlice = new RoundedWeights(slice);
                    var plain = model.Forward(profile, input);
                    roundedModel.Round(bits);
                    roundedSlice.Round(bits);
                    var (expected, actual) = (model.Forward(profile, input), slice.forward(input));
                    var error = (expected - actual).abs().max().item<float>();
                    Assert.True(
                        error <= (Kernels.Cpu.IsEnabled ? 0 : 1e-6f * expected.abs().max().item<float>()), $"{profile}, {bits}: {error}");
                    Assert.False(plain.equal(expected).all().item<bool>(), $"{profile} is not rounded to {bits} bits");
                }
            }
        }
    }

    [Fact]
    public void TheBytesOfAProfileAreThoseOfItsModel()
    {
        Compare<OracleNested>(OracleNested.Phone.Bits, OracleNested.Phone.WeightBytes);
        Compare<NestedBytes>(NestedBytes.Phone.Bits, NestedBytes.Phone.WeightBytes);
        Compare<NestedViT>(NestedViT.Phone.Bits, NestedViT.Phone.WeightBytes);
        Compare<NestedEncoder>(NestedEncoder.Phone.Bits, NestedEncoder.Phone.WeightBytes);

        static void Compare<TModel>(int bits, long bytes)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            var phone = TModel.Profiles[0];
            using var shapes = TModel.CreateSubmodel(phone, META);
            Assert.Equal((bits, bytes), (phone.Bits, phone.WeightBytes));
            Assert.Equal(bytes, RoundedWeights.BytesOf(shapes, bits));
        }
    }

    /// <summary>At 8 bits, S does not fit. At 4 bits, more than S does.</summary>
    [Fact]
    public void ABudgetOfBytesChoosesTheBitsToo()
    {
        Assert.Equal(4, NestedBytes.Watch.Bits);
        Assert.InRange(NestedBytes.Watch.WeightBytes, 1, 15_100);
        Assert.Equal("1*S 1*XL", NestedBytes.Profile.Watch.Pattern);
    }

    [Fact]
    public void FilesOfSlicesRememberTheirBits()
    {
        var (whole, slice, cut) = (PathOf("whole.safetensors"), PathOf("slice.safetensors"), PathOf("cut.safetensors"));
        using var model = DrawnModel.New<NestedBytes>();
        model.Save(whole);
        using (var phone = model.Extract<NestedBytes.Phone>())
        {
            Assert.Equal(4, phone.ProfileBits);
            phone.Save(slice);
        }

        Extraction.ToSafetensors(whole, NestedBytes.Profile.Phone, cut, WeightEncoding.Float32);
        foreach (var path in (string[])[slice, cut])
        {
            using var opened = Checkpoint.Open<NestedBytes>(path);
            Assert.Equal(4, opened.ProfileBits);
        }

        using var universal = Checkpoint.Open<NestedBytes>(whole);
        Assert.Null(universal.ProfileBits);
    }

    /// <summary>The metadata are changed in the file, where the value has the same length.</summary>
    [Fact]
    public void AFileWithBitsThatCannotBeIsRefused()
    {
        var path = PathOf("slice.safetensors");
        using (var model = DrawnModel.New<NestedBytes>())
        using (var phone = model.Extract<NestedBytes.Phone>()) phone.Save(path);
        var bytes = File.ReadAllBytes(path);
        var at = bytes.AsSpan().IndexOf("\"matformer.bits\":\"4\""u8);
        bytes[at + "\"matformer.bits\":\"".Length] = (byte)'5';
        File.WriteAllBytes(path, bytes);
        var thrown = Assert.Throws<CheckpointException>(() => Checkpoint.Open<NestedBytes>(path));
        Assert.Contains("has '5' for 'matformer.bits' in its metadata, which is not 8, 4 or 2", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AJointStepAddsUpTheGradientsAtAllBits()
    {
        var options = new TrainerOptions { Steps = 1, Batch = 2, Objective = Objective.Joint, BitWeights = [0.5, 1, 2], WarmupSteps = 0 };
        using var trained = NewModel();
        using var trainer = new Trainer<NestedBytes>(trained, options);
        var result = trainer.Step(Corpus);
        Assert.Equal([8, 4, 2], result.Bits);

        using var scope = NewDisposeScope();
        using var model = NewModel();
        var batches = Feed.Of(Corpus).Batches(NestedBytes.Spec, options);
        var batch = batches.NewBatch();
        batches.Fill(1, batch);
        var (input, targets) = batch.ToTensors(CPU);
        using var rounded = new RoundedWeights(model);
        var (gradients, means) = (zeros_like(model.Flat!.Weights), zeros(2));
        foreach (var (bits, weight) in ((int, double)[])[(8, 0.5), (4, 1), (2, 2)])
        {
            model.Flat.ClearGradients();
            rounded.Round(bits);
            var losses = model.Losses(Streams.Of<NestedBytes>([.. NestedBytes.Granularities.Reverse()]), input, targets);
            losses.mean().backward();
            rounded.Restore();
            model.Flat.GatherGradients();
            gradients += model.Flat.Gradients * (weight / 3);
            means += losses.detach() / 3;
        }

        Assert.Equal(gradients.norm().item<float>(), result.GradientNorm, 1e-4 * result.GradientNorm);
        for (var i = 0; i < 2; i++) Assert.Equal(means[1 - i].item<float>(), result.Losses[i].Loss, 1e-5);
    }

    [Fact]
    public void OtherObjectivesDrawTheBitsOfEachStep()
    {
        Assert.Equal(Drawn(1), Drawn(1));
        Assert.NotEqual(Drawn(1), Drawn(2));
        Assert.Equal([2, 4, 8], Drawn(1).Distinct().Order());

        List<int> Drawn(long seed)
        {
            using var model = NewModel();
            using var trainer = new Trainer<NestedBytes>(model, new TrainerOptions { Steps = 20, Batch = 1, Seed = seed });
            return [.. Enumerable.Range(0, 20).Select(_ => Assert.Single(trainer.Step(Corpus).Bits))];
        }
    }

    /// <summary>The checkpoint and the finished weights are float32, not rounded.</summary>
    [Theory]
    [MemberData(nameof(Objectives))]
    public void AResumedRunEqualsAnUninterruptedOne(Objective objective)
    {
        var options = new TrainerOptions
        {
            Steps = 6,
            Batch = 4,
            Objective = objective,
            BitWeights = [1, 1, 0.5],
            Distillation = objective == Objective.Split ? new() : null,
            Accumulation = 2,
            RecomputeActivations = objective == Objective.Sandwich,
            CheckpointEvery = 3,
            Seed = 3,
        };
        Fit("whole", resumes: false, _ => { });
        Assert.Throws<InvalidTimeZoneException>(() => Fit("killed", resumes: false, result =>
        {
            if (result.Step == 5) throw new InvalidTimeZoneException("killed");
        }));
        Fit("killed", resumes: true, _ => { });
        Assert.Equal(Losses("whole"), Losses("killed"));
        foreach (var file in (string[])["checkpoint.safetensors", "model.safetensors"])
            Assert.Equal(File.ReadAllBytes(PathOf(Path.Combine("whole", file))), File.ReadAllBytes(PathOf(Path.Combine("killed", file))));

        using var trained = Checkpoint.OpenUniversal<NestedBytes>(PathOf("whole/model.safetensors"));
        using var rounded = new RoundedWeights(trained);
        var before = Numbers(trained);
        rounded.Round(8);
        Assert.NotEqual(before, Numbers(trained));

        void Fit(string folder, bool resumes, Action<StepResult> progress)
        {
            using var model = NewModel();
            using var trainer = new Trainer<NestedBytes>(model, options with { OutputFolder = PathOf(folder) });
            if (resumes) trainer.Resume(PathOf(Path.Combine(folder, "checkpoint.safetensors")));
            trainer.Fit(Corpus, progress);
        }

        List<string> Losses(string folder) => [.. MetricsFile.Read(PathOf(Path.Combine(folder, "metrics.jsonl"))).Select(
            step => string.Join(' ', step.Losses) + string.Join('/', step.Bits))];
    }

    [Fact]
    public void ARunIsNotResumedWithOtherBits()
    {
        var options = new TrainerOptions { Steps = 2, Batch = 1, OutputFolder = PathOf("run") };
        using (var model = NewModel())
        using (var trainer = new Trainer<NestedBytes>(model, options)) trainer.Fit(Corpus);
        using var other = NewModel();
        using var resumed = new Trainer<NestedBytes>(other, options with { Bits = [32] });
        var thrown = Assert.Throws<CheckpointException>(() => resumed.Resume(PathOf("run/checkpoint.safetensors")));
        Assert.Contains("training.bits = '8,4,2', but now it is '32'", thrown.Message, StringComparison.Ordinal);
    }

    /// <summary>The model at 2 bits is much better after training for them than after training without.</summary>
    [Fact]
    public void TrainingForTheBitsHelpsThem()
    {
        var (with, without) = (At2Bits(null), At2Bits([32]));
        Assert.True(with < without - 0.3, $"{with} with training for 2 bits, {without} without");

        double At2Bits(ImmutableArray<int>? bits)
        {
            using var model = NewModel();
            using var trainer = new Trainer<NestedBytes>(
                model, new TrainerOptions { Steps = 300, Batch = 8, Bits = bits, LearningRate = 1e-2, Probabilities = [0, 1] });
            trainer.Fit(Corpus);
            var rows = PrecisionEvaluator.Run(model, Corpus, [2], new EvaluationOptions { Windows = 16, Continuations = 0 });
            return rows[0].Evaluation.Rows[1].BitsPerByte;
        }
    }

    [Fact]
    public void StepsAtSomeBitsLeakNoTensors()
    {
        using var model = NewModel();
        foreach (var objective in Enum.GetValues<Objective>())
        {
            using var trainer = new Trainer<NestedBytes>(model, new TrainerOptions { Objective = objective, Steps = 100, Batch = 2 });
            for (var step = 0; step < 3; step++) trainer.Step(Corpus);
            var tensors = LiveTensors.Count();
            for (var step = 0; step < 10; step++) trainer.Step(Corpus);
            Assert.True(tensors == Tensor.TotalCount, $"{objective}: {Tensor.TotalCount - tensors} tensors more");
        }
    }

    [Fact]
    public void BitsThatCannotBeAreRefused()
    {
        using var model = NewModel();
        Refused(new TrainerOptions { Bits = [8, 3] }, "The training option Bits is (8, 3); it must be one or more of 32, 8, 4 and 2");
        Refused(new TrainerOptions { Bits = [8, 8] }, "each once");
        Refused(new TrainerOptions { BitWeights = [1, 1] }, "BitWeights is (1, 1); it must be left out, or 3 numbers above 0");

        void Refused(TrainerOptions options, string says) => Assert.Contains(
            says, Assert.Throws<ArgumentException>(() => new Trainer<NestedBytes>(model, options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheProgramTrainsMeasuresAndShowsBits()
    {
        _ = Corpus;
        var (data, run) = (PathOf("text"), PathOf("run"));
        await Run("train", "--data", data, "--steps", "2", "--batch", "2", "--bits", "8,4", "--bit-weights", "1,2", "--out", run, "--json");
        using var measured = JsonDocument.Parse(
            await Run("eval", "--data", data, "--windows", "4", "--bits", "8,2", "--out", run, "--json"));
        var precision = measured.RootElement.GetProperty("precision");
        Assert.Equal([8, 2], precision.EnumerateArray().Select(row => row.GetProperty("bits").GetInt32()));
        Assert.All(precision.EnumerateArray(), row =>
        {
            var phone = row.GetProperty("results").EnumerateArray().Single(r => r.GetProperty("name").GetString() == "Phone");
            Assert.InRange(phone.GetProperty("bits_per_byte").GetDouble(), 1, 20);
            Assert.InRange(phone.GetProperty("weight_bytes").GetInt64(), 1, NestedBytes.Phone.WeightBytes * 2);
        });

        // A profile is decoded in its bits, as a part of the universal model and as a slice, unless others are asked for.
        string[] generate = ["generate", "--tokens", "2", "--out", run, "--json"];
        Assert.Equal("nested4", Decoded(await Run([.. generate, "--profile", "Phone"])));
        Assert.Equal("f32", Decoded(await Run([.. generate, "--profile", "Phone", "--weights", "f32"])));
        Assert.Equal("f32", Decoded(await Run([.. generate, "--profile", "S", "--dtype", "f32"])));
        await Run("extract", "--profile", "Phone", "--out", run);
        Assert.Equal("nested4", Decoded(await Run([.. generate, "--checkpoint", Path.Combine(run, "phone.safetensors")])));

        using var profiles = JsonDocument.Parse(await Run("profiles", "--json"));
        var shown = profiles.RootElement.GetProperty("profiles").EnumerateArray().Single(p => p.GetProperty("name").GetString() == "Phone");
        Assert.Equal(
            (4, NestedBytes.Phone.WeightBytes), (shown.GetProperty("bits").GetInt32(), shown.GetProperty("weight_bytes").GetInt64()));
    }

    private static string? Decoded(string json)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.GetProperty("weights").GetString();
    }

    private static async Task<string> Run(params string[] arguments)
    {
        using var output = new StringWriter(CultureInfo.InvariantCulture);
        using var errors = new StringWriter(CultureInfo.InvariantCulture);
        var code = await ModelProgram.RunAsync<NestedBytes>(arguments, output, errors, TestContext.Current.CancellationToken);
        Assert.True(code == 0, errors.ToString());
        return output.ToString();
    }

    private static NestedBytes NewModel()
    {
        manual_seed(1);
        return DrawnModel.New<NestedBytes>();
    }

    private static Dictionary<string, float[]> Numbers(MatFormerModel model) =>
        model.named_parameters().ToDictionary(p => p.Item1, p => p.Item2.data<float>().ToArray());

    private string PathOf(string name) => Path.Combine(_folder, name);
}
