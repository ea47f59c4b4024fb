namespace MatFormer;

/// <summary>The unit of the validation loss for a kind of model.</summary>
/// <param name="Amount">Bits or nats.</param>
/// <param name="Per">The unit that the loss is divided by, such as byte.</param>
internal sealed record LossWords(string Amount, string Per)
{
    /// <summary>The unit in prose, such as <c>bits per byte</c>.</summary>
    public string Spoken => $"{Amount} per {Per}";

    /// <summary>The unit at the beginning of a sentence.</summary>
    public string Heading => char.ToUpperInvariant(Amount[0]) + Spoken[1..];

    /// <summary>The short form, such as <c>bits/byte</c>.</summary>
    public string Short => $"{Amount}/{Per}";

    /// <summary>The JSON field, such as <c>bits_per_byte</c>.</summary>
    public string Key => $"{Amount}_per_{Per}";

    public static LossWords Of(ModelKind kind) => kind switch
    {
        ModelKind.LanguageModel => new("bits", "byte"),
        ModelKind.VisionTransformer => new("nats", "image"),
        _ => new("nats", "choice"),
    };
}
