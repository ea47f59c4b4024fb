using System.Security.Cryptography;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// What <c>eval-retrieval</c> calibrated for <c>search --cheap-first</c>, as JSON beside the index: which profiles embed a query one after
/// the other, and the margin from which on each but the last answers. Margins depend on all vectors that are searched, so that it is bound
/// to the index by a hash of the whole file.
/// </summary>
internal static class CheapFirstFile
{
    private const int Version = 1;

    /// <summary>Where it lies.</summary>
    public static string PathOf(string index) => Path.ChangeExtension(index, ".cheap-first.json");

    /// <summary>Writes it, atomically.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
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

    /// <summary>Reads what belongs to an index.</summary>
    /// <param name="index">What will be searched.</param>
    /// <param name="advice">How to make the file.</param>
    /// <exception cref="CheckpointException">It is not there, damaged, or of another index or declaration.</exception>
    public static (List<Profile<TModel>> Profiles, List<float> Thresholds) Read<TModel>(VectorIndex index, string advice)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var path = PathOf(index.Path);
        return JsonFile.Read(path, advice, json =>
        {
            if (Required(json, "version", JsonValueKind.Number).GetDouble() != Version)
                throw new CheckpointException(path, $"is not of version {Version}, which is read; {advice}.");
            if (Required(json, "index_sha256", JsonValueKind.String).GetString() != HashOf(index))
                throw new CheckpointException(path, $"was calibrated on another index than '{index.Path}' is now; {advice}.");
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
                : throw new CheckpointException(path, $"has no '{name}' where one belongs; {advice}.");
    }

    private static string HashOf(VectorIndex index)
    {
        using var stream = File.OpenRead(index.Path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
