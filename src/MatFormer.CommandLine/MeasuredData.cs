using System.Text.Json;

namespace MatFormer;

/// <summary>The data that a command measures on, beside the data that the model was trained on.</summary>
internal sealed class MeasuredData
{
    private readonly string _noun;
    private readonly string _description;
    private readonly RememberedData _data;
    private readonly RememberedData? _trainedOn;

    /// <param name="data">The data to measure on.</param>
    /// <param name="trainedOn">What the weights remember; null if they remember nothing.</param>
    public MeasuredData(TrainingData data, RememberedData? trainedOn)
    {
        (_noun, _description) = data switch
        {
            TextCorpus text => ("text", text.Describe()),
            PairCorpus pairs => ("pairs", pairs.Describe()),
            ImageCorpus images => ("images", images.Describe()),
            _ => ("data", data.Source),
        };
        (_data, _trainedOn) = (data.Remembered, trainedOn);
    }

    /// <summary>Returns one line that says how the data differ from those of training; null if they are the same.</summary>
    /// <param name="what">What was done with the data.</param>
    public string? Difference(string what = "Measured on")
    {
        if (_trainedOn is null) return "The file of the weights does not say what the model was trained on.";
        if (_trainedOn.Fingerprint == _data.Fingerprint) return null;
        return _trainedOn.Path == _data.Path
            ? $"{what} {_data}, which has changed since the model was trained on it."
            : $"{what} {_data}, but the model was trained on {_trainedOn} ({Other}).";
    }

    /// <summary>The data for the facts of a report, and how they differ from those of training, if they do.</summary>
    public (string Name, string Value)[] Facts
    {
        get
        {
            (string, string) data = (char.ToUpperInvariant(_noun[0]) + _noun[1..], _description);
            return Difference() is { } difference ? [data, ("Data of training", difference)] : [data];
        }
    }

    private string Other => _noun == "text" ? "another text" : "other " + _noun;

    /// <summary>Says what the numbers that follow are of.</summary>
    public void Say(TextWriter writer)
    {
        writer.WriteLine($"Held-out {_noun} of {_description}.");
        if (Difference() is { } difference) writer.WriteLine(difference);
    }

    /// <summary>Writes the data, what the weights remember, and whether both are the same; null if that is unknown.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("data");
        WriteRemembered(json, _data);
        json.WriteString("description", _description);
        json.WritePropertyName("trained_on");
        if (_trainedOn is null)
        {
            json.WriteNullValue();
            json.WriteNull("is_training_data");
        }
        else
        {
            json.WriteStartObject();
            WriteRemembered(json, _trainedOn);
            json.WriteEndObject();
            json.WriteBoolean("is_training_data", _trainedOn.Fingerprint == _data.Fingerprint);
        }

        json.WriteEndObject();
    }

    private static void WriteRemembered(Utf8JsonWriter json, RememberedData data)
    {
        json.WriteString("path", data.Path); // null is the XML documentation of the .NET SDK
        json.WriteString("fingerprint", data.Fingerprint);
    }
}
