using System.Diagnostics;
using System.Globalization;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures extraction from a large model's file: the time relative to copying as many bytes (both are written through to the disk), and
/// the memory.
/// </summary>
internal static class ExtractBenchmark
{
    private const int Turns = 3;

    public static IEnumerable<Result> Run()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            var whole = Path.Combine(folder.FullName, "whole.safetensors");
            using (var model = new BenchLmLarge()) model.Save(whole);
            GC.Collect();
            var profile = new Profile<BenchLmLarge>("Half", "6*S 6*XL");
            (string Name, Action<string> Extract)[] formats =
            [
                ("safetensors.f32", path => Extraction.ToSafetensors(whole, profile, path)),
                ("safetensors.bf16", path => Extraction.ToSafetensors(whole, profile, path, WeightEncoding.BFloat16)),
                ("gguf.q8_0", path => Extraction.ToGguf(whole, profile, path, Tokenizer.ByteLevel, WeightEncoding.Q8)),
            ];
            foreach (var (name, extract) in formats)
            {
                var (slice, copy) = (Path.Combine(folder.FullName, "slice"), Path.Combine(folder.FullName, "copy"));
                var memory = PeakMegabytes(() => extract(slice));
                Copy(slice, copy);
                var times = Benchmarks.Turns.RunWarm(Turns, () => Time(() => extract(slice)), () => Time(() => Copy(slice, copy)));
                yield return Benchmarks.Turns.TimeRatio($"extract.{name}.vs_copy", times[0], times[1]);
                if (memory is { } megabytes) yield return new Result($"extract.{name}.memory", megabytes, "MB of additional memory");
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static double Time(Action action)
    {
        var start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static void Copy(string from, string to)
    {
        using var source = File.OpenRead(from);
        using var target = File.Create(to);
        source.CopyTo(target, 1 << 20);
        target.Flush(flushToDisk: true);
    }

    // Linux records the peak memory of a process. Writing 5 to clear_refs resets the peak.
    private static double? PeakMegabytes(Action action)
    {
        const string reset = "/proc/self/clear_refs";
        if (!File.Exists(reset)) return null;
        File.WriteAllText(reset, "5");
        var before = Megabytes("VmRSS");
        action();
        return Megabytes("VmHWM") - before;
    }

    private static double Megabytes(string key)
    {
        var line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(key + ":", StringComparison.Ordinal));
        return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture) * 1024 / 1e6;
    }
}
