using System.Runtime.InteropServices;
using System.Text.Json;
using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A byte-level model whose small size keeps a part of everything.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(128, Activation.SwiGlu)]
[Granularity("S", 40, Heads = 2, Width = 48), Granularity("M", 64), Granularity("XL", 128)]
public sealed partial class CalibratedBytes;

/// <summary>Tests weights of 8 bits that are rounded by the states of a trained model.</summary>
public sealed class WeightCalibrationTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-calibrated-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AMatrixIsRoundedAsPyTorchRecorded()
    {
        using var scope = NewDisposeScope();
        var recorded = OracleTests.ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "CalibratedMatrix.safetensors"));
        var inputs = recorded["inputs"].to(ScalarType.Float64);
        var rounding = new CalibratedRounding(inputs.t().mm(inputs), [40, 72], [8, 4, 2], [1, 1, 0.1], 0.01);
        var weights = recorded["weight"].data<float>().ToArray();
        rounding.Round(weights);
        Assert.Equal(recorded["rounded"].data<float>().ToArray(), weights);
        Oracles.Compared("PyTorch: weights rounded by calibration", weights.Length);
    }

    /// <summary>The columns of a size do not rely on columns that the size lacks to take their errors.</summary>
    [Fact]
    public void ASmallerSizeIsCalibratedByItself()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var inputs = randn(500, 16, ScalarType.Float64).mm(randn(16, 96, ScalarType.Float64)) + (randn(500, 96, ScalarType.Float64) * 0.3);
        var hessian = inputs.t().mm(inputs);
        var matrix = randn(20, 96);
        var (apart, together) = (Rounded([32, 96]), Rounded([96]));
        foreach (var bits in (int[])[4, 2])
        {
            Assert.True(Error(apart, bits, 32) < 0.9 * Error(together, bits, 32), $"S at {bits} bits");
            Assert.True(Error(apart, bits, 32) < 0.9 * Error(matrix, bits, 32), $"S at {bits} bits, rounded");
            Assert.True(Error(apart, bits, 96) < 0.9 * Error(matrix, bits, 96), $"XL at {bits} bits");
        }

        Tensor Rounded(int[] ends)
        {
            var weights = matrix.data<float>().ToArray();
            new CalibratedRounding(hessian, ends, [8, 4, 2], [1, 1, 0.1], 0.01).Round(weights);
            return tensor(weights, matrix.shape);
        }

        double Error(Tensor its, int bits, long columns)
        {
            var change = (RoundedWeights.Rounded(its, bits) - matrix).narrow(1, 0, columns).to(ScalarType.Float64);
            return change.mm(hessian.narrow(0, 0, columns).narrow(1, 0, columns)).mul(change).sum().item<double>();
        }
    }

    /// <summary>The loss of a single small model at 2 bits varies by chance, so it is compared over sizes and seeds.</summary>
    [Fact]
    public void TheLossAtFewBitsIsBetterThanThatOfPlainRounding()
    {
        using var corpus = TestCorpus.Open(_folder);
        var changes = new List<List<List<double>>>();
        for (var seed = 1; seed <= 4; seed++)
        {
            using var model = Trained(corpus, seed);
            var plain = Losses(model, corpus);
            WeightCalibrator.Run(model, corpus);
            changes.Add([.. plain.Zip(Losses(model, corpus), (p, c) => p.Zip(c, (before, after) => after - before).ToList())]);
        }

        var what = string.Join("; ", changes.Select(
            its => string.Join(" / ", its.Select(b => string.Join(" ", b.Select(c => $"{c:+0.0000;-0.0000}"))))));
        Assert.True(changes.Average(its => its[0].Average()) < 0.01, what);
        Assert.True(changes.Average(its => its[1].Average()) < 0.01, what);
        Assert.True(changes.Average(its => its[2].Average()) < -0.05, what);
    }

    /// <summary>Every size of every model gains, but how much varies by chance, so that is averaged.</summary>
    [Fact]
    public void FewBitsOfATrainedModelAreNearerToItThanThoseOfPlainRounding()
    {
        using var corpus = TestCorpus.Open(_folder);
        var shares = new List<(int Bits, double Share)>();
        for (var seed = 1; seed <= 3; seed++)
        {
            using var scope = NewDisposeScope();
            using var model = Trained(corpus, seed);
            using var unrecorded = no_grad();
            var tokens = tensor(
                Windows.Fixed(corpus.Validation, 32, 48).SelectMany(w => w[..32]).Select(t => (long)t).ToArray(), [48, 32]);
            var exact = CalibratedBytes.Granularities.Select(size => model.Forward(size, tokens)).ToList();
            var far = Distances(model, tokens, exact);
            WeightCalibrator.Run(model, corpus);
            shares.AddRange(far.Zip(Distances(model, tokens, exact), (before, after) => (before.Bits, after.Distance / before.Distance)));
        }

        var what = string.Join(", ", shares.Select(its => $"{its.Bits} bits: {its.Share:0.000}"));
        Assert.All(shares, its => Assert.True(its.Share < 1, what));
        Assert.All(shares.GroupBy(its => its.Bits), bits => Assert.True(bits.Average(its => its.Share) < 0.75, what));
    }

    // The mean squared distance of the logits of each size from the exact ones, at 4 and 2 bits.
    private static List<(int Bits, double Distance)> Distances(CalibratedBytes model, Tensor tokens, List<Tensor> exact)
    {
        using var rounded = new RoundedWeights(model);
        var distances = new List<(int, double)>();
        foreach (var bits in (int[])[4, 2])
        {
            rounded.Round(bits);
            distances.AddRange(CalibratedBytes.Granularities.Zip(exact, (size, logits) =>
                (bits, (double)(model.Forward(size, tokens) - logits).square().mean().item<float>())));
        }

        return distances;
    }

    [Fact]
    public void CalibrationChangesTheOutputsOfMatricesLessAndKeepsTheirEightBits()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = Trained(corpus, 1);
        var before = model.named_parameters().ToDictionary(p => p.name, p => p.parameter.data<float>().ToArray());
        var calibration = WeightCalibrator.Run(model, corpus);

        // The outputs of nearly all matrices change less at few bits.
        Assert.Equal(128 * 32, calibration.Tokens);
        Assert.Equal(before.Keys.Where(name => before[name].Length > 64).Order(), calibration.Matrices.Select(m => m.Name).Order());
        foreach (var bits in (int[])[1, 2])
        {
            Assert.True(calibration.Matrices.Count(m => m.Calibrated[bits] < m.Plain[bits]) >= 0.8 * calibration.Matrices.Length);
            Assert.True(calibration.Matrices.Average(m => m.Calibrated[bits]) < 0.9 * calibration.Matrices.Average(m => m.Plain[bits]));
        }

        // All weights are those of 8-bit numbers, which rounding finds again.
        foreach (var (name, parameter) in model.named_parameters())
        {
            var numbers = parameter.data<float>().ToArray();
            if (!ModelDecoding.IsRounded(name, parameter))
            {
                Assert.Equal(before[name], numbers);
                continue;
            }

            var columns = (int)parameter.shape[1];
            var again = new float[columns];
            for (var row = 0; row < numbers.Length; row += columns)
            {
                NestedRounding.Round(numbers.AsSpan(row, columns), 8, again);
                Assert.True(MemoryMarshal.AsBytes(again.AsSpan()).SequenceEqual(MemoryMarshal.AsBytes(numbers.AsSpan(row, columns))), name);
            }
        }
    }

    [Fact]
    public void TheLevelOfTheKernelsDoesNotMatter()
    {
        using var corpus = TestCorpus.Open(_folder);
        manual_seed(3);
        using var model = DrawnModel.New<CalibratedBytes>();
        using var tokens = randint(256, [2, 8], ScalarType.Int64);
        var seen = new HashSet<string>();
        var names = model.named_parameters().ToDictionary(p => TensorMemory.Of(p.parameter), p => p.name);
        using (no_grad())
        using (new ProductInputs((input, weights) => seen.UnionWith(weights.Select(weight => names[TensorMemory.Of(weight)]))))
        {
            using var logits = model.Forward(CalibratedBytes.Profile.S, tokens);
            Assert.Throws<InvalidOperationException>(() => new ProductInputs((_, _) => { }));
        }

        Assert.Equal(names.Values.Where(name => !name.Contains("norm", StringComparison.Ordinal)).Order(), seen.Order());
        Assert.False(ProductInputs.AreWanted);
    }

    [Fact]
    public void WrongOptionsAreRefused()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = DrawnModel.New<CalibratedBytes>();
        (string Says, WeightCalibrationOptions Options)[] wrong =
        [
            ("Bits is (32); it must be one or more of 8, 4 and 2, descending", new() { Bits = [32] }),
            ("Bits is ()", new() { Bits = [] }),
            ("Bits is (2, 4)", new() { Bits = [2, 4] }),
            ("BitWeights is (1); it must be left out, or 2 numbers above 0", new() { Bits = [8, 4], BitWeights = [1] }),
            ("BitWeights is (1, 0)", new() { Bits = [8, 4], BitWeights = [1, 0] }),
            ("Windows is 0; it must be 1 or more", new() { Windows = 0 }),
            ("Damping is -1; it must be above 0", new() { Damping = -1 }),
        ];
        foreach (var (says, options) in wrong)
        {
            var error = Assert.Throws<ArgumentException>(() => WeightCalibrator.Run(model, corpus, options));
            Assert.Contains(says, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task TheCommandWritesAnotherFolder()
    {
        var (weights, output) = (Path.Combine(_folder, "weights", "model.safetensors"), Path.Combine(_folder, "calibrated"));
        TestCorpus.Write(Path.Combine(_folder, "text"));
        Directory.CreateDirectory(Path.GetDirectoryName(weights)!);
        manual_seed(4);
        using (var model = DrawnModel.New<CalibratedBytes>()) model.Save(weights);
        var before = await File.ReadAllBytesAsync(weights);
        string[] common = ["calibrate-weights", "--checkpoint", weights, "--data", Path.Combine(_folder, "text"), "--dtype", "f32"];
        var (code, text, error) = await Run([.. common, "--windows", "3", "--bits", "8,4", "--out", output, "--json"]);
        Assert.True(code == 0, error);
        using var document = JsonDocument.Parse(text);
        Assert.Equal(3 * 32, document.RootElement.GetProperty("training_tokens").GetInt32());
        var matrices = document.RootElement.GetProperty("matrices");
        Assert.Equal([8, 4], matrices[0].GetProperty("errors").EnumerateArray().Select(its => its.GetProperty("bits").GetInt32()));
        Assert.Equal(before, await File.ReadAllBytesAsync(weights));
        using (var rounded = Checkpoint.OpenUniversal<CalibratedBytes>(Path.Combine(output, "model.safetensors"), CPU))
        {
            var (_, matrix) = rounded.named_parameters().First(p => p.parameter.dim() == 2);
            Assert.True(RoundedWeights.Rounded(matrix, 8).equal(matrix).all().item<bool>());
        }

        string[] slice = ["extract", "--checkpoint", weights, "--profile", "S", "--out", Path.Combine(_folder, "slice")];
        Assert.Equal(0, (await Run(slice)).Code);
        (string Says, string[] Arguments)[] wrong =
        [
            ("already exists; give another --out", [.. common, "--out", output]),
            ("--out is the folder of the weights", [.. common, "--out", Path.GetDirectoryName(weights)!]),
            ("--bits is (32); it must be one or more of 8, 4 and 2, descending",
                [.. common, "--bits", "32", "--out", Path.Combine(_folder, "new")]),
            ("--bit-weights is (1); it must be left out, or 2 numbers above 0",
                [.. common, "--bits", "8,4", "--bit-weights", "1", "--out", Path.Combine(_folder, "new")]),
            ("is the slice S", ["calibrate-weights", "--checkpoint", Path.Combine(_folder, "slice", "s.safetensors"), "--data",
                Path.Combine(_folder, "text"), "--out", Path.Combine(_folder, "new")]),
        ];
        foreach (var (says, arguments) in wrong)
        {
            var (exit, none, message) = await Run(arguments);
            Assert.Equal((2, string.Empty), (exit, none));
            Assert.Contains(says, message, StringComparison.Ordinal);
            Assert.Single(message.Trim().Split('\n'));
        }
    }

    private static CalibratedBytes Trained(TextCorpus corpus, int seed)
    {
        manual_seed(seed);
        var model = DrawnModel.New<CalibratedBytes>();
        var options = new TrainerOptions { Steps = 250, Batch = 8, Objective = Objective.Split, LearningRate = 5e-3, Seed = seed };
        using var trainer = new Trainer<CalibratedBytes>(model, options);
        trainer.Fit(corpus);
        return model;
    }

    // The bits per byte of each size, at 8, 4 and 2 bits.
    private static List<List<double>> Losses(CalibratedBytes model, TextCorpus corpus) =>
    [
        .. PrecisionEvaluator.Run(model, corpus, [8, 4, 2], new EvaluationOptions { Windows = 32, Continuations = 0 })
            .Select(row => row.Evaluation.Rows.Select(result => result.BitsPerByte).ToList()),
    ];

    private static async Task<(int Code, string Output, string Error)> Run(string[] arguments)
    {
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await ModelProgram.RunAsync<CalibratedBytes>(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }
}
