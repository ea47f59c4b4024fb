using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

/// <summary>A small byte-level text encoder.</summary>
[MatEncoder(Layers = 2, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu)]
[NestedEmbedding(4, 8, 16)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class TinyEncoder;

/// <summary>A small byte-level text encoder that routes tokens.</summary>
[MatEncoder(Layers = 2, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu), Routing(0.5)]
[Granularity("S", 16), Granularity("XL", 64)]
public sealed partial class TinyRoutedEncoder;

/// <summary>A small vision transformer of grey images, with nested embeddings.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4)]
[FeedForward(64, Activation.Gelu, Bias = true), Attention(Bias = true)]
[NestedEmbedding(8, 32)]
[Granularity("S", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class TinyViT;

/// <summary>A small vision transformer of colour images, whose embeddings are not nested.</summary>
[MatViT(Image = 8, Patch = 4, Channels = 3, Classes = 5, Layers = 2, Width = 16, Heads = 2)]
[FeedForward(32, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 16), Granularity("XL", 32)]
public sealed partial class TinyColourViT;

/// <summary>A small vision transformer that routes tokens.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4)]
[FeedForward(64, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Routing(0.7, 1)]
[Granularity("S", 32), Granularity("XL", 64)]
public sealed partial class TinyRoutedViT;

/// <summary>A small vision transformer with compressed tokens.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(64, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Lookup(1, 2, 3)]
[Granularity("S", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class TinyLookupViT;

internal static class Encoders
{
    /// <summary>Creates the same encoder each time, with weights that make the sizes differ.</summary>
    public static TinyEncoder New()
    {
        manual_seed(12);
        var model = DrawnModel.New<TinyEncoder>();
        using var unrecorded = no_grad();
        foreach (var (_, parameter) in model.named_parameters()) parameter.mul_(2.5);
        return model;
    }

    /// <summary>Returns the embedding of a text, computed without a server.</summary>
    public static float[] Alone(string profile, string text, int? width = null)
    {
        using var model = Encoders.New();
        return TextEmbedder.Of(model, Profile<TinyEncoder>.Parse(profile), Tokenizer.ByteLevel).WithWidth(width).Embed([text]);
    }

    public static void Near(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-5));
    }
}
