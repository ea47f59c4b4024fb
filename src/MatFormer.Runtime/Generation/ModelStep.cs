using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Feeds tokens of one or several sequences to a model and returns the logits after the last token of each. It has its own key/value cache
/// and is for one thread.
/// </summary>
internal sealed class ModelStep(MatFormerModel model, int batch) : IDisposable
{
    private readonly KeyValueCache _cache = model.NewCache(batch);
    private readonly float[] _logits = new float[batch * model.Architecture.Vocabulary];
    private long[] _fed = [];

    /// <summary>The number of tokens that fit in each sequence.</summary>
    public int Capacity => _cache.Capacity;

    /// <summary>The number of tokens that are in each sequence.</summary>
    public int Length => _cache.Length;

    /// <summary>
    /// Appends tokens (B, T) to the sequences and returns the logits (B, Vocabulary) after the last ones. Both are in row-major order. The
    /// logits are valid until the next call.
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
