namespace MatFormer;

/// <summary>What losses are shown in; they are computed in nats.</summary>
/// <param name="Name">In a line: <c>bits/byte</c>.</param>
/// <param name="Text">In prose: <c>bits per byte of training text</c>.</param>
/// <param name="PerNat">How much of it a nat is.</param>
internal readonly record struct LossUnit(string Name, string Text, double PerNat)
{
    /// <summary>Of language models, whose tokens stand for so many bytes of text on average: comparable between tokenizers.</summary>
    public static LossUnit BitsPerByte(double bytesPerToken) =>
        new("bits/byte", "bits per byte of training text", 1 / Math.Log(2) / bytesPerToken);

    /// <summary>Nats of something: <c>nats/image</c>.</summary>
    public static LossUnit Nats(string unit) => new("nats/" + unit, "nats per " + unit, 1);
}
