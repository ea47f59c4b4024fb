using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using MatFormer.Generators;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures the generator in an editor and in a build: runs of Roslyn's driver over a project of 1, 10 or 100 models, each with 48 layers
/// and 20 profiles in its own file. The compiler's own work (parsing, and compiling the generated code) is not measured.
/// </summary>
internal static class CompileBenchmark
{
    private const int Profiles = 20;
    private const int FilesPerModel = 7;
    private const int Runs = 9;
    private const int Edits = 60;

    private static readonly int[] s_counts = [1, 10, 100];

    private static readonly ImmutableArray<MetadataReference> s_references =
    [
        .. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!)
            .Split(Path.PathSeparator)
            .Select(path => MetadataReference.CreateFromFile(path)),
    ];

    public static IEnumerable<Result> Run()
    {
        var first = Milliseconds(() => Cold(1, 0));
        yield return new Result("compile.cold.first_ms", first, "ms"); // only this figure includes the work of the JIT
        for (var warm = 0; warm < 100; warm++) Cold(10, 0);

        var cold = s_counts.ToDictionary(count => count, _ => new double[Runs]);
        for (var run = 0; run < Runs; run++)
            foreach (var count in s_counts) cold[count][run] = Cold(count, run);
        var medians = cold.ToDictionary(times => times.Key, times => Turns.Median(times.Value));
        foreach (var (count, times) in cold)
            yield return Figure($"compile.cold.ms_per_model.at_{Text(count)}", [.. times.Select(time => time / count)]);

        // The time that each model after the first adds.
        yield return new Result("compile.cold.ms_per_model", (medians[100] - medians[1]) / 99, "ms", Runs: Runs);

        var unrelated = s_counts.ToDictionary(count => count, count => Edited(count, Project.EditUnrelated));
        var related = s_counts.ToDictionary(count => count, count => Edited(count, Project.EditModel));
        foreach (var (name, times) in ((string, Dictionary<int, double[]>)[])[("unrelated", unrelated), ("one_model", related)])
        {
            foreach (var count in s_counts) yield return Figure($"compile.edit.{name}_ms.at_{Text(count)}", times[count]);
            yield return Figure($"compile.edit.{name}_ms", times[100]);
        }
    }

    // Returns the milliseconds of the first run of a driver.
    private static double Cold(int models, int edit)
    {
        var project = new Project(models, edit);
        return Milliseconds(project.Generate);
    }

    // Returns the milliseconds of the run after each edit.
    private static double[] Edited(int models, Action<Project, int> edit)
    {
        var project = new Project(models, 0);
        project.Generate();
        var times = new double[Edits];
        for (var i = -10; i < Edits; i++)
        {
            edit(project, i);
            var time = Milliseconds(project.Generate);
            if (i >= 0) times[i] = time;
        }

        return times;
    }

    private static double Milliseconds(Action action)
    {
        var start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private static Result Figure(string name, double[] times)
    {
        var sorted = times.Order().ToArray();
        var median = Turns.Median(times);

        // The spread is the range between the quartiles, because the garbage collector slows single runs.
        var spread = sorted[sorted.Length * 3 / 4] - sorted[sorted.Length / 4];
        return new Result(name, median, "ms", Runs: times.Length, Spread: spread / median);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>A project in an editor: the declarations, an unrelated file, and the driver with its cache.</summary>
    private sealed class Project
    {
        private static readonly CSharpParseOptions s_options = CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.Latest);

        private readonly int _models;
        private GeneratorDriver _driver;
        private CSharpCompilation _compilation;

        public Project(int models, int edit)
        {
            _models = models;
            _driver = CSharpGeneratorDriver.Create([new MatFormerGenerator().AsSourceGenerator()], parseOptions: s_options);
            _compilation = CSharpCompilation.Create(
                "Declared",
                Enumerable.Range(0, models).Select(i => Parse($"Model{Text(i)}.cs", Model(i, edit))).Append(Parse("Other.cs", Other(edit))),
                s_references,
                new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, nullableContextOptions: NullableContextOptions.Enable));
        }

        public static void EditUnrelated(Project project, int edit) => project.Replace(project._models, Other(edit));

        public static void EditModel(Project project, int edit) => project.Replace(project._models / 2, Model(project._models / 2, edit));

        public void Generate()
        {
            _driver = _driver.RunGenerators(_compilation);
            var result = _driver.GetRunResult();
            var expected = (_models * FilesPerModel) + 1; // one file is common to all models
            if (result.Diagnostics.Length == 0 && result.GeneratedTrees.Length == expected) return;
            var found = string.Join("\n", result.Diagnostics.Take(5));
            throw new InvalidOperationException(
                $"compile: {_models} models gave {result.GeneratedTrees.Length} files instead of {expected}. {found}");
        }

        private static SyntaxTree Parse(string path, string text) => CSharpSyntaxTree.ParseText(text, s_options, path);

        private static string Other(int edit) => $$"""
            namespace Project;

            internal static class Other
            {
                public static int Answer() => {{Text(42 + Math.Abs(edit))}};
            }
            """;

        private static string Model(int index, int edit)
        {
            var profiles = Enumerable.Range(0, Profiles).Select(i => i % 4 == 3
                ? $"[Profile(\"P{Text(i)}\", MaxParameters = {Text(200_000_000 + (i * 10_000_000))})]"
                : $"[Profile(\"P{Text(i)}\", \"{Text(24 - i)}*S {Text(4 + i)}*M 12*L 8*XL\")]");
            return $$"""
                using MatFormer;

                namespace Project.Models;

                /// <summary>Model {{Text(index)}}.</summary>
                [MatLM(Layers = 48, Width = 768, Heads = 12, Context = {{Text(1024 + Math.Abs(edit))}}, Vocabulary = 32_000)]
                [FeedForward(3072, Activation.SwiGlu)]
                [Granularity("S", 384), Granularity("M", 768), Granularity("L", 1536), Granularity("XL", 3072)]
                {{string.Join("\n", profiles)}}
                public sealed partial class Model{{Text(index)}};
                """;
        }

        private void Replace(int tree, string text)
        {
            var old = _compilation.SyntaxTrees[tree];
            _compilation = _compilation.ReplaceSyntaxTree(old, Parse(old.FilePath, text));
        }
    }
}
