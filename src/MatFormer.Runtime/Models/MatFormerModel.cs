using System.Collections.Immutable;
using System.ComponentModel;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// A model that generated code derives from: a universal one, or one of its slices. <c>forward</c> takes tokens (B, T) int64 to logits
/// (B, T, Vocabulary) float32.
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
    public abstract Tensor forward(Tensor tokens, KeyValueCache cache);

    /// <summary>An empty key/value cache for this model, in <see cref="ComputeType"/>, on its device.</summary>
    /// <param name="batch">Sequences.</param>
    /// <param name="capacity">Tokens per sequence; the context if null.</param>
    /// <exception cref="ArgumentOutOfRangeException">The capacity is not within 1 and the context.</exception>
    public KeyValueCache NewCache(int batch = 1, int? capacity = null)
    {
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
                $"{Architecture.Name} takes tokens of shape (B, T) and dtype Int64, not ({string.Join(", ", tokens.shape)}) {tokens.dtype}.",
                nameof(tokens));
        }

        var limit = cache?.Capacity ?? Architecture.Context;
        var position = cache?.Length ?? 0;
        var time = tokens.shape[1];
        if (time == 0 || position + time > limit)
        {
            throw new ArgumentException(
                $"{Architecture.Name} takes 1 to {limit - position} more tokens here (context {Architecture.Context}, {position} in the cache), "
                + $"not {time}.",
                nameof(tokens));
        }
    }

    /// <summary>Nothing to find by reflection: generated code registers its parameters.</summary>
    protected override void RegisterComponents()
    {
    }

    /// <inheritdoc/>
    protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
    {
        base._toEpilog(dtype, device, non_blocking);
        BindParameters();
    }
}
