namespace MatFormer;

/// <summary>The options of an <see cref="EncoderServer"/>.</summary>
public sealed record EncoderServerOptions
{
    /// <summary>The tokenizer that a text encoder was trained with. A vision transformer has none.</summary>
    public Tokenizer Tokenizer { get; init; } = Tokenizer.ByteLevel;

    /// <summary>The most texts or images that a request may have.</summary>
    public int MaxInputs { get; init; } = 2048;

    /// <summary>The number of requests that may wait while another one is computed. Further requests are refused.</summary>
    public int Queue { get; init; } = 256;

    /// <summary>The most pixels (rows times columns) that all images of a request may have together, as they are stored.</summary>
    public int MaxPixels { get; init; } = 32_000_000;

    /// <summary>The most bytes in the body of a request. Images in base64 take 4 bytes for 3.</summary>
    public long MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>The token that a request must send as <c>Authorization: Bearer</c>; null for none.</summary>
    public string? Token { get; init; }

    /// <summary>
    /// The target of <c>model: ".../auto"</c> for the milliseconds that all texts or images of the requests that run and wait would take,
    /// including the new one. If no size meets the target, the fastest size computes.
    /// </summary>
    public double AutoMs { get; init; } = 50;

    internal void Validate()
    {
        ModelServerOptions.Check(Tokenizer is not null, nameof(Tokenizer), "null", "the tokenizer of the model");
        ModelServerOptions.Check(MaxInputs >= 1, nameof(MaxInputs), MaxInputs, "1 or more");
        ModelServerOptions.Check(MaxPixels >= 1, nameof(MaxPixels), MaxPixels, "1 or more");
        ModelServerOptions.Check(Queue >= 0, nameof(Queue), Queue, "0 or more");
        ModelServerOptions.Check(AutoMs > 0, nameof(AutoMs), AutoMs, "more than 0");
        ModelServerOptions.CheckAccess(MaxBodyBytes, Token);
    }
}
