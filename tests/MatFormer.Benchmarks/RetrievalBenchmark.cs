using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Microsoft.Data.Sqlite;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures exact search over 200,000 vectors on one core: at full width, by a prefix first, with many queries at once, and in a SQLite
/// database. It is compared with numpy, where Python has it, and with the rate at which the same core reads memory.
/// </summary>
internal static class RetrievalBenchmark
{
    private const int Rows = 200_000;
    private const int Queries = 64;
    private const int Turns = 9;
    private static readonly int[] s_widths = [128, 256];

    public static IEnumerable<Result> Run()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            foreach (var width in s_widths)
            {
                foreach (var result in Run(Path.Combine(folder.FullName, "index.safetensors"), width)) yield return result;
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static IEnumerable<Result> Run(string path, int width)
    {
        var prefix = width / 8;
        File.Delete(path + ".db");
        Write(path, width, prefix);
        using var index = VectorIndex.Open(path);
        var queries = new float[Queries * width];
        for (var q = 0; q < Queries; q++) index.CopyVector(q * (Rows / Queries), queries.AsSpan(q * width, width));

        var full = new SearchOptions();
        var twice = new SearchOptions { Prefix = prefix };
        var opening = Seconds(() => index.Search(queries.AsSpan(0, width), twice)); // the first search lays out the prefixes
        var next = 0;
        double Query(SearchOptions options)
        {
            var start = Stopwatch.GetTimestamp();
            for (var i = 0; i < 4; i++) index.Search(queries.AsSpan(next++ % Queries * width, width), options);
            return Stopwatch.GetElapsedTime(start).TotalSeconds / 4;
        }

        var memory = new float[Rows * width];
        Array.Fill(memory, 1f); // pages that were never written share one physical page
        double Read() => Seconds(() => Sum(memory));
        using var database = new SqliteConnection($"Data Source={path}.db;Pooling=False");
        database.Open();
        var table = SqliteVectorTable.Create(database, "entries", index);
        using var peer = StartPeer(path, width);
        List<Func<double>> sides =
        [
            () => Query(full), () => Query(twice), () => Seconds(() => index.SearchBatch(queries, full)) / Queries, Read,
            () => Seconds(() => table.Search(queries.AsSpan(0, width))),
        ];
        if (peer is not null) sides.Add(() => peer.Time("search", 4) / 4);
        foreach (var side in sides) side();
        var times = Benchmarks.Turns.RunWarm(Turns, [.. sides]);

        var suffix = width == s_widths[0] ? "200k" : $"200k.{width}";
        yield return Milliseconds($"retrieval.query_ms.{suffix}", times[0]);
        yield return Milliseconds($"retrieval.prefix{prefix}_query_ms.{suffix}", times[1]);
        yield return Milliseconds($"retrieval.batch{Queries}_query_ms.{suffix}", times[2]);
        yield return Milliseconds($"retrieval.sqlite_query_ms.{suffix}", times[4]);
        yield return new Result($"retrieval.prefix{prefix}_first_ms.{suffix}", 1e3 * opening, "ms");
        var found = index.SearchBatch(queries, full);
        var shortlisted = index.SearchBatch(queries, twice);
        var kept = found.Zip(shortlisted, (f, s) => f.Select(h => h.Row).Intersect(s.Select(h => h.Row)).Count()).Sum();
        yield return new Result($"retrieval.prefix{prefix}_kept.{suffix}", (double)kept / found.Sum(f => f.Length), "of the 10 best");
        var bytes = 4.0 * Rows * width;
        yield return Benchmarks.Turns.Ratio($"retrieval.bandwidth_share.{suffix}", (times[0], times[3]), bytes / 1e9) with
        {
            Unit = "of reading memory (GB/s)",
        };
        if (peer is null)
            Console.Error.WriteLine("skipped retrieval.vs_numpy: no Python here has numpy");
        else
            yield return Benchmarks.Turns.Ratio($"retrieval.vs_numpy.{suffix}", (times[0], times[5]), 1);
    }

    // The vectors are nested: each eighth of the dimensions has smaller values than the one before it.
    private static void Write(string path, int width, int prefix)
    {
        var random = new Random(1);
        using var writer = new VectorIndexWriter(path, width, [prefix], new("benchmark", "none", "XL", "none"));
        var batch = new float[1000 * width];
        var entries = new IndexEntry[1000];
        while (writer.Count < Rows)
        {
            for (var row = 0; row < 1000; row++)
            {
                var vector = batch.AsSpan(row * width, width);
                for (var i = 0; i < width; i++) vector[i] = (random.NextSingle() - 0.5f) / (1 + (i / prefix));
                var norm = 0f;
                foreach (var value in vector) norm += value * value;
                norm = MathF.Sqrt(norm);
                for (var i = 0; i < width; i++) vector[i] /= norm;
                entries[row] = new IndexEntry(string.Create(CultureInfo.InvariantCulture, $"entry {writer.Count + row}"));
            }

            writer.Add(batch, entries);
        }

        writer.Complete();
    }

    // Reads memory as fast as one core does.
    private static double Sum(float[] values)
    {
        Vector512<float> a = default, b = default, c = default, d = default;
        var vectors = MemoryMarshal.Cast<float, Vector512<float>>(values);
        for (var i = 0; i < vectors.Length; i += 4)
        {
            a += vectors[i];
            b += vectors[i + 1];
            c += vectors[i + 2];
            d += vectors[i + 3];
        }

        return Vector512.Sum(a + b + c + d);
    }

    private static double Seconds<T>(Func<T> action)
    {
        var start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static Result Milliseconds(string name, double[] seconds)
    {
        var median = Benchmarks.Turns.Median(seconds);
        return new Result(name, 1e3 * median, "ms", Runs: seconds.Length, Spread: (seconds.Max() - seconds.Min()) / median);
    }

    private static PythonPeer? StartPeer(string path, int width)
    {
        long offset;
        using (var reader = SafetensorsReader.Open(path)) offset = reader.Find("vectors")!.Offset;
        return PythonPeer.StartProgram("retrieval_numpy.py", "numpy", path, Text(offset), Text(Rows), Text(width), "10");

        static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
    }
}
