using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Takes tokens of one or several sequences and gives the logits after the last of each, with a key/value cache of its own. For one thread.
/// </summary>
internal sealed class ModelStep(MatFormerModel model, int batch) : IDisposable
{
    private readonly KeyValueCache _cache = model.NewCache(batch);
    private readonly float[] _logits = new float[batch * model.Architecture.Vocabulary];
    private long[] _fed = [];

    /// <summary>Tokens of each sequence that fit.</summary>
    public int Capacity => _cache.Capacity;

    /// <summary>Tokens of each sequence that are in it.</summary>
    public int Length => _cache.Length;

    /// <summary>
    /// The logits (B, Vocabulary) after tokens (B, T) that follow those in it, both row by row; valid until the next call.
    /// </summary>
    public ReadOnlySpan<float> Feed(ReadOnlySpan<int> tokens)
    {
        if (_fed.Length != tokens.Length) _fed = new long[tokens.Length];
        for (var i = 0; i < _fed.Length; i++) _fed[i] = tokens[i];
        var time = _fed.Length / batch;
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        long[] shape = [batch, time];
        var logits = model.forward(tensor(_fed, shape, device: model.Device), _cache);
        var last = logits.narrow(1, time - 1, 1).contiguous().cpu();
        MemoryMarshal.Cast<byte, float>(last.bytes).CopyTo(_logits);
        return _logits;
    }

    /// <summary>Forgets all but the first tokens of each sequence.</summary>
    public void Truncate(int length) => _cache.Truncate(length);

    /// <inheritdoc/>
    public void Dispose() => _cache.Dispose();
}
