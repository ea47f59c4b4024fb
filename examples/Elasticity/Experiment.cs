using System.Diagnostics;
using System.Globalization;
using MatFormer;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>An experiment on one way in which a model is elastic. It writes one section of a page.</summary>
internal abstract class Experiment
{
    /// <summary>The name on the command line, and of the section's file.</summary>
    public abstract string Name { get; }

    /// <summary>What the experiment asks, in one line.</summary>
    public abstract string Question { get; }

    /// <summary>Runs the experiment, and returns its section in Markdown, which begins with a heading of level 1.</summary>
    public abstract string Run(Bench bench, CancellationToken cancellationToken);
}

/// <summary>The settings that all experiments share.</summary>
/// <param name="Data">The text: a file, folder or glob; null for the XML documentation of the .NET SDK.</param>
/// <param name="Images">The folder of the MNIST images; null to leave out what needs them.</param>
/// <param name="Seeds">The number of seeds for each training.</param>
/// <param name="Scale">The share of the steps to run.</param>
/// <param name="Folder">The folder for trained models and other files.</param>
/// <param name="Log">Progress.</param>
internal sealed record Bench(string? Data, string? Images, int Seeds, double Scale, string Folder, TextWriter Log)
{
    /// <summary>Returns the command that repeats an experiment.</summary>
    public string Command(string experiment) => string.Create(
        CultureInfo.InvariantCulture,
        $"dotnet run -c Release --project examples/Elasticity -- {experiment}{(Images is null ? string.Empty : " --images MNIST")} "
        + $"--seeds {Seeds} --scale {Scale} --threads {get_num_threads()}");

    /// <summary>The number of steps to run of those of a full run, at least one.</summary>
    public int Steps(int full) => Math.Max(1, (int)(full * Scale));

    /// <summary>
    /// Returns a model that is trained on the CPU with a seed for both the model and its training. What an earlier run with the same name
    /// and steps trained is kept.
    /// </summary>
    public TModel Trained<TModel>(string name, TrainerOptions options, TrainingData data, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var path = Path.Combine(Folder, $"{TModel.Spec.Name}-{name}-{options.Steps}-{options.Seed}.safetensors");
        if (File.Exists(path)) return Checkpoint.OpenUniversal<TModel>(path, CPU);
        var watch = Stopwatch.StartNew();
        manual_seed(options.Seed);
        var model = TModel.Create(CPU);
        using var trainer = new Trainer<TModel>(model, options);
        if (!trainer.Fit(data, cancellationToken: cancellationToken).Finished) throw new OperationCanceledException(cancellationToken);
        model.Save(path);
        Log.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{TModel.Spec.Name}, {name}, seed {options.Seed}: {options.Steps} steps, {watch.Elapsed.TotalSeconds:0} s"));
        return model;
    }
}
