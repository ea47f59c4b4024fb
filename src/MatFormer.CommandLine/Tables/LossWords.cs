namespace MatFormer;

/// <summary>What a kind of model's loss on data that it was not trained on is counted in.</summary>
/// <param name="Amount">Bits or nats.</param>
/// <param name="Per">Of what.</param>
internal sealed record LossWords(string Amount, string Per)
{
    /// <summary>Such as <c>bits per byte</c>.</summary>
    public string Spoken => $"{Amount} per {Per}";

    /// <summary>The same at the beginning of a sentence.</summary>
    public string Heading => char.ToUpperInvariant(Amount[0]) + Spoken[1..];

    /// <summary>Such as <c>bits/byte</c>.</summary>
    public string Short => $"{Amount}/{Per}";

    /// <summary>Such as <c>bits_per_byte</c>.</summary>
    public string Key => $"{Amount}_per_{Per}";

    public static LossWords Of(ModelKind kind) => kind switch
    {
        ModelKind.LanguageModel => new("bits", "byte"),
        ModelKind.VisionTransformer => new("nats", "image"),
        _ => new("nats", "choice"),
    };
}
