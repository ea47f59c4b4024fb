using System.Text.Json;

namespace MatFormer;

/// <summary>Reads the JSON files that lie beside weights.</summary>
internal static class JsonFile
{
    /// <summary>Reads one.</summary>
    /// <param name="path">The file.</param>
    /// <param name="advice">What to do if it is not there.</param>
    /// <param name="read">Makes something of its object.</param>
    /// <exception cref="CheckpointException">It does not exist, cannot be read, is too long, or is no JSON object.</exception>
    public static T Read<T>(string path, string advice, Func<JsonElement, T> read)
    {
        try
        {
            using var stream = File.OpenRead(path);
            if (stream.Length > SafetensorsFormat.MaxHeaderLength)
            {
                throw new CheckpointException(
                    path, $"has {stream.Length} bytes, but at most {SafetensorsFormat.MaxHeaderLength} are read.");
            }

            using var document = JsonDocument.Parse(stream);
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? read(document.RootElement)
                : throw new CheckpointException(path, "is no JSON object; copy or download it again.");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new CheckpointException(path, $"does not exist; {advice}.", e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: a string with half a surrogate pair.
            throw new CheckpointException(path, $"is not sound JSON ({e.Message}); copy or download it again.", e);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException and not CheckpointException)
        {
            throw new CheckpointException(path, $"cannot be read: {e.Message}", e);
        }
    }
}
