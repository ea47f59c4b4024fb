namespace MatFormer;

/// <summary>The options of a <see cref="LanguageModelServer"/>.</summary>
public sealed record ModelServerOptions
{
    /// <summary>
    /// The tokenizer, and the values for fields that a request does not have. A <see cref="GenerationOptions.Draft"/> drafts for all larger
    /// sizes that contain it, and the levels of a <see cref="GenerationOptions.Cascade"/> are asked before all larger sizes that contain
    /// them.
    /// </summary>
    public GenerationOptions Defaults { get; init; } = new() { Temperature = 0.7 };

    /// <summary>The template that makes a prompt of the messages of a chat.</summary>
    public ChatTemplate ChatTemplate { get; init; } = ChatTemplate.Continuation;

    /// <summary>The most tokens that a request may ask for.</summary>
    public int MaxTokens { get; init; } = 4096;

    /// <summary>The most tokens of a prompt; null for as many as a sequence of the engine can hold.</summary>
    public int? MaxPromptTokens { get; init; }

    /// <summary>The most bytes in the body of a request.</summary>
    public long MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>The token that a request must send as <c>Authorization: Bearer</c>; null for none.</summary>
    public string? Token { get; init; }

    /// <summary>
    /// The target of <c>model: ".../auto"</c> for the milliseconds between two tokens of a request. If no size meets the target, the
    /// fastest size computes.
    /// </summary>
    public double AutoMsPerToken { get; init; } = 50;

    /// <summary>How requests share the engine.</summary>
    public SchedulerOptions Scheduler { get; init; } = new();

    internal void Validate()
    {
        Check(MaxTokens >= 1, nameof(MaxTokens), MaxTokens, "1 or more");
        Check(Defaults.Tokens >= 1 && Defaults.Tokens <= MaxTokens, "Defaults.Tokens", Defaults.Tokens, "within 1 and MaxTokens");
        Check(MaxPromptTokens is null or >= 1, nameof(MaxPromptTokens), MaxPromptTokens, "1 or more");
        Check(AutoMsPerToken > 0, nameof(AutoMsPerToken), AutoMsPerToken, "more than 0");
        CheckAccess(MaxBodyBytes, Token);
    }

    internal static void CheckAccess(long maxBodyBytes, string? token)
    {
        Check(maxBodyBytes >= 1, nameof(MaxBodyBytes), maxBodyBytes, "1 or more");
        Check(token is null || token.Trim().Length > 0, nameof(Token), "empty", "at least one character, or null for none");
    }

    internal static void Check(bool holds, string name, object? value, string wanted)
    {
        if (holds) return;
        throw new ArgumentException(FormattableString.Invariant($"The server option {name} is {value}; it must be {wanted}."));
    }
}
