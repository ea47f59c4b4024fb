using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Fleet;

/// <summary>
/// Finds what the requests of one conversation have in common, and orders replicas by it. A replica that computed the beginning of a
/// conversation still has its keys and values, so the next turn should go there too.
/// </summary>
public static class ConversationKey
{
    /// <summary>The header by which a client names its conversation.</summary>
    public const string Header = "X-Session-Id";

    // A prompt grows at its end, so its beginning stays.
    private const int PromptCharacters = 256;

    /// <summary>Returns the key of a request; null if any replica will do.</summary>
    /// <param name="headers">The headers of the request.</param>
    /// <param name="body">The body of the request. If it is not valid JSON, the replica says so.</param>
    /// <returns>
    /// The first of these: the header, the fields <c>prompt_cache_key</c> and <c>user</c>, the messages up to the first one of the user,
    /// the beginning of the prompt.
    /// </returns>
    public static string? Of(IHeaderDictionary headers, ReadOnlyMemory<byte> body)
    {
        ArgumentNullException.ThrowIfNull(headers);
        if (headers[Header] is [{ Length: > 0 } session, ..]) return "session " + session;
        if (body.IsEmpty) return null;
        try
        {
            using var request = JsonDocument.Parse(body);
            return request.RootElement.ValueKind == JsonValueKind.Object ? Of(request.RootElement) : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null; // InvalidOperationException: a string that is not text
        }
    }

    /// <summary>
    /// Orders replicas for a key, best first, by rendezvous hashing: each pair of key and replica has a number, and the largest wins. If a
    /// replica comes or goes, only the conversations of that replica move. All proxies agree without talking to each other.
    /// </summary>
    public static IEnumerable<T> Order<T>(string key, IEnumerable<T> replicas, Func<T, string> nameOf) =>
        replicas.OrderByDescending(replica =>
            BitConverter.ToUInt64(SHA256.HashData(Encoding.UTF8.GetBytes($"{nameOf(replica)}\n{key}"))));

    private static string? Of(JsonElement request)
    {
        foreach (var name in (string[])["prompt_cache_key", "user"])
        {
            if (request.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String)
                return $"{name} {value.GetString()}";
        }

        if (request.TryGetProperty("messages", out var messages) && messages.ValueKind == JsonValueKind.Array)
        {
            var beginning = new StringBuilder("messages");
            foreach (var message in messages.EnumerateArray())
            {
                beginning.Append(' ').Append(message.GetRawText());
                if (message.ValueKind == JsonValueKind.Object && message.TryGetProperty("role", out var role)
                    && role.ValueKind == JsonValueKind.String && role.ValueEquals("user")) break;
            }

            return beginning.ToString();
        }

        if (!request.TryGetProperty("prompt", out var prompt)) return null;
        if (prompt.ValueKind == JsonValueKind.Array && prompt.GetArrayLength() == 1) prompt = prompt[0];
        if (prompt.ValueKind != JsonValueKind.String) return null;
        var text = prompt.GetString()!;
        return "prompt " + text[..Math.Min(text.Length, PromptCharacters)];
    }
}
