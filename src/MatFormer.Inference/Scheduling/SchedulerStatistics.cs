using System.Collections.Immutable;

namespace MatFormer;

/// <summary>What a <see cref="DecodingScheduler"/> is doing and has done.</summary>
public sealed record SchedulerStatistics
{
    /// <summary>The upper bounds, in seconds, of the buckets of <see cref="FirstTokens"/>. The last bucket has no bound.</summary>
    public static ImmutableArray<double> FirstTokenBounds { get; } = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

    /// <summary>The number of requests that have a sequence.</summary>
    public int Running { get; init; }

    /// <summary>The number of requests that wait for a sequence.</summary>
    public int Waiting { get; init; }

    /// <summary>The number of requests accepted.</summary>
    public long Submitted { get; init; }

    /// <summary>The number of requests refused, because the queue was full or the scheduler was stopping.</summary>
    public long Refused { get; init; }

    /// <summary>The number of requests that ended normally.</summary>
    public long Completed { get; init; }

    /// <summary>The number of requests that were cancelled.</summary>
    public long Cancelled { get; init; }

    /// <summary>The number of requests that failed, such as by damaged logits.</summary>
    public long Failed { get; init; }

    /// <summary>The number of prompt tokens computed, including those computed again when a full sequence restarted.</summary>
    public long PromptTokens { get; init; }

    /// <summary>The number of prompt tokens reused instead of computed; see <see cref="SchedulerOptions.ReusesPrefixes"/>.</summary>
    public long CachedTokens { get; init; }

    /// <summary>The number of tokens generated.</summary>
    public long GeneratedTokens { get; init; }

    /// <summary>The number of tokens that drafts proposed; see <see cref="GenerationOptions.Draft"/>.</summary>
    public long DraftedTokens { get; init; }

    /// <summary>The number of drafted tokens that the model chose too.</summary>
    public long AcceptedTokens { get; init; }

    /// <summary>How often a wider submodel computed a token again; see <see cref="GenerationOptions.Cascade"/>.</summary>
    public long EscalatedTokens { get; init; }

    /// <summary>The number of passes through the model, including those of drafts.</summary>
    public long Passes { get; init; }

    /// <summary>The seconds spent in passes.</summary>
    public double PassSeconds { get; init; }

    /// <summary>The seconds that recent requests took from submission to end, as a moving average.</summary>
    public double RequestSeconds { get; init; }

    /// <summary>
    /// A histogram of the time from submission to first token: the number of requests within each of <see cref="FirstTokenBounds"/> but
    /// beyond the previous bound, and then the number of requests beyond all bounds.
    /// </summary>
    public ImmutableArray<long> FirstTokens { get; init; } = [.. new long[FirstTokenBounds.Length + 1]];

    /// <summary>The seconds from submission to first token, summed over all requests.</summary>
    public double FirstTokenSeconds { get; init; }
}
