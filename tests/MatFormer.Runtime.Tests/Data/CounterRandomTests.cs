namespace MatFormer.Runtime.Tests.Data;

public sealed class CounterRandomTests
{
    [Fact]
    public void BitsEqualThoseOfSplitMix64()
    {
        // The values that the reference implementation gives for the seed 1234567 (also in Rosetta Code).
        ulong[] expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821];
        var random = new CounterRandom(1234567);
        Assert.Equal(expected, Enumerable.Range(0, 5).Select(i => random.Bits(i)));
    }

    [Fact]
    public void SeedsPurposesAndIndicesGiveDifferentNumbers()
    {
        var first = new HashSet<ulong>();
        for (var seed = -2; seed <= 2; seed++)
        {
            foreach (var purpose in Enum.GetValues<RandomPurpose>())
            {
                for (var index = 0; index < 3; index++) Assert.True(first.Add(new CounterRandom(seed, purpose, index).Bits(0)));
            }
        }
    }

    [Fact]
    public void NumbersAreUniform()
    {
        var random = new CounterRandom(1, RandomPurpose.Granularity);
        var counts = new int[4];
        for (var i = 0; i < 40_000; i++)
        {
            counts[random.Below(4, i)]++;
            Assert.InRange(random.Unit(i), 0, 0.9999999999999999);
        }

        Assert.All(counts, count => Assert.InRange(count, 9_700, 10_300));
    }

    [Fact]
    public void AShuffleKeepsAllItemsAndDependsOnTheSeed()
    {
        var items = Enumerable.Range(0, 100).ToArray();
        var shuffled = items.ToArray();
        new CounterRandom(7).Shuffle(shuffled);
        var other = items.ToArray();
        new CounterRandom(8).Shuffle(other);
        var again = items.ToArray();
        new CounterRandom(7).Shuffle(again);
        Assert.Equal(items, shuffled.Order());
        Assert.NotEqual(items, shuffled);
        Assert.NotEqual(shuffled, other);
        Assert.Equal(shuffled, again);
    }
}
