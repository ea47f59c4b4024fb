using System.Security.Cryptography;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// The calibration of <c>eval-retrieval</c> for <c>search --cheap-first</c>, as JSON beside the index. It holds the profiles that embed a
/// query one after the other, and the margin from which each profile but the last answers. Margins depend on all vectors of the index, so
/// the file holds a hash of the whole index file.
/// </summary>
internal static class CheapFirstFile
{
    private const int Version = 1;

    /// <summary>Returns the path of the calibration of an index.</summary>
    public static string PathOf(string index) => Path.ChangeExtension(index, ".cheap-first.json");

    /// <summary>Writes the file atomically.</summary>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write<TModel>(VectorIndex index, EscalationRow escalation)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var text = new StringWriter();
        Output.Json(text, json =>
        {
            json.WriteNumber("version", Version);
            json.WriteString("index_sha256", HashOf(index));
            json.WriteStartArray("profiles");
            for (var rung = 0; rung < escalation.Encoders.Length; rung++)
            {
                var profile = Profile<TModel>.Parse(escalation.Encoders[rung]);
                json.WriteStartObject();
                json.WriteString("name", profile.Name);
                json.WriteString("layers", profile.Pattern);
                json.WriteNumber("flops_per_text", profile.Flops);
                if (rung < escalation.Thresholds.Length) json.WriteNumber("answers_from_margin", escalation.Thresholds[rung]);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            EncoderOutput.WriteMeasured(json, escalation);
        });
        AtomicFile.WriteText(PathOf(index.Path), text.ToString());
    }

    /// <summary>Reads the calibration of an index.</summary>
    /// <param name="index">The index that will be searched.</param>
    /// <param name="advice">How to create the file, for messages.</param>
    /// <exception cref="CheckpointException">The file is missing or damaged, or belongs to another index or declaration.</exception>
    public static (List<Profile<TModel>> Profiles, List<float> Thresholds) Read<TModel>(VectorIndex index, string advice)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var path = PathOf(index.Path);
        return JsonFile.Read(path, advice, json =>
        {
            if (Required(json, "version", JsonValueKind.Number).GetDouble() != Version)
                throw new CheckpointException(path, $"is not of version {Version}, the only one that can be read; {advice}.");
            if (Required(json, "index_sha256", JsonValueKind.String).GetString() != HashOf(index))
                throw new CheckpointException(path, $"was calibrated on another index than the current '{index.Path}'; {advice}.");
            var rungs = Required(json, "profiles", JsonValueKind.Array).EnumerateArray().ToList();
            if (rungs.Count == 0) throw new CheckpointException(path, $"names no profiles; {advice}.");
            return (
                rungs.ConvertAll(ProfileOf),
                rungs[..^1].ConvertAll(rung => Required(rung, "answers_from_margin", JsonValueKind.Number).GetSingle()));
        });

        Profile<TModel> ProfileOf(JsonElement rung)
        {
            var name = Required(rung, "name", JsonValueKind.String).GetString();
            var layers = Required(rung, "layers", JsonValueKind.String).GetString();
            return TModel.Granularities.Concat(TModel.Profiles).FirstOrDefault(p => p.Name == name && p.Pattern == layers)
                ?? throw new CheckpointException(
                    path, $"was calibrated with {name} as '{layers}', which {TModel.Spec.Name} does not declare; {advice}.");
        }

        JsonElement Required(JsonElement json, string name, JsonValueKind kind) =>
            json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind == kind
                ? value
                : throw new CheckpointException(path, $"has no '{name}' of the right type; {advice}.");
    }

    private static string HashOf(VectorIndex index)
    {
        using var stream = File.OpenRead(index.Path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
