using System.Collections.Immutable;
using System.ComponentModel;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The base class of generated models: a universal model, or one of its slices. The <c>forward</c> of a language model takes tokens (B, T)
/// int64 and returns logits (B, T, Vocabulary) float32. A vision transformer takes pixels (B, C, H, H) float32, from -1 to 1, and returns
/// logits (B, Classes). A text encoder takes tokens, with -1 after the end of a text, and returns embeddings (B, width) of length 1.
/// </summary>
public abstract class MatFormerModel : nn.Module<Tensor, Tensor>
{
    private ScalarType _computeType = ScalarType.Float32;

    /// <summary>Called by generated code.</summary>
    protected MatFormerModel(string name)
        : base(name)
    {
    }

    /// <summary>The declared sizes. For a slice, too, they are the universal model's.</summary>
    public abstract ModelSpec Architecture { get; }

    /// <summary>The name of this model's profile, such as <c>XL</c> or <c>Phone</c>.</summary>
    public abstract string ProfileName { get; }

    /// <summary>What this model keeps of each layer, beginning with the first layer.</summary>
    public abstract ImmutableArray<LayerSlice> Layers { get; }

    /// <summary>
    /// The bits, 8, 4 or 2, in which the profile is meant to be stored and decoded. Null if no bits are declared. The weights themselves
    /// are float32.
    /// </summary>
    public virtual int? ProfileBits => null;

    /// <summary>True if the model contains all granularities, so that it is not a slice.</summary>
    public abstract bool IsUniversal { get; }

    /// <summary>
    /// The dtype of activations and matrix products, Float32 or BFloat16. Weights stay float32; norms, softmax statistics and losses are
    /// computed in float32.
    /// </summary>
    /// <exception cref="ArgumentException">The value is another dtype.</exception>
    public ScalarType ComputeType
    {
        get => _computeType;
        set => _computeType = value is ScalarType.Float32 or ScalarType.BFloat16
            ? value
            : throw new ArgumentException($"The compute type {value} is not supported; use Float32 or BFloat16.", nameof(value));
    }

    /// <summary>
    /// The <see cref="Tokenizer.Fingerprint"/> of the tokenizer that the model was trained with. It is saved with the weights. If it is
    /// null, the tokenizer is unknown, and any tokenizer is accepted.
    /// </summary>
    public string? TokenizerFingerprint { get; set; }

    /// <summary>The data that the model was trained on, which its files remember; null if it is unknown.</summary>
    internal RememberedData? TrainedOn { get; set; }

    /// <summary>Takes over from the model that this one is a slice or view of: the dtype, the tokenizer and the data of training.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    protected void DescendFrom(MatFormerModel source)
    {
        ArgumentNullException.ThrowIfNull(source);
        (ComputeType, TokenizerFingerprint, TrainedOn) = (source.ComputeType, source.TokenizerFingerprint, source.TrainedOn);
    }

    /// <summary>The device of the weights.</summary>
    public abstract Device Device { get; }

    /// <summary>
    /// Returns the logits (B, T, Vocabulary) float32 of tokens (B, T) that follow the tokens in <paramref name="cache"/>, and adds the new
    /// tokens to the cache.
    /// </summary>
    /// <exception cref="NotSupportedException">The model is not a language model.</exception>
    public virtual Tensor forward(Tensor tokens, KeyValueCache cache) => throw NotDecoder();

    /// <summary>
    /// Returns the embeddings of an encoder, (B, width) float32. Each is cut to its first numbers and then scaled to length 1.
    /// </summary>
    /// <param name="input">The input, as for <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; null keeps all numbers.</param>
    /// <exception cref="ArgumentException">The input does not fit, or no such dimension is declared.</exception>
    /// <exception cref="NotSupportedException">The model is a language model.</exception>
    public virtual Tensor Embed(Tensor input, int? width = null) =>
        throw new NotSupportedException($"{Architecture.Name} is a language model; only encoders have embeddings.");

    /// <summary>
    /// Returns the logits (B, Classes) float32 that a vision transformer computes from only the first numbers of its embeddings.
    /// </summary>
    /// <param name="pixels">The pixels, as for <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; null uses all numbers, as <c>forward</c> does.</param>
    /// <exception cref="ArgumentException">The pixels do not fit, or no such dimension is declared.</exception>
    /// <exception cref="NotSupportedException">The model is not a vision transformer.</exception>
    public virtual Tensor Classify(Tensor pixels, int? width = null) =>
        throw new NotSupportedException($"{Architecture.Name} is not a vision transformer; only vision transformers classify.");

    /// <summary>
    /// Returns the output of a universal model at a compute budget: as <c>forward</c> does, but in a routed layer each token uses the
    /// hidden units of the granularity that its router chooses (<see cref="RoutingBudget"/>).
    /// </summary>
    /// <param name="budget">
    /// The mean share of the hidden units that a token uses, at most. A language model takes one of its declared budgets: each token then
    /// chooses by itself, so that the mean holds over text like that of training.
    /// </param>
    /// <param name="input">The input, as for <c>forward</c>.</param>
    /// <exception cref="ArgumentException">The input does not fit, the budget is out of range, or it has no thresholds.</exception>
    /// <exception cref="NotSupportedException">The model has no routers: it is a slice, or does not declare <c>[Routing]</c>.</exception>
    public virtual Tensor Forward(double budget, Tensor input) => throw NotRouted();

    /// <summary>Returns the embeddings of an encoder at a compute budget, as <c>Embed</c> without a budget does.</summary>
    /// <param name="budget">The mean share of the hidden units that a token uses, at most.</param>
    /// <param name="input">The input, as for <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; null keeps all numbers.</param>
    /// <exception cref="ArgumentException">
    /// The input does not fit, no such dimension is declared, or the budget is out of range.
    /// </exception>
    /// <exception cref="NotSupportedException">The model has no routers: it is a slice, or does not declare <c>[Routing]</c>.</exception>
    public virtual Tensor Embed(double budget, Tensor input, int? width = null) => throw NotRouted();

    /// <summary>Returns the logits of a vision transformer at a compute budget, as <c>Classify</c> without a budget does.</summary>
    /// <param name="budget">The mean share of the hidden units that a token uses, at most.</param>
    /// <param name="pixels">The pixels, as for <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; null uses all numbers, as <c>forward</c> does.</param>
    /// <exception cref="ArgumentException">The pixels do not fit, no such dimension is declared, or the budget is out of range.</exception>
    /// <exception cref="NotSupportedException">The model has no routers: it is a slice, or does not declare <c>[Routing]</c>.</exception>
    public virtual Tensor Classify(double budget, Tensor pixels, int? width = null) => throw NotRouted();

    /// <summary>
    /// Returns the output of a model with compressed tokens (<c>[Lookup]</c>). <c>forward</c> does the same at the largest declared grid.
    /// </summary>
    /// <param name="grid">The side of a declared grid of compressed tokens.</param>
    /// <param name="input">The input, as for <c>forward</c>.</param>
    /// <exception cref="ArgumentException">The input does not fit, or no such grid is declared.</exception>
    /// <exception cref="NotSupportedException">The model has no compressed tokens.</exception>
    public virtual Tensor Forward(int grid, Tensor input) => throw NotCompressed();

    /// <summary>Returns the embeddings of an encoder at a grid of compressed tokens, as <c>Embed</c> without a grid does.</summary>
    /// <param name="grid">The side of a declared grid of compressed tokens.</param>
    /// <param name="input">The input, as for <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; null keeps all numbers.</param>
    /// <exception cref="ArgumentException">The input does not fit, or no such grid or dimension is declared.</exception>
    /// <exception cref="NotSupportedException">The model has no compressed tokens.</exception>
    public virtual Tensor Embed(int grid, Tensor input, int? width = null) => throw NotCompressed();

    /// <summary>Returns class logits at a grid of compressed tokens, as <c>Classify</c> without a grid does.</summary>
    /// <param name="grid">The side of a declared grid of compressed tokens.</param>
    /// <param name="pixels">The pixels, as for <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; null uses all numbers, as <c>forward</c> does.</param>
    /// <exception cref="ArgumentException">The pixels do not fit, or no such grid or dimension is declared.</exception>
    /// <exception cref="NotSupportedException">The model has no compressed tokens.</exception>
    public virtual Tensor Classify(int grid, Tensor pixels, int? width = null) => throw NotCompressed();

    /// <summary>Creates an empty key/value cache for this model, in <see cref="ComputeType"/>, on the model's device.</summary>
    /// <param name="batch">The number of sequences.</param>
    /// <param name="capacity">The number of tokens per sequence; the context if null.</param>
    /// <exception cref="ArgumentOutOfRangeException">The capacity is less than 1 or more than the context.</exception>
    /// <exception cref="NotSupportedException">The model is not a language model.</exception>
    public KeyValueCache NewCache(int batch = 1, int? capacity = null)
    {
        if (Architecture.Kind != ModelKind.LanguageModel) throw NotDecoder();
        var tokens = capacity ?? Architecture.Context;
        ArgumentOutOfRangeException.ThrowIfLessThan(tokens, 1, nameof(capacity));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tokens, Architecture.Context, nameof(capacity));
        var heads = new int[Layers.Length];
        for (var layer = 0; layer < heads.Length; layer++) heads[layer] = Architecture.Blocks[layer].KeyValueHeadsOf(Layers[layer]);
        return new KeyValueCache(heads, batch, tokens, Architecture.HeadWidth, ComputeType, Device);
    }

    /// <summary>Whether <see cref="NewDecodingNetwork"/> is implemented. Generated code implements it.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    protected virtual bool CanDecode => false;

    internal bool IsDecodable => CanDecode;

    /// <summary>Packs the weights for a <see cref="DecodingEngine"/>.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    protected virtual DecodingNetwork NewDecodingNetwork(WeightPacker packer) =>
        throw new NotSupportedException($"{Architecture.Name} has no decoding network.");

    internal DecodingNetwork Pack(WeightPacker packer) => NewDecodingNetwork(packer);

    /// <summary>Refreshes the fields of generated code from the registered parameters, which <c>to</c> replaces.</summary>
    protected abstract void BindParameters();

    /// <summary>Checks a batch before it reaches native code.</summary>
    /// <exception cref="ArgumentException">The tokens are not (B, T) int64, or are longer than the context.</exception>
    protected void CheckTokens(Tensor tokens, KeyValueCache? cache = null)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (tokens.dtype != ScalarType.Int64 || tokens.dim() != 2)
        {
            throw new ArgumentException(
                $"{Architecture.Name} takes tokens of shape (B, T) and dtype Int64, not ({string.Join(", ", tokens.shape)}) "
                + $"{tokens.dtype}.",
                nameof(tokens));
        }

        var limit = cache?.Capacity ?? Architecture.Context;
        var position = cache?.Length ?? 0;
        var time = tokens.shape[1];
        if (time == 0 || position + time > limit)
        {
            throw new ArgumentException(
                $"{Architecture.Name} takes 1 to {limit - position} more tokens here (context {Architecture.Context}, {position} in the "
                + $"cache), not {time}.",
                nameof(tokens));
        }
    }

    /// <summary>Checks images before they reach native code.</summary>
    /// <exception cref="ArgumentException">The pixels are not (B, C, H, H) float32.</exception>
    protected void CheckPixels(Tensor pixels)
    {
        ArgumentNullException.ThrowIfNull(pixels);
        var image = Architecture.Image!;
        if (pixels.dtype == ScalarType.Float32 && pixels.dim() == 4 && pixels.shape[0] > 0 && pixels.shape[1] == image.Channels
            && pixels.shape[2] == image.Size && pixels.shape[3] == image.Size) return;
        throw new ArgumentException(
            $"{Architecture.Name} takes pixels of shape (B, {image.Channels}, {image.Size}, {image.Size}) and dtype Float32, not "
            + $"({string.Join(", ", pixels.shape)}) {pixels.dtype}.",
            nameof(pixels));
    }

    /// <summary>Checks the targets of a loss. The input must be checked before.</summary>
    /// <exception cref="ArgumentException">
    /// The targets are not (B, T) int64 for a language model; not (B) int64 or (B, Classes) float32 for a vision transformer; or not (B)
    /// int64 with an even B for a text encoder.
    /// </exception>
    protected void CheckTargets(Tensor input, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(targets);
        long[] given = targets.shape;
        var rows = input.shape[0];
        var (fits, expected) = Architecture.Kind switch
        {
            ModelKind.LanguageModel => (
                targets.dtype == ScalarType.Int64 && given.AsSpan().SequenceEqual(input.shape),
                $"({string.Join(", ", input.shape)}) Int64, like the tokens"),
            ModelKind.VisionTransformer => (
                (targets.dtype == ScalarType.Int64 && given is [var n] && n == rows)
                || (targets.dtype == ScalarType.Float32 && given is [var m, var classes] && m == rows
                    && classes == Architecture.Image!.Classes),
                $"({rows}) Int64 or ({rows}, {Architecture.Image?.Classes}) Float32"),
            _ => (
                targets.dtype == ScalarType.Int64 && given is [var n] && n == rows && n % 2 == 0,
                $"({rows}) Int64 with an even number of rows"),
        };
        if (fits) return;
        throw new ArgumentException(
            $"The targets must be {expected}, not ({string.Join(", ", given)}) {targets.dtype}.", nameof(targets));
    }

    /// <summary>Returns the width to which embeddings are cut.</summary>
    /// <exception cref="ArgumentException">No such width is declared.</exception>
    protected int EmbeddingWidth(int? width) => Architecture.CheckEmbeddingWidth(width);

    /// <summary>Checks the side of a grid of compressed tokens.</summary>
    /// <exception cref="ArgumentException">No such grid is declared.</exception>
    protected void CheckGrid(int grid) => Architecture.CheckGrid(grid);

    private NotSupportedException NotDecoder() => new($"{Architecture.Name} is not a language model; only language models decode.");

    private NotSupportedException NotRouted() => new(Architecture.Routing is null
        ? $"{Architecture.Name} has no routers; declare [Routing] to compute at a budget."
        : $"{ProfileName} of {Architecture.Name} is a slice and has no routers; compute at a budget with the universal model.");

    private NotSupportedException NotCompressed() => new(
        $"{Architecture.Name} has no compressed tokens; declare [Lookup] to choose their grid."
        + (Architecture.Routing is null ? string.Empty : " A whole number is a grid; write the routing budget as 1.0."));

    /// <summary>Does nothing, because generated code registers its parameters itself.</summary>
    protected override void RegisterComponents()
    {
    }

    /// <summary>All weights as one tensor. Null for slices and views, and if the weights are shapes without numbers.</summary>
    internal FlatWeights? Flat { get; private set; }

    /// <summary>Makes the parameters views of one tensor, so that training updates only one tensor. Called by generated code.</summary>
    protected internal void Consolidate() => Flat = FlatWeights.Of(this, DecayingParameters);

    /// <summary>The parameters that weight decay applies to. In generated code they are the matrices of the blocks.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    protected virtual IEnumerable<Parameter> DecayingParameters => [];

    /// <inheritdoc/>
    protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
    {
        base._toEpilog(dtype, device, non_blocking);
        BindParameters();
        if (Flat is null) return;
        Flat.Dispose();
        Consolidate();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) Flat?.Dispose();
        base.Dispose(disposing);
    }
}
