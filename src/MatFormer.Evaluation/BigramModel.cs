namespace MatFormer;

/// <summary>
/// A bigram model of bytes, as a baseline. Its counts are smoothed towards the unigram distribution:
/// <c>p(b | a) = (n(ab) + p(b)) / (n(a) + 1)</c> with <c>p(b) = (n(b) + 1) / (N + 256)</c>.
/// </summary>
public sealed class BigramModel
{
    private readonly long[] _pairs = new long[256 * 256];
    private readonly long[] _firsts = new long[256];
    private readonly long[] _singles = new long[256];
    private long _total;
    private int _last = -1;

    /// <summary>Trains a model on a whole split of a corpus.</summary>
    public static BigramModel Train(CorpusSplit split, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(split);
        var model = new BigramModel();
        var buffer = new byte[1 << 16];
        for (long position = 0; position < split.Bytes; position += buffer.Length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var chunk = buffer.AsSpan(0, (int)Math.Min(buffer.Length, split.Bytes - position));
            split.Text.Read(position, chunk);
            model.Add(chunk);
        }

        return model;
    }

    /// <summary>Counts text that continues the text added before.</summary>
    public void Add(ReadOnlySpan<byte> text)
    {
        foreach (var value in text)
        {
            _singles[value]++;
            _total++;
            if (_last >= 0)
            {
                _pairs[(_last * 256) + value]++;
                _firsts[_last]++;
            }

            _last = value;
        }
    }

    /// <summary>Returns the probability of a byte after another byte.</summary>
    public double Probability(byte previous, byte next)
    {
        var unigram = (_singles[next] + 1.0) / (_total + 256.0);
        return (_pairs[(previous * 256) + next] + unigram) / (_firsts[previous] + 1.0);
    }

    /// <summary>Returns the mean bits per byte over all but the first byte of each window.</summary>
    public double BitsPerByte(IEnumerable<byte[]> windows)
    {
        ArgumentNullException.ThrowIfNull(windows);
        double bits = 0;
        long count = 0;
        foreach (var window in windows)
        {
            for (var t = 1; t < window.Length; t++) bits -= Math.Log2(Probability(window[t - 1], window[t]));
            count += window.Length - 1;
        }

        return bits / count;
    }
}
