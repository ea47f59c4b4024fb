using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>The options of a <see cref="DecodingEngine"/>.</summary>
public sealed record DecodingOptions
{
    /// <summary>The format of the packed weights.</summary>
    public DecodingWeights Weights { get; init; }

    /// <summary>The number of sequences that the engine can hold at once.</summary>
    public int Sequences { get; init; } = 1;

    /// <summary>The number of tokens that each sequence can hold; the model's context if null.</summary>
    public int? Capacity { get; init; }

    /// <summary>The number of threads that compute; <see cref="Machine.Threads"/> if null.</summary>
    public int? Threads { get; init; }

    /// <summary>True if the engine keeps <see cref="DecodingEngine.HiddenStates"/>.</summary>
    public bool HiddenStates { get; init; }

    /// <summary>The width of the vector registers in bits, for tests; the widest of the CPU if null.</summary>
    internal int? RegisterBits { get; init; }
}

/// <summary>
/// Continues sequences of tokens with a model on the CPU, without tensors. The engine packs the weights once, so create one engine and
/// reuse it. Each pass takes any tokens of any of its sequences. Each sequence may run with its own submodel, and changes it at no cost.
/// Only the first passes allocate memory. Only one thread at a time may use an engine.
/// </summary>
/// <remarks>The results of a sequence are bit for bit the same whatever else is in the pass, and for any number of threads.</remarks>
/// <example>
/// <code>
/// using var engine = DecodingEngine.Open&lt;TinyLm&gt;("model.safetensors");
/// var result = TextGenerator.Generate(engine, "Once upon", new GenerationOptions { Tokens = 50 });
/// Console.WriteLine(result.Text);
/// </code>
/// </example>
public sealed unsafe class DecodingEngine : IDisposable
{
    private readonly DecodingNetwork _network;
    private readonly DecodingPass _pass;
    private readonly Sequence[] _sequences;
    private readonly List<(int Sequence, int Token, bool Logits)> _rows = [];
    private void* _caches;
    private float* _logits;
    private float* _hiddenStates;
    private int[] _hiddenWidths = [];
    private int _logitsCapacity;
    private int _logitsAsked;
    private int _logitsComputed;

    private DecodingEngine(DecodingNetwork network, DecodingOptions options, string profileName, string? tokenizerFingerprint)
    {
        (_network, ProfileName, TokenizerFingerprint) = (network, profileName, tokenizerFingerprint);
        Capacity = options.Capacity ?? network.Spec.Context;
        KeepsHiddenStates = options.HiddenStates;
        _pass = new DecodingPass(network, Capacity, options.Threads ?? Machine.Threads, options.RegisterBits);
        _caches = PackedMatrix.Allocate(_pass.SequenceBytes * options.Sequences);
        _sequences = new Sequence[options.Sequences];
        for (var i = 0; i < _sequences.Length; i++)
            _sequences[i] = new Sequence((nint)_caches + (i * _pass.SequenceBytes), network.Layers) { Weights = network.Type };
    }

    /// <summary>The declared model.</summary>
    public ModelSpec Architecture => _network.Spec;

    /// <summary>The profile whose weights the engine holds, such as <c>XL</c> or <c>Phone</c>.</summary>
    public string ProfileName { get; }

    /// <summary>The part of each layer that the engine holds.</summary>
    public ImmutableArray<LayerSlice> Layers => _network.Layers;

    /// <summary>The fingerprint of the tokenizer that the model was trained with; null if unknown.</summary>
    public string? TokenizerFingerprint { get; }

    /// <summary>The format of the packed weights.</summary>
    public DecodingWeights Weights => _network.Type;

    /// <summary>The number of sequences that the engine can hold at once.</summary>
    public int Sequences => _sequences.Length;

    /// <summary>The number of tokens that each sequence can hold.</summary>
    public int Capacity { get; }

    /// <summary>True if the engine keeps <see cref="HiddenStates"/>.</summary>
    public bool KeepsHiddenStates { get; }

    /// <summary>True if the engine holds routers, so that sequences can continue at a budget.</summary>
    internal bool CanRoute => _network.CanRoute;

    /// <summary>The size of the packed weights in bytes.</summary>
    public long WeightBytes => _network.Bytes;

    /// <summary>The size in bytes of the key/value cache of one sequence.</summary>
    public long SequenceBytes => _pass.SequenceBytes;

    /// <summary>
    /// Creates an engine from a file of the universal model or of a slice. It creates no model and does not use libtorch, and it needs
    /// memory only for the packed weights.
    /// </summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="path">A safetensors file that <c>Save</c> or training wrote.</param>
    /// <param name="profile">The profile to keep of a universal model's file; the whole model if null.</param>
    /// <param name="options">The options of the engine; the defaults if null.</param>
    /// <exception cref="CheckpointException">
    /// The file is damaged or belongs to another model, or it is a slice of another profile than the one that is asked for.
    /// </exception>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public static DecodingEngine Open<TModel>(string path, Profile<TModel>? profile = null, DecodingOptions? options = null)
        where TModel : IDecodable<TModel>
    {
        options ??= new DecodingOptions();
        using var reader = SafetensorsReader.Open(path);
        var header = CheckpointHeader.Read(reader, TModel.Spec);
        if (profile is not null && !header.IsUniversal && !profile.Layers.AsSpan().SequenceEqual(header.Layers.AsSpan()))
        {
            throw new CheckpointException(
                path, $"is already the slice {header.Profile} ({TModel.Spec.FormatPattern(header.Layers.AsSpan())}), so it cannot be "
                + $"{profile.Name} ({profile.Pattern}); leave the profile out, or give the universal model's file.");
        }

        var layers = profile?.Layers ?? header.Layers;
        return Pack(
            TModel.Spec, new FileWeights(reader), packer => TModel.CreateDecodingNetwork(layers, packer),
            options, profile?.Name ?? header.Profile,
            reader.Metadata.GetValueOrDefault(CheckpointHeader.TokenizerKey));
    }

    /// <summary>Returns the number of tokens in a sequence.</summary>
    public int Length(int sequence) => _sequences[sequence].Length;

    /// <summary>Returns the submodel that a sequence continues with: the part of each layer that it keeps.</summary>
    public ImmutableArray<LayerSlice> LayersOf(int sequence) => _sequences[sequence].Layers;

    /// <summary>
    /// Makes a sequence continue with another submodel, from its next token on. Earlier tokens keep their keys and values.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layers">The part of each layer to keep: a profile's <see cref="Profile{TModel}.Layers"/>.</param>
    /// <exception cref="ArgumentException">
    /// The submodel keeps more than the engine holds, or needs attention heads or layers that earlier tokens of the sequence left out.
    /// </exception>
    public void Use(int sequence, ImmutableArray<LayerSlice> layers)
    {
        var its = _sequences[sequence];
        if (its.Layers == layers && its.Budget < 0) return;
        if (its.Length > its.Computed) throw new InvalidOperationException("Tokens were appended but not computed; call Run before Use.");
        CheckHeld(layers);
        its.Use(layers, Architecture);
        its.Budget = -1;
    }

    /// <summary>
    /// Makes a sequence continue at a compute budget, from its next token on: in a routed layer each token reads only the hidden units that
    /// its router chooses (<see cref="RoutingAttribute"/>). Earlier tokens keep their keys and values.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="budget">One of the declared budgets: the mean share of the hidden units that a token uses.</param>
    /// <exception cref="ArgumentException">
    /// The model does not declare the budget, the engine holds no routers, or earlier tokens left out attention heads or layers.
    /// </exception>
    public void Use(int sequence, double budget)
    {
        var its = _sequences[sequence];
        var index = CheckHeld(budget);
        if (its.Budget == index) return;
        if (its.Length > its.Computed) throw new InvalidOperationException("Tokens were appended but not computed; call Run before Use.");
        its.Use(Layers, Architecture);
        its.Budget = index;
    }

    /// <summary>Returns the compute budget that a sequence continues at; null if all its tokens use the same hidden units.</summary>
    public double? BudgetOf(int sequence) =>
        _sequences[sequence].Budget is >= 0 and var index ? Architecture.Routing!.Budgets[index] : null;

    /// <summary>
    /// Makes a sequence continue in other bits, from its next token on. Earlier tokens keep their keys and values.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="weights">
    /// The format that the engine holds, or one of fewer bits: an engine of <see cref="DecodingWeights.Nested8"/> has the weights of
    /// <see cref="DecodingWeights.Nested4"/> and <see cref="DecodingWeights.Nested2"/> too.
    /// </param>
    /// <exception cref="ArgumentException">The engine does not hold such weights.</exception>
    public void Use(int sequence, DecodingWeights weights)
    {
        var its = _sequences[sequence];
        if (its.Weights == weights) return;
        if (its.Length > its.Computed) throw new InvalidOperationException("Tokens were appended but not computed; call Run before Use.");
        CheckHeld(weights);
        its.Weights = weights;
    }

    /// <summary>Returns the format of the weights that a sequence continues with.</summary>
    public DecodingWeights WeightsOf(int sequence) => _sequences[sequence].Weights;

    /// <summary>Makes a sequence continue with a profile of the model, from its next token on.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="profile">The submodel.</param>
    /// <exception cref="ArgumentException">
    /// The profile belongs to another model, keeps more than the engine holds, or needs attention heads or layers that earlier tokens of
    /// the sequence left out.
    /// </exception>
    public void Use<TModel>(int sequence, Profile<TModel> profile)
        where TModel : IDeclaredModel<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        if (TModel.Spec.Fingerprint != Architecture.Fingerprint)
            throw new ArgumentException($"The engine holds {Architecture.Name}; {profile} is not one of its profiles.", nameof(profile));
        Use(sequence, profile.Layers);
    }

    /// <summary>Removes all tokens of a sequence but the first <paramref name="length"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The sequence has fewer tokens.</exception>
    public void Truncate(int sequence, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, _sequences[sequence].Length);
        if (_rows.Count > 0) throw new InvalidOperationException("Tokens were appended but not computed; call Run before Truncate.");
        _sequences[sequence].Truncate(length);
    }

    /// <summary>Adds the next tokens of a sequence to the next <see cref="Run"/>.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">The tokens, at least one.</param>
    /// <param name="allLogits">True to compute the logits after each of the tokens; false for those after the last token only.</param>
    /// <returns>The index of the first of these logits in the run; see <see cref="Logits"/>.</returns>
    /// <exception cref="ArgumentException">There are no tokens, one is not in the vocabulary, or there are more than fit.</exception>
    /// <exception cref="ObjectDisposedException">The engine has been disposed of.</exception>
    public int Append(int sequence, ReadOnlySpan<int> tokens, bool allLogits = false)
    {
        ObjectDisposedException.ThrowIf(_caches is null, this);
        var its = _sequences[sequence];
        if (tokens.IsEmpty || tokens.Length > Capacity - its.Length)
        {
            throw new ArgumentException(
                $"The sequence takes 1 to {Capacity - its.Length} more tokens ({its.Length} of {Capacity} are in it), not {tokens.Length}.",
                nameof(tokens));
        }

        CheckTokens(tokens);
        var first = _logitsAsked;
        for (var i = 0; i < tokens.Length; i++) _rows.Add((sequence, tokens[i], allLogits || i == tokens.Length - 1));
        _logitsAsked += allLogits ? tokens.Length : 1;
        its.Append(tokens.Length);
        return first;
    }

    /// <summary>Computes all tokens that were appended.</summary>
    /// <exception cref="ObjectDisposedException">The engine has been disposed of.</exception>
    public void Run()
    {
        ObjectDisposedException.ThrowIf(_caches is null, this);
        if (_logitsAsked > _logitsCapacity)
        {
            NativeMemory.AlignedFree(_logits);
            _logits = (float*)PackedMatrix.Allocate((nint)_logitsAsked * _pass.LogitsStride * sizeof(float));
            _logitsCapacity = _logitsAsked;
            if (KeepsHiddenStates)
            {
                NativeMemory.AlignedFree(_hiddenStates);
                _hiddenStates = (float*)PackedMatrix.Allocate((nint)_logitsAsked * _pass.Stride * sizeof(float));
                _hiddenWidths = new int[_logitsAsked];
            }
        }

        foreach (var sequence in _sequences) sequence.Next = sequence.Computed;
        var logits = 0;
        for (var start = 0; start < _rows.Count; start += DecodingPass.MaxRows)
        {
            _pass.Clear();
            var end = Math.Min(_rows.Count, start + DecodingPass.MaxRows);
            foreach (var (index, token, wanted) in CollectionsMarshal.AsSpan(_rows)[start..end])
            {
                var its = _sequences[index];
                _pass.AddRow(token, its.Next++, its.Cache, its.Layers, its.Weights, its.Budget, wanted);
            }

            _pass.Logits = _logits + ((nint)logits * _pass.LogitsStride);
            if (KeepsHiddenStates) _pass.HiddenStates = _hiddenStates + ((nint)logits * _pass.Stride);
            _pass.Run();
            for (var i = 0; KeepsHiddenStates && i < _pass.LogitCount; i++)
                _hiddenWidths[logits + i] = _pass.WidthOf(_pass.LogitRows[i]);
            logits += _pass.LogitCount;
        }

        foreach (var sequence in _sequences) sequence.Computed = sequence.Length;
        _rows.Clear();
        (_logitsComputed, _logitsAsked) = (logits, 0);
    }

    /// <summary>Returns logits (Vocabulary) of the last run. They are valid until the next run.</summary>
    /// <param name="index">The index of the logits, in the order in which they were requested.</param>
    public ReadOnlySpan<float> Logits(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, _logitsComputed);
        return new ReadOnlySpan<float>(_logits + ((nint)index * _pass.LogitsStride), Architecture.Vocabulary);
    }

    /// <summary>
    /// Returns the hidden states (Width) after the last norm, from which logits of the last run are computed. They are valid until the next
    /// run, and exist only with <see cref="DecodingOptions.HiddenStates"/>. They are as wide as the residual stream of the sequence's
    /// submodel.
    /// </summary>
    /// <param name="index">The index of the logits, as in <see cref="Logits"/>.</param>
    public ReadOnlySpan<float> HiddenStates(int index)
    {
        if (!KeepsHiddenStates)
            throw new InvalidOperationException("The engine keeps no hidden states; create it with DecodingOptions.HiddenStates.");
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, _logitsComputed);
        return new ReadOnlySpan<float>(_hiddenStates + ((nint)index * _pass.Stride), _hiddenWidths[index]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _pass.Dispose();
        _network.Dispose();
        NativeMemory.AlignedFree(_caches);
        NativeMemory.AlignedFree(_logits);
        NativeMemory.AlignedFree(_hiddenStates);
        _caches = null;
        _logits = null;
        _hiddenStates = null;
        _logitsComputed = _logitsCapacity = 0;
    }

    /// <summary>Packs weights from any source.</summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    internal static DecodingEngine Pack(
        ModelSpec spec, WeightSource source, Func<WeightPacker, DecodingNetwork> network, DecodingOptions options, string profileName,
        string? tokenizer)
    {
        Validate(options, spec);
        var packer = new WeightPacker(source, options.Weights);
        try
        {
            return new DecodingEngine(network(packer), options, profileName, tokenizer);
        }
        catch
        {
            packer.Release();
            throw;
        }
    }

    private static void Validate(DecodingOptions options, ModelSpec spec)
    {
        Check(options.Sequences >= 1, nameof(options.Sequences), options.Sequences, "1 or more");
        Check(options.Threads is null or >= 1, nameof(options.Threads), options.Threads, "1 or more");
        Check(
            options.Capacity is null || (options.Capacity >= 1 && options.Capacity <= spec.Context), nameof(options.Capacity),
            options.Capacity, $"within 1 and the context of {spec.Context}");
        Check(
            Enum.IsDefined(options.Weights), nameof(options.Weights), options.Weights,
            $"one of {string.Join(", ", Enum.GetNames<DecodingWeights>())}");
    }

    private static void Check(bool holds, string name, object? value, string wanted)
    {
        if (holds) return;
        throw new ArgumentException(FormattableString.Invariant($"The decoding option {name} is {value}; it must be {wanted}."));
    }

    /// <exception cref="ArgumentException">The draft is not a part of the model that it drafts for.</exception>
    internal static void CheckDraft(ImmutableArray<LayerSlice> draft, ImmutableArray<LayerSlice> layers, ModelSpec spec)
    {
        if (layers.Hold(draft)) return;
        var kept = draft.Length == layers.Length ? spec.FormatPattern(draft.AsSpan()) : $"{draft.Length} layers";
        throw new ArgumentException(
            $"The draft keeps {kept}, which is not part of the {spec.FormatPattern(layers.AsSpan())} that it is to draft for; use "
            + "a smaller profile.", nameof(draft));
    }

    /// <exception cref="ArgumentException">A submodel is not a part of the next one, or has fewer heads or channels.</exception>
    internal static void CheckCascade(ImmutableArray<CascadeLevel> cascade, ImmutableArray<LayerSlice> layers, ModelSpec spec)
    {
        for (var level = cascade.Length - 1; level >= 0; level--)
        {
            var wider = level + 1 < cascade.Length ? cascade[level + 1].Layers : layers;
            if (CascadeProblem(cascade[level].Layers, wider, layers, spec) is { } problem)
                throw new ArgumentException(problem, nameof(cascade));
        }
    }

    /// <summary>
    /// Returns why a submodel cannot answer before a wider one in a cascade whose widest submodel keeps the layers; null if it can.
    /// </summary>
    internal static string? CascadeProblem(
        ImmutableArray<LayerSlice> its, ImmutableArray<LayerSlice> wider, ImmutableArray<LayerSlice> layers, ModelSpec spec)
    {
        var kept = !its.IsDefault && its.Length == layers.Length ? spec.FormatPattern(its.AsSpan()) : "another number of layers";
        if (!wider.Hold(its))
        {
            return $"The cascade asks {kept} before {spec.FormatPattern(wider.AsSpan())}, of which it is not a part; give smaller "
                + "profiles, narrowest first.";
        }

        if (spec.WidthOf(its.AsSpan()) != spec.WidthOf(layers.AsSpan()))
        {
            return $"The cascade asks {kept}, which keeps {spec.WidthOf(its.AsSpan())} of {spec.WidthOf(layers.AsSpan())} channels; a "
                + "wider submodel would read keys and values of another residual stream, so use profiles of one Width.";
        }

        for (var layer = 0; layer < its.Length; layer++)
        {
            if (its[layer].SharesCache(layers[layer])) continue;
            return $"The cascade asks {kept}, which keeps {its[layer].Heads} of the {layers[layer].Heads} heads of layer {layer}; a "
                + "wider submodel reads the keys and values of all of them, so use profiles with the same heads.";
        }

        return null;
    }

    /// <exception cref="ArgumentException">A token is not in the vocabulary.</exception>
    internal void CheckTokens(ReadOnlySpan<int> tokens)
    {
        var stranger = tokens.IndexOfAnyExceptInRange(0, Architecture.Vocabulary - 1);
        if (stranger < 0) return;
        throw new ArgumentException(
            $"Token {stranger} is {tokens[stranger]}; {Architecture.Name} has a vocabulary of {Architecture.Vocabulary}.", nameof(tokens));
    }

    /// <exception cref="ArgumentException">The submodel keeps more than the engine holds.</exception>
    internal void CheckHeld(ImmutableArray<LayerSlice> layers)
    {
        if (Layers.Hold(layers)) return;
        throw new ArgumentException(
            $"The decoder has the weights of {Architecture.Name}.{ProfileName} ({Architecture.FormatPattern(Layers.AsSpan())}), not of "
            + (layers.IsDefault || layers.Length != Layers.Length ? "as many layers." : $"{Architecture.FormatPattern(layers.AsSpan())}."),
            nameof(layers));
    }

    /// <summary>Returns the place of a budget among the declared ones.</summary>
    /// <exception cref="ArgumentException">The model does not declare the budget, or the engine holds no routers.</exception>
    internal int CheckHeld(double budget)
    {
        var index = RoutingBudget.IndexOf(Architecture, budget);
        if (CanRoute) return index;
        throw new ArgumentException(
            $"The decoder has the weights of the slice {Architecture.Name}.{ProfileName}, which has no routers; create it from the "
            + "whole model to decode at a budget.", nameof(budget));
    }

    /// <exception cref="ArgumentException">A draft or a cascade would change the size, which at a budget each token chooses.</exception>
    internal static void CheckRouted(double budget, GenerationOptions options, ModelSpec spec)
    {
        if (options.Draft.IsDefault && options.Cascade.IsEmpty) return;
        var named = options.Draft.IsDefault ? nameof(GenerationOptions.Cascade) : nameof(GenerationOptions.Draft);
        throw new ArgumentException(
            FormattableString.Invariant($"{spec.Name} decodes at the budget {budget}, where each token chooses its hidden units; leave ")
            + $"{nameof(GenerationOptions)}.{named} out, or use a profile.", nameof(options));
    }

    /// <exception cref="ArgumentException">The engine does not hold weights of this format.</exception>
    internal void CheckHeld(DecodingWeights weights)
    {
        if (Weights.Hold(weights)) return;
        throw new ArgumentException(
            $"The decoder holds the weights as {Weights}, not as {weights}; create it with {nameof(DecodingOptions)}."
            + $"{nameof(DecodingOptions.Weights)} = {(weights.NestedBits > 0 ? DecodingWeights.Nested8 : weights)}.", nameof(weights));
    }

    // The tokens of a sequence, and the submodels that computed them.
    private sealed class Sequence(nint cache, ImmutableArray<LayerSlice> layers)
    {
        // The first token of each run of tokens, and its submodel. Submodels with the same heads count as equal.
        private readonly List<(int First, ImmutableArray<LayerSlice> Layers)> _computedAs = [];

        public nint Cache => cache;

        /// <summary>The submodel that the sequence continues with.</summary>
        public ImmutableArray<LayerSlice> Layers { get; private set; } = layers;

        /// <summary>The format of the weights that the sequence continues with.</summary>
        public DecodingWeights Weights { get; set; }

        /// <summary>The place of the budget that the sequence continues at among the declared ones; -1 without a budget.</summary>
        public int Budget { get; set; } = -1;

        /// <summary>The number of tokens, computed or waiting.</summary>
        public int Length { get; private set; }

        public int Computed { get; set; }

        /// <summary>The position of the next row of a run.</summary>
        public int Next { get; set; }

        public void Append(int tokens)
        {
            if (_computedAs.Count == 0 || !HaveSameHeads(_computedAs[^1].Layers, Layers)) _computedAs.Add((Length, Layers));
            Length += tokens;
        }

        public void Truncate(int length)
        {
            Length = Computed = length;
            while (_computedAs.Count > 0 && _computedAs[^1].First >= length) _computedAs.RemoveAt(_computedAs.Count - 1);
        }

        public void Use(ImmutableArray<LayerSlice> next, ModelSpec spec)
        {
            foreach (var (first, layers) in _computedAs)
            {
                for (var layer = 0; layer < next.Length; layer++)
                {
                    if (layers[layer].CacheHolds(next[layer])) continue;
                    throw new ArgumentException(
                        $"The sequence cannot go on as {spec.FormatPattern(next.AsSpan())}: that needs {next[layer].Heads} heads of layer "
                        + $"{layer}, of which its tokens from {first} on, computed as {spec.FormatPattern(layers.AsSpan())}, have "
                        + $"{layers[layer].Heads}. Truncate it to {first} tokens and append the others again.", nameof(next));
                }
            }

            Layers = next;
        }

        private static bool HaveSameHeads(ImmutableArray<LayerSlice> some, ImmutableArray<LayerSlice> others)
        {
            if (some == others) return true;
            for (var layer = 0; layer < some.Length; layer++)
            {
                if (!some[layer].SharesCache(others[layer])) return false;
            }

            return true;
        }
    }
}
