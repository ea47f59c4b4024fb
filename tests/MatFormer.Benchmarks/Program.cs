using MatFormer.Benchmarks;
using TorchSharp;

if (args is [MemoryBenchmark.Child, var dtype, var run])
{
    torch.set_num_threads(Environment.ProcessorCount);
    MemoryBenchmark.RunChild(dtype, run);
    return 0;
}

if (args is [DistributedBenchmark.Child, var objective, var folder])
{
    DistributedBenchmark.RunChild(objective, folder);
    return 0;
}

var json = args.Contains("--json");
var names = args.Where(a => !a.StartsWith('-')).ToList();
var known = new Dictionary<string, Func<IEnumerable<Result>>>(StringComparer.Ordinal)
{
    ["train"] = TrainBenchmark.Run,
    ["overhead"] = OverheadBenchmark.Run,
    ["compile"] = CompileBenchmark.Run,
    ["decode"] = DecodeBenchmark.Run,
    ["extract"] = ExtractBenchmark.Run,
    ["memory"] = MemoryBenchmark.Run,
    ["serve"] = ServeBenchmark.Run,
    ["distributed"] = DistributedBenchmark.Run,
    ["tokenizer"] = TokenizerBenchmark.Run,
    ["kernels"] = KernelsBenchmark.Run,
    ["retrieval"] = RetrievalBenchmark.Run,
    ["llama"] = LlamaBenchmark.Run,
};
if (names.Count != 1 || !known.TryGetValue(names[0], out var benchmark) || args.Any(a => a.StartsWith('-') && a != "--json"))
{
    var all = string.Join('|', known.Keys);
    Console.Error.WriteLine($"usage: dotnet run -c Release --project tests/MatFormer.Benchmarks -- {all} [--json]");
    return 2;
}

torch.set_num_threads(Environment.ProcessorCount);
var results = benchmark().ToList();
if (json) Report.Json(results);
else Report.Text(results);
return 0;
