using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The keys and values of the tokens so far, for every layer, (B, Capacity, heads, HeadWidth) each, allocated once.</summary>
public sealed class KeyValueCache : IDisposable
{
    private readonly Tensor[] _keys;
    private readonly Tensor[] _values;

    /// <summary>Allocates the cache.</summary>
    /// <param name="keyValueHeads">The number of key/value heads of each layer; 0 for a layer that is left out.</param>
    /// <param name="batch">The number of sequences.</param>
    /// <param name="capacity">The number of tokens per sequence.</param>
    /// <param name="headWidth">The width of a head.</param>
    /// <param name="dtype">The dtype of keys and values.</param>
    /// <param name="device">The device of keys and values.</param>
    public KeyValueCache(
        ReadOnlySpan<int> keyValueHeads, int batch, int capacity, int headWidth, ScalarType dtype, Device device)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(batch, 1);
        Batch = batch;
        Capacity = capacity;
        _keys = new Tensor[keyValueHeads.Length];
        _values = new Tensor[keyValueHeads.Length];
        for (var layer = 0; layer < keyValueHeads.Length; layer++)
        {
            long[] shape = [batch, capacity, keyValueHeads[layer], headWidth];
            _keys[layer] = zeros(shape, dtype, device).DetachFromDisposeScope();
            _values[layer] = zeros(shape, dtype, device).DetachFromDisposeScope();
        }
    }

    /// <summary>The number of sequences.</summary>
    public int Batch { get; }

    /// <summary>The number of tokens per sequence that fit in the cache.</summary>
    public int Capacity { get; }

    /// <summary>The number of tokens per sequence that are in the cache.</summary>
    public int Length { get; private set; }

    /// <summary>
    /// Returns one layer's keys and values, (B, Capacity, heads, headWidth) each, after checking that those of x (B, T, W) can be added.
    /// The caller writes them.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// The batch, the heads, their width, the dtype or the device differ from the cache's, or the tokens do not fit.
    /// </exception>
    internal (Tensor Keys, Tensor Values) Open(int layer, Tensor x, int heads, int headWidth)
    {
        var keys = _keys[layer];
        Check(layer, (int)x.shape[0], (int)x.shape[1], heads);
        if (keys.shape[3] != headWidth || keys.dtype != x.dtype || keys.device_type != x.device_type)
        {
            throw new ArgumentException(
                $"The cache holds heads of {keys.shape[3]} numbers, {keys.dtype} on {keys.device}, but heads of {headWidth}, {x.dtype} on "
                + $"{x.device}, were given.", nameof(x));
        }

        return (keys, _values[layer]);
    }

    /// <summary>
    /// Writes the keys and values (B, T, heads, HeadWidth) of the next T tokens of one layer, and returns views (B, Length + T, ...) of all
    /// tokens so far. The caller disposes them. <see cref="Advance"/> counts the tokens once all layers have them.
    /// </summary>
    /// <exception cref="ArgumentException">The batch or the heads differ from the cache's, or the tokens do not fit.</exception>
    public (Tensor Keys, Tensor Values) Append(int layer, Tensor key, Tensor value)
    {
        var time = key.shape[1];
        Check(layer, (int)key.shape[0], (int)time, (int)key.shape[2]);
        using (var keySlot = _keys[layer].narrow(1, Length, time))
        using (var valueSlot = _values[layer].narrow(1, Length, time))
        {
            keySlot.copy_(key);
            valueSlot.copy_(value);
        }

        return (_keys[layer].narrow(1, 0, Length + time), _values[layer].narrow(1, 0, Length + time));
    }

    /// <summary>Counts <paramref name="time"/> more tokens per sequence.</summary>
    public void Advance(int time) => Length += time;

    /// <summary>Forgets all but the first <paramref name="length"/> tokens.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The cache holds fewer tokens.</exception>
    public void Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        Length = length;
    }

    private void Check(int layer, int batch, int time, int heads)
    {
        if (batch != Batch) throw new ArgumentException($"The cache holds {Batch} sequences, but {batch} were given.", nameof(batch));
        if (Length + time > Capacity)
        {
            throw new ArgumentException(
                $"The cache has room for {Capacity} tokens and holds {Length}; {time} more do not fit.", nameof(time));
        }

        if (heads != _keys[layer].shape[2])
        {
            throw new ArgumentException(
                $"The cache holds {_keys[layer].shape[2]} heads of layer {layer}, but {heads} were given.", nameof(heads));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var tensor in _keys) tensor.Dispose();
        foreach (var tensor in _values) tensor.Dispose();
    }
}
