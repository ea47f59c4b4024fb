using System.Collections.Immutable;
using System.ComponentModel;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// A model that generated code derives from: a universal one, or one of its slices. <c>forward</c> of a language model takes tokens (B, T)
/// int64 to logits (B, T, Vocabulary) float32; of a vision transformer pixels (B, C, H, H) float32, from -1 to 1, to logits (B, Classes);
/// of a text encoder tokens, -1 behind their ends, to embeddings (B, width) of length 1.
/// </summary>
public abstract class MatFormerModel : nn.Module<Tensor, Tensor>
{
    private ScalarType _computeType = ScalarType.Float32;

    /// <summary>Called by generated code.</summary>
    protected MatFormerModel(string name)
        : base(name)
    {
    }

    /// <summary>The declared model's sizes; those of the universal model, also for a slice.</summary>
    public abstract ModelSpec Architecture { get; }

    /// <summary>The profile that this model has, such as <c>XL</c> or <c>Phone</c>.</summary>
    public abstract string ProfileName { get; }

    /// <summary>What this model keeps of each layer, first layer first.</summary>
    public abstract ImmutableArray<LayerSlice> Layers { get; }

    /// <summary>True when all granularities are in it: not a slice.</summary>
    public abstract bool IsUniversal { get; }

    /// <summary>
    /// The dtype of activations and matrix products, Float32 or BFloat16; weights stay float32, and norms, softmax statistics and loss are
    /// computed in float32.
    /// </summary>
    /// <exception cref="ArgumentException">Another dtype.</exception>
    public ScalarType ComputeType
    {
        get => _computeType;
        set => _computeType = value is ScalarType.Float32 or ScalarType.BFloat16
            ? value
            : throw new ArgumentException($"The compute type {value} is not supported; use Float32 or BFloat16.", nameof(value));
    }

    /// <summary>
    /// The <see cref="Tokenizer.Fingerprint"/> of the tokenizer that it was trained with, which is saved with the weights; null if unknown,
    /// and then any is taken.
    /// </summary>
    public string? TokenizerFingerprint { get; set; }

    /// <summary>Where the weights are.</summary>
    public abstract Device Device { get; }

    /// <summary>
    /// Logits (B, T, Vocabulary) float32 of tokens (B, T) that follow those in <paramref name="cache"/>; the cache then holds them too.
    /// </summary>
    /// <exception cref="NotSupportedException">It is no language model.</exception>
    public virtual Tensor forward(Tensor tokens, KeyValueCache cache) => throw NotDecoder();

    /// <summary>Embeddings of length 1, of an encoder, cut to their first numbers before: (B, width) float32.</summary>
    /// <param name="input">As of <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; all if null.</param>
    /// <exception cref="ArgumentException">The input does not fit, or no such dimension is declared.</exception>
    /// <exception cref="NotSupportedException">It is a language model.</exception>
    public virtual Tensor Embed(Tensor input, int? width = null) =>
        throw new NotSupportedException($"{Architecture.Name} is a language model, and gives no embeddings.");

    /// <summary>Logits of a vision transformer, found in the first numbers of its embeddings alone: (B, Classes) float32.</summary>
    /// <param name="pixels">As of <c>forward</c>.</param>
    /// <param name="width">One of the declared dimensions; all, which is <c>forward</c>, if null.</param>
    /// <exception cref="ArgumentException">The pixels do not fit, or no such dimension is declared.</exception>
    /// <exception cref="NotSupportedException">It is no vision transformer.</exception>
    public virtual Tensor Classify(Tensor pixels, int? width = null) =>
        throw new NotSupportedException($"{Architecture.Name} is no vision transformer, and classifies nothing.");

    /// <summary>An empty key/value cache for this model, in <see cref="ComputeType"/>, on its device.</summary>
    /// <param name="batch">Sequences.</param>
    /// <param name="capacity">Tokens per sequence; the context if null.</param>
    /// <exception cref="ArgumentOutOfRangeException">The capacity is not within 1 and the context.</exception>
    /// <exception cref="NotSupportedException">It is no language model.</exception>
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

    /// <summary>Whether <see cref="NewDecodingNetwork"/> is there: in generated code it is.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    protected virtual bool CanDecode => false;

    internal bool IsDecodable => CanDecode;

    /// <summary>Packs the weights for a <see cref="DecodingEngine"/>.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    protected virtual DecodingNetwork NewDecodingNetwork(WeightPacker packer) =>
        throw new NotSupportedException($"{Architecture.Name} has no decoding network.");

    internal DecodingNetwork Pack(WeightPacker packer) => NewDecodingNetwork(packer);

    /// <summary>Reads the fields of generated code anew from the registered parameters, which <c>to</c> replaces.</summary>
    protected abstract void BindParameters();

    /// <summary>Checks a batch before it reaches native code.</summary>
    /// <exception cref="ArgumentException">Not (B, T) int64, or longer than the context.</exception>
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
    /// <exception cref="ArgumentException">Not (B, C, H, H) float32.</exception>
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

    /// <summary>Checks what a loss compares with, the input being checked.</summary>
    /// <exception cref="ArgumentException">
    /// Not (B, T) int64 of a language model; not (B) int64 or (B, Classes) float32 of a vision transformer; not (B) int64, B even, of a
    /// text encoder.
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
                $"({string.Join(", ", input.shape)}) Int64, as the tokens are"),
            ModelKind.VisionTransformer => (
                (targets.dtype == ScalarType.Int64 && given is [var n] && n == rows)
                || (targets.dtype == ScalarType.Float32 && given is [var m, var classes] && m == rows
                    && classes == Architecture.Image!.Classes),
                $"({rows}) Int64 or ({rows}, {Architecture.Image?.Classes}) Float32"),
            _ => (
                targets.dtype == ScalarType.Int64 && given is [var n] && n == rows && n % 2 == 0,
                $"({rows}) Int64, of an even number of rows"),
        };
        if (fits) return;
        throw new ArgumentException(
            $"The targets are to be {expected}, not ({string.Join(", ", given)}) {targets.dtype}.", nameof(targets));
    }

    /// <summary>The width that embeddings are to be cut to.</summary>
    /// <exception cref="ArgumentException">No such width is declared.</exception>
    protected int EmbeddingWidth(int? width) => Architecture.CheckEmbeddingWidth(width);

    private NotSupportedException NotDecoder() => new($"{Architecture.Name} is no language model, and decodes nothing.");

    /// <summary>Nothing to find by reflection: generated code registers its parameters.</summary>
    protected override void RegisterComponents()
    {
    }

    /// <summary>All weights as one tensor, of the universal model alone; null where they are shapes without numbers.</summary>
    internal FlatWeights? Flat { get; private set; }

    /// <summary>Makes the parameters views of one tensor, so that what trains them has one thing to change. Called by generated code.</summary>
    protected internal void Consolidate() => Flat = FlatWeights.Of(this, DecayingParameters);

    /// <summary>The parameters that weight decay shrinks: in generated code the matrices of the blocks.</summary>
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
