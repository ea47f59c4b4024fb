using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>How a <see cref="DecodingEngine"/> is made.</summary>
public sealed record DecodingOptions
{
    /// <summary>How the weights are kept.</summary>
    public DecodingWeights Weights { get; init; }

    /// <summary>Sequences that it can hold at once.</summary>
    public int Sequences { get; init; } = 1;

    /// <summary>Tokens of each sequence that it can hold; the model's context if null.</summary>
    public int? Capacity { get; init; }

    /// <summary>Threads that compute; <see cref="Machine.Threads"/> if null.</summary>
    public int? Threads { get; init; }

    /// <summary>Whether <see cref="DecodingEngine.HiddenStates"/> are kept.</summary>
    public bool HiddenStates { get; init; }

    /// <summary>Bits of the registers to compute in, for tests; the widest if null.</summary>
    internal int? RegisterBits { get; init; }
}

/// <summary>
/// Continues sequences with a model whose weights it has packed once, on the CPU, without tensors: each pass takes any tokens of any of its
/// sequences, and each sequence may run as a submodel of its own. A sequence changes its submodel at no cost. After the first passes none
/// allocates memory. For one thread.
/// </summary>
/// <remarks>What a sequence yields does not depend, to the bit, on what else is in the pass, nor on the number of threads.</remarks>
public sealed unsafe class DecodingEngine : IDisposable
{
    private readonly DecodingNetwork _network;
    private readonly DecodingPass _pass;
    private readonly Sequence[] _sequences;
    private readonly List<(int Sequence, int Token, bool Logits)> _rows = [];
    private void* _caches;
    private float* _logits;
    private float* _hiddenStates;
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
            _sequences[i] = new Sequence((nint)_caches + (i * _pass.SequenceBytes), network.Layers);
    }

    /// <summary>The declared model.</summary>
    public ModelSpec Architecture => _network.Spec;

    /// <summary>The profile that the whole of it has, such as <c>XL</c> or <c>Phone</c>.</summary>
    public string ProfileName { get; }

    /// <summary>What the whole of it keeps of each layer.</summary>
    public ImmutableArray<LayerSlice> Layers => _network.Layers;

    /// <summary>The fingerprint of the tokenizer that the model was trained with; null if unknown.</summary>
    public string? TokenizerFingerprint { get; }

    /// <summary>How the weights are kept.</summary>
    public DecodingWeights Weights => _network.Type;

    /// <summary>Sequences that it can hold at once.</summary>
    public int Sequences => _sequences.Length;

    /// <summary>Tokens of each sequence that it can hold.</summary>
    public int Capacity { get; }

    /// <summary>Whether <see cref="HiddenStates"/> are kept.</summary>
    public bool KeepsHiddenStates { get; }

    /// <summary>Bytes of the packed weights.</summary>
    public long WeightBytes => _network.Bytes;

    /// <summary>Bytes of the keys and values of one sequence.</summary>
    public long SequenceBytes => _pass.SequenceBytes;

    /// <summary>
    /// Packs the weights of a file, of the universal model or of a slice, without making a model: nothing of libtorch is used, and no more
    /// memory than for the packed weights.
    /// </summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="path">A safetensors file that <c>Save</c> or training wrote.</param>
    /// <param name="profile">What to keep of a universal model's file; all of it if null.</param>
    /// <param name="options">How.</param>
    /// <exception cref="CheckpointException">
    /// The file is damaged or another model's, or a profile is asked of a slice that is another.
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
            TModel.Spec, new FileWeights(reader), packer => TModel.CreateDecodingNetwork(layers, packer), options, profile?.Name ?? header.Profile,
            reader.Metadata.GetValueOrDefault(CheckpointHeader.TokenizerKey));
    }

    /// <summary>Tokens of a sequence that are in it.</summary>
    public int Length(int sequence) => _sequences[sequence].Length;

    /// <summary>As which submodel a sequence goes on: what it keeps of each layer.</summary>
    public ImmutableArray<LayerSlice> LayersOf(int sequence) => _sequences[sequence].Layers;

    /// <summary>
    /// Goes on with a sequence as another submodel, from its next token on. Earlier tokens keep the keys and values that they have.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layers">What to keep of each layer: a profile's <see cref="Profile{TModel}.Layers"/>.</param>
    /// <exception cref="ArgumentException">
    /// It keeps more than there is, or attention heads or layers that earlier tokens of the sequence left out.
    /// </exception>
    public void Use(int sequence, ImmutableArray<LayerSlice> layers)
    {
        var its = _sequences[sequence];
        if (its.Layers == layers) return;
        if (its.Length > its.Computed) throw new InvalidOperationException("Tokens wait for Run; a sequence cannot change before.");
        CheckHeld(layers);
        its.Use(layers, Architecture);
    }

    /// <summary>Goes on with a sequence as a profile of the model, from its next token on.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="profile">The submodel.</param>
    /// <exception cref="ArgumentException">
    /// It is another model's, or keeps more than there is, or attention heads or layers that earlier tokens of the sequence left out.
    /// </exception>
    public void Use<TModel>(int sequence, Profile<TModel> profile)
        where TModel : IDeclaredModel<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        if (TModel.Spec.Fingerprint != Architecture.Fingerprint)
            throw new ArgumentException($"The engine has a {Architecture.Name}, and {profile} is none of its profiles.", nameof(profile));
        Use(sequence, profile.Layers);
    }

    /// <summary>Forgets all but the first tokens of a sequence.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Fewer are in it.</exception>
    public void Truncate(int sequence, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, _sequences[sequence].Length);
        if (_rows.Count > 0) throw new InvalidOperationException("Tokens wait for Run; a sequence cannot be cut before.");
        _sequences[sequence].Truncate(length);
    }

    /// <summary>Puts the next tokens of a sequence into the next <see cref="Run"/>.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">At least one.</param>
    /// <param name="allLogits">Whether the logits after each of them are wanted, not only after the last.</param>
    /// <returns>Which of the logits of the run are the first of these: see <see cref="Logits"/>.</returns>
    /// <exception cref="ArgumentException">There is none, one is not in the vocabulary, or they are more than fit.</exception>
    /// <exception cref="ObjectDisposedException">The engine was disposed of.</exception>
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

    /// <summary>Computes all that was appended.</summary>
    /// <exception cref="ObjectDisposedException">The engine was disposed of.</exception>
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
                _pass.AddRow(token, its.Next++, its.Cache, its.Layers, wanted);
            }

            _pass.Logits = _logits + ((nint)logits * _pass.LogitsStride);
            if (KeepsHiddenStates) _pass.HiddenStates = _hiddenStates + ((nint)logits * _pass.Stride);
            _pass.Run();
            logits += _pass.LogitCount;
        }

        foreach (var sequence in _sequences) sequence.Computed = sequence.Length;
        _rows.Clear();
        (_logitsComputed, _logitsAsked) = (logits, 0);
    }

    /// <summary>Logits (Vocabulary) of the last run; valid until the next one.</summary>
    /// <param name="index">Which, counted as they were asked for.</param>
    public ReadOnlySpan<float> Logits(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, _logitsComputed);
        return new ReadOnlySpan<float>(_logits + ((nint)index * _pass.LogitsStride), Architecture.Vocabulary);
    }

    /// <summary>
    /// The hidden states (Width) that logits of the last run are computed of, after the last norm; valid until the next one. Only with
    /// <see cref="DecodingOptions.HiddenStates"/>.
    /// </summary>
    /// <param name="index">Which, as of <see cref="Logits"/>.</param>
    public ReadOnlySpan<float> HiddenStates(int index)
    {
        if (!KeepsHiddenStates) throw new InvalidOperationException("Hidden states are kept with DecodingOptions.HiddenStates only.");
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, _logitsComputed);
        return new ReadOnlySpan<float>(_hiddenStates + ((nint)index * _pass.Stride), Architecture.Width);
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

    /// <summary>Packs weights from wherever they come.</summary>
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
        Check(Enum.IsDefined(options.Weights), nameof(options.Weights), options.Weights, "Float32, BFloat16 or Int8");
    }

    private static void Check(bool holds, string name, object? value, string wanted)
    {
        if (holds) return;
        throw new ArgumentException(FormattableString.Invariant($"The decoding option {name} is {value}; it must be {wanted}."));
    }

    /// <exception cref="ArgumentException">A draft is none of the model that it drafts for.</exception>
    internal static void CheckDraft(ImmutableArray<LayerSlice> draft, ImmutableArray<LayerSlice> layers, ModelSpec spec)
    {
        if (Hold(layers, draft)) return;
        var kept = draft.Length == layers.Length ? spec.FormatPattern(draft.AsSpan()) : $"{draft.Length} layers";
        throw new ArgumentException(
            $"The draft keeps {kept}, which is not part of the {spec.FormatPattern(layers.AsSpan())} that it is to draft for; take "
            + "a smaller profile.", nameof(draft));
    }

    /// <exception cref="ArgumentException">A token is not in the vocabulary.</exception>
    internal void CheckTokens(ReadOnlySpan<int> tokens)
    {
        var stranger = tokens.IndexOfAnyExceptInRange(0, Architecture.Vocabulary - 1);
        if (stranger < 0) return;
        throw new ArgumentException(
            $"Token {stranger} is {tokens[stranger]}; {Architecture.Name} has a vocabulary of {Architecture.Vocabulary}.", nameof(tokens));
    }

    /// <exception cref="ArgumentException">It keeps more than there is.</exception>
    internal void CheckHeld(ImmutableArray<LayerSlice> layers)
    {
        if (Hold(Layers, layers)) return;
        throw new ArgumentException(
            $"The decoder has the weights of {Architecture.Name}.{ProfileName} ({Architecture.FormatPattern(Layers.AsSpan())}), not of "
            + (layers.IsDefault || layers.Length != Layers.Length ? "as many layers." : $"{Architecture.FormatPattern(layers.AsSpan())}."),
            nameof(layers));
    }

    // Whether the first keep all of what the others keep.
    private static bool Hold(ImmutableArray<LayerSlice> some, ImmutableArray<LayerSlice> others)
    {
        var hold = !others.IsDefault && others.Length == some.Length;
        for (var layer = 0; hold && layer < others.Length; layer++) hold = some[layer].Holds(others[layer]);
        return hold;
    }

    // A sequence's tokens, and as which submodels they were computed.
    private sealed class Sequence(nint cache, ImmutableArray<LayerSlice> layers)
    {
        // From which token on which submodel; others that have the same heads are not told apart.
        private readonly List<(int First, ImmutableArray<LayerSlice> Layers)> _computedAs = [];

        public nint Cache => cache;

        /// <summary>As which submodel it goes on.</summary>
        public ImmutableArray<LayerSlice> Layers { get; private set; } = layers;

        /// <summary>Tokens that are in it or wait.</summary>
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
                    if (next[layer].Heads <= layers[layer].Heads) continue;
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
                if (some[layer].Heads != others[layer].Heads) return false;
            }

            return true;
        }
    }
}
