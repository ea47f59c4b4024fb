namespace MatFormer;

/// <summary>The options of a <see cref="DecodingScheduler"/>.</summary>
public sealed record SchedulerOptions
{
    /// <summary>The number of requests that may wait for a sequence. Further requests are refused.</summary>
    public int Queue { get; init; } = 256;

    /// <summary>
    /// The number of tokens in a pass: one of each running sequence, and prompt tokens for the rest, at least <see cref="PromptTokens"/> of
    /// them. A long prompt thus delays the other requests by a bounded time for each token.
    /// </summary>
    public int TokensPerPass { get; init; } = 64;

    /// <summary>The smallest number of prompt tokens that a pass takes, if prompts are waiting.</summary>
    public int PromptTokens { get; init; } = 16;

    /// <summary>The number of pieces that may wait for a request's reader. Then the request pauses, and the others continue.</summary>
    public int PiecesAhead { get; init; } = 64;

    /// <summary>How long a request pauses for its reader before it is cancelled.</summary>
    public TimeSpan ReaderTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// True if a request reuses the tokens of its beginning that a free sequence holds, computed with the same submodel. The text stays the
    /// same, but a short response time reveals to a caller that somebody else sent a prompt with the same beginning.
    /// </summary>
    public bool ReusesPrefixes { get; init; } = true;

    /// <exception cref="ArgumentException">A value is out of range; the message names it.</exception>
    internal void Validate()
    {
        Check(Queue >= 0, nameof(Queue), Queue, "0 or more");
        Check(TokensPerPass >= 1, nameof(TokensPerPass), TokensPerPass, "1 or more");
        Check(PromptTokens >= 1, nameof(PromptTokens), PromptTokens, "1 or more");
        Check(PiecesAhead >= 1, nameof(PiecesAhead), PiecesAhead, "1 or more");
        Check(ReaderTimeout > TimeSpan.Zero, nameof(ReaderTimeout), ReaderTimeout, "more than zero");

        static void Check(bool holds, string name, object value, string wanted)
        {
            if (holds) return;
            throw new ArgumentException(FormattableString.Invariant($"The scheduler option {name} is {value}; it must be {wanted}."));
        }
    }
}
