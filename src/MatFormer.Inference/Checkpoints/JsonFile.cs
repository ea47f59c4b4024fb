using System.Text.Json;

namespace MatFormer;

/// <summary>Reads the JSON files that lie beside weights.</summary>
internal static class JsonFile
{
    /// <summary>Reads a file that contains a JSON object.</summary>
    /// <param name="path">The file.</param>
    /// <param name="advice">What to do if the file does not exist, for the message.</param>
    /// <param name="read">Turns the object into the result.</param>
    /// <exception cref="CheckpointException">The file does not exist, cannot be read, is too long, or is not a JSON object.</exception>
    public static T Read<T>(string path, string advice, Func<JsonElement, T> read)
    {
        try
        {
            using var stream = File.OpenRead(path);
            if (stream.Length > SafetensorsFormat.MaxHeaderLength)
            {
                throw new CheckpointException(
                    path, $"has {stream.Length} bytes, but at most {SafetensorsFormat.MaxHeaderLength} are allowed; give another file.");
            }

            using var document = JsonDocument.Parse(stream);
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? read(document.RootElement)
                : throw new CheckpointException(path, "is not a JSON object; copy or download it again.");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new CheckpointException(path, $"does not exist; {advice}.", e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // A string with an unpaired surrogate throws InvalidOperationException.
            throw new CheckpointException(path, $"is not valid JSON ({JsonProblem.Of(e)}); copy or download it again.", e);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException and not CheckpointException)
        {
            throw new CheckpointException(path, $"cannot be read: {e.Message}", e);
        }
    }
}
