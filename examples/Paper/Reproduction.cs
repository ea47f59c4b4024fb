using System.Collections.Immutable;
using System.Globalization;
using MatFormer;

namespace Paper;

/// <summary>The trainings of the reproduction and their outcomes.</summary>
internal sealed class Reproduction
{
    public const string Universal = "sampled";
    public const string Quarter = "sampled, a quarter";

    private const int Points = 4;
    private readonly Dictionary<(string Size, string Name), List<Outcome>> _outcomes = [];

    private Reproduction(int seeds, double scale)
    {
        Seeds = seeds;
        Scale = scale;
    }

    /// <summary>
    /// The steps of a baseline at scale 1 and the highest learning rate, for each size. The rates were tuned on XL alone with one seed.
    /// </summary>
    public static ImmutableArray<(Size Size, int Steps, double LearningRate)> Sizes { get; } =
    [
        (new Size<Tiny>(), 2000, 4e-3),
        (new Size<Small>(), 500, 3e-3),
        (new Size<Medium>(), 500, 1.5e-3),
    ];

    /// <summary>The size on which objectives and sampling probabilities are compared.</summary>
    public static Size Compared => Sizes[1].Size;

    /// <summary>The largest size.</summary>
    public static Size Largest => Sizes[^1].Size;

    public int Seeds { get; }

    public double Scale { get; }

    /// <summary>The names in tables of the objectives at equal compute.</summary>
    public static ImmutableArray<string> Objectives { get; } =
        [Universal, "split", "sampled per layer", "sampled, distilled", "branching", "sandwich", "joint"];

    /// <summary>The names of the trainings with the paper's sampling probabilities.</summary>
    public static ImmutableArray<string> Sampling { get; } = [.. Published.Sampling.Select((s, i) => i == 0 ? Universal
        : "sampled " + string.Join('/', s.Probabilities.Select(p => p.ToString(".00", CultureInfo.InvariantCulture))))];

    /// <summary>Runs all trainings. Outcomes that exist already are read instead.</summary>
    public static Reproduction Run(Bench bench, int seeds, double scale, CancellationToken cancellationToken)
    {
        var all = new Reproduction(seeds, scale);
        var trainings = (from seed in Enumerable.Range(1, seeds)
                         from size in Sizes
                         from training in Trainings(size.Size, Math.Max(10, (int)Math.Round(size.Steps * scale)), size.LearningRate, seed)
                         select (size.Size, Training: training)).ToList();
        for (var i = 0; i < trainings.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (size, training) = trainings[i];
            var outcome = size.Run($"[{i + 1}/{trainings.Count}] ", training, bench, cancellationToken);
            if (!all._outcomes.TryGetValue((size.Name, training.Name), out var list)) all._outcomes[(size.Name, training.Name)] = list = [];
            list.Add(outcome);
        }

        return all;
    }

    /// <summary>The outcomes of one training, one per seed.</summary>
    public IReadOnlyList<Outcome> this[Size size, string name] => _outcomes[(size.Name, name)];

    /// <summary>All outcomes.</summary>
    public IEnumerable<Outcome> All => _outcomes.Values.SelectMany(o => o);

    /// <summary>Returns the loss of a training's granularity over the seeds.</summary>
    public Estimate Loss(Size size, string name, string granularity) => Over(size, name, o => o[granularity].Nats);

    /// <summary>Returns the estimate of a value over the seeds.</summary>
    public Estimate Over(Size size, string name, Func<Outcome, double> value) => Estimate.Of(this[size, name].Select(value));

    /// <summary>Returns the difference between two trainings of the same seed, over the seeds.</summary>
    public Estimate Difference(Size size, string name, Func<Outcome, double> value, string other, Func<Outcome, double> its) =>
        Estimate.Of(this[size, name].Zip(this[size, other], (a, b) => value(a) - its(b)));

    /// <summary>Returns by how much a granularity's loss exceeds that of its own baseline.</summary>
    public Estimate AboveBaseline(Size size, string name, string granularity) =>
        Difference(size, name, o => o[granularity].Nats, Training.NameOfBaseline(granularity), o => o[granularity].Nats);

    private static IEnumerable<Training> Trainings(Size size, int steps, double learningRate, int seed)
    {
        // The largest first: the others are compared with it.
        foreach (var granularity in size.Granularities.Reverse())
            yield return new Training(Training.NameOfBaseline(granularity), Objective.Sampled, steps, seed, learningRate, [], granularity);

        // On average each granularity gets as many steps as its baseline, so the compute is that of the four baselines together.
        var longer = steps * size.Granularities.Length;
        var budget = longer * size.StepCost(Objective.Sampled);
        yield return new Training(Universal, Objective.Sampled, longer, seed, learningRate, [], Points: Points);
        yield return new Training(Quarter, Objective.Sampled, steps, seed, learningRate, []);
        if (size != Compared) yield break;
        yield return Equal("split", Objective.Split);
        yield return Equal("sampled per layer", Objective.SampledPerLayer);
        yield return Equal("sampled, distilled", Objective.Sampled, isDistilled: true);
        yield return Equal("branching", Objective.Branching);
        yield return Equal("sandwich", Objective.Sandwich);
        yield return Equal("joint", Objective.Joint);
        foreach (var (name, (probabilities, _)) in Sampling.Zip(Published.Sampling).Skip(1))
            yield return Equal(name, Objective.Sampled, probabilities);

        Training Equal(string name, Objective objective, ImmutableArray<double> probabilities = default, bool isDistilled = false)
        {
            probabilities = probabilities.IsDefault ? [] : probabilities;
            var affordable = (int)Math.Round(budget / size.StepCost(objective, probabilities, isDistilled));
            return new Training(name, objective, affordable, seed, learningRate, probabilities, null, isDistilled, Points);
        }
    }
}
