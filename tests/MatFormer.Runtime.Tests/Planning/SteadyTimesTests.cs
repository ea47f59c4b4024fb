using System.Collections.Immutable;

namespace MatFormer.Runtime.Tests.Planning;

/// <summary>Tests with a clock and a meter that are made up.</summary>
public sealed class SteadyTimesTests
{
    // Each size keeps all that the one before it keeps.
    private static readonly ImmutableArray<LayerSlice>[] s_sizes =
        [.. Enumerable.Range(1, 3).Select(width => ImmutableArray.Create(new LayerSlice(width, 1), new LayerSlice(width, 1)))];

    [Fact]
    public void CodeRunsUntilItIsCompiled()
    {
        var clock = new Clock();
        var runs = 0;
        SteadyTimes.WarmUp(() => Run(TimeSpan.FromMilliseconds(10)), clock);
        Assert.Equal(30, runs);
        runs = 0;
        SteadyTimes.WarmUp(() => Run(TimeSpan.FromSeconds(5)), clock);
        Assert.Equal(2, runs);

        void Run(TimeSpan time)
        {
            runs++;
            clock.Now += time.Ticks;
        }
    }

    [Fact]
    public void ASizeThatIsSlowerThanALargerOneIsMeasuredAgain()
    {
        var meter = new Meter([[1, 13, 1.1], [1.05]]);
        Assert.Equal([1, 1.05, 1.1], SteadyTimes.Measure(s_sizes, meter.Measure));
        Assert.Equal([[0, 1, 2], [1]], meter.Asked);
    }

    [Fact]
    public void TheShortestTimeCounts()
    {
        var meter = new Meter([[1, 13, 1.1], [20], [1.05]]);
        Assert.Equal([1, 1.05, 1.1], SteadyTimes.Measure(s_sizes, meter.Measure));
    }

    [Fact]
    public void ADifferenceWithinTheNoiseIsNotMeasuredAgain()
    {
        var meter = new Meter([[1 + (0.9 * SteadyTimes.Noise), 1, 1]]);
        SteadyTimes.Measure(s_sizes, meter.Measure);
        Assert.Single(meter.Asked);
    }

    [Fact]
    public void ASizeThatStaysSlowKeepsItsTimeAfterABoundedNumberOfRepeats()
    {
        var meter = new Meter([[1, 3, 1.1], [2.5], [2], [4], [1]]);
        Assert.Equal([1, 2, 1.1], SteadyTimes.Measure(s_sizes, meter.Measure));
        Assert.Equal(1 + SteadyTimes.MostRepeats, meter.Asked.Count);
    }

    [Fact]
    public void SizesThatDoNotHoldEachOtherHaveNoOrder()
    {
        ImmutableArray<LayerSlice>[] crossed = [[new(2, 1), new(1, 1)], [new(1, 1), new(2, 1)]];
        var meter = new Meter([[9, 1]]);
        Assert.Equal([9, 1], SteadyTimes.Measure(crossed, meter.Measure));
    }

    [Fact]
    public void APlanMeasuresAgainWhatIsOutOfOrder()
    {
        var space = new MixSpace(TinyModel.Spec);
        var table = PlanningSpecs.Draw(space, new Random(1));
        (string, int[])[] known = [("S", new int[space.Layers]), ("XL", [.. space.Choices.Select(choices => choices.Length - 1)])];
        var meter = new DisturbedMeter(new TableMeter(space, table), TinyModel.Granularities[0].Layers);
        var plan = ProfilePlanner.Run(space, PlanningSpecs.Sizes(space), known, meter, new PlanOptions());
        var smallest = plan.Mixes.Single(mix => mix.Name == "S");
        Assert.Equal(table.Of(new int[space.Layers]).Milliseconds, smallest.Measured.Milliseconds, 1e-9);
        Assert.Equal(2, meter.Disturbed);
    }

    private sealed class Clock : TimeProvider
    {
        public long Now { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now;
    }

    // Returns prepared times.
    private sealed class Meter(double[][] times)
    {
        public List<int[]> Asked { get; } = [];

        public double[] Measure(IReadOnlyList<int> sizes)
        {
            Asked.Add([.. sizes]);
            return times[Asked.Count - 1];
        }
    }

    // Takes a mix for twelve times as slow whenever other mixes are measured with it.
    private sealed class DisturbedMeter(IMixMeter meter, ImmutableArray<LayerSlice> mix) : IMixMeter
    {
        public int Disturbed { get; private set; }

        public double[] Milliseconds(IReadOnlyList<ImmutableArray<LayerSlice>> mixes)
        {
            var times = meter.Milliseconds(mixes);
            if (mixes.Count == 1) return times;
            for (var i = 0; i < times.Length; i++)
            {
                if (!mixes[i].AsSpan().SequenceEqual(mix.AsSpan())) continue;
                times[i] *= 12;
                Disturbed++;
            }

            return times;
        }

        public double[] Losses(IReadOnlyList<ImmutableArray<LayerSlice>> mixes) => meter.Losses(mixes);
    }
}
