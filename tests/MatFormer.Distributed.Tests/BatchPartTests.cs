namespace MatFormer.Distributed.Tests;

/// <summary>Divides batches among ranks without starting them.</summary>
public sealed class BatchPartTests
{
    [Theory]
    [InlineData(Objective.Split)]
    [InlineData(Objective.Joint)]
    [InlineData(Objective.Branching)]
    public void TheRanksHaveEachRowOnce(Objective objective)
    {
        var random = new Random(3);
        for (var trial = 0; trial < 100; trial++)
        {
            var (batch, step) = (random.Next(1, 40), random.Next(1, 1000));
            var size = random.Next(1, batch + 1);
            var plan = new Planner<TinyLm>(new TrainerOptions { Batch = batch, Objective = objective }).At(step);
            var parts = Enumerable.Range(0, size).Select(rank => BatchPart.Of<TinyLm>(plan, batch, rank, size)).ToList();
            Assert.Equal(Enumerable.Range(0, batch).Select(row => (long)row), parts.SelectMany(part => part.Rows).Order());
            Assert.All(parts, part => Assert.InRange(part.Rows.Length, batch / size, (batch / size) + 1));
            for (var stream = 0; stream < plan.Names.Length; stream++)
            {
                var shares = parts.SelectMany(part => part.Indices.Zip(part.Shares)).Where(share => share.First == stream);
                Assert.Equal(1, shares.Sum(share => share.Second), 12);
            }

            Assert.All(parts, part => Assert.True(part.Streams.BatchRows is null || part.Streams.BatchRows.Sum() == part.Rows.Length));
        }
    }

    [Fact]
    public void AProgramWithoutThePackageSaysWhatToDo()
    {
        var problem = Assert.Throws<DistributedException>(() => Communicators.Connect("pigeons"));
        Assert.Contains("pigeons", problem.Message, StringComparison.Ordinal);
        Assert.Contains("DistributedTraining.Register()", problem.Message, StringComparison.Ordinal);
    }
}
