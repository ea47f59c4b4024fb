using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Embeds images with one size of a vision transformer, in batches.</summary>
/// <param name="model">The universal model, or a slice.</param>
/// <param name="embed">Returns the embeddings (B, width) of pixels (B, C, H, H), from -1 to 1.</param>
internal sealed class ImageEmbedder(MatFormerModel model, Func<Tensor, int?, Tensor> embed)
{
    private const int PatchesAtOnce = 4096;

    /// <summary>Returns the embeddings of images, normalised to length 1: float32 (images, width), row-major.</summary>
    /// <param name="images">The pixels of each image, (C, H, W).</param>
    /// <param name="width">The declared dimension that embeddings are cut to; null for all numbers.</param>
    /// <param name="cancellationToken">Cancels between batches.</param>
    public float[] Embed(IReadOnlyList<byte[]> images, int? width, CancellationToken cancellationToken)
    {
        var image = model.Architecture.Image!;
        var result = new List<float>();
        using var unrecorded = no_grad();
        foreach (var batch in images.Chunk(Math.Max(1, PatchesAtOnce / model.Architecture.Context)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            float[] pixels = [.. batch.SelectMany(its => its.Select(pixel => (pixel / 127.5f) - 1))]; // as in training
            long[] shape = [batch.Length, image.Channels, image.Size, image.Size];
            result.AddRange(embed(tensor(pixels, shape, device: model.Device), width).cpu().contiguous().data<float>().ToArray());
        }

        return [.. result];
    }
}
