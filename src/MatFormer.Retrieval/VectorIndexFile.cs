using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// The layout of an index as a safetensors file. It holds three tensors: the ends of the titles and texts, the vectors, and the titles and
/// texts in UTF-8, one after the other. In this order, each tensor begins at a multiple of its element size. The rest is metadata.
/// </summary>
internal static class VectorIndexFile
{
    /// <summary>The name of the tensor of vectors, float32 (count, width).</summary>
    public const string Vectors = "vectors";

    /// <summary>
    /// The name of the tensor int64 (count, 2) with the positions in <see cref="Texts"/> at which the title and the text of each entry end.
    /// </summary>
    public const string TextEnds = "text_ends";

    /// <summary>The name of the tensor of titles and texts, uint8 (length).</summary>
    public const string Texts = "texts";

    private const string Version = "1";
    private const string VersionKey = "matformer.index";
    private const string PrefixesKey = "matformer.prefixes";
    private const string ModelKey = "matformer.model";
    private const string FingerprintKey = "matformer.fingerprint";
    private const string ProfileKey = "matformer.profile";
    private const string WeightsKey = "matformer.weights";

    public static Dictionary<string, string> Metadata(ImmutableArray<int> prefixes, VectorIndexIdentity identity)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            [VersionKey] = Version,
            [PrefixesKey] = string.Join(',', prefixes.Select(p => p.ToString(CultureInfo.InvariantCulture))),
            [ModelKey] = identity.Model,
            [FingerprintKey] = identity.Fingerprint,
            [ProfileKey] = identity.Profile,
            [WeightsKey] = identity.Weights,
        };
        if (identity.Tokenizer is { } tokenizer) metadata[CheckpointHeader.TokenizerKey] = tokenizer;
        return metadata;
    }

    public sealed record Header(
        SafetensorsEntry Vectors, SafetensorsEntry TextEnds, SafetensorsEntry Texts, ImmutableArray<int> Prefixes,
        VectorIndexIdentity Identity)
    {
        public int Count => (int)Vectors.Shape[0];

        public int Width => (int)Vectors.Shape[1];

        /// <summary>The length of the file in bytes.</summary>
        public long FileLength { get; init; }

        /// <summary>The data whose texts are indexed; null if it is unknown.</summary>
        public RememberedData? Indexed { get; init; }
    }

    /// <exception cref="CheckpointException">The file is not an index, or it is damaged.</exception>
    public static Header ReadHeader(SafetensorsReader reader)
    {
        var path = reader.Path;
        var version = reader.Metadata.GetValueOrDefault(VersionKey)
            ?? throw new CheckpointException(
                path, $"is not an index of vectors (its metadata lacks '{VersionKey}'); give a file of {nameof(VectorIndexWriter)}.");
        if (version != Version)
        {
            throw new CheckpointException(
                path, $"is an index of version {version}, but {Version} is supported; write the index again, or use a newer release.");
        }

        var vectors = Find(Vectors, SafetensorsType.Float32);
        if (vectors.Shape is not [> 0 and <= int.MaxValue, > 0 and <= int.MaxValue])
            throw Bad(Vectors, vectors);
        var ends = Find(TextEnds, SafetensorsType.Int64);
        if (!ends.Shape.SequenceEqual([vectors.Shape[0], 2])) throw Bad(TextEnds, ends);
        var texts = Find(Texts, SafetensorsType.UInt8);
        if (texts.Shape.Length != 1) throw Bad(Texts, texts);

        if (vectors.Offset % sizeof(float) != 0)
            throw new CheckpointException(path, $"has vectors at byte {vectors.Offset}, not a multiple of 4; write the index again.");
        return new Header(vectors, ends, texts, Prefixes(reader, (int)vectors.Shape[1]), Identity(reader))
        {
            FileLength = reader.Tensors.Max(t => t.Offset + t.Length),
            Indexed = RememberedData.In(reader.Metadata),
        };

        SafetensorsEntry Find(string name, SafetensorsType type) =>
            reader.Find(name) is { } entry && entry.Type == type
                ? entry
                : throw new CheckpointException(
                    path, $"has no tensor '{name}' of dtype {SafetensorsFormat.Code(type)}; it is damaged, so write the index again.");

        CheckpointException Bad(string name, SafetensorsEntry entry) => new(
            path, $"has the tensor '{name}' of the shape ({string.Join(", ", entry.Shape)}), which an index cannot have; it is damaged, so "
                + "write the index again.");
    }

    private static ImmutableArray<int> Prefixes(SafetensorsReader reader, int width)
    {
        var text = Required(reader, PrefixesKey);
        var prefixes = ImmutableArray.CreateBuilder<int>();
        foreach (var part in text.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            if (!int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var prefix)
                || prefix >= width || prefix <= (prefixes.Count > 0 ? prefixes[^1] : 0))
            {
                throw new CheckpointException(
                    reader.Path, $"has the metadata '{PrefixesKey}' of '{text}', which is not a list of ascending dimensions below "
                        + $"{width}; it is damaged, so write the index again.");
            }

            prefixes.Add(prefix);
        }

        return prefixes.ToImmutable();
    }

    private static VectorIndexIdentity Identity(SafetensorsReader reader) => new(
        Required(reader, ModelKey), Required(reader, FingerprintKey), Required(reader, ProfileKey), Required(reader, WeightsKey),
        reader.Metadata.GetValueOrDefault(CheckpointHeader.TokenizerKey));

    private static string Required(SafetensorsReader reader, string key) =>
        reader.Metadata.GetValueOrDefault(key)
            ?? throw new CheckpointException(reader.Path, $"lacks the metadata '{key}'; it is damaged, so write the index again.");
}
