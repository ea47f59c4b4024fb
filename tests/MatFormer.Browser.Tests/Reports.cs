using System.Collections.Immutable;
using System.Diagnostics;

namespace MatFormer.Browser.Tests;

/// <summary>The reports of a small model, which a program wrote as it does for a user, and a page with as much as pages may have.</summary>
public sealed class Reports : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-reports-").FullName;

    public async ValueTask InitializeAsync()
    {
        var data = Path.Combine(_folder, "data.txt");
        await File.WriteAllLinesAsync(data, Enumerable.Range(0, 3000).Select(i => $"The square of {i} is {i * i}."));
        await Run(
            "demo", "--data", data, "--steps", "60", "--batch", "2", "--tokens", "120", "--prompt", "The square of ", "--out", _folder);
        await Run("eval", "--data", data, "--out", _folder, "--windows", "8", "--sweep", "3", "--report", this["eval"]);
        await Run("plan", "--data", data, "--out", _folder, "--windows", "8", "--report", this["plan"]);
        await File.WriteAllTextAsync(this["full"], Full().ToHtml());
    }

    /// <summary>The path of a report.</summary>
    public string this[string name] => Path.Combine(_folder, name + ".html");

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    private static ReportPage Full()
    {
        string[] shapes = ["granularities", "increasing", "decreasing", "alternating", "with one layer that is unlike all the others"];
        return new ReportPage("A-name-without-a-space-that-is-longer-than-a-telephone-is-wide: how good its sizes are")
            .Chart("points.svg", new ScatterChart
            {
                Title = "Missed documents",
                XTitle = "MFLOPs per text",
                YTitle = "queries whose document is not among the first 10, % (lower is better)",
                LogX = true,
                Reference = (1, "all documents are missed"),
                Series = [.. shapes.Select((name, s) => new ChartSeries(name, [.. Enumerable.Range(0, 6).Select(Point)], IsLine: s == 0))],
            })
            .Table(
                [
                    "Name", "Layers", "Parameters", "FLOPs per text", "µs per query", "Dimensions", "Recall@1", "Recall@10", "MRR@10",
                    "Same type",
                ],
                Enumerable.Range(1, 8).Select(i => (ImmutableArray<string>)
                    [
                        $"Profile{i} alone, on its own index", "1*S 2*M 4*L 1*XL 12*XXL", "1,234,567,890", "12,345.6 M", "123,456", "1024",
                        "99.9%", "100.0%", "0.999", i == 1 ? string.Empty : "88.8%",
                    ]),
                names: 2)
            .Facts([("a fact with a long name", new string('x', 200)), ("command", "dotnet run -c Release -- eval")]);

        static ChartPoint Point(int i) => new(Math.Pow(1.5, i), 1 / (i + 1.0), $"point {i}", $"Size{i}");
    }

    private static async Task Run(params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "TinyLm.dll"));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await errors);
    }
}
