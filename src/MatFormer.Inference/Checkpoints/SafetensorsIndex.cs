using System.Text.Json;

namespace MatFormer;

/// <summary>
/// The index of a set of safetensors files: a JSON object whose <c>weight_map</c> names the file of each tensor
/// (https://huggingface.co/docs/safetensors, and what transformers' <c>save_pretrained</c> writes above a certain size).
/// </summary>
internal static class SafetensorsIndex
{
    public const string FileName = "model.safetensors.index.json";

    /// <summary>The name of the file that holds each tensor; at least one.</summary>
    /// <exception cref="CheckpointException">It cannot be read, or is no index.</exception>
    public static Dictionary<string, string> Read(string path) =>
        JsonFile.Read(path, "give the index of a set of safetensors files, or the folder with it", root => Read(path, root));

    private static Dictionary<string, string> Read(string path, JsonElement root)
    {
        if (!root.TryGetProperty("weight_map", out var map) || map.ValueKind != JsonValueKind.Object || !map.EnumerateObject().Any())
            throw new CheckpointException(path, $"has no 'weight_map' that names tensors; give a {FileName}.");
        var fileOf = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var property in map.EnumerateObject())
        {
            // Only files beside the index: what was downloaded must not lead elsewhere.
            if (property.Value.ValueKind != JsonValueKind.String || property.Value.GetString() is not { Length: > 0 } file
                || file != Path.GetFileName(file) || !file.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                throw new CheckpointException(path, $"names {property.Value.GetRawText()} as the file of the tensor '{property.Name}', "
                    + "which is no name of a .safetensors file beside it; it is damaged.");
            }

            if (!fileOf.TryAdd(property.Name, file))
                throw new CheckpointException(path, $"names the tensor '{property.Name}' twice; it is damaged.");
        }

        return fileOf;
    }
}
