using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Reads and writes weight files: safetensors with the tensor names of Hugging Face's checkpoints. The metadata says which model and which
/// profile a file holds, so that it loads only where it fits.
/// </summary>
public static class Checkpoint
{
    /// <summary>Saves a model's weights in float32, atomically.</summary>
    /// <exception cref="IOException">The file cannot be written. No partial file is left behind.</exception>
    public static void Save(this MatFormerModel model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        Write(path, MetadataOf(model), [.. model.named_parameters().Select(p => (p.Item1, (Tensor)p.Item2))]);
    }

    /// <summary>Loads weights that a model of the same declaration and profile saved. A training checkpoint works too.</summary>
    /// <exception cref="CheckpointException">
    /// The file is damaged, or belongs to another model or another profile. The model is then unchanged.
    /// </exception>
    public static void Load(this MatFormerModel model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var reader = SafetensorsReader.Open(path);
        var header = CheckpointHeader.Read(reader, model.Architecture);
        CheckProfile(header, model);
        Load(reader, model);
    }

    /// <summary>
    /// Loads weights by their names alone. They may come from a model that another program made, such as Hugging Face's ViT of the declared
    /// shape, or from another MatFormer of that shape. If they have no routers, the model keeps its own.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="path">A safetensors file, an index of several files, or a folder that holds either.</param>
    /// <exception cref="CheckpointException">The file is damaged or has other shapes. The model is then unchanged.</exception>
    public static void LoadNamed(this MatFormerModel model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var reader = SafetensorsReader.Open(path);
        foreach (var (parameter, entry) in Match(reader, model, mayLackRouters: true)) TensorData.Read(reader, entry, parameter);
    }

    /// <summary>
    /// Loads any file of the model. The result is the universal <typeparamref name="TModel"/>, or a model of the profile's shape if the
    /// file holds a slice.
    /// </summary>
    /// <exception cref="CheckpointException">The file is damaged or belongs to another model.</exception>
    public static MatFormerModel Open<TModel>(string path, Device? device = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var reader = SafetensorsReader.Open(path);
        var header = CheckpointHeader.Read(reader, TModel.Spec);
        return Loaded(reader, header.IsUniversal
            ? TModel.Create(device)
            : TModel.CreateSubmodel(new Profile<TModel>(header.Profile, header.Layers) { Bits = header.Bits }, device));
    }

    /// <summary>Loads a file that must hold the universal model.</summary>
    /// <exception cref="CheckpointException">The file is damaged, belongs to another model, or holds a slice.</exception>
    public static TModel OpenUniversal<TModel>(string path, Device? device = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var reader = SafetensorsReader.Open(path);
        CheckpointHeader.ReadUniversal(reader, TModel.Spec);
        var model = TModel.Create(device);
        return Loaded(reader, model);
    }

    private static T Loaded<T>(SafetensorsReader reader, T model)
        where T : MatFormerModel
    {
        try
        {
            Load(reader, model);
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Returns the metadata that identifies a file's weights, and what they were trained on.</summary>
    internal static Dictionary<string, string> MetadataOf(MatFormerModel model)
    {
        var metadata = CheckpointHeader.MetadataOf(
            model.Architecture, model.ProfileName, model.Layers, model.TokenizerFingerprint, model.ProfileBits);
        model.TrainedOn?.AddTo(metadata);
        return metadata;
    }

    internal static void Write(
        string path, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<(string Name, Tensor Tensor)> tensors)
    {
        var byName = tensors.ToDictionary(t => t.Name, t => t.Tensor, StringComparer.Ordinal);
        SafetensorsWriter.Write(
            path,
            [.. tensors.Select(t => TensorData.Entry(t.Name, t.Tensor))],
            metadata,
            (entry, stream) => TensorData.Write(byName[entry.Name], stream));
    }

    /// <summary>Fills all parameters of a model, after checking that all tensors are there and fit.</summary>
    /// <exception cref="CheckpointException">A tensor is missing, unexpected, or of another shape.</exception>
    internal static void Load(SafetensorsReader reader, MatFormerModel model, bool mayLackRouters = false)
    {
        foreach (var (parameter, entry) in Match(reader, model, mayLackRouters)) TensorData.Read(reader, entry, parameter);
        model.TokenizerFingerprint = reader.Metadata.GetValueOrDefault(CheckpointHeader.TokenizerKey);
        model.TrainedOn = RememberedData.In(reader.Metadata);
    }

    /// <summary>
    /// Returns the parameters of a model and their entries in a file, in the model's order. A model that was not trained to route has no
    /// routers; if that is allowed, they are left out.
    /// </summary>
    /// <exception cref="CheckpointException">A tensor is missing, unexpected, or of another shape.</exception>
    internal static List<(Parameter Parameter, SafetensorsEntry Entry)> Match(
        SafetensorsReader reader, MatFormerModel model, bool mayLackRouters = false)
    {
        var lacksRouters = mayLackRouters && !CheckpointHeader.HasRouters(reader);
        var parameters = model.named_parameters().Where(p => !lacksRouters || !CheckpointHeader.IsOfRouter(p.Item1)).ToList();
        var misfits = new Misfits(reader, model.Architecture);
        var entries = parameters.ConvertAll(p => (p.Item2, misfits.Find(p.Item1, p.Item2.shape)));
        misfits.CheckNoOthers(parameters.Select(p => p.Item1));
        return entries;
    }

    private static void CheckProfile(CheckpointHeader header, MatFormerModel model)
    {
        // With routers, the universal model holds more than the slice of its widest granularity.
        var isAlike = model.Architecture.Routing is null || header.IsUniversal == model.IsUniversal;
        if (isAlike && header.Layers.AsSpan().SequenceEqual(model.Layers.AsSpan())) return;
        if (model.IsUniversal) header.CheckUniversal(model.Architecture);
        var name = model.Architecture.Name;
        throw new CheckpointException(header.Path, header.IsUniversal
            ? $"holds the universal {name}, not its slice {model.ProfileName}; load it into {name} and extract {model.ProfileName}."
            : $"is the slice {header.Profile} ({model.Architecture.FormatPattern(header.Layers.AsSpan())}) of {name}, not "
                + $"{model.ProfileName}; load the file of {model.ProfileName}.");
    }
}
