using System.Text;
using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

/// <summary>Creates a TinyViT with random weights, and images for it.</summary>
internal static class Images
{
    private const int Size = 8;

    /// <summary>A PNG file, by zlib without compression: 8 x 8 pixels in grey, whose values are 0, 4, 8, ..., 252.</summary>
    public const string Png =
        "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAU0lEQVR4AQFIALf/AAAECAwQFBgcACAkKCwwNDg8AEBESExQVFhcAGBkaGxwdHh8AICEiIyQlJic"
        + "AKCkqKywtLi8AMDEyMzQ1NjcAODk6Ozw9Pj87yYfgdbGsosAAAAASUVORK5CYII=";

    /// <summary>The pixels of <see cref="Png"/>.</summary>
    public static byte[] OfPng => [.. Enumerable.Range(0, Size * Size).Select(i => (byte)(4 * i))];

    /// <summary>Creates the same model each time, with weights that make the sizes differ.</summary>
    public static TinyViT New() => Enlarged<TinyViT>();

    /// <inheritdoc cref="New"/>
    public static TinyColourViT NewColour() => Enlarged<TinyColourViT>();

    /// <inheritdoc cref="New"/>
    public static TinyRoutedViT NewRouted() => Enlarged<TinyRoutedViT>();

    /// <inheritdoc cref="New"/>
    public static TinyLookupViT NewLookup() => Enlarged<TinyLookupViT>();

    /// <summary>Returns the embedding of an image of the model's size, computed without a server.</summary>
    public static float[] Alone(string profile, byte[] pixels, int? width = null)
    {
        using var model = New();
        return Alone(model, Profile<TinyViT>.Parse(profile), pixels, width);
    }

    public static float[] Alone<TModel>(TModel model, Profile<TModel> profile, byte[] pixels, int? width = null)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        Alone(model, input => model.Embed(profile, input, width), pixels);

    /// <summary>Returns the embedding of an image by a pass of a model, computed without a server.</summary>
    public static float[] Alone(MatFormerModel model, Func<Tensor, Tensor> embed, byte[] pixels)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        long[] shape = [1, model.Architecture.Image!.Channels, Size, Size];
        return embed(tensor(Array.ConvertAll(pixels, p => (p / 127.5f) - 1), shape)).data<float>().ToArray();
    }

    private static TModel Enlarged<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(13);
        var model = DrawnModel.New<TModel>();
        using var unrecorded = no_grad();
        foreach (var (_, parameter) in model.named_parameters()) parameter.mul_(2.5);
        return model;
    }

    public static byte[] Random(int seed, int channels = 1)
    {
        var pixels = new byte[channels * Size * Size];
        new Random(seed).NextBytes(pixels);
        return pixels;
    }

    /// <summary>Returns a grey image as a PGM file in base64.</summary>
    public static string Pgm(byte[] pixels, int height = Size, int width = Size) =>
        Convert.ToBase64String([.. Encoding.ASCII.GetBytes($"P5 {width} {height} 255\n"), .. pixels]);
}
