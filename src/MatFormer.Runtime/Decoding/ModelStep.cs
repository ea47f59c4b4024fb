using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Takes tokens and gives the logits after the last, with a key/value cache of its own. For one thread.</summary>
internal sealed class ModelStep(MatFormerModel model) : IDisposable
{
    private readonly KeyValueCache _cache = model.NewCache();
    private readonly float[] _logits = new float[model.Architecture.Vocabulary];
    private long[] _fed = [];

    /// <summary>Tokens that fit.</summary>
    public int Capacity => _cache.Capacity;

    /// <summary>Tokens that are in it.</summary>
    public int Length => _cache.Length;

    /// <summary>The logits (Vocabulary) after tokens that follow those in it; valid until the next call.</summary>
    public ReadOnlySpan<float> Feed(ReadOnlySpan<int> tokens)
    {
        if (_fed.Length != tokens.Length) _fed = new long[tokens.Length];
        for (var i = 0; i < _fed.Length; i++) _fed[i] = tokens[i];
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        long[] shape = [1, _fed.Length];
        var logits = model.forward(tensor(_fed, shape, device: model.Device), _cache);
        var last = logits.narrow(1, _fed.Length - 1, 1).contiguous().cpu();
        MemoryMarshal.Cast<byte, float>(last.bytes).CopyTo(_logits);
        return _logits;
    }

    /// <summary>Forgets all but the first tokens.</summary>
    public void Truncate(int length) => _cache.Truncate(length);

    /// <inheritdoc/>
    public void Dispose() => _cache.Dispose();
}
