namespace MatFormer;

/// <summary>
/// Chooses a token from logits, as <see cref="GenerationOptions"/> describes. It allocates memory only for the first token. Only one thread
/// at a time may use it.
/// </summary>
/// <param name="options">How to choose.</param>
/// <param name="row">The index of the sequence among several: each sequence draws different random numbers.</param>
internal sealed class Sampler(GenerationOptions options, int row = 0)
{
    private const int TokenBits = 24;

    private readonly CounterRandom _random = new(options.Seed, RandomPurpose.Decoding, row);
    private readonly KeyValuePair<int, double>[] _biases = [.. options.LogitBias];
    private float[] _logits = [];
    private double[] _weights = [];
    private ulong[] _ranks = [];
    private int[] _counts = []; // of each token; all 0 between calls

    /// <summary>Returns the token at a position: the most likely token (the first of several), or a drawn one.</summary>
    /// <param name="logits">The logits of each token, (Vocabulary).</param>
    /// <param name="tokens">The tokens before the position, for the penalties: those of the prompt, then the generated ones.</param>
    /// <param name="position">
    /// The position: the number of generated tokens before it. The random numbers depend only on it, the seed and the sequence.
    /// </param>
    /// <exception cref="DecodingException">A logit is not a number or infinite, or all are minus infinity.</exception>
    public int Next(ReadOnlySpan<float> logits, ReadOnlySpan<int> tokens, long position)
    {
        logits = Adjusted(logits, tokens, position);
        var best = Best(logits);
        if (options.Temperature == 0) return best;
        var weights = Weights(logits, best);

        // The draw is a race: each token arrives after an exponentially distributed time whose rate is its weight, and the first one wins.
        // Similar distributions therefore mostly draw the same token, which is what a draft needs.
        var (first, earliest) = (best, double.PositiveInfinity);
        for (var token = 0; token < weights.Length; token++)
        {
            if (weights[token] == 0) continue;
            var unit = _random.Unit((position << TokenBits) + token);
            if (unit >= earliest * weights[token]) continue; // because -log(1 - unit) >= unit
            var time = -Math.Log(1 - unit) / weights[token];
            if (time < earliest) (first, earliest) = (token, time);
        }

        return first;
    }

    /// <summary>
    /// Returns the weight with which each token is drawn at a temperature above 0: its probability divided by that of the likeliest token,
    /// or 0 if it is filtered out. The weights are valid until the next call.
    /// </summary>
    internal ReadOnlySpan<double> Weights(ReadOnlySpan<float> logits, ReadOnlySpan<int> tokens, long position)
    {
        logits = Adjusted(logits, tokens, position);
        return Weights(logits, Best(logits));
    }

    private Span<double> Weights(ReadOnlySpan<float> logits, int best)
    {
        if (_weights.Length < logits.Length) _weights = new double[logits.Length];
        var weights = _weights.AsSpan(0, logits.Length);
        for (var token = 0; token < weights.Length; token++)
            weights[token] = Math.Exp(((double)logits[token] - logits[best]) / options.Temperature);

        if ((options.TopK > 0 && options.TopK < logits.Length) || options.TopP < 1) KeepTop(logits, weights);
        if (options.MinP > 0)
        {
            foreach (ref var weight in weights) weight = weight < options.MinP ? 0 : weight; // the likeliest token has 1
        }

        return weights;
    }

    // Returns the logits after the penalties and the biases.
    private ReadOnlySpan<float> Adjusted(ReadOnlySpan<float> logits, ReadOnlySpan<int> tokens, long position)
    {
        var repeats = options.RepetitionPenalty != 1;
        var counts = options.FrequencyPenalty != 0 || options.PresencePenalty != 0;
        if (!repeats && !counts && _biases.Length == 0) return logits;
        if (_logits.Length < logits.Length)
        {
            _logits = new float[logits.Length];
            _counts = new int[logits.Length];
        }

        var adjusted = _logits.AsSpan(0, logits.Length);
        logits.CopyTo(adjusted);
        if (repeats)
        {
            var all = options.RepetitionWindow == 0 || options.RepetitionWindow >= tokens.Length;
            var window = all ? tokens : tokens[^options.RepetitionWindow..];
            Count(window);
            foreach (var token in window)
            {
                // Each token is penalised once, however often it occurs.
                if (TakeCount(token) == 0) continue;
                var logit = adjusted[token];
                adjusted[token] = (float)(logit < 0 ? logit * options.RepetitionPenalty : logit / options.RepetitionPenalty);
            }
        }

        if (counts)
        {
            var generated = tokens[^(int)position..];
            Count(generated);
            foreach (var token in generated)
            {
                if (TakeCount(token) is > 0 and var count)
                    adjusted[token] = (float)(adjusted[token] - (count * options.FrequencyPenalty) - options.PresencePenalty);
            }
        }

        foreach (var (token, bias) in _biases) adjusted[token] = (float)(adjusted[token] + bias);
        return adjusted;
    }

    private void Count(ReadOnlySpan<int> tokens)
    {
        foreach (var token in tokens) _counts[token]++;
    }

    private int TakeCount(int token)
    {
        var count = _counts[token];
        _counts[token] = 0;
        return count;
    }

    private static int Best(ReadOnlySpan<float> logits)
    {
        var best = 0;
        for (var token = 0; token < logits.Length; token++)
        {
            if (float.IsNaN(logits[token]) || float.IsPositiveInfinity(logits[token]))
            {
                throw new DecodingException(
                    $"The model's logit of token {token} is {(float.IsNaN(logits[token]) ? "not a number" : "infinite")}, so no token can "
                    + "be chosen; its weights are damaged, or too large for the dtype: compute in float32, or train with a lower learning "
                    + "rate.");
            }

            if (logits[token] > logits[best]) best = token;
        }

        return float.IsFinite(logits[best]) ? best
            : throw new DecodingException("The model's logits are all minus infinity, so no token can be chosen; its weights are damaged.");
    }

    // Sets the weights of the tokens that TopK and then TopP remove to 0. A heap yields only as many tokens as needed, likeliest first.
    private void KeepTop(ReadOnlySpan<float> logits, Span<double> weights)
    {
        var count = logits.Length;
        if (_ranks.Length < count) _ranks = new ulong[count];
        var ranks = _ranks.AsSpan(0, count);
        for (var token = 0; token < count; token++) ranks[token] = Rank(logits[token], token);
        for (var parent = (count / 2) - 1; parent >= 0; parent--) SiftDown(ranks, parent);

        // Tokens taken off the heap lie behind it, the likeliest one last.
        var taken = 0;
        var mass = 0.0;
        if (options.TopK > 0 && options.TopK < count)
        {
            while (taken < count && (taken < options.TopK || logits[TokenOf(ranks[0])] == logits[TokenOf(ranks[count - taken])]))
                mass += weights[Take(ranks)];
        }
        else
        {
            mass = Sum(weights);
        }

        var most = taken > 0 ? taken : count;
        var kept = most;
        if (options.TopP < 1)
        {
            var before = 0.0;
            for (kept = 0; kept < most && before < options.TopP * mass; kept++)
                before += weights[kept < taken ? TokenOf(ranks[count - 1 - kept]) : Take(ranks)];
        }

        foreach (var rank in ranks[..(count - Math.Min(kept, taken))]) weights[TokenOf(rank)] = 0;

        int Take(Span<ulong> heap)
        {
            var first = heap[0];
            taken++;
            heap[0] = heap[count - taken];
            heap[count - taken] = first;
            SiftDown(heap[..(count - taken)], 0);
            return TokenOf(first);
        }
    }

    private static double Sum(ReadOnlySpan<double> weights)
    {
        var sum = 0.0;
        foreach (var weight in weights) sum += weight;
        return sum;
    }

    // A likelier token has a smaller rank. Among equally likely tokens, the smaller token has the smaller rank.
    private static ulong Rank(float logit, int token)
    {
        var bits = BitConverter.SingleToUInt32Bits(logit + 0f); // turns negative zero into zero
        var ascending = bits >> 31 == 0 ? bits | 0x8000_0000 : ~bits;
        return ((ulong)~ascending << 32) | (uint)token;
    }

    private static int TokenOf(ulong rank) => (int)(uint)rank;

    private static void SiftDown(Span<ulong> heap, int parent)
    {
        while ((2 * parent) + 1 is var child && child < heap.Length)
        {
            if (child + 1 < heap.Length && heap[child + 1] < heap[child]) child++;
            if (heap[parent] <= heap[child]) return;
            (heap[parent], heap[child]) = (heap[child], heap[parent]);
            parent = child;
        }
    }
}
