using System.Collections.Immutable;
using System.Globalization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Weight files: safetensors with the names of Hugging Face's checkpoints. Their metadata says which model, and which of its profiles
/// they hold, so that a file loads only where it fits.
/// </summary>
public static class Checkpoint
{
    /// <summary>What names of optimizer tensors in a training checkpoint begin with; whoever wants weights passes over them.</summary>
    internal const string OptimizerPrefix = "optimizer.";

    private const string Version = "1";
    private const string FormatKey = "format";
    private const string ModelKey = "matformer.model";
    private const string FingerprintKey = "matformer.fingerprint";
    private const string ProfileKey = "matformer.profile";
    private const string WidthsKey = "matformer.widths";
    private const string HeadsKey = "matformer.heads";
    private const string VersionKey = "matformer.version";
    internal const string TokenizerKey = "matformer.tokenizer";

    /// <summary>The layers of the model that a file keeps, if it numbers them anew.</summary>
    internal const string KeptKey = "matformer.kept_layers";

    /// <summary>Saves a model's weights in float32, atomically.</summary>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public static void Save(this MatFormerModel model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        Write(path, MetadataOf(model), [.. model.named_parameters().Select(p => (p.Item1, (Tensor)p.Item2))]);
    }

    /// <summary>Loads weights that a model of the same declaration and profile saved; a training checkpoint will do.</summary>
    /// <exception cref="CheckpointException">The file is damaged, of another model, or of another profile; then the model is
    /// unchanged.</exception>
    public static void Load(this MatFormerModel model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var reader = SafetensorsReader.Open(path);
        var header = ReadHeader(reader, model.Architecture);
        CheckProfile(header, model);
        Load(reader, model);
    }

    /// <summary>
    /// Loads weights by their names alone: of a model that another program made, such as Hugging Face's ViT of the declared shape, or of
    /// another MatFormer of that shape.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="path">A safetensors file, an index of several, or a folder with one of them.</param>
    /// <exception cref="CheckpointException">It is damaged, or of another shape; then the model is unchanged.</exception>
    public static void LoadNamed(this MatFormerModel model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var reader = SafetensorsReader.Open(path);
        foreach (var (parameter, entry) in Match(reader, model)) TensorData.Read(reader, entry, parameter);
    }

    /// <summary>
    /// Loads a file as what it is: the universal <typeparamref name="TModel"/>, or a model of the profile's shape if it is a slice.
    /// </summary>
    /// <exception cref="CheckpointException">The file is damaged or of another model.</exception>
    public static MatFormerModel Open<TModel>(string path, Device? device = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var reader = SafetensorsReader.Open(path);
        var header = ReadHeader(reader, TModel.Spec);
        MatFormerModel model;
        if (header.IsUniversal)
        {
            model = TModel.Create(device);
        }
        else
        {
            try
            {
                model = TModel.CreateSubmodel(new Profile<TModel>(header.Profile, header.Layers), device);
            }
            catch (ArgumentException e)
            {
                throw new CheckpointException(path, $"is a slice that does not fit {TModel.Spec.Name}: {e.Message}", e);
            }
        }

        return Loaded(reader, model);
    }

    /// <summary>Loads a file that must hold the universal model.</summary>
    /// <exception cref="CheckpointException">The file is damaged, of another model, or a slice.</exception>
    public static TModel OpenUniversal<TModel>(string path, Device? device = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var reader = SafetensorsReader.Open(path);
        ReadUniversalHeader(reader, TModel.Spec);
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

    /// <summary>What the metadata says of a model's file.</summary>
    internal sealed record Header(string Path, string Profile, ImmutableArray<LayerSlice> Layers, bool IsUniversal);

    /// <summary>The metadata that says whose weights a file holds.</summary>
    internal static Dictionary<string, string> MetadataOf(MatFormerModel model) =>
        MetadataOf(model.Architecture, model.ProfileName, model.Layers, model.TokenizerFingerprint);

    /// <summary>The same of a profile of a model.</summary>
    internal static Dictionary<string, string> MetadataOf(
        ModelSpec spec, string profile, ImmutableArray<LayerSlice> layers, string? tokenizer)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            [FormatKey] = "pt",
            [ModelKey] = spec.Name,
            [FingerprintKey] = spec.Fingerprint,
            [ProfileKey] = profile,
            [WidthsKey] = string.Join(',', layers.Select(l => l.HiddenWidth.ToString(CultureInfo.InvariantCulture))),
            [HeadsKey] = string.Join(',', layers.Select(l => l.Heads.ToString(CultureInfo.InvariantCulture))),
            [VersionKey] = Version,
        };
        if (tokenizer is not null) metadata.Add(TokenizerKey, tokenizer);
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

    /// <summary>True for a file that MatFormer wrote.</summary>
    internal static bool IsOurs(SafetensorsReader reader) => reader.Metadata.ContainsKey(ModelKey);

    /// <summary>Reads whose weights a file holds.</summary>
    /// <exception cref="CheckpointException">Not those of the model.</exception>
    internal static Header ReadHeader(SafetensorsReader reader, ModelSpec spec)
    {
        var metadata = reader.Metadata;
        if (!metadata.TryGetValue(ModelKey, out var name) || !metadata.TryGetValue(FingerprintKey, out var fingerprint)
            || !metadata.TryGetValue(ProfileKey, out var profile) || !metadata.TryGetValue(WidthsKey, out var widthList)
            || !metadata.TryGetValue(VersionKey, out var version))
        {
            throw new CheckpointException(reader.Path, $"was not written by MatFormer (its metadata lacks '{ModelKey}' and others); give a "
                + $"file that {spec.Name} saved.");
        }

        if (version != Version)
            throw new CheckpointException(reader.Path, $"has the format version '{version}', but this program reads {Version}; use the "
                + "program that wrote it.");
        if (name != spec.Name)
            throw new CheckpointException(reader.Path, $"holds the model {name}, not {spec.Name}; give a file that {spec.Name} saved.");
        if (fingerprint != spec.Fingerprint)
        {
            throw new CheckpointException(
                reader.Path, $"holds another declaration of {name} (fingerprint {fingerprint}, this program's is {spec.Fingerprint}); "
                    + "train again or restore the declaration.");
        }

        if (metadata.TryGetValue(KeptKey, out var kept))
        {
            throw new CheckpointException(reader.Path, $"holds only the layers {kept} of {name}, numbered anew for Hugging Face's "
                + "programs; extract the profile once more with --format safetensors, or import it into a declaration of so many layers.");
        }

        var widths = ReadNumbers(reader, WidthsKey, widthList, spec);
        var heads = metadata.TryGetValue(HeadsKey, out var headList)
            ? ReadNumbers(reader, HeadsKey, headList, spec)
            : [.. spec.Blocks.Select((block, layer) => widths[layer] == 0 ? 0 : block.Heads)];
        var layers = ImmutableArray.CreateRange(widths.Zip(heads, (width, count) => new LayerSlice(width, count)));
        if (profile.Length == 0) throw new CheckpointException(reader.Path, "has an empty profile in its metadata; it is damaged.");
        return new Header(reader.Path, profile, layers, layers.AsSpan().SequenceEqual(spec.WholeLayers.AsSpan()));
    }

    /// <summary>Reads whose weights a file holds.</summary>
    /// <exception cref="CheckpointException">Not those of the whole model.</exception>
    internal static Header ReadUniversalHeader(SafetensorsReader reader, ModelSpec spec)
    {
        var header = ReadHeader(reader, spec);
        return header.IsUniversal ? header : throw AlreadySlice(header);
    }

    // One number for each layer.
    private static List<int> ReadNumbers(SafetensorsReader reader, string key, string list, ModelSpec spec)
    {
        var numbers = new List<int>();
        foreach (var item in list.Split(','))
        {
            if (!int.TryParse(item, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                throw new CheckpointException(
                    reader.Path, $"has '{list}' for '{key}' in its metadata, which are no numbers; it is damaged.");
            }

            numbers.Add(number);
        }

        if (numbers.Count != spec.Layers)
        {
            throw new CheckpointException(
                reader.Path, $"has {numbers.Count} numbers for '{key}' in its metadata, but {spec.Name} has {spec.Layers} layers; it is "
                    + "damaged.");
        }

        return numbers;
    }

    /// <summary>Fills all parameters of a model, once all are known to be there and to fit.</summary>
    /// <exception cref="CheckpointException">A tensor is missing, too many, or of another shape.</exception>
    internal static void Load(SafetensorsReader reader, MatFormerModel model)
    {
        foreach (var (parameter, entry) in Match(reader, model)) TensorData.Read(reader, entry, parameter);
        model.TokenizerFingerprint = reader.Metadata.GetValueOrDefault(TokenizerKey);
    }

    /// <summary>The parameters of a model and what a file has for them, in the model's order.</summary>
    /// <exception cref="CheckpointException">A tensor is missing, too many, or of another shape.</exception>
    internal static List<(Parameter Parameter, SafetensorsEntry Entry)> Match(SafetensorsReader reader, MatFormerModel model)
    {
        var parameters = model.named_parameters().ToList();
        var misfits = new Misfits(reader, model.Architecture);
        var entries = parameters.ConvertAll(p => (p.Item2, misfits.Find(p.Item1, p.Item2)));
        misfits.CheckNoOthers(parameters.Select(p => p.Item1));
        return entries;
    }

    private static void CheckProfile(Header header, MatFormerModel model)
    {
        if (header.Layers.AsSpan().SequenceEqual(model.Layers.AsSpan())) return;
        if (model.IsUniversal) throw AlreadySlice(header);
        var name = model.Architecture.Name;
        throw new CheckpointException(header.Path, header.IsUniversal
            ? $"holds the universal {name}, not its slice {model.ProfileName}; load it into {name} and extract {model.ProfileName}."
            : $"is the slice {header.Profile} ({model.Architecture.FormatPattern(header.Layers.AsSpan())}) of {name}, not "
                + $"{model.ProfileName}; load the file of {model.ProfileName}.");
    }

    private static CheckpointException AlreadySlice(Header header) =>
        new(header.Path, $"is already the slice {header.Profile} and has no other profile's weights; give the universal model's file.");
}
