namespace MatFormer;

/// <summary>The unit in which losses are shown. They are computed in nats.</summary>
/// <param name="Name">The short name: <c>bits/byte</c>.</param>
/// <param name="Text">The name in prose: <c>bits per byte of training text</c>.</param>
/// <param name="PerNat">The value of one nat in this unit.</param>
internal readonly record struct LossUnit(string Name, string Text, double PerNat)
{
    /// <summary>
    /// Returns the unit of language models. Tokens stand for the given number of bytes on average, so tokenizers can be compared.
    /// </summary>
    public static LossUnit BitsPerByte(double bytesPerToken) =>
        new("bits/byte", "bits per byte of training text", 1 / Math.Log(2) / bytesPerToken);

    /// <summary>Returns nats per unit, such as <c>nats/image</c>.</summary>
    public static LossUnit Nats(string unit) => new("nats/" + unit, "nats per " + unit, 1);
}
