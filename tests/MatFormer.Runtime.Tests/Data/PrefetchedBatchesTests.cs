namespace MatFormer.Runtime.Tests.Data;

public sealed class PrefetchedBatchesTests
{
    [Fact]
    public void BatchesComeInOrderAndAtMostAFewAhead()
    {
        var source = new Source();
        using var batches = new PrefetchedBatches(source, first: 5, last: 40, size: 3);
        var (tokens, targets) = (new long[3], new long[3]);
        for (long step = 5; step <= 40; step++)
        {
            batches.Fill(step, tokens, targets);
            Assert.Equal([step, step, step], tokens);
            Assert.Equal([-step, -step, -step], targets);
            Assert.InRange(Volatile.Read(ref source.Last), step, Math.Min(40, step + PrefetchedBatches.Ahead + 1));
        }

        Assert.Throws<InvalidOperationException>(() => batches.Fill(41, tokens, targets));
    }

    [Fact]
    public void AStepOutOfTurnIsRefused()
    {
        using var batches = new PrefetchedBatches(new Source(), first: 1, last: 10, size: 1);
        var e = Assert.Throws<InvalidOperationException>(() => batches.Fill(2, new long[1], new long[1]));
        Assert.Contains("the next is 1", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnErrorIsThrownAtItsStepAndAgain()
    {
        using var batches = new PrefetchedBatches(new Source { FailsAt = 3 }, first: 1, last: 10, size: 1);
        var token = new long[1];
        batches.Fill(1, token, new long[1]);
        batches.Fill(2, token, new long[1]);
        Assert.Equal(2, token[0]);
        for (var i = 0; i < 2; i++)
            Assert.Equal("failed at 3", Assert.Throws<InvalidDataException>(() => batches.Fill(3, token, new long[1])).Message);
    }

    [Fact]
    public void DisposingStopsTheThread()
    {
        // While it waits for room, while it fills, after its last step, and after an error.
        for (var taken = 0; taken < 4; taken++)
        {
            var source = new Source { FailsAt = taken == 3 ? 2 : null };
            using (var batches = new PrefetchedBatches(source, first: 1, last: taken == 2 ? 2 : long.MaxValue, size: 1))
            {
                if (taken > 0) batches.Fill(1, new long[1], new long[1]);
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

        public void Fill(long step, Span<long> tokens, Span<long> targets)
        {
            Thread = Thread.CurrentThread;
            Volatile.Write(ref Last, step);
            if (step == FailsAt) throw new InvalidDataException($"failed at {step}");
            tokens.Fill(step);
            targets.Fill(-step);
        }
    }
}
