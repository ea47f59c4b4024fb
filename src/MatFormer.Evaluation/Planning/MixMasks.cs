using System.Globalization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Makes a model run as a mix, or as something between mixes, with gradients for what the mix leaves out. The widest mix runs, but each
/// slab of a layer, which is what one choice keeps beyond the next narrower one, is scaled by a mask from 0 to 1. Scaling hidden units is
/// the same as scaling their columns of the down projection, and scaling heads the same as scaling their columns of the output projection.
/// <see cref="Dispose"/> gives the model its own weights back, bit for bit.
/// </summary>
internal sealed class MixMasks<TModel> : IDisposable
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private readonly TModel _model;
    private readonly MixSpace _space;
    private readonly FlatWeights _flat;
    private readonly Streams _whole;
    private readonly List<Part> _parts = [];

    public MixMasks(TModel model, MixSpace space)
    {
        (_model, _space, _whole) = (model, space, Streams.Of(space.Spec.WholeLayers));
        if (model.Flat is null) model.Consolidate();
        _flat = model.Flat ?? throw new ArgumentException(
            "Gradients of this model cannot be computed: its weights are frozen or hold no values; open it again on its device.",
            nameof(model));
        foreach (var (name, weight) in model.named_parameters())
        {
            if (PartOf(name, weight) is { } part) _parts.Add(part);
        }
    }

    /// <summary>Scales the slabs of each layer. A layer has one mask for each of its choices, narrowest first.</summary>
    public void Set(double[][] masks)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        foreach (var part in _parts)
        {
            // The widest mix of a narrower residual stream does not use all columns.
            var scales = new float[part.Weight.shape[^1]];
            for (var column = 0; column < scales.Length; column++)
                scales[column] = part.SlabOf(column) is >= 0 and var slab ? (float)masks[part.Layer][slab] : 1;
            part.Weight.copy_(part.Own * tensor(scales, device: _model.Device));
        }
    }

    /// <summary>
    /// Returns the loss of a batch, and its derivative by each mask: the sum, over what the mask scales, of the weights times the gradients
    /// of the scaled weights.
    /// </summary>
    public (double Loss, double[][] Derivatives) Differentiate(Batch batch)
    {
        using var scope = NewDisposeScope();
        var (input, targets) = batch.ToTensors(_model.Device);
        _flat.ClearGradients();
        var loss = _model.Losses(_whole, input, targets).sum();
        loss.backward();
        KernelNode.ReleaseReturned();
        KernelNode.ThrowFailure();
        _flat.GatherGradients();
        using var unrecorded = no_grad();
        var derivatives = Array.ConvertAll([.. _space.Choices], choices => new double[choices.Length]);
        foreach (var part in _parts)
        {
            var products = part.Own * _flat.ViewOf(_flat.Gradients, part.Weight);
            var sums = (part.Own.dim() == 1 ? products : products.sum([0L])).cpu().data<float>().ToArray();
            for (var column = 0; column < part.Ends[^1]; column++) derivatives[part.Layer][part.SlabOf(column)] += sums[column];
        }

        return (loss.item<float>(), derivatives);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        using var unrecorded = no_grad();
        foreach (var part in _parts)
        {
            part.Weight.copy_(part.Own);
            part.Own.Dispose();
        }

        _flat.ForgetGradients();
    }

    // Returns the part that a weight is, or null if no mask scales it. The names are those of Hugging Face's Llama and ViT.
    private Part? PartOf(string name, Parameter weight)
    {
        string[] words = name.Split('.');
        var at = Array.FindIndex(words, word => word.All(char.IsAsciiDigit));
        if (at < 0) return null;
        var layer = int.Parse(words[at], CultureInfo.InvariantCulture);
        var choices = _space.Choices[layer];
        int[]? ends = words[(at + 1)..] switch
        {
            ["mlp", "down_proj", "weight"] or ["output", "dense", "weight"] => [.. choices.Select(c => c.HiddenWidth)],
            ["self_attn", "o_proj", "weight"] or ["attention", "output", "dense", "weight"] =>
                [.. choices.Select(c => c.Heads * _space.Spec.HeadWidth)],

            // A layer that is left out gives compressed tokens and lookup tokens nothing.
            ["lookup", "output" or "spread_value" or "down", _] => [.. choices.Select(c => c.IsSkipped ? 0 : (int)weight.shape[^1])],

            // A layer that is left out adds no biases either.
            ["mlp", "down_proj", "bias"] or ["output", "dense", "bias"] or ["self_attn", "o_proj", "bias"]
                or ["attention", "output", "dense", "bias"] => [.. choices.Select(c => c.IsSkipped ? 0 : (int)weight.shape[0])],
            _ => null,
        };
        if (ends is null) return null;
        using var own = weight.detach();
        return new Part(layer, weight, own.clone().DetachFromDisposeScope(), ends);
    }

    // A weight of a layer, its own numbers, and for each choice the number of columns that the choice keeps.
    private sealed record Part(int Layer, Parameter Weight, Tensor Own, int[] Ends)
    {
        public int SlabOf(int column) => Array.FindIndex(Ends, end => column < end);
    }
}
