using System.Collections.Immutable;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How weights are calibrated.</summary>
public sealed record WeightCalibrationOptions
{
    /// <summary>The bits at which the model shall be good: 8, 4 or 2, descending.</summary>
    public ImmutableArray<int> Bits { get; init; } = [8, 4, 2];

    /// <summary>
    /// The factor of the squared error at each of <see cref="Bits"/>. If empty, it is 0.1 for 2 bits, whose errors would outweigh the
    /// others, and 1 for 8 and 4.
    /// </summary>
    public ImmutableArray<double> BitWeights { get; init; } = [];

    /// <summary>
    /// The number of windows of training text whose states are looked at, each as long as the context, at most 512 tokens.
    /// </summary>
    public int Windows { get; init; } = 128;

    /// <summary>The share of the mean of each diagonal that is added to it, so that rare inputs do not decide.</summary>
    public double Damping { get; init; } = 0.01;

    internal void Validate()
    {
        Check(
            !Bits.IsEmpty && Bits.All(b => b is 8 or 4 or 2) && Bits.SequenceEqual(Bits.Distinct().OrderDescending()),
            nameof(Bits), $"({string.Join(", ", Bits)})", "one or more of 8, 4 and 2, descending");
        Check(
            BitWeights.IsEmpty || (BitWeights.Length == Bits.Length && BitWeights.All(w => w > 0 && double.IsFinite(w))),
            nameof(BitWeights), $"({string.Join(", ", BitWeights)})", $"left out, or {Counted.Of(Bits.Length, "number")} above 0");
        Check(Windows >= 1, nameof(Windows), Windows, "1 or more");
        Check(Damping > 0 && double.IsFinite(Damping), nameof(Damping), Damping, "above 0");
    }

    private static void Check(bool good, string name, object value, string range)
    {
        if (good) return;
        throw new ArgumentException(FormattableString.Invariant($"The calibration option {name} is {value}; it must be {range}."));
    }
}

/// <summary>What calibration did to one matrix.</summary>
/// <param name="Name">The name of the weight.</param>
/// <param name="Plain">
/// For each of the bits: the squared change of the matrix's outputs by plain rounding, as a share of the squared outputs. 0 if the inputs
/// are not known, such as the tokens of an embedding.
/// </param>
/// <param name="Calibrated">The same after calibration.</param>
public sealed record CalibratedMatrix(string Name, ImmutableArray<double> Plain, ImmutableArray<double> Calibrated);

/// <summary>What calibration did to a model.</summary>
/// <param name="Bits">The bits.</param>
/// <param name="Matrices">The matrices that were rounded.</param>
/// <param name="Tokens">The number of tokens whose states were looked at.</param>
public sealed record WeightCalibration(ImmutableArray<int> Bits, ImmutableArray<CalibratedMatrix> Matrices, long Tokens);

/// <summary>
/// Rounds a trained model's weights to 8 bits whose upper 4 and 2 bits are good models too, by the states that the model has on training
/// text (GPTQ, arXiv 2210.17323, for several bits at once as in MatGPTQ, arXiv 2602.03537, and for several sizes).
/// </summary>
public static class WeightCalibrator
{
    /// <summary>
    /// Replaces the matrices of a language model by their rounded values, which have exactly the 8-bit numbers that decoding and files find
    /// in them. Norms, biases and tables of positions stay as they are.
    /// </summary>
    /// <param name="model">The universal model.</param>
    /// <param name="corpus">The model runs over training text.</param>
    /// <param name="options">The options.</param>
    /// <param name="cancellationToken">Cancels the calibration. The model is then partly rounded.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="DataException">The text does not fit the model, or is shorter than a window.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static WeightCalibration Run<TModel>(
        TModel model, TextCorpus corpus, WeightCalibrationOptions? options = null, CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(corpus);
        options ??= new WeightCalibrationOptions();
        options.Validate();
        Feed.Of(corpus).CheckFits(model);
        using var unrecorded = no_grad();
        var (inputs, tokens) = InputsOf(model, corpus, options, cancellationToken);
        var results = ImmutableArray.CreateBuilder<CalibratedMatrix>();
        try
        {
            foreach (var (name, weight) in model.named_parameters())
            {
                if (!ModelDecoding.IsRounded(name, weight)) continue;
                cancellationToken.ThrowIfCancellationRequested();
                results.Add(Round(name, weight, inputs.GetValueOrDefault(TensorMemory.Of(weight)), options, cancellationToken));
            }
        }
        finally
        {
            foreach (var its in inputs.Values.Distinct()) its.Dispose();
        }

        return new WeightCalibration(options.Bits, results.ToImmutable(), tokens);
    }

    // Runs every granularity over text, and returns the inputs of each matrix by the address of its numbers.
    private static (Dictionary<nint, Inputs> Inputs, long Tokens) InputsOf<TModel>(
        TModel model, TextCorpus corpus, WeightCalibrationOptions options, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var inputs = new Dictionary<nint, Inputs>();
        var count = 0L;
        using var receiver = new ProductInputs((input, weights) =>
        {
            if (!inputs.TryGetValue(TensorMemory.Of(weights[0]), out var its)) its = new Inputs((int)weights[0].shape[1]);
            its.Add(input);
            foreach (var weight in weights) inputs[TensorMemory.Of(weight)] = its;
        });
        foreach (var windows in Windows.Fixed(corpus.Training, Math.Min(TModel.Spec.Context, 512), options.Windows).Chunk(4))
        {
            cancellationToken.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var (tokens, _) = TokenBatch.Of(windows).ToTensors(model.Device);
            count += tokens.numel();
            foreach (var granularity in TModel.Granularities) model.Forward(granularity, tokens);
        }

        return (inputs, count);
    }

    private static CalibratedMatrix Round(
        string name, Parameter weight, Inputs? inputs, WeightCalibrationOptions options, CancellationToken cancellationToken)
    {
        using var scope = NewDisposeScope();
        var columns = (int)weight.shape[1];
        var hessian = inputs?.Sum ?? zeros(columns, columns, ScalarType.Float64);
        var before = weight.to(ScalarType.Float32).cpu().contiguous().clone();

        // Rows of an embedding are read as they are, as by an input of one 1. A tied one is a matrix of products besides.
        if (inputs is null) hessian = eye(columns, columns, ScalarType.Float64);
        else if (IsEmbedding(name))
        {
            hessian = hessian.add(hessian.diagonal().mean() * eye(columns, columns, ScalarType.Float64), Numbers.One);
        }

        var factors = options.BitWeights;
        if (factors.IsEmpty) factors = [.. options.Bits.Select(bits => bits == 2 ? 0.1 : 1)];
        var rounding = new CalibratedRounding(
            hessian, inputs?.Ends ?? [columns], options.Bits, factors, options.Damping);
        var numbers = before.data<float>().ToArray();
        rounding.Round(numbers, cancellationToken);
        using var after = tensor(numbers, before.shape);
        weight.copy_(after);
        return new CalibratedMatrix(name, Changes(before), Changes(after));

        ImmutableArray<double> Changes(Tensor its) =>
        [
            .. options.Bits.Select(bits =>
            {
                using var rounded = RoundedWeights.Rounded(its, bits);
                return inputs is null ? 0 : Energy(rounded - before) / Energy(before);
            }),
        ];

        double Energy(Tensor matrix)
        {
            using var inner = NewDisposeScope();
            var wide = matrix.to(ScalarType.Float64);
            return wide.mm(inputs!.Sum).mul(wide).sum().item<double>();
        }
    }

    private static bool IsEmbedding(string name) => name.EndsWith("embed_tokens.weight", StringComparison.Ordinal);

    /// <summary>The sum of x x^T over the inputs of a matrix, and the numbers of columns that they had.</summary>
    private sealed class Inputs(int columns) : IDisposable
    {
        private readonly SortedSet<int> _ends = [columns];

        public Tensor Sum { get; } = zeros(columns, columns, ScalarType.Float64).DetachFromDisposeScope();

        public IEnumerable<int> Ends => _ends;

        public void Add(Tensor input)
        {
            using var scope = NewDisposeScope();
            var width = (int)input.shape[^1];
            _ends.Add(width);
            var rows = input.reshape(-1, width).to(ScalarType.Float32);
            Sum.narrow(0, 0, width).narrow(1, 0, width).add_(rows.t().mm(rows).cpu(), Numbers.One);
        }

        public void Dispose() => Sum.Dispose();
    }
}
