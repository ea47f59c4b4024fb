using System.Collections.Immutable;

namespace MatFormer;

/// <summary>What a <see cref="DecodingScheduler"/> is at and has done.</summary>
public sealed record SchedulerStatistics
{
    /// <summary>Upper bounds, in seconds, of all but the last of <see cref="FirstTokens"/>.</summary>
    public static ImmutableArray<double> FirstTokenBounds { get; } = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

    /// <summary>Requests that have a sequence.</summary>
    public int Running { get; init; }

    /// <summary>Requests that wait for one.</summary>
    public int Waiting { get; init; }

    /// <summary>Requests taken.</summary>
    public long Submitted { get; init; }

    /// <summary>Requests refused as the queue was full.</summary>
    public long Refused { get; init; }

    /// <summary>Requests that ended as they should.</summary>
    public long Completed { get; init; }

    /// <summary>Requests that were cancelled.</summary>
    public long Cancelled { get; init; }

    /// <summary>Requests that failed: the model's logits were damaged.</summary>
    public long Failed { get; init; }

    /// <summary>Tokens of prompts that were computed, also those that were computed again as a context began anew.</summary>
    public long PromptTokens { get; init; }

    /// <summary>Tokens of prompts that were there already, and not computed: <see cref="SchedulerOptions.ReusesPrefixes"/>.</summary>
    public long CachedTokens { get; init; }

    /// <summary>Tokens generated.</summary>
    public long GeneratedTokens { get; init; }

    /// <summary>Passes through the model.</summary>
    public long Passes { get; init; }

    /// <summary>Seconds in passes.</summary>
    public double PassSeconds { get; init; }

    /// <summary>Seconds that requests took lately, from when they came to their end.</summary>
    public double RequestSeconds { get; init; }

    /// <summary>
    /// How many requests had their first token within each of <see cref="FirstTokenBounds"/> of their coming (and not of the bound before),
    /// at last those beyond all.
    /// </summary>
    public ImmutableArray<long> FirstTokens { get; init; } = [.. new long[FirstTokenBounds.Length + 1]];

    /// <summary>Seconds from coming to first token, of all requests together.</summary>
    public double FirstTokenSeconds { get; init; }
}
