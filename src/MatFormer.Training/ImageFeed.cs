using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Feeds labelled images to a vision transformer.</summary>
internal sealed class ImageFeed(ImageCorpus images) : Feed
{
    /// <inheritdoc/>
    public override void CheckFits(MatFormerModel model)
    {
        var spec = model.Architecture;
        if (spec.Image is not { } image)
            throw new DataException($"{spec.Name} takes no images; train it on text.");
        if ((images.Training.Channels, images.Training.Height, images.Training.Width) != (image.Channels, image.Size, image.Size))
        {
            throw new DataException(
                $"The images of {images.Source} are {ImageCorpus.Size(images.Training)}, but {spec.Name} takes {image.Size} x {image.Size} "
                + $"pixels and {image.Channels} channels; give images of that size, resize these, or declare "
                + "[MatViT(Image = ..., Channels = ...)] for them.");
        }

        if (images.Training.Classes.Length != image.Classes)
        {
            throw new DataException(
                $"The images of {images.Source} have {Counted.Of(images.Training.Classes.Length, "class", "classes")}, but "
                + $"{spec.Name} declares {image.Classes}; declare [MatViT(Classes = {images.Training.Classes.Length})] for them.");
        }
    }

    /// <inheritdoc/>
    public override IBatches Batches(ModelSpec spec, TrainerOptions options) => new ImageBatches(images.Training, options);

    /// <inheritdoc/>
    public override IEnumerable<Batch> HeldOut(ModelSpec spec, int batch, int examples) =>
        Spread(images.Validation.Count, examples).Chunk(batch).Select(chunk => ImageBatch.Of(images.Validation, chunk));

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Samples(ModelSpec spec)
    {
        foreach (var chosen in Spread(images.Training.Count, 256).Chunk(16))
        {
            var (pixels, labels) = ImageBatch.Of(images.Training, chosen).ToTensors(CPU);
            labels.Dispose();
            yield return pixels;
        }
    }
}
