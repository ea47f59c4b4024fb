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
internal sealed record Bench(string? Data, string? Images, int Seeds, double Scale, string Folder, TextWriter Log);
