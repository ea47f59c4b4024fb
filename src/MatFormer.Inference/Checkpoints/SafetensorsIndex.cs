using System.Text.Json;

namespace MatFormer;

/// <summary>
/// The index of a set of safetensors files: a JSON object whose <c>weight_map</c> names the file of each tensor
/// (https://huggingface.co/docs/safetensors). The <c>save_pretrained</c> of transformers writes such a set above a certain size.
/// </summary>
internal static class SafetensorsIndex
{
    public const string FileName = "model.safetensors.index.json";

    /// <summary>Returns the name of the file that holds each tensor; there is at least one tensor.</summary>
    /// <exception cref="CheckpointException">The file cannot be read, or is not an index.</exception>
    public static Dictionary<string, string> Read(string path) =>
        JsonFile.Read(path, "give the index of a set of safetensors files, or the folder with it", root => Read(path, root));

    private static Dictionary<string, string> Read(string path, JsonElement root)
    {
        if (!root.TryGetProperty("weight_map", out var map) || map.ValueKind != JsonValueKind.Object || !map.EnumerateObject().Any())
            throw new CheckpointException(path, $"has no 'weight_map' that names tensors; give a {FileName}.");
        var fileOf = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var property in map.EnumerateObject())
        {
            // Only files beside the index are allowed, so that a downloaded index cannot refer to other places.
            if (property.Value.ValueKind != JsonValueKind.String || property.Value.GetString() is not { Length: > 0 } file
                || file != Path.GetFileName(file) || !file.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                throw new CheckpointException(path, $"names {property.Value.GetRawText()} as the file of the tensor '{property.Name}', "
                    + "which is not the name of a .safetensors file beside it; it is damaged.");
            }

            if (!fileOf.TryAdd(property.Name, file))
                throw new CheckpointException(path, $"names the tensor '{property.Name}' twice; it is damaged.");
        }

        return fileOf;
    }
}
