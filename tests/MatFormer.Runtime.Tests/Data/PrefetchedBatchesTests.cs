namespace MatFormer.Runtime.Tests.Data;

public sealed class PrefetchedBatchesTests
{
    [Fact]
    public void BatchesComeInOrderAndAtMostAFewAreMadeAhead()
    {
        var source = new Source();
        using var batches = new PrefetchedBatches(source, first: 5, last: 40);
        for (long step = 5; step <= 40; step++)
        {
            var batch = (TokenBatch)batches.Take(step);
            Assert.Equal([step, step, step], batch.Tokens);
            Assert.Equal([-step, -step, -step], batch.Targets);
            Thread.Yield(); // the batch stays the same, whatever is made meanwhile
            Assert.Equal([step, step, step], batch.Tokens);
            Assert.InRange(Volatile.Read(ref source.Last), step, Math.Min(40, step + PrefetchedBatches.Ahead + 1));
        }

        Assert.Throws<InvalidOperationException>(() => batches.Take(41));
    }

    [Fact]
    public void AStepOutOfTurnIsRefused()
    {
        using var batches = new PrefetchedBatches(new Source(), first: 1, last: 10);
        var e = Assert.Throws<InvalidOperationException>(() => batches.Take(2));
        Assert.Contains("the next batch is 1", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnErrorIsThrownEachTimeItsStepIsTaken()
    {
        using var batches = new PrefetchedBatches(new Source { FailsAt = 3 }, first: 1, last: 10);
        batches.Take(1);
        Assert.Equal(2, ((TokenBatch)batches.Take(2)).Tokens[0]);
        for (var i = 0; i < 2; i++)
            Assert.Equal("failed at 3", Assert.Throws<InvalidDataException>(() => batches.Take(3)).Message);
    }

    [Fact]
    public void DisposingStopsTheThread()
    {
        // The thread waits for room, fills a batch, has done its last step, or has met an error.
        for (var taken = 0; taken < 4; taken++)
        {
            var source = new Source { FailsAt = taken == 3 ? 2 : null };
            using (var batches = new PrefetchedBatches(source, first: 1, last: taken == 2 ? 2 : long.MaxValue))
            {
                if (taken > 0) batches.Take(1);
            }

            Assert.False(source.Thread?.IsAlive ?? false);
        }
    }

    [Fact]
    public void AnErrorInATrainingBatchEndsTheTraining()
    {
        using var folder = new TemporaryFolder();
        var corpus = TextCorpus.Open(folder.WriteTexts(), folder["data"]);
        using var model = TinyModel.Create();
        using var trainer = new Trainer<TinyModel>(model, new TrainerOptions { Steps = 1000, Batch = 2 });
        Assert.Throws<ObjectDisposedException>(() => trainer.Fit(corpus, _ => corpus.Dispose()));
        Assert.InRange(trainer.StepsDone, 1, 1 + PrefetchedBatches.Ahead + 1);
    }

    private sealed class Source : IBatches
    {
        public long Last;

        public long? FailsAt { get; init; }

        public Thread? Thread { get; private set; }

        public Batch NewBatch() => new TokenBatch(3, 1);

        public void Fill(long step, Batch batch)
        {
            Thread = Thread.CurrentThread;
            Volatile.Write(ref Last, step);
            if (step == FailsAt) throw new InvalidDataException($"failed at {step}");
            Array.Fill(((TokenBatch)batch).Tokens, step);
            Array.Fill(((TokenBatch)batch).Targets, -step);
        }
    }
}
