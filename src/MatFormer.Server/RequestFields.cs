using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace MatFormer;

/// <summary>Reads the fields of a request's JSON. Errors name the field at fault.</summary>
internal sealed class RequestFields : IDisposable
{
    private readonly JsonDocument _document;
    private readonly HashSet<string> _known = [];

    private RequestFields(JsonDocument document) => _document = document;

    /// <exception cref="ApiException">
    /// The body is not a JSON object, has a string that is not text, cannot be read, or is sent with another content type.
    /// </exception>
    public static async Task<RequestFields> ReadAsync(HttpRequest request, CancellationToken cancellationToken)
    {
        if (!request.HasJsonContentType())
        {
            throw new ApiException(
                StatusCodes.Status415UnsupportedMediaType, "The body must be JSON; send the header 'Content-Type: application/json'.");
        }

        JsonDocument document;
        try
        {
            document = await JsonDocument.ParseAsync(
                request.Body, new JsonDocumentOptions { AllowDuplicateProperties = false }, cancellationToken).ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            throw ApiException.Malformed($"The body is not valid JSON: {e.Message}");
        }
        catch (InvalidOperationException)
        {
            throw NotText(string.Empty); // names are unescaped to find duplicates
        }
        catch (IOException e) when (e is not BadHttpRequestException)
        {
            // Kestrel says so of a chunk whose size overflows. A client that disconnected gets no answer.
            cancellationToken.ThrowIfCancellationRequested();
            throw ApiException.Malformed($"The body cannot be read: {e.Message}");
        }

        try
        {
            if (document.RootElement.ValueKind != JsonValueKind.Object) throw ApiException.Malformed("The body must be a JSON object.");
            if (FindNotText(document.RootElement) is { } path) throw NotText(path);
            return new RequestFields(document);
        }
        catch
        {
            document.Dispose();
            throw;
        }
    }

    public void Dispose() => _document.Dispose();

    /// <summary>The value of a field; null if the field is missing or null.</summary>
    public JsonElement? this[string name]
    {
        get
        {
            _known.Add(name);
            return _document.RootElement.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;
        }
    }

    public JsonElement Required(string name, string what) =>
        this[name] ?? throw ApiException.Malformed($"'{name}' is missing: {what}.", name);

    public string? Text(string name) => this[name] is not { } value ? null : TextOf(value, name);

    public bool Flag(string name) => this[name] is { } value && value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw ApiException.Malformed($"'{name}' must be true or false.", name),
    };

    public long? Integer(string name, long least = long.MinValue, long most = long.MaxValue)
    {
        if (this[name] is not { } value) return null;
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt64(out var number))
            throw ApiException.Malformed($"'{name}' must be a whole number.", name);
        if (number >= least && number <= most) return number;
        var message = FormattableString.Invariant($"'{name}' is {number}; it must be within {least} and {most}.");
        throw ApiException.Impossible(message, name);
    }

    public double? Number(string name, double least, double most, bool withLeast = true)
    {
        if (this[name] is not { } value) return null;
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out var number) || !double.IsFinite(number))
            throw ApiException.Malformed($"'{name}' must be a number.", name);
        if (number <= most && (withLeast ? number >= least : number > least)) return number;
        var range = withLeast ? $"within {Format(least)} and {Format(most)}" : $"above {Format(least)}, at most {Format(most)}";
        throw ApiException.Impossible($"'{name}' is {Format(number)}; it must be {range}.", name);

        static string Format(double value) => value.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>Returns the texts of a field that has one text or several.</summary>
    public ImmutableArray<string> Texts(string name, int most)
    {
        if (this[name] is not { } value) return [];
        if (value.ValueKind == JsonValueKind.String) return [TextOf(value, name)];
        if (value.ValueKind != JsonValueKind.Array)
            throw ApiException.Malformed($"'{name}' must be a string or an array of strings.", name);
        if (value.GetArrayLength() > most)
            throw ApiException.Impossible($"'{name}' has {value.GetArrayLength()} entries; at most {most} are allowed.", name);
        return [.. value.EnumerateArray().Select((text, i) => TextOf(text, $"{name}[{i}]"))];
    }

    /// <summary>Refuses a field that this server does not support, unless its value changes nothing.</summary>
    public void Refuse(string name, string why, Func<JsonElement, bool> changesNothing)
    {
        if (this[name] is not { } value || changesNothing(value)) return;
        throw ApiException.Impossible($"'{name}' is not supported: {why}. Leave it out.", name, "unsupported_parameter");
    }

    /// <summary>Accepts fields that do not change the answer.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (var name in names) _known.Add(name);
    }

    /// <summary>Refuses all fields that were neither read nor ignored.</summary>
    public void Finish()
    {
        foreach (var field in _document.RootElement.EnumerateObject())
        {
            if (!_known.Contains(field.Name)) throw ApiException.Malformed($"The field '{field.Name}' is unknown; remove it.", field.Name);
        }
    }

    public static string TextOf(JsonElement value, string name)
    {
        if (value.ValueKind != JsonValueKind.String) throw ApiException.Malformed($"'{name}' must be a string.", name);
        return value.GetString()!;
    }

    // Reads every string, because one that is not text throws wherever it is read or compared. Returns the path of the first such string,
    // or null. If the name of a field is not text, the path is that of its object.
    private static string? FindNotText(JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                return IsText(value.GetString) ? null : string.Empty;
            case JsonValueKind.Array:
                foreach (var (i, item) in value.EnumerateArray().Index())
                {
                    if (FindNotText(item) is { } rest) return $"[{i}]{rest}";
                }

                return null;
            case JsonValueKind.Object:
                foreach (var field in value.EnumerateObject())
                {
                    if (!IsText(() => field.Name)) return string.Empty;
                    if (FindNotText(field.Value) is { } rest) return $".{field.Name}{rest}";
                }

                return null;
            default:
                return null;
        }
    }

    private static bool IsText(Func<string?> read)
    {
        try
        {
            read();
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private static ApiException NotText(string path)
    {
        var field = path.TrimStart('.');
        return ApiException.Malformed(
            $"{(field.Length == 0 ? "The body" : $"'{field}'")} has a string with an unpaired surrogate (an escape such as \\ud800 without "
            + "its second part) or with bytes that are not UTF-8.", field.Length == 0 ? null : field);
    }
}
