using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>What a profile keeps of each layer, for writers that map the profile to an architecture of another program.</summary>
internal sealed class KeptLayers
{
    private readonly ModelSpec _spec;
    private readonly string _profile;
    private readonly string _format;

    public KeptLayers(ModelSpec spec, string profile, ImmutableArray<LayerSlice> layers, string format)
    {
        (_spec, _profile, _format) = (spec, profile, format);
        Numbers = [.. Enumerable.Range(0, layers.Length).Where(layer => !layers[layer].IsSkipped)];
        HiddenWidths = [.. Numbers.Select(layer => layers[layer].HiddenWidth)];
        Heads = [.. Numbers.Select(layer => layers[layer].Heads)];
        KeyValueHeads = [.. Numbers.Select(layer => spec.Blocks[layer].KeyValueHeadsOf(layers[layer]))];
    }

    /// <summary>The layers that the profile does not skip, by their numbers in the model.</summary>
    public ImmutableArray<int> Numbers { get; }

    /// <summary>The number of hidden units of each kept layer.</summary>
    public ImmutableArray<int> HiddenWidths { get; }

    /// <summary>The number of query heads of each kept layer.</summary>
    public ImmutableArray<int> Heads { get; }

    /// <summary>The number of key/value heads of each kept layer.</summary>
    public ImmutableArray<int> KeyValueHeads { get; }

    /// <summary>True if all kept layers have the same sizes.</summary>
    public bool IsUniform => HiddenWidths.Distinct().Count() == 1 && Heads.Distinct().Count() == 1 && KeyValueHeads.Distinct().Count() == 1;

    /// <summary>The blocks of the kept layers.</summary>
    public IEnumerable<(int Layer, BlockSpec Block)> Blocks => Numbers.Select(layer => (layer, _spec.Blocks[layer]));

    /// <summary>True if queries, keys and values have biases, but the output of attention has none.</summary>
    public bool HasQwen2Biases => _spec.AttentionBias && !_spec.OutputBias;

    /// <summary>The number of a layer if skipped layers are not counted.</summary>
    public int NumberOf(int layer) => Numbers.IndexOf(layer);

    /// <summary>Checks that the profile has only parts that an architecture of Llama's family has.</summary>
    /// <exception cref="ExtractionException">The profile has another part.</exception>
    public void CheckLlama()
    {
        if (_spec.Kind == ModelKind.VisionTransformer) throw Refused("[MatViT]", "Llama reads text");
        if (_spec.Kind == ModelKind.TextEncoder) throw Refused("[MatEncoder]", "Llama attends to earlier tokens only");
        if (_spec.Norm != NormKind.Rms) throw Refused($"[Norm(NormKind.{_spec.Norm})]", "Llama's norms are RMS norms");
        if (_spec.Position != PositionKind.Rotary)
            throw Refused($"[Position(PositionKind.{_spec.Position})]", "Llama's positions are rotary");
        foreach (var (layer, block) in Blocks)
        {
            if (block.Activation is not (Activation.SwiGlu or Activation.GeGlu))
                throw Refused($"Activation.{block.Activation} in layer {Text(layer)}", "Llama's feed-forwards are gated");
            if (block.Window > 0 && block.Window < _spec.Context)
            {
                throw Refused(
                    $"[Attention(Window = {Text(block.Window)})] in layer {Text(layer)}", "Llama attends to all earlier tokens");
            }
        }
    }

    /// <summary>Checks that no feed-forward has a bias, since no supported architecture has biases and norms of queries and keys.</summary>
    /// <exception cref="ExtractionException">A feed-forward has a bias.</exception>
    public void CheckQwen3() =>
        CheckFeedForwards("QkNorm together with Bias", "Qwen3, which norms queries and keys, has no biases");

    /// <summary>Checks that no feed-forward has a bias.</summary>
    /// <exception cref="ExtractionException">A feed-forward has a bias. The message says that it does not go with a part.</exception>
    public void CheckFeedForwards(string part, string reason, string? instead = null)
    {
        foreach (var (layer, block) in Blocks)
        {
            if (block.Bias) throw Refused($"{part} in layer {Text(layer)}", reason, instead);
        }
    }

    public ExtractionException Refused(string part, string reason, string? instead = null) => new(
        $"The profile {_profile} of {_spec.Name} cannot be written for {_format}: it has {part}, but {reason}; "
        + $"{instead ?? "only --format safetensors can hold it"}.");

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
