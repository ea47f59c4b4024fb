using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>The metadata of a weight file: which model it holds, and which profile of the model.</summary>
internal sealed record CheckpointHeader(string Path, string Profile, ImmutableArray<LayerSlice> Layers, bool IsUniversal)
{
    /// <summary>The prefix of the names of optimizer tensors in a training checkpoint. Readers of weights skip these tensors.</summary>
    public const string OptimizerPrefix = "optimizer.";

    private const string Version = "1";
    private const string FormatKey = "format";
    private const string ModelKey = "matformer.model";
    private const string FingerprintKey = "matformer.fingerprint";
    private const string ProfileKey = "matformer.profile";
    private const string WidthsKey = "matformer.widths";
    private const string HeadsKey = "matformer.heads";

    // How many channels of the residual stream the file keeps. Files of whole streams do not have it.
    private const string WidthKey = "matformer.width";
    private const string VersionKey = "matformer.version";
    private const string BitsKey = "matformer.bits";
    public const string TokenizerKey = "matformer.tokenizer";

    /// <summary>The layers of the model that a file keeps, if the file renumbers them.</summary>
    public const string KeptKey = "matformer.kept_layers";

    /// <summary>The bits in which the profile is meant to be stored and decoded; null if none are declared.</summary>
    public int? Bits { get; init; }

    /// <summary>Returns the metadata that says which weights a file holds.</summary>
    public static Dictionary<string, string> MetadataOf(
        ModelSpec spec, string profile, ImmutableArray<LayerSlice> layers, string? tokenizer, int? bits = null)
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
        if (layers.Any(l => l.Width > 0))
            metadata.Add(WidthKey, layers.First(l => !l.IsSkipped).Width.ToString(CultureInfo.InvariantCulture));
        if (tokenizer is not null) metadata.Add(TokenizerKey, tokenizer);
        if (bits is { } width) metadata.Add(BitsKey, width.ToString(CultureInfo.InvariantCulture));
        return metadata;
    }

    /// <summary>True for a file that MatFormer wrote.</summary>
    public static bool IsOurs(SafetensorsReader reader) => reader.Metadata.ContainsKey(ModelKey);

    /// <summary>Reads which weights a file holds.</summary>
    /// <exception cref="CheckpointException">The weights are not those of the model.</exception>
    public static CheckpointHeader Read(SafetensorsReader reader, ModelSpec spec)
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

        if (metadata.TryGetValue(KeptKey, out var numbers))
        {
            throw new CheckpointException(reader.Path, $"holds only the layers {numbers} of {name}, renumbered for Hugging Face's "
                + "programs; extract the profile again with --format safetensors, or import it into a declaration of as many layers.");
        }

        var widths = ReadNumbers(reader, WidthsKey, widthList, spec);
        var heads = metadata.TryGetValue(HeadsKey, out var headList)
            ? ReadNumbers(reader, HeadsKey, headList, spec)
            : [.. spec.Blocks.Select((block, layer) => widths[layer] == 0 ? 0 : block.Heads)];
        var stream = metadata.TryGetValue(WidthKey, out var kept) ? ReadWidth(reader, kept, spec) : 0;
        var layers = ImmutableArray.CreateRange(
            widths.Zip(heads, (width, count) => new LayerSlice(width, count) { Width = width == 0 ? 0 : stream }));
        if (profile.Length == 0) throw new CheckpointException(reader.Path, "has an empty profile in its metadata; it is damaged.");
        try
        {
            spec.CheckLayers(profile, layers.AsSpan(), nameof(layers));
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException(reader.Path, $"is a slice that does not fit {spec.Name}: {ArgumentProblem.Of(e)}", e);
        }

        var isWhole = layers.AsSpan().SequenceEqual(spec.WholeLayers.AsSpan());
        return new CheckpointHeader(reader.Path, profile, layers, isWhole && (spec.Routing is null || HasRouters(reader)))
        {
            Bits = ReadBits(reader),
        };
    }

    /// <summary>Reads which weights a file holds.</summary>
    /// <exception cref="CheckpointException">The weights are not those of the whole model.</exception>
    public static CheckpointHeader ReadUniversal(SafetensorsReader reader, ModelSpec spec)
    {
        var header = Read(reader, spec);
        header.CheckUniversal(spec);
        return header;
    }

    /// <summary>Refuses a slice where the universal model is needed.</summary>
    /// <exception cref="CheckpointException">The file holds a slice.</exception>
    public void CheckUniversal(ModelSpec spec)
    {
        if (!IsUniversal)
        {
            throw new CheckpointException(Path, $"is the slice {Profile} of {spec.Name} and has no other profile's weights, but the "
                + "universal model is needed; give the file of the universal model.");
        }
    }

    /// <summary>True for a file with routers, which no slice has.</summary>
    public static bool HasRouters(SafetensorsReader reader) => reader.Tensors.Any(entry => IsOfRouter(entry.Name));

    /// <summary>True for the name of a router's weight.</summary>
    public static bool IsOfRouter(string name) =>
        !name.StartsWith(OptimizerPrefix, StringComparison.Ordinal) && name.Contains(".router.", StringComparison.Ordinal);

    /// <summary>True for a file of this declaration: the universal model or a slice.</summary>
    public static bool IsOf(SafetensorsReader reader, ModelSpec spec) =>
        reader.Metadata.GetValueOrDefault(ModelKey) == spec.Name && reader.Metadata.GetValueOrDefault(FingerprintKey) == spec.Fingerprint;

    // Reads the number of channels of a slice that does not keep all.
    private static int ReadWidth(SafetensorsReader reader, string text, ModelSpec spec)
    {
        var isNumber = int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var width);
        if (isNumber && width > 0 && width < spec.Width) return width;
        throw new CheckpointException(
            reader.Path, $"has '{text}' for '{WidthKey}' in its metadata, which is not a number from 1 to {spec.Width - 1}; it is "
                + "damaged.");
    }

    private static int? ReadBits(SafetensorsReader reader) => reader.Metadata.GetValueOrDefault(BitsKey) switch
    {
        null => null,
        "8" => 8,
        "4" => 4,
        "2" => 2,
        var other => throw new CheckpointException(
            reader.Path, $"has '{other}' for '{BitsKey}' in its metadata, which is not 8, 4 or 2; it is damaged."),
    };

    // Reads one number for each layer.
    private static List<int> ReadNumbers(SafetensorsReader reader, string key, string list, ModelSpec spec)
    {
        var numbers = new List<int>();
        foreach (var item in list.Split(','))
        {
            if (!int.TryParse(item, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                throw new CheckpointException(
                    reader.Path, $"has '{list}' for '{key}' in its metadata, which is not a list of numbers; it is damaged.");
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
}
