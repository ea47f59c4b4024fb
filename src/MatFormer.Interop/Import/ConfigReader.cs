using System.Collections.Immutable;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// Looks up values in a <c>config.json</c>: first in its part for text (<c>text_config</c>), if it has one, then in the rest. Values of
/// rotary positions may also be in <c>rope_scaling</c>, or in <c>rope_parameters</c>, where transformers writes them since version 5.
/// </summary>
internal sealed class ConfigReader
{
    private const int MaxLayers = 4096;
    private readonly string _path;
    private readonly string _prefix = string.Empty;
    private readonly ImmutableArray<JsonElement> _parts;

    public ConfigReader(string path, JsonElement root)
    {
        _path = path;
        JsonElement[] texts = Object(root, "text_config") is { } text ? [text, root] : [root];

        // If both are there, all versions of transformers use the older one.
        string[] names = ["rope_scaling", "rope_parameters"];
        var rotary = names.SelectMany(name => texts.Select(part => (Name: name, Part: Object(part, name))))
            .Where(its => its.Part is { } part && part.EnumerateObject().Any()).ToList();
        _parts = [.. texts, .. rotary.Select(its => its.Part!.Value)];
        if (rotary.Count > 0) Rotary = new ConfigReader(path, rotary[0].Name, rotary[0].Part!.Value);
        foreach (var name in names)
        {
            if (Has(name) && Find(name).ValueKind != JsonValueKind.Object) throw Wrong(name, "an object");
        }

        static JsonElement? Object(JsonElement part, string name) =>
            part.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Object ? value : null;
    }

    private ConfigReader(string path, string name, JsonElement part) => (_path, _prefix, _parts) = (path, name + ".", [part]);

    /// <summary>The object with the values of rotary positions, or null if there is none.</summary>
    public ConfigReader? Rotary { get; }

    /// <summary>The type of scaling, if this is <see cref="Rotary"/>, or null if positions are not scaled.</summary>
    /// <exception cref="CheckpointException">There is a factor without a type of scaling.</exception>
    public string? ScalingType
    {
        get
        {
            var key = Has("type") && !Has("rope_type") ? "type" : "rope_type";
            return (Has(key) || Has("factor")) && Text(key) is var type and not "default" ? type : null;
        }
    }

    /// <summary>True if the key is there, even if its value is null.</summary>
    public bool IsSaid(string key) => _parts.Any(part => part.TryGetProperty(key, out _));

    /// <summary>True if the key is there and its value is not null.</summary>
    public bool Has(string key) => Find(key).ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null);

    /// <summary>Returns the value of a key, or an undefined value if the key is missing.</summary>
    public JsonElement Find(string key)
    {
        foreach (var part in _parts)
        {
            if (part.TryGetProperty(key, out var value)) return value;
        }

        return default;
    }

    /// <summary>Returns a string. The key must be there.</summary>
    public string Text(string key) =>
        Find(key) is { ValueKind: JsonValueKind.String } text ? text.GetString()! : throw Wrong(key, "a string");

    /// <summary>Returns a whole number above 0. The key must be there.</summary>
    public int Size(string key) => Find(key) is { ValueKind: JsonValueKind.Number } number && number.TryGetInt32(out var size) && size > 0
        ? size
        : throw Wrong(key, "a whole number above 0");

    /// <summary>The number of layers. It is limited, so that a damaged file does not cause large allocations for each layer.</summary>
    public int Layers => Size("num_hidden_layers") is var layers and <= MaxLayers
        ? layers
        : throw Wrong("num_hidden_layers", $"a whole number up to {MaxLayers}");

    /// <summary>Returns <paramref name="count"/> whole numbers above 0. The file has a list, or one number for all.</summary>
    public ImmutableArray<int> Sizes(string key, int count)
    {
        if (Find(key) is not { ValueKind: JsonValueKind.Array } list) return [.. Enumerable.Repeat(Size(key), count)];
        ImmutableArray<int> sizes =
            [.. list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out var size) ? size : 0)];
        return sizes.Length == count && sizes.All(size => size > 0)
            ? sizes
            : throw Wrong(key, $"a whole number above 0, or one for each of {count} layers");
    }

    /// <summary>Returns <paramref name="count"/> strings.</summary>
    public ImmutableArray<string> Texts(string key, int count)
    {
        ImmutableArray<string> texts = Find(key) is { ValueKind: JsonValueKind.Array } list
            ? [.. list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.String ? item.GetString()! : string.Empty)]
            : [];
        return texts.Length == count ? texts : throw Wrong(key, $"a string for each of {count} layers");
    }

    /// <summary>Returns a number, or <paramref name="otherwise"/> if the key is missing.</summary>
    public double Number(string key, double otherwise) => !Has(key) ? otherwise
        : Find(key) is { ValueKind: JsonValueKind.Number } number ? number.GetDouble() : throw Wrong(key, "a number");

    /// <summary>Returns a boolean, or false if the key is missing.</summary>
    public bool Flag(string key) => !Has(key) ? false : Find(key).ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong(key, "true or false"),
    };

    public CheckpointException Lacks(string key) => new(_path, $"lacks '{_prefix}{key}'; it is damaged, or for another kind of model.");

    public CheckpointException Wrong(string key, string wanted) => Find(key) is { ValueKind: not JsonValueKind.Undefined } value
        ? new CheckpointException(
            _path, $"has {Shortened(value.GetRawText())} for '{_prefix}{key}', not {wanted}; it is damaged, or for another kind of model.")
        : Lacks(key);

    private static string Shortened(string text) => text.Length > 40 ? text[..40] + "..." : text;
}
