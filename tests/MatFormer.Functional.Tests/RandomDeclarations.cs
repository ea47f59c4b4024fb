using System.Globalization;
using System.Reflection;
using System.Text;
using MatFormer.Generators;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Functional.Tests;

/// <summary>Draws random declarations from a seed, compiles them with the generator, and loads the models.</summary>
internal static class RandomDeclarations
{
    public static IReadOnlyList<Type> Compile(int count, int seed, bool decodersOnly = false)
    {
        // The JIT compiles each model's code anew, so a second run, with TorchSharp's operations, draws fewer.
        if (!Kernels.Cpu.IsEnabled) count = (count + 2) / 3;
        var random = new Random(seed);
        var source = new StringBuilder("using MatFormer;\nnamespace Drawn;\n");
        for (var i = 0; i < count; i++)
            source.Append(Declare(random, string.Create(CultureInfo.InvariantCulture, $"Drawn{i}"), decodersOnly ? 0 : i % 3));
        var assembly = Compile(source.ToString());
        return [.. Enumerable.Range(0, count)
            .Select(i => assembly.GetType(string.Create(CultureInfo.InvariantCulture, $"Drawn.Drawn{i}"), throwOnError: true)!)];
    }

    /// <summary>Compiles declarations and asserts that there is no warning.</summary>
    public static Assembly Compile(string source)
    {
        var references = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!)
            .Split(Path.PathSeparator)
            .Select(path => MetadataReference.CreateFromFile(path));
        var parse = CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.Latest);
        var compilation = CSharpCompilation.Create(
            "Drawn",
            [CSharpSyntaxTree.ParseText(source, parse)],
            references,
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, nullableContextOptions: NullableContextOptions.Enable));
        CSharpGeneratorDriver.Create([new MatFormerGenerator().AsSourceGenerator()], parseOptions: parse)
            .RunGeneratorsAndUpdateCompilation(compilation, out var generated, out var diagnostics);

        using var image = new MemoryStream();
        var result = generated.Emit(image);
        var problems = diagnostics.Concat(result.Diagnostics).Where(d => d.Severity >= DiagnosticSeverity.Warning).Take(10).ToList();
        Assert.True(result.Success && problems.Count == 0, string.Join("\n", problems) + "\n" + source);
        return Assembly.Load(image.ToArray());
    }

    // A third each are decoders, vision transformers and text encoders.
    private static string Declare(Random random, string name, int kind)
    {
        var text = new StringBuilder();
        int layers = random.Next(1, 5), keyValueHeads = random.Next(1, 4), heads = keyValueHeads * random.Next(1, 4);
        var headWidth = 2 * random.Next(1, 9);
        var width = heads * headWidth;
        var pooling = ", Pooling = Pooling." + Pick(random, "Mean", "ClassToken");
        text.Append(CultureInfo.InvariantCulture,
            $"[{(kind == 0 ? "MatLM" : kind == 1 ? "MatViT" : "MatEncoder")}(Layers = {layers}, Width = {width}, Heads = {heads}, ");
        var patch = random.Next(1, 4);
        var embedding = kind == 1 ? width : random.Next(2, 40);
        var side = kind == 1 ? random.Next(1, 6) : 0;
        if (kind == 1)
        {
            text.Append(CultureInfo.InvariantCulture,
                $"Image = {patch * side}, Patch = {patch}, Channels = {random.Next(1, 4)}, Classes = {random.Next(2, 9)}");
        }
        else
        {
            text.Append(CultureInfo.InvariantCulture, $"Context = {random.Next(4, 33)}, Vocabulary = {random.Next(3, 90)}");
            if (kind == 2) text.Append(CultureInfo.InvariantCulture, $", Embedding = {embedding}, Temperature = 0.{random.Next(1, 9)}");
        }

        text.Append(kind == 0 ? ")]\n" : pooling + ")]\n");
        if (kind > 0 && Flip(random))
            text.Append(
                CultureInfo.InvariantCulture, $"[NestedEmbedding({(embedding > 1 ? $"{random.Next(1, embedding)}, " : "")}{embedding})]\n");

        // The widths increase strictly, and some are odd.
        var widths = new SortedSet<int>();
        while (widths.Count < random.Next(2, 6)) widths.Add(random.Next(1, 100));
        text.Append(CultureInfo.InvariantCulture, $"[FeedForward({widths.Max}, {FeedForward(random)})]\n");
        text.Append(CultureInfo.InvariantCulture, $"[Attention(KeyValueHeads = {keyValueHeads}, RotaryBase = {random.Next(100, 20000)}");
        text.Append(Pick(random, ", Bias = true", ", Bias = true, OutputBias = false", "", ""));
        text.Append(Flip(random) ? ", QkNorm = true)]\n" : ")]\n");
        if (Flip(random)) text.Append(
            CultureInfo.InvariantCulture, $"[Norm(NormKind.{Pick(random, "Rms", "Layer")}, Epsilon = 1e-{random.Next(4, 8)})]\n");
        var position = Flip(random)
            ? Pick(random, kind == 1 && width % 4 == 0 ? "Sinusoidal" : kind == 1 ? "Learned" : "Rotary", "Learned") : null;
        if (position is not null) text.Append(CultureInfo.InvariantCulture, $"[Position(PositionKind.{position})]\n");
        if (kind != 1 && position != "Learned" && Flip(random))
            text.Append(CultureInfo.InvariantCulture,
                $"[RotaryScaling(RotaryScalingKind.{Pick(random, "Linear, 2.5", "Llama3, 8, OriginalContext = 40")})]\n");
        if (kind == 0 && Flip(random))
            text.Append(CultureInfo.InvariantCulture, $"[Embedding(Tied = {(Flip(random) ? "true" : "false")})]\n");

        // About every second declaration has different layers, granularities with fewer heads, or profiles that skip layers.
        var own = random.Next(layers);
        var widening = random.Next(3);
        var differs = Flip(random);
        if (differs)
            text.Append(
                CultureInfo.InvariantCulture, $"[FeedForward({widths.Max + widening}, {FeedForward(random)}, Layers = \"{own}\")]\n");

        var window = kind == 0 ? ", Window = 3" : "";
        if (Flip(random))
            text.Append(CultureInfo.InvariantCulture, $"[Attention(KeyValueHeads = {heads}{window}, Layers = \"{own}-{layers - 1}\")]\n");
        var group = heads / keyValueHeads;
        var elastic = Flip(random);
        var granularities = widths.Select((width, i) => (Name: string.Create(CultureInfo.InvariantCulture, $"G{i}"), Width: width))
            .ToList();
        var isWhole = Flip(random);

        // About every third declaration has granularities with a narrower residual stream. Other draws do not depend on it.
        var narrow = new Random((width * 131) + (layers * 17) + widths.Max);
        var cut = width > 1 && narrow.Next(3) == 0 ? narrow.Next(1, granularities.Count) : 0;
        var stream = string.Create(CultureInfo.InvariantCulture, $", Width = {narrow.Next(1, Math.Max(2, width))}");
        for (var i = 0; i < granularities.Count; i++)
        {
            var kept = group * Math.Max(1, keyValueHeads * (i + 1) / granularities.Count);
            var head = elastic ? string.Create(CultureInfo.InvariantCulture, $", Heads = {kept}") : "";
            var size = isWhole && i == granularities.Count - 1 ? "1.0" : granularities[i].Width.ToString(CultureInfo.InvariantCulture);
            text.Append(
                CultureInfo.InvariantCulture, $"[Granularity(\"{granularities[i].Name}\", {size}{head}{(i < cut ? stream : "")})]\n");

            // In one layer, the first granularity may be one unit narrower than the next one.
            if (i == 0 && Flip(random))
                text.Append(
                    CultureInfo.InvariantCulture, $"[Granularity(\"G0\", {granularities[1].Width - 1}{head}, Layers = \"{own}\")]\n");
        }

        if (differs && !isWhole)
            text.Append(
                CultureInfo.InvariantCulture, $"[Granularity(\"G{widths.Count - 1}\", {widths.Max + widening}, Layers = \"{own}\")]\n");

        // Every vision transformer without a class token, with an odd number of layers and one residual stream has compressed tokens.
        if (kind == 1 && layers % 2 == 1 && cut == 0 && pooling.EndsWith("Mean", StringComparison.Ordinal))
            text.Append(CultureInfo.InvariantCulture, $"[Lookup({(narrow.Next(2) == 0 || side < 3 ? "" : $"{side / 2}, ")}{side})]\n");

        // Every model with an even number of layers routes the tokens of the last ones.
        if (layers % 2 == 0)
            text.Append(CultureInfo.InvariantCulture, $"[Routing(0.99d, Layers = \"{layers / 2}-{layers - 1}\")]\n");
        var skips = layers > 1 && Flip(random);
        for (var profile = 0; profile < 2; profile++)
        {
            var left = skips ? random.Next(layers) : -1;
            var pattern = string.Join(' ', Enumerable.Range(0, layers)
                .Select(layer => layer == left ? "Skip" : granularities[Mixable(random.Next(granularities.Count))].Name));
            text.Append(CultureInfo.InvariantCulture, $"[Profile(\"P{profile}\", \"{pattern}\")]\n");
        }

        // The compiler solves this profile. The narrowest model meets its share.
        var least = (widths.Max * (layers - 1) + granularities[1].Width) / (double)(widths.Max * layers);
        if (Flip(random)) text.Append(CultureInfo.InvariantCulture, $"[Profile(\"Solved\", FeedForwardShare = {least:R}d)]\n");
        var mixes = cut > 0 ? 0 : ((granularities.Count - 1) * layers) - 1;
        if (mixes > 0 && Flip(random)) text.Append(CultureInfo.InvariantCulture, $"[ProfileGrid({Math.Min(mixes, 2)}, Prefix = \"Q\")]\n");
        return text.Append(CultureInfo.InvariantCulture, $"public sealed partial class {name};\n").ToString();

        // Profiles have granularities of one width, here of the wider one.
        int Mixable(int drawn) => cut + (drawn % (granularities.Count - cut));
    }

    private static string FeedForward(Random random) =>
        "Activation." + Pick(random, "Gelu", "SquaredRelu", "SwiGlu", "GeGlu") + (Flip(random) ? ", Bias = true" : "");

    private static bool Flip(Random random) => random.Next(2) == 0;

    private static string Pick(Random random, params string[] choices) => choices[random.Next(choices.Length)];
}
