using System.Globalization;
using System.Text;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Tests.Fuzzing;

/// <summary>
/// Draws a declaration from a seed. Each value is valid at first. With a probability that the seed gives, the grammar replaces the value by
/// any other text of about that type. A new attribute or property is a line in <see cref="Attributes"/>.
/// </summary>
internal sealed class Grammar
{
    private readonly Random _random;
    private readonly double _wildness;
    private readonly int[] _bits;

    private Grammar(int seed)
    {
        _random = new Random(seed);
        _wildness = _random.Next(10) switch { < 5 => 0, < 8 => 0.03, _ => 0.2 };

        // The bits of few seeds only, because they leave fewer widths.
        _bits = (seed % 16) switch { 3 => [8], 7 => [8, 4], 11 => [8, 4, 2], 15 => [8, 2], _ => [] };
    }

    /// <summary>Returns a file with one declaration. Its namespace is <c>F0</c>, <c>F1</c> and so on by the seed.</summary>
    public static string Declare(int seed) => new Grammar(seed).Declare(Invariant($"F{seed}"));

    private string Declare(string ns)
    {
        var text = new StringBuilder("using MatFormer;\n\nnamespace ").Append(ns).Append("\n{\n");
        var head = Pick("public sealed partial class", "public sealed partial class", "internal partial class", "partial class");
        if (IsWild()) head = Pick(s_heads);
        var (open, close) = IsWild() ? Pick(s_enclosing) : ("", "");
        text.Append(open).Append("/// <summary>A model.</summary>\n");
        foreach (var attribute in Attributes())
        {
            if (IsWild()) continue;
            text.Append('[').Append(attribute).Append("]\n");
            if (IsWild()) text.Append('[').Append(attribute).Append("]\n");
        }

        text.Append(head).Append(' ').Append(IsWild() ? Pick(s_classes) : "Model").Append(IsWild() ? Pick(s_tails) : ";");
        return text.Append('\n').Append(close).Append("}\n").ToString();
    }

    // The grammar, which has every attribute and property.
    private List<string> Attributes()
    {
        int layers = _random.Next(60) switch { 0 => 4096, < 3 => 200, < 6 => 48, _ => _random.Next(1, 7) };
        int keyValueHeads = _random.Next(1, 4), group = _random.Next(1, 4);
        int heads = keyValueHeads * group, headWidth = 2 * _random.Next(1, 9);
        int width = heads * headWidth, context = _random.Next(1, 300), vocabulary = _random.Next(1, 1000);
        var granularities = Granularities(layers, width, keyValueHeads, group, out var feedForwards);
        string[] names = [.. granularities.Names];
        var kind = Pick("MatLM", "MatLM", "MatViT", "MatEncoder");
        var isDecoder = kind == "MatLM";
        int patch = _random.Next(1, 5), image = patch * _random.Next(1, 6), embedding = kind == "MatViT" ? width : _random.Next(1, 100);
        var isCompressed = kind == "MatViT" && granularities.Narrow == 0 && _bits.Length == 0 && Flip();
        var attributes = new List<string> { ModelOf(kind) };
        if (IsWild()) attributes.Add(ModelOf(Pick("MatLM", "MatViT", "MatEncoder")));
        if (IsWild() || (!isDecoder && Flip())) attributes.Add(NestedEmbedding(embedding));
        attributes.AddRange(feedForwards);
        if (Flip())
        {
            attributes.Add(Of("Attention",
            [
                ("KeyValueHeads", Int(keyValueHeads)), .. Window(), ("HeadWidth", Int(headWidth)),
                ("RotaryBase?", Number(_random.Next(2, 20000))), ("QkNorm?", Bool()), .. Biases(),
            ]));

            // The heads of a granularity are whole groups of a layer with smaller groups too.
            foreach (var own in Apart(layers).Take(_random.Next(3)))
            {
                var arguments = new List<(string, string)>
                {
                    ("KeyValueHeads?", Int(Flip() ? keyValueHeads : heads)), ("Layers", Layers(own)),
                };
                arguments.AddRange(Window());
                if (IsWild())
                {
                    arguments.Add(
                        Pick(
                            ("HeadWidth", Int(headWidth)), ("RotaryBase", Number(100)), ("QkNorm", Bool()), ("Bias", Bool()),
                            ("OutputBias", Bool())));
                }

                attributes.Add(Of("Attention", [.. arguments]));
            }
        }
        else if (group > 1)
        {
            attributes.Add(Of("Attention", ("KeyValueHeads", Int(keyValueHeads))));
        }

        if (Flip()) attributes.Add(Of("Norm", ("?", Enum("NormKind", "Rms", "Layer")), ("Epsilon?", Number(1e-6))));
        var position = kind == "MatViT" ? "Learned" : "Rotary";
        if (Flip())
        {
            // Sines and cosines of two coordinates need a width that is a multiple of four.
            string[] fitting = kind != "MatViT" ? ["Rotary", "Learned"] : width % 4 == 0 ? ["Learned", "Sinusoidal"] : ["Learned"];
            position = Pick(IsWild() ? ["Rotary", "Learned", "Sinusoidal"] : fitting);
            attributes.Add(Of("Position", ("", Enum("PositionKind", position))));
        }

        if (IsWild() || (position == "Rotary" && Flip()))
        {
            var isLinear = Flip();
            (string, string)[] bounds =
            [
                ("OriginalContext", Int(_random.Next(1, 10_000))), ("LowFrequencyFactor?", Number(_random.Next(1, 4))),
                ("HighFrequencyFactor?", Number(_random.Next(4, 9))),
            ];
            attributes.Add(Of("RotaryScaling",
            [
                ("", Enum("RotaryScalingKind", isLinear ? "Linear" : "Llama3")), ("", Number(1.5 + _random.Next(64))),
                .. isLinear && !IsWild() ? [] : bounds,
            ]));
        }

        if (IsWild() || (isDecoder && Flip())) attributes.Add(Of("Embedding", ("Tied?", Bool())));
        if (_bits.Length > 0) attributes.Add(Of("Precision", [.. _bits.Select(bits => ("", Int(bits)))]));
        if (IsWild() || (!isCompressed && granularities.AreDistinct && Flip())) attributes.Add(Routing());
        if (IsWild() || isCompressed) attributes.Add(Lookup());

        // Budgets are above the size of the narrowest model and near the size of the whole model.
        long around = kind == "MatViT" ? (4 * patch * patch) + (image * image) + 100 : vocabulary + (isDecoder ? vocabulary : embedding);
        long elements = (width * (around + context + 4)) + embedding + 100, hidden = granularities.Widths[0].Max();
        elements += layers * width * ((4L * width) + (3 * hidden) + 20);
        elements += (long)(elements * _random.NextDouble());
        (string, string)[] Budgets()
        {
            var share = granularities.Share + ((1 - granularities.Share) * _random.NextDouble());
            List<(string, string)[]> all =
            [
                [("MaxParameters", Long(elements))],
                [("MaxNonEmbeddingParameters", Long(elements))],
                [(FlopBudget(), Long(Flops()))],
                [
                    ("MaxWeightBytes", Long(4 * elements)),
                    .. _bits.Length > 0 && Flip() ? Stored()
                        : [("WeightType?", Enum("WeightType", "Float32", "BFloat16", "Float16", "Int8"))],
                ],
                [("FeedForwardShare", Number(share))],
            ];
            return [.. Enumerable.Range(0, _random.Next(1, 3)).Select(_ => _random.Next(all.Count)).Distinct().SelectMany(i => all[i])];
        }

        var profiles = _random.Next(200) == 0 ? 100 : _random.Next(6);
        foreach (var name in Names().Concat(Enumerable.Range(0, 100).Select(i => Invariant($"P{i}"))).Except(names).Take(profiles))
        {
            // All layers of a profile have granularities of one width.
            var narrow = granularities.Narrow;
            var alike = narrow == 0 || IsWild() ? names : Flip() ? names[..narrow] : names[narrow..];
            var pattern = Flip() ? Runs(layers, alike) : Pattern(layers, alike);
            attributes.Add(_random.Next(6) switch
            {
                < 2 => Of("Profile", [("", Text(name)), ("", Text(pattern, WildPattern)), .. IsWild() ? Budgets() : Stored()]),
                2 when layers <= 48 => Of("Profile", [("", Text(name)), .. Widths()]),
                _ => Of("Profile", [("", Text(name)), .. Budgets()]),
            });
        }

        var mixes = granularities.Narrow > 0 ? (names.Length - 2) * layers : ((names.Length - 1) * layers) - 1;
        if (Flip() && mixes > 0)
        {
            var count = _random.Next(100) == 0 ? Math.Min(mixes, 256) : _random.Next(1, Math.Min(mixes, 12) + 1);
            attributes.Add(Of("ProfileGrid", ("", Int(count)), ("Prefix?", Text(Pick("Grid", "Size", "_")))));
        }

        // The attributes may have any order, except that granularities grow.
        var others = attributes.ToArray();
        _random.Shuffle(others);
        var at = _random.Next(others.Length + 1);
        List<string> ordered = [.. others[..at], .. granularities.Attributes, .. others[at..]];

        // This mistake is reported only where there is no other.
        if (_wildness == 0 && _random.Next(100) == 0)
            ordered.Add(Of("Profile", ("", Text("Nothing")), ("", Text(Invariant($"{layers}*Skip")))));
        return ordered;

        // Budgets are above the share that the narrowest granularity has of any layer.
        string Routing()
        {
            var least = Enumerable.Range(0, layers).Max(layer => (double)granularities.Widths[0][layer] / granularities.Widths[^1][layer]);
            var count = _random.Next(4);
            return Of("Routing", [
                .. Enumerable.Range(1, count).Select(i => ("", Number(least + ((1 - least) * i / count)))),
                ("Layers?", Layers(Apart(layers).First())),
            ]);
        }

        // The sides of the grids are at most that of the grid of patches.
        string Lookup()
        {
            var grids = new SortedSet<int>();
            for (var i = _random.Next(1, 4); i > 0; i--) grids.Add(_random.Next(1, (image / patch) + 1));
            return Of("Lookup", [.. grids.Select(grid => ("", Int(grid))), ("Hidden?", Int(_random.Next(1, 100)))]);
        }

        string ModelOf(string kind) => kind switch
        {
            "MatLM" => Of(kind, [.. Sizes(), .. Texts()]),
            "MatViT" => Of(kind, [
                ("Image", Int(image)), ("Patch", Int(patch)), ("Channels?", Int(_random.Next(1, 5))),
                ("Classes", Int(_random.Next(1, 100))), .. Sizes(), PoolingOf()]),
            _ => Of(kind, [
                .. Sizes(), .. Texts(), ("Embedding", Int(embedding)), PoolingOf(),
                ("Temperature?", Number(_random.NextDouble() + 0.01))]),
        };

        (string, string)[] Sizes() => [("Layers", Int(layers)), ("Width", Int(width)), ("Heads", Int(heads))];

        (string, string)[] Texts() => [("Context", Int(context)), ("Vocabulary", Int(vocabulary))];

        (string, string)[] Stored() => _bits.Length > 0 ? [("Bits?", Int(Pick(_bits)))] : IsWild() ? [("Bits", Int(4))] : [];

        (string, string) PoolingOf() => isCompressed && !IsWild() ? ("Pooling", "Pooling.Mean")
            : ("Pooling?", Enum("Pooling", "Mean", "ClassToken"));

        (string, string)[] Window() => isDecoder || IsWild() ? [("Window?", Int(_random.Next(1, context + 1)))] : [];

        (string, string)[] Biases() => Flip() ? [("Bias?", Bool())] : [("Bias", "true"), ("OutputBias?", Bool())];

        string FlopBudget() => IsWild() ? Pick("MaxFlopsPerToken", "MaxFlopsPerImage", "MaxFlopsPerText")
            : kind switch { "MatLM" => "MaxFlopsPerToken", "MatViT" => "MaxFlopsPerImage", _ => "MaxFlopsPerText" };

        long Flops()
        {
            long tokens = kind switch { "MatLM" => 1, "MatViT" => (image * image) + 1, _ => context + 1 };
            return tokens * ((2 * elements) + (8L * layers * width * (isDecoder ? context : tokens)));
        }

        IEnumerable<(string, string)> Widths() =>
            Enumerable.Range(0, layers).Select(layer => ("", Int(Pick([.. granularities.Widths.Select(w => w[layer])]))));
    }

    private string NestedEmbedding(int whole)
    {
        var dimensions = new SortedSet<int> { whole };
        for (var i = _random.Next(3); i > 0; i--) dimensions.Add(_random.Next(1, whole + 1));
        var weights = string.Join(", ", dimensions.Select(_ => Number(_random.Next(1, 9))));
        return Of(
            "NestedEmbedding",
            [.. dimensions.Select(d => ("", Int(d))), ("Weights?", Pick($"[{weights}]", $"new[] {{ {weights} }}"))]);
    }

    // The names, narrowest first, the width of each in each layer, the share of the narrowest, the attributes, and how many of the
    // granularities have a narrower residual stream.
    private sealed record Nested(IReadOnlyList<string> Names, int[][] Widths, double Share, IReadOnlyList<string> Attributes, int Narrow)
    {
        // True if no two granularities have the same width in any layer.
        public bool AreDistinct =>
            Widths[0].Select((_, layer) => Widths.Select(w => w[layer]).Distinct().Count()).All(n => n == Widths.Length);
    }

    private Nested Granularities(int layers, int width, int keyValueHeads, int group, out List<string> feedForwards)
    {
        var sorted = new SortedSet<int>();
        for (var count = _random.Next(2, 6); sorted.Count < count;) sorted.Add(Drawn(1, _bits.Length == 0 ? 100 : 400));
        int[] widths = [.. sorted];
        string[] names = [.. Names().Take(widths.Length)];
        var isElastic = Flip() && _bits.Length == 0;
        int Kept(int i) => group * Math.Max(1, keyValueHeads * (i + 1) / widths.Length);

        // Some granularities differ in heads alone, so their width names neither.
        if (isElastic && widths.Length > 2 && _random.Next(4) == 0 && Kept(0) < Kept(1)) widths[1] = widths[0];

        var narrow = width > 1 && _bits.Length == 0 && _random.Next(4) == 0 ? _random.Next(1, widths.Length) : 0;
        var stream = _random.Next(1, Math.Max(2, width));
        var hidden = widths[^1];
        var table = widths.Select(width => Enumerable.Repeat(width, layers).ToArray()).ToArray();
        feedForwards = [FeedForward(hidden)];
        var uneven = Apart(layers).Take(_random.Next(4) - 1).ToList();
        foreach (var own in uneven)
        {
            var other = _random.Next(widths[^2] + 1, hidden + 50);
            feedForwards.Add(FeedForward(other, ("Layers", Layers(own))));
            foreach (var layer in own) table[^1][layer] = other;
        }

        var attributes = new List<string>();
        for (var i = 0; i < widths.Length; i++)
        {
            var isLast = i == widths.Length - 1;
            List<(string, string)> kept = isElastic ? [("Heads" + (isLast ? "?" : ""), Int(Kept(i)))] : [];
            if (i < narrow || IsWild()) kept.Add(("Width", Int(stream)));
            else if (narrow > 0) kept.Add(("Width?", Int(width)));
            var isFraction = Flip() && (isLast || (uneven.Count == 0 && widths[i] * 8 % hidden == 0));
            attributes.Add(Of(
                "Granularity", [("", Text(names[i])), ("", isFraction ? Number((double)widths[i] / hidden) : Int(widths[i])), .. kept]));
            if (!isFraction && isLast)
            {
                foreach (var own in uneven) AddFor(own, table[i][own[0]]);
            }
            else if (!isLast && widths[i] < widths[i + 1] && _random.Next(3) == 0)
            {
                var own = Apart(layers).First();
                var other = Drawn(widths[i], Math.Min(widths[i + 1], own.Min(layer => table[^1][layer])));
                foreach (var layer in own) table[i][layer] = other;
                AddFor(own, other);
            }

            void AddFor(int[] own, int width) =>
                attributes.Add(Of("Granularity", [("", Text(names[i])), ("", Int(width)), .. kept, ("Layers", Layers(own))]));
        }

        return new Nested(names, table, (double)table[0].Sum() / table[^1].Sum(), attributes, narrow);

        // With bits, a granularity keeps whole groups of 32 hidden units.
        int Drawn(int least, int end) =>
            _bits.Length == 0
                ? _random.Next(least, end)
                : 32 * _random.Next((least + 31) / 32, Math.Max((least + 31) / 32, (end - 1) / 32) + 1);

        string FeedForward(int width, params (string, string)[] more) => Of(
            "FeedForward",
            [("", Int(width)), ("", Enum("Activation", "Gelu", "SquaredRelu", "SwiGlu", "GeGlu")), ("Bias?", Bool()), .. more]);
    }

    // One or more sets of layers that have no layer in common.
    private IEnumerable<int[]> Apart(int layers)
    {
        for (var next = 0; next < layers;)
        {
            var first = _random.Next(next, layers);
            next = _random.Next(first, layers) + 1;
            yield return [.. Enumerable.Range(first, next - first).Where(layer => layer == first || layers > 48 || _random.Next(4) > 0)];
        }
    }

    // Layers that follow each other become a range.
    private string Layers(int[] layers)
    {
        var ranges = new List<string>();
        for (var start = 0; start < layers.Length;)
        {
            var end = start + 1;
            while (end < layers.Length && layers[end] == layers[end - 1] + 1) end++;
            ranges.Add(end == start + 1 ? Plain(layers[start]) : Plain(layers[start]) + Pick("-", " - ") + Plain(layers[end - 1]));
            start = end;
        }

        return Text(string.Join(Pick(",", ", "), ranges), WildLayers);
    }

    private string Pattern(int layers, string[] names)
    {
        var kept = _random.Next(layers);
        var skips = _random.Next(3) == 0;
        return string.Join(" ", Enumerable.Range(0, layers)
            .Select(layer => skips && layer != kept && _random.Next(4) == 0 ? "Skip" : Pick(names)));
    }

    private string Runs(int layers, string[] names)
    {
        var first = _random.Next(layers + 1);
        return first == 0 || first == layers
            ? Invariant($"{layers}*{Pick(names)}")
            : Invariant($"{first}*{Pick([.. names, "Skip"])} {layers - first}*{Pick(names)}");
    }

    // A name that ends in a question mark is of an optional argument. An argument without a name is positional.
    private string Of(string attribute, params (string Name, string Value)[] arguments)
    {
        var kept = arguments.Where(a => a.Name.EndsWith('?') ? Flip() : !IsWild()).ToList();
        if (kept.Count > 1 && IsWild()) kept.Add(kept[_random.Next(kept.Count)]);
        return attribute + "(" + string.Join(", ", kept.Select(Write)) + ")";

        static string Write((string Name, string Value) argument) =>
            argument.Name.TrimEnd('?') is { Length: > 0 } name ? name + " = " + argument.Value : argument.Value;
    }

    private string Int(int valid) => !IsWild() ? Plain(valid) : Pick(
        "0", "-1", "1", "2", "3", "7", "'a'", "int.MinValue", "int.MaxValue", "4096", "4097", "1 << 20", "(1 << 20) + 1", "1 << 24",
        "1000 * 1000", "256", "257",
        "unchecked(int.MaxValue + 1)", "int.MaxValue + 1", "default", "1.5", "\"3\"", "null", "-" + Plain(valid),
        Plain(valid + 1), Plain(valid * 2), Plain(_random.Next()), Plain(_random.Next(200)));

    private string Long(long valid) => !IsWild() ? Invariant($"{valid}") : Pick(
        "0", "-1", "1", "long.MaxValue", "long.MinValue", "-" + Plain(valid), Plain(valid / 10),
        Plain(valid / 100), "1e9", "ulong.MaxValue", "1L << 40", "int.MaxValue", Plain(_random.Next(100_000)),
        Plain(_random.Next()));

    private string Number(double valid) => !IsWild() ? valid.ToString("R", CultureInfo.InvariantCulture) + "d" : Pick(
        "0.0", "-0.0", "1.0", "-1.5", "double.NaN", "double.PositiveInfinity", "double.NegativeInfinity", "double.Epsilon",
        "double.MaxValue", "1e-300", "1.0 / 3", "0.1 + 0.2", "0.1f", "1", "'x'", "1m", "0.0 / 0",
        _random.NextDouble().ToString("R", CultureInfo.InvariantCulture));

    private string Bool() => !IsWild() ? Pick("true", "false") : Pick("1 == 1", "!true", "0", "null", "default");

    private string Enum(string type, params string[] valid) => !IsWild() ? type + "." + Pick(valid) : Pick(
        "(" + type + ")99", "(" + type + ")(-1)", "default", "0", "1", type + ".None", "(" + type + ")int.MaxValue", "null",
        type + "." + valid[0] + " | " + type + "." + valid[^1]);

    private string Text(string valid, Func<string, string>? wild = null)
    {
        var value = valid;
        if (IsWild()) value = wild is not null && Flip() ? wild(valid) : WildText(valid);
        if (IsWild())
        {
            return Pick(
                "null", "(string)null", "default", "nameof(Model)", "\"a\" + \"b\"", "3", "typeof(int)", "\"\"\"\n  S\n  \"\"\"");
        }

        var literal = SymbolDisplay.FormatLiteral(value, quote: true);
        return Pick(0, 1, 2, 3, 4, 5, 6, 7) switch
        {
            // In these the places within the value are not the places within the source.
            0 => "\"" + string.Concat(value.Select(c => Invariant($"\\u{(int)c:x4}"))) + "\"",
            1 when !value.Any(char.IsSurrogate) => "@\"" + value.Replace("\"", "\"\"", StringComparison.Ordinal) + "\"",
            2 => literal + " + \"\"",
            _ => literal,
        };
    }

    private string WildText(string valid) => Pick(
        "", " ", valid + " ", " " + valid, valid + valid, valid.ToUpperInvariant(), valid.ToLowerInvariant(), "_", "0", "4X", "a b", "a.b",
        "a-b", "class", "async", "record", "file", "var", "nameof", "@S", "__arglist", "Profile", "Forward", "Model", "Tensor", "Device",
        "ToString", "Equals", "Dispose", "Extract", "Spec", "forward", "_network", "Finalize", "MemberwiseClone", "GetType", "get_Spec",
        "op_Implicit", "Skip", "Grid1",
        "\u00DCber", "\u5927", "\u0130stanbul", "a\u200Db", "e\u0301", "\u2028", "\uFEFF", "\u202E", "\uD83D\uDE00",
        "\uD800", "\uDC00x", "\uE000", "\uE001", "\0", "\u0001", "\r\n", "\n", "\t", "\\", "\"", "\"\"\"", "'", "{0}", "{", "}", "<", "&",
        "*/", "//", "//|", "[Generated]", "/// <summary>", "#if", "$", "%", "../x", "a/b", "a\\b", "CON", "nul.txt", "a:b",
        new string('x', 600), new string('x', 20_000), new string('\u5927', 700), Random(1 + _random.Next(40)),
        Random(1 + _random.Next(40)), Random(1 + _random.Next(40)), Random(1 + _random.Next(40)));

    private string WildPattern(string valid)
    {
        var text = new StringBuilder();
        for (var parts = _random.Next(8); parts >= 0; parts--)
        {
            text.Append(Pick(
                valid, "1*", "2*S", "0*S", "-1*S", "+1*S", "99999999999*S", "2147483647*S", "18446744073709551617*S", "*", "**", "*S", "S*",
                "S*2", "S", "Skip", "2*Skip", "1000000*Skip", "1000000*S",
                "skip", "(2*S)", ",", ";", "+", "|", "\t", "\n", "\u3000", "\u00A0", "\u0661*S", "1e1*S",
                "0x2*S", "2 * S", "2*S*S", "\0", WildText("S")));
            if (Flip()) text.Append(' ');
        }

        return text.ToString();
    }

    private string WildLayers(string valid) => Pick(
        "", " ", ",", "-", "0", "1", "0-1", "1-0", "0,0", "0-1,1", "0-0", "-1", "--1", "-1-0", "0-", "0--1", "0,", ",0", "0-1-2", "0..3",
        "0;1", "*", "all", "+1", "0x0", "1e0", "\u0660", "\u3000" + "0", "0-4095", "0-999999", "0-2147483647", "2147483648",
        "0-99999999999999999999", valid + "," + valid, "0-5," + valid, string.Join(",", Enumerable.Repeat("0", 5000)),
        string.Join(",", Enumerable.Range(0, 5000)), new string('0', 5000), Random(1 + _random.Next(40)));

    private string Random(int length) => string.Concat(Enumerable.Range(0, length).Select(_ => (char)(_random.Next(3) switch
    {
        0 => _random.Next(32, 127),
        1 => _random.Next(0, 0x250),
        _ => _random.Next(0, 0x10000),
    })));

    // Valid names, each once.
    private IEnumerable<string> Names()
    {
        string[] names = ["S", "M", "L", "XL", "Tiny", "Phone", "Laptop", "Watch", "x1", "_a", "Gr\u00F6\u00DFe", "\u5C0F", "Server", "W"];
        _random.Shuffle(names);
        return names;
    }

    private static readonly string[] s_heads =
    [
        "public class", "public abstract partial class", "public static partial class", "partial record",
        "public sealed partial record class", "partial struct", "partial interface", "file sealed partial class", "sealed partial class",
        "public unsafe partial class", "protected partial class", "private partial class", "public partial partial class",
    ];

    private static readonly (string Open, string Close)[] s_enclosing =
    [
        ("public static partial class Outer {\n", "}\n"), ("public partial struct Outer { public partial record Inner {\n", "} }\n"),
        ("public class Outer {\n", "}\n"), ("public partial class Outer<T> {\n", "}\n"), ("public partial interface IOuter {\n", "}\n"),
        ("namespace Tensor {\n", "}\n"), ("namespace @class {\n", "}\n"), ("public class Tensor { }\npublic class Device { }\n", ""),
        ("namespace MatFormer { }\n", ""), ("namespace System { }\n", ""), ("public enum ScalarType { }\nnamespace Kernels { }\n", ""),
        ("public partial class Model { private int S; public int Phone() => S; }\n", ""),
    ];

    private static readonly string[] s_classes =
    [
        "@class", "@async", "Tensor", "Device", "Parameter", "Block", "Profile", "Module", "Weights", "ModelSpec", "\u00DCber", "_",
        "model", "S", "Phone", "MatFormer", "MatLM", "System", "Kernels", "record", "F", "x\u200Dy", "Model<T>", "",
    ];

    private static readonly string[] s_tails =
    [
        " { }", " { private int Phone => 3; }", " { public void S() { } }", " { public class XL { } }", " : System.Exception;",
        " : System.IDisposable { }", " : MatFormer.MatFormerModel;", " : object;", " { public Model(int x) : this(null) { } }", "() { }",
        " { private Model(string x, int y) : base(x) { } }", " { public override string ToString() => \"\"; }",
        " { public static int Spec; }", " { public sealed class Tensor { } }", "<T>;", " where T : class;", " { ~Model() { } }",
        " { protected override void Dispose(bool disposing) { } }", " { int Layers; }", "",
    ];

    private bool IsWild() => _wildness > 0 && _random.NextDouble() < _wildness;

    private bool Flip() => _random.Next(2) == 0;

    private T Pick<T>(params T[] choices) => choices[_random.Next(choices.Length)];

    private static string Plain(long number) => Invariant($"{number}");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
