using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Draws random inputs and targets for any kind of model.</summary>
internal static class Inputs
{
    /// <summary>Returns rows of inputs: sequences of <paramref name="time"/> tokens, texts of at most as many, or images.</summary>
    public static Tensor Of(ModelSpec spec, long rows, long? time = null)
    {
        using var scope = NewDisposeScope();
        if (spec.Image is { } image) return (rand(rows, image.Channels, image.Size, image.Size) * 2 - 1).MoveToOuterDisposeScope();
        var length = time ?? spec.Context;
        var tokens = randint(0, spec.Vocabulary, [rows, length], ScalarType.Int64);
        if (spec.Kind == ModelKind.TextEncoder)
        {
            var isPadding = arange(length).unsqueeze(0).ge(randint(1, length + 1, [rows, 1], ScalarType.Int64));
            tokens = tokens.masked_fill(isPadding, -1);
        }

        return tokens.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Draws the index of a granularity that may be mixed with a granularity: all with the same width of the residual stream may be.
    /// </summary>
    public static int Mixable(ModelSpec spec, int with, Random random)
    {
        var (drawn, width) = (random.Next(spec.Granularities.Length), spec.Granularities[with].Layers[0].Width);
        if (!spec.ElasticWidth) return drawn;
        int[] alike = [.. Enumerable.Range(0, spec.Granularities.Length).Where(g => spec.Granularities[g].Layers[0].Width == width)];
        return alike[drawn % alike.Length];
    }

    /// <summary>Returns the targets for inputs. For texts, these are the numbers of the pairs, some of which occur twice.</summary>
    public static Tensor TargetsOf(ModelSpec spec, Tensor input) => spec.Kind switch
    {
        ModelKind.LanguageModel => randint(0, spec.Vocabulary, input.shape, ScalarType.Int64),
        ModelKind.VisionTransformer => randint(0, spec.Image!.Classes, [input.shape[0]], ScalarType.Int64),
        _ => tensor([.. Enumerable.Range(0, (int)input.shape[0]).Select(row => row / 2 % 3 == 2 ? 0L : row / 2)]),
    };

    /// <summary>Returns the shape of what <c>forward</c> computes from an input.</summary>
    public static long[] ShapeOf(ModelSpec spec, Tensor input) => spec.Kind switch
    {
        ModelKind.LanguageModel => [.. input.shape, spec.Vocabulary],
        ModelKind.VisionTransformer => [input.shape[0], spec.Image!.Classes],
        _ => [input.shape[0], spec.EmbeddingWidth],
    };
}
