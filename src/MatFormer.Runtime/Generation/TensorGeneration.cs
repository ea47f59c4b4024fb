using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Generation by the model's own forward pass: on devices other than the CPU, and with models that are not generated.</summary>
/// <remarks>
/// All sequences begin at the first position and take the same number of tokens in each step, so that none needs padding. The first step
/// has as many tokens as the shortest prompt. From then on each step has one token: a shorter prompt's sequence takes the token it has
/// chosen, and a longer prompt's sequence takes the prompt's next token.
/// </remarks>
internal sealed class TensorGeneration : Generation
{
    private readonly MatFormerModel _model;
    private readonly KeyValueCache _cache;
    private readonly int[] _starts; // for each sequence, the index of the token at the first position
    private readonly int _vocabulary;
    private readonly int _tokenizerVocabulary;
    private int[] _fed = [];

    public TensorGeneration(MatFormerModel model, IReadOnlyList<byte[]> prompts, GenerationOptions options)
        : base(prompts, options, model.Architecture, model.Layers)
    {
        (_vocabulary, _tokenizerVocabulary) = (model.Architecture.Vocabulary, options.Tokenizer.VocabularySize);
        (_model, _cache) = (model, model.NewCache(prompts.Count));
        _starts = [.. Sequences.Select(s => Math.Max(0, s.Tokens.Length - _cache.Capacity))]; // a longer prompt loses its beginning
    }

    /// <inheritdoc/>
    protected override void Advance()
    {
        if (_cache.Length == _cache.Capacity)
        {
            // The cache is full for all sequences at once. Positions start again with the last tokens, which fill half of the cache.
            _cache.Truncate(0);
            for (var row = 0; row < _starts.Length; row++)
                _starts[row] = StartAnew(Sequences[row].Tokens.Length, _cache.Capacity);
        }

        var time = int.MaxValue;
        for (var row = 0; row < _starts.Length; row++)
        {
            if (Sequences[row].Ended is null) time = Math.Min(time, Sequences[row].Tokens.Length - _starts[row] - _cache.Length);
        }

        if (_fed.Length != time * _starts.Length) _fed = new int[time * _starts.Length];
        for (var row = 0; row < _starts.Length; row++)
        {
            // It does not matter what a sequence that has ended takes.
            var target = _fed.AsSpan(row * time, time);
            if (Sequences[row].Ended is null) Sequences[row].Tokens.Slice(_starts[row] + _cache.Length, time).CopyTo(target);
            else target.Clear();
        }

        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        long[] shape = [_starts.Length, time];
        var all = _model.forward(tensor(_fed, shape, dtype: ScalarType.Int64, device: _model.Device), _cache); // (B, T, Vocabulary)
        var last = all.narrow(1, time - 1, 1).contiguous().cpu();
        var logits = MemoryMarshal.Cast<byte, float>(last.bytes); // (B, Vocabulary)
        for (var row = 0; row < _starts.Length; row++)
        {
            var sequence = Sequences[row];
            if (sequence.Ended is not null || _starts[row] + _cache.Length < sequence.Tokens.Length) continue;

            // A model's vocabulary may be larger than the tokenizer's. The additional tokens have no meaning.
            sequence.Choose(logits.Slice(row * _vocabulary, _tokenizerVocabulary));
        }
    }

    /// <inheritdoc/>
    protected override void Free() => _cache.Dispose();
}
