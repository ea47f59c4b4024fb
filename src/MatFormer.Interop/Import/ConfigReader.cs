using System.Collections.Immutable;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// Looks up the values of a <c>config.json</c>: in the part for text, if there are several (<c>text_config</c>), then in the rest; rotary
/// positions' also where transformers writes them since version 5 (<c>rope_parameters</c>).
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

        // Of both, transformers take the older one, since version 5 too.
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

    /// <summary>What is said of rotary positions in an object of their own, if there is one.</summary>
    public ConfigReader? Rotary { get; }

    /// <summary>Of <see cref="Rotary"/>: in what way positions are scaled, or null if they are not.</summary>
    /// <exception cref="CheckpointException">There is a factor, and nothing says what of.</exception>
    public string? ScalingType
    {
        get
        {
            var key = Has("type") && !Has("rope_type") ? "type" : "rope_type";
            return (Has(key) || Has("factor")) && Text(key) is var type and not "default" ? type : null;
        }
    }

    /// <summary>True if it is there, null included.</summary>
    public bool IsSaid(string key) => _parts.Any(part => part.TryGetProperty(key, out _));

    /// <summary>True if it is there and not null.</summary>
    public bool Has(string key) => Find(key).ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null);

    /// <summary>The value as it stands, or an undefined one.</summary>
    public JsonElement Find(string key)
    {
        foreach (var part in _parts)
        {
            if (part.TryGetProperty(key, out var value)) return value;
        }

        return default;
    }

    /// <summary>A text that must be there.</summary>
    public string Text(string key) =>
        Find(key) is { ValueKind: JsonValueKind.String } text ? text.GetString()! : throw Wrong(key, "a text");

    /// <summary>A whole number, 1 or more, that must be there.</summary>
    public int Size(string key) => Find(key) is { ValueKind: JsonValueKind.Number } number && number.TryGetInt32(out var size) && size > 0
        ? size
        : throw Wrong(key, "a whole number above 0");

    /// <summary>How many layers there are: as many as may be declared, so that what is counted by layer stays small.</summary>
    public int Layers => Size("num_hidden_layers") is var layers and <= MaxLayers
        ? layers
        : throw Wrong("num_hidden_layers", $"a whole number up to {MaxLayers}");

    /// <summary>As many whole numbers, 1 or more: a list, or one for all.</summary>
    public ImmutableArray<int> Sizes(string key, int count)
    {
        if (Find(key) is not { ValueKind: JsonValueKind.Array } list) return [.. Enumerable.Repeat(Size(key), count)];
        ImmutableArray<int> sizes =
            [.. list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out var size) ? size : 0)];
        return sizes.Length == count && sizes.All(size => size > 0)
            ? sizes
            : throw Wrong(key, $"a whole number above 0, or one for each of {count} layers");
    }

    /// <summary>As many texts.</summary>
    public ImmutableArray<string> Texts(string key, int count)
    {
        ImmutableArray<string> texts = Find(key) is { ValueKind: JsonValueKind.Array } list
            ? [.. list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.String ? item.GetString()! : string.Empty)]
            : [];
        return texts.Length == count ? texts : throw Wrong(key, $"a text for each of {count} layers");
    }

    /// <summary>A number; <paramref name="otherwise"/> if it is not there.</summary>
    public double Number(string key, double otherwise) => !Has(key) ? otherwise
        : Find(key) is { ValueKind: JsonValueKind.Number } number ? number.GetDouble() : throw Wrong(key, "a number");

    /// <summary>True or false; false if it is not there.</summary>
    public bool Flag(string key) => !Has(key) ? false : Find(key).ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong(key, "true or false"),
    };

    public CheckpointException Lacks(string key) => new(_path, $"lacks '{_prefix}{key}'; it is damaged, or of another kind of model.");

    public CheckpointException Wrong(string key, string wanted) => Find(key) is { ValueKind: not JsonValueKind.Undefined } value
        ? new CheckpointException(
            _path, $"has {Shortened(value.GetRawText())} for '{_prefix}{key}', not {wanted}; it is damaged, or of another kind of model.")
        : Lacks(key);

    private static string Shortened(string text) => text.Length > 40 ? text[..40] + "..." : text;
}
