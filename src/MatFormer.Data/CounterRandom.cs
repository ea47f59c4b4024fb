namespace MatFormer;

/// <summary>
/// A random number generator without state. It computes the number at any counter directly, so a run can resume from its step alone.
/// The algorithm is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), whose state is a counter.
/// </summary>
internal readonly struct CounterRandom
{
    private const ulong Increment = 0x9E3779B97F4A7C15;
    private readonly ulong _key;

    /// <summary>Creates the sequence of SplitMix64 seeded with <paramref name="key"/>.</summary>
    public CounterRandom(ulong key) => _key = key;

    /// <summary>Creates a separate sequence for every seed, purpose and index.</summary>
    public CounterRandom(long seed, RandomPurpose purpose, long index = 0)
        : this(Mix(Mix((ulong)seed + ((ulong)purpose * Increment)) + (ulong)index))
    {
    }

    /// <summary>Returns the 64 random bits at a counter. The first counter is 0.</summary>
    public ulong Bits(long counter) => Mix(_key + (((ulong)counter + 1) * Increment));

    /// <summary>Returns the number at a counter, from 0 to just below 1, with 53 random bits.</summary>
    public double Unit(long counter) => (Bits(counter) >> 11) * (1.0 / (1UL << 53));

    /// <summary>
    /// Returns the number at a counter, from 0 to <paramref name="limit"/> - 1 (Lemire's multiplication; the bias is below limit / 2^64).
    /// </summary>
    public long Below(long limit, long counter) => (long)Math.BigMul(Bits(counter), (ulong)limit, out _);

    /// <summary>Shuffles in place (Fisher-Yates).</summary>
    public void Shuffle(Span<int> items)
    {
        for (var i = items.Length - 1; i > 0; i--)
        {
            var j = (int)Below(i + 1, i);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}

/// <summary>The purposes of random numbers. Each has its own sequence.</summary>
internal enum RandomPurpose : ulong
{
    DocumentOrder = 1,
    WindowOrder = 2,
    Granularity = 3,
    Decoding = 4,
    Mix = 5,
    Branching = 6,
    Planning = 7,
    Augmentation = 8,
    Depth = 9,
    Routing = 10,
    Bits = 14,
    Grid = 16,
}
