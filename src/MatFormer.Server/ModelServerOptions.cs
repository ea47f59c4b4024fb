namespace MatFormer;

/// <summary>How a <see cref="ModelServer"/> serves.</summary>
public sealed record ModelServerOptions
{
    /// <summary>The tokenizer, and what a request leaves open.</summary>
    public GenerationOptions Defaults { get; init; } = new() { Temperature = 0.7 };

    /// <summary>What the messages of a chat become.</summary>
    public ChatTemplate ChatTemplate { get; init; } = ChatTemplate.Continuation;

    /// <summary>Tokens that a request may ask for.</summary>
    public int MaxTokens { get; init; } = 4096;

    /// <summary>Tokens that a prompt may have; what a sequence of the engine can hold if null.</summary>
    public int? MaxPromptTokens { get; init; }

    /// <summary>Bytes that the body of a request may have.</summary>
    public long MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>What a request must send as <c>Authorization: Bearer</c>; nothing if null.</summary>
    public string? Token { get; init; }

    /// <summary>Milliseconds between two tokens of a request within which <c>model: ".../auto"</c> keeps, if any size does.</summary>
    public double AutoMsPerToken { get; init; } = 50;

    /// <summary>How requests share the engine.</summary>
    public SchedulerOptions Scheduler { get; init; } = new();

    internal void Validate()
    {
        Check(MaxTokens >= 1, nameof(MaxTokens), MaxTokens, "1 or more");
        Check(Defaults.Tokens >= 1 && Defaults.Tokens <= MaxTokens, "Defaults.Tokens", Defaults.Tokens, "within 1 and MaxTokens");
        Check(MaxPromptTokens is null or >= 1, nameof(MaxPromptTokens), MaxPromptTokens, "1 or more");
        Check(MaxBodyBytes >= 1, nameof(MaxBodyBytes), MaxBodyBytes, "1 or more");
        Check(AutoMsPerToken > 0, nameof(AutoMsPerToken), AutoMsPerToken, "more than 0");
        Check(Token is null || Token.Trim().Length > 0, nameof(Token), "empty", "at least one character, or null for none");

        static void Check(bool holds, string name, object? value, string wanted)
        {
            if (holds) return;
            throw new ArgumentException(FormattableString.Invariant($"The server option {name} is {value}; it must be {wanted}."));
        }
    }
}
