using System.Collections.Immutable;

namespace MatFormer;

/// <summary>Serves all sizes of a language model from one set of packed weights; see <see cref="ModelServer"/>.</summary>
public sealed class LanguageModelServer : ModelServer
{
    internal LanguageModelServer(ModelSpec spec, DecodingEngine engine, ProfileCatalog catalog, ModelServerOptions options)
        : base(spec, catalog, options.Token, options.MaxBodyBytes)
    {
        Options = options;
        (Weights, WeightBytes, CacheBytes) = (engine.Weights, engine.WeightBytes, engine.SequenceBytes * engine.Sequences);
        EmbedsTexts = engine.KeepsHiddenStates;
        MaxPromptTokens = Math.Min(options.MaxPromptTokens ?? engine.Capacity, engine.Capacity);
        Scheduler = new DecodingScheduler(engine, options.Scheduler);
    }

    /// <summary>The options of the server.</summary>
    public ModelServerOptions Options { get; }

    /// <summary>The scheduler that runs the requests.</summary>
    public DecodingScheduler Scheduler { get; }

    /// <summary>The type in which the weights are kept.</summary>
    public DecodingWeights Weights { get; }

    /// <summary>Bytes of the packed weights.</summary>
    public long WeightBytes { get; }

    /// <summary>Bytes of the key/value caches of all sequences.</summary>
    public long CacheBytes { get; }

    internal bool EmbedsTexts { get; }

    internal override int MaxPromptTokens { get; }

    internal override int MaxInputs => 64;

    internal override ImmutableArray<int> EmbeddingDimensions => [Spec.Width];

    internal override bool IsStopping => Scheduler.IsStopping;

    internal override (int Running, int Waiting) Load => Scheduler.Statistics is var now ? (now.Running, now.Waiting) : default;

    /// <inheritdoc/>
    public override Task StopAsync(TimeSpan grace) => Scheduler.StopAsync(grace);

    internal override int[] Encode(string text) => Options.Defaults.Tokenizer.Encode(text);

    internal override ServedProfile Select(string model, long? maxFlops, double? maxMs, int inputs)
    {
        var (running, waiting) = Load;
        return Catalog.Select(model, maxFlops, maxMs, running + waiting + 1);
    }

    /// <summary>
    /// Returns the submodel that drafts for a size; default if the draft is not a part of the size that is smaller or has fewer bits, or if
    /// the size is a budget, at which each token chooses its hidden units.
    /// </summary>
    internal ImmutableArray<LayerSlice> DraftFor(ServedProfile profile)
    {
        var draft = Options.Defaults.Draft;
        if (draft.IsDefault || profile.Budget is not null || !profile.Layers.Hold(draft)) return default;
        var hasFewerBits = Options.Defaults.DraftWeights is { } weights && weights != Weights;
        return hasFewerBits || !profile.Layers.AsSpan().SequenceEqual(draft.AsSpan()) ? draft : default;
    }

    /// <summary>Returns the cascade for a size: the levels that are smaller parts of it. A budget has none.</summary>
    internal ImmutableArray<CascadeLevel> CascadeFor(ServedProfile profile) => profile.Budget is not null ? []
        : Options.Defaults.Cascade.RemoveAll(level => profile.Layers.AsSpan().SequenceEqual(level.Layers.AsSpan())
            || DecodingEngine.CascadeProblem(level.Layers, profile.Layers, profile.Layers, Spec) is not null);

    /// <summary>Submits a request for text in a size; returns null if the queue is full or the server is stopping.</summary>
    internal ScheduledGeneration? TryGenerate(TextRequest request) => request.Profile.Budget is { } budget
        ? Scheduler.TryGenerate(request.Prompt, budget, request.Options)
        : Scheduler.TryGenerate(request.Prompt, request.Profile.Layers, request.Options);

    /// <summary>
    /// Submits a request for the embedding of a text in a size; returns null if the queue is full or the server is stopping.
    /// </summary>
    internal ScheduledEmbedding? TryEmbed(int[] tokens, ServedProfile profile) => profile.Budget is { } budget
        ? Scheduler.TryEmbed(tokens, budget) : Scheduler.TryEmbed(tokens, profile.Layers);

    /// <summary>Returns the error for a request that was not accepted.</summary>
    internal ApiException Refused()
    {
        if (Scheduler.IsStopping) return Stopping();
        var now = Scheduler.Statistics;
        return QueueIsFull(now.RequestSeconds * (1 + now.Waiting) / Scheduler.Sequences);
    }
}
