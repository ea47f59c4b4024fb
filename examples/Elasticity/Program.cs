using System.CommandLine;
using System.Globalization;
using Elasticity;
using MatFormer;
using Paper;
using static TorchSharp.torch;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
Experiment[] experiments =
[
    new Budgets(), new CascadeExperiment(), new CausalExperiment(), new LookupExperiment(), new Routing(), new PrecisionExperiment(),
    new WidthExperiment(),
];
var data = new Option<string?>("--data") { Description = "Text: a file, folder or glob; by default the XML documentation of the .NET SDK" };
var images = new Option<string?>("--images") { Description = "Folder of the MNIST files, for the experiments that need images" };
var seeds = new Option<int>("--seeds") { Description = "Number of seeds for each training", DefaultValueFactory = _ => 3 };
var scale = new Option<double>("--scale") { Description = "Share of the steps to run", DefaultValueFactory = _ => 1 };
var threads = new Option<int?>("--threads") { Description = "Threads; by default one per physical core" };
var output = new Option<string>("--out")
{
    Description = "Folder for the sections and the trained models",
    DefaultValueFactory = _ => Path.Combine("out", "Elasticity"),
};
seeds.Check<int>(n => n is >= 1 and <= 10, "--seeds must be from 1 to 10");
scale.Check<double>(n => n is > 0 and <= 100, "--scale must be above 0, at most 100");
threads.Check<int>(n => n >= 1, "--threads must be 1 or more");

var root = new RootCommand("Measures each way in which a model is elastic, and writes a section of docs/elasticity.md for each.");
foreach (var experiment in experiments)
{
    var command = new Command(experiment.Name, experiment.Question) { data, images, seeds, scale, threads, output };
    command.SetAction((parsed, cancellationToken) =>
    {
        set_num_threads(parsed.GetValue(threads) ?? Machine.Threads);
        var folder = parsed.GetValue(output)!;
        Directory.CreateDirectory(folder);
        var bench = new Bench(
            parsed.GetValue(data), parsed.GetValue(images), parsed.GetValue(seeds), parsed.GetValue(scale), folder, Console.Error);
        var section = Path.Combine(folder, experiment.Name + ".md");
        File.WriteAllText(section, experiment.Run(bench, cancellationToken));
        Console.WriteLine($"Wrote {section}.");
        return Task.FromResult(0);
    });
    root.Add(command);
}

var line = root.Parse(args);
if (line.Errors is [.., var error]) // the first one may only say that there is no command
{
    Console.Error.WriteLine($"{error.Message} See '--help'.");
    return 2;
}

// System.CommandLine's own handler would give up two seconds after Ctrl-C, but a run may take longer until it checks for it.
using var signals = new StopSignals(CancellationToken.None);
try
{
    return await line.InvokeAsync(
        new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, signals.Token);
}
catch (OperationCanceledException)
{
    Console.Error.WriteLine("Interrupted.");
    return 130;
}
catch (Exception e) when (e is DataException or CheckpointException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}
