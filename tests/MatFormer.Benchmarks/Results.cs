using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using TorchSharp;

namespace MatFormer.Benchmarks;

/// <summary>One figure: its name, value and unit, and the two sides if it is a ratio.</summary>
internal sealed record Result(
    string Name, double Value, string Unit, double? Ours = null, double? Peer = null, int Runs = 1, double? Spread = null)
{
    /// <summary>The kernels of our side: an instruction set, or "composite". Null if the benchmark does not name them.</summary>
    public string? Kernels { get; init; }
}

/// <summary>Times the sides of a comparison in turns, so that the noise of the machine affects all of them.</summary>
internal static class Turns
{
    private static readonly TimeSpan s_long = TimeSpan.FromSeconds(8);

    /// <summary>Returns the seconds of each side per turn, after one turn that is not counted.</summary>
    public static (double[] Ours, double[] Peer) Run(int turns, Func<double> ours, Func<double> peer)
    {
        ours();
        peer();
        var times = RunWarm(turns, ours, peer);
        return (times[0], times[1]);
    }

    /// <summary>
    /// Returns the seconds of any number of sides that have run before, per turn. If the turns take long, there are fewer of them, but at
    /// least 2.
    /// </summary>
    public static double[][] RunWarm(int turns, params Func<double>[] sides) => RunWarm(turns, 2, sides);

    /// <summary>Does the same with another minimum of turns.</summary>
    public static double[][] RunWarm(int turns, int least, params Func<double>[] sides)
    {
        var times = Array.ConvertAll(sides, _ => new List<double>());
        var start = Stopwatch.GetTimestamp();
        for (var turn = 0; turn < turns && (turn < least || Stopwatch.GetElapsedTime(start) < s_long); turn++)
        {
            for (var side = 0; side < sides.Length; side++) times[side].Add(sides[side]());
        }

        return Array.ConvertAll(times, t => t.ToArray());
    }

    /// <summary>
    /// Returns how many times faster we are: the median of the turns' ratios. The spread is their range divided by the median.
    /// </summary>
    public static Result Ratio(string name, (double[] Ours, double[] Peer) times, double unitsPerTurn)
    {
        var ratios = times.Peer.Zip(times.Ours, (peer, ours) => peer / ours).ToArray();
        var (ours, peer) = (Median(times.Ours), Median(times.Peer));
        var ratio = Median(ratios);
        return new Result(
            name, ratio, "x", unitsPerTurn / ours, unitsPerTurn / peer, ratios.Length, (ratios.Max() - ratios.Min()) / ratio);
    }

    /// <summary>
    /// Returns the time of the first side divided by that of the second; median and spread are as in <see cref="Ratio"/>.
    /// </summary>
    public static Result TimeRatio(string name, double[] times, double[] others)
    {
        var ratios = times.Zip(others, (time, other) => time / other).ToArray();
        var ratio = Median(ratios);
        return new Result(name, ratio, "x the time", Median(times), Median(others), ratios.Length, (ratios.Max() - ratios.Min()) / ratio);
    }

    public static double Median(double[] values)
    {
        var sorted = values.Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}

internal static class Report
{
    public static void Text(IEnumerable<Result> results)
    {
        Console.WriteLine($"kernels: {Level.Name}; TorchSharp over libtorch {torch.__version__}; {torch.get_num_threads()} threads");
        foreach (var r in results)
        {
            var detail = r is { Ours: { } ours, Peer: { } peer }
                ? Text($"   ours {ours:G4}, peer {peer:G4}, {r.Runs} runs{(r.Spread is { } spread ? Text($", spread {spread:P0}") : null)}")
                : string.Empty;
            var kernels = r.Kernels is null ? null : $" [{r.Kernels}]";
            Console.WriteLine(Text($"{r.Name,-40} {r.Value,10:F3} {r.Unit}{detail}{kernels}"));
        }
    }

    /// <summary>Writes one JSON document to standard output: the machine, and a result per name.</summary>
    public static void Json(IEnumerable<Result> results)
    {
        using var output = Console.OpenStandardOutput();
        using var json = new Utf8JsonWriter(output, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteStartObject("machine");
        json.WriteString("processor", Processor());
        json.WriteNumber("cores", Environment.ProcessorCount);
        json.WriteNumber("threads", torch.get_num_threads());
        json.WriteString("os", RuntimeInformation.OSDescription);
        json.WriteString("dotnet", Environment.Version.ToString());
        json.WriteString("libtorch", torch.__version__);
        json.WriteString("kernels", Level.Name);
        json.WriteEndObject();
        json.WriteStartArray("results");
        foreach (var r in results)
        {
            json.WriteStartObject();
            json.WriteString("name", r.Name);
            json.WriteNumber("value", r.Value);
            json.WriteString("unit", r.Unit);
            if (r.Ours is { } ours) json.WriteNumber("ours", ours);
            if (r.Peer is { } peer) json.WriteNumber("peer", peer);
            json.WriteNumber("runs", r.Runs);
            if (r.Spread is { } spread) json.WriteNumber("spread", spread);
            if (r.Kernels is { } kernels) json.WriteString("kernels", kernels);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        output.WriteByte((byte)'\n');
    }

    private static string Text(FormattableString text) => FormattableString.Invariant(text);

    private static string Processor()
    {
        const string path = "/proc/cpuinfo";
        if (!File.Exists(path)) return RuntimeInformation.ProcessArchitecture.ToString();
        var line = File.ReadLines(path).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
