namespace MatFormer.Runtime.Tests.Decoding;

/// <summary>Tests how many tokens are drafted, given the times of passes and the numbers of accepted tokens.</summary>
public sealed class DraftLengthsTests
{
    [Theory]
    [InlineData(1, 0.1, 0.0, 8)] // always right and nearly free: the maximum
    [InlineData(1, 1.0, 0.0, 0)] // drafting is as slow as the model
    [InlineData(0, 0.1, 0.0, 0)] // drafts are never right
    [InlineData(0.6, 0.3, 0.05, 1)] // the second is right too rarely: 1.6 / 1.35 is more than 1.96 / 1.7
    [InlineData(0.9, 0.3, 0.05, 4)] // 4.10 / 2.4 is more than 3.44 / 2.05 and 4.69 / 2.75
    public void TheLengthWithTheHighestExpectedSpeedIsChosen(double right, double draftStep, double perToken, int wanted)
    {
        var lengths = new DraftLengths(null);
        var chosen = Simulate(lengths, right, draftStep, perToken, passes: 400);

        // The neighbouring lengths are expected to be nearly as fast.
        var (median, apart) = (chosen.TakeLast(40).Order().ElementAt(20), wanted == 0 ? 0 : 1);
        Assert.InRange(median, wanted - apart, wanted + apart);
    }

    [Fact]
    public void AFixedLengthIsAlwaysUsed() => Assert.All(Simulate(new DraftLengths(5), 0, 1, 1, 20), k => Assert.Equal(5, k));

    [Fact]
    public void OneSlowPassDoesNotDistortTheChoice()
    {
        var lengths = new DraftLengths(null);
        lengths.Next();
        lengths.Took(0, 1000); // code was still being compiled
        Assert.Equal(0, Simulate(lengths, 0.5, 0.9, 0.1, passes: 300).TakeLast(40).Order().ElementAt(20));
    }

    [Fact]
    public void DraftingIsTriedAgainAfterItDidNotPay()
    {
        var lengths = new DraftLengths(null);
        Simulate(lengths, 0, 0.1, 0, passes: 200);
        var later = Simulate(lengths, 1, 0.1, 0, passes: 2000);
        Assert.Equal(8, later[^1]);
    }

    // Simulates a model whose pass takes 1. Each drafted token is right with the given probability.
    private static List<int> Simulate(DraftLengths lengths, double right, double draftStep, double perToken, int passes)
    {
        var (chosen, random) = (new List<int>(), new Random(1));
        for (var pass = 0; pass < passes; pass++)
        {
            var drafted = lengths.Next();
            chosen.Add(drafted);
            lengths.Drafted(drafted, drafted * draftStep);
            lengths.Took(drafted, 1 + (drafted * perToken));
            var accepted = 0;
            while (accepted < drafted && random.NextDouble() < right) accepted++;
            if (drafted > 0) lengths.Verified(drafted, accepted);
        }

        return chosen;
    }
}
