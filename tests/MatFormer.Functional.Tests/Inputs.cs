using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Random inputs and targets for any kind of model.</summary>
internal static class Inputs
{
    /// <summary>Rows of what a model takes: sequences of so many tokens, texts of at most so many, or images.</summary>
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

    /// <summary>What the loss of these inputs compares with; of texts, some pairs have the number of others.</summary>
    public static Tensor TargetsOf(ModelSpec spec, Tensor input) => spec.Kind switch
    {
        ModelKind.LanguageModel => randint(0, spec.Vocabulary, input.shape, ScalarType.Int64),
        ModelKind.VisionTransformer => randint(0, spec.Image!.Classes, [input.shape[0]], ScalarType.Int64),
        _ => tensor([.. Enumerable.Range(0, (int)input.shape[0]).Select(row => row / 2 % 3 == 2 ? 0L : row / 2)]),
    };

    /// <summary>What <c>forward</c> makes of an input.</summary>
    public static long[] ShapeOf(ModelSpec spec, Tensor input) => spec.Kind switch
    {
        ModelKind.LanguageModel => [.. input.shape, spec.Vocabulary],
        ModelKind.VisionTransformer => [input.shape[0], spec.Image!.Classes],
        _ => [input.shape[0], spec.EmbeddingWidth],
    };
}
