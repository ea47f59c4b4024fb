namespace MatFormer;

/// <summary>How a <see cref="DecodingScheduler"/> works.</summary>
public sealed record SchedulerOptions
{
    /// <summary>Requests that may wait for a sequence; one more is refused.</summary>
    public int Queue { get; init; } = 256;

    /// <summary>
    /// Tokens that a pass takes: one of each running sequence, and of prompts what is left of it, but at least <see cref="PromptTokens"/>.
    /// So a long prompt delays the others by a bounded time per token.
    /// </summary>
    public int TokensPerPass { get; init; } = 64;

    /// <summary>Tokens of prompts that a pass takes at least, where some wait.</summary>
    public int PromptTokens { get; init; } = 16;

    /// <summary>Pieces of text that may wait for the reader of a request; then it pauses, and the others go on.</summary>
    public int PiecesAhead { get; init; } = 64;

    /// <summary>How long a request pauses for its reader before it is cancelled.</summary>
    public TimeSpan ReaderTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Whether a request goes on from what a free sequence holds of its beginning, computed as the same submodel. It yields what it would
    /// without; but how soon tells who asks whether others asked for something that begins alike.
    /// </summary>
    public bool ReusesPrefixes { get; init; } = true;

    /// <exception cref="ArgumentException">A value is out of range; the message names it.</exception>
    internal void Validate()
    {
        Check(Queue >= 0, nameof(Queue), Queue, "0 or more");
        Check(TokensPerPass >= 1, nameof(TokensPerPass), TokensPerPass, "1 or more");
        Check(PromptTokens >= 1, nameof(PromptTokens), PromptTokens, "1 or more");
        Check(PiecesAhead >= 1, nameof(PiecesAhead), PiecesAhead, "1 or more");
        Check(ReaderTimeout > TimeSpan.Zero, nameof(ReaderTimeout), ReaderTimeout, "more than no time");

        static void Check(bool holds, string name, object value, string wanted)
        {
            if (holds) return;
            throw new ArgumentException(FormattableString.Invariant($"The scheduler option {name} is {value}; it must be {wanted}."));
        }
    }
}
