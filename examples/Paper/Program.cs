using System.CommandLine;
using System.Globalization;
using MatFormer;
using Paper;
using static TorchSharp.torch;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
var data = new Option<string?>("--data")
{
    Description = "Training text: a file, folder or glob; by default the XML documentation of the .NET SDK",
};
var seeds = new Option<int>("--seeds") { Description = "Number of seeds for each training", DefaultValueFactory = _ => 3 };
var scale = new Option<double>("--scale")
{
    Description = "Share of the steps to run; 1 takes about an hour on two cores",
    DefaultValueFactory = _ => 1,
};
var windows = new Option<int>("--windows") { Description = "Windows of validation text to measure on", DefaultValueFactory = _ => 256 };
var threads = new Option<int?>("--threads") { Description = "Threads; by default one per physical core" };
var dtype = new Option<string>("--dtype")
{
    Description = "Compute type, f32 or bf16; by default bf16 if the CPU supports it",
    DefaultValueFactory = _ => Machine.CpuHasBFloat16 ? "bf16" : "f32",
};
var output = new Option<string>("--out") { Description = "Output folder", DefaultValueFactory = _ => Path.Combine("out", "Paper") };
dtype.AcceptOnlyFromAmong("f32", "bf16");
seeds.Check<int>(n => n is >= 1 and <= 10, "--seeds must be from 1 to 10");
scale.Check<double>(n => n is > 0 and <= 100, "--scale must be above 0, at most 100");
windows.Check<int>(n => n >= 1, "--windows must be 1 or more");
threads.Check<int>(n => n >= 1, "--threads must be 1 or more");

var reproduce = new Command("reproduce", "Train universal models and their baselines, and write a report that compares them with the paper")
{
    data, seeds, scale, windows, threads, dtype, output,
};
reproduce.SetAction((parsed, cancellationToken) =>
{
    set_num_threads(parsed.GetValue(threads) ?? Machine.Threads);
    var folder = parsed.GetValue(output)!;
    var runs = Path.Combine(folder, "runs");
    Directory.CreateDirectory(runs);
    using var corpus = TextCorpus.Open(parsed.GetValue(data), folder, cancellationToken: cancellationToken);
    var type = parsed.GetValue(dtype) == "bf16" ? ScalarType.BFloat16 : ScalarType.Float32;
    var bench = new Bench(corpus, type, runs, parsed.GetValue(windows), Console.Error);
    var found = Reproduction.Run(bench, parsed.GetValue(seeds), parsed.GetValue(scale), cancellationToken);
    var page = Findings.Write(found, bench, string.Join(' ', args));
    Json.Write(Path.Combine(folder, "results.json"), found.All.ToList());
    foreach (var (file, chart) in page.Charts) Json.WriteText(Path.Combine(folder, file), chart.ToSvg());
    Json.WriteText(Path.Combine(folder, "reproduction.md"), page.ToMarkdown());
    Json.WriteText(Path.Combine(folder, "report.html"), page.ToHtml());
    foreach (var claim in Findings.Claims(found)) Console.WriteLine($"{claim.Claim}\n    {claim.Verdict}");
    Console.WriteLine($"Wrote {Path.Combine(folder, "report.html")}, reproduction.md and results.json beside it.");
    return Task.FromResult(0);
});
var root = new RootCommand("Reproduces the paper's claims at the scale of two cores and an hour.") { reproduce };
var command = root.Parse(args);
if (command.Errors is [.., var error]) // the first one may only say that there is no command
{
    Console.Error.WriteLine($"{error.Message} See '{(command.CommandResult.Command == root ? string.Empty : "reproduce ")}--help'.");
    return 2;
}

try
{
    return await command.InvokeAsync(
        new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromSeconds(30) });
}
catch (OperationCanceledException)
{
    Console.Error.WriteLine("Interrupted. Finished trainings are kept; run the same command to go on.");
    return 130;
}
catch (Exception e) when (e is DataException or CheckpointException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}
