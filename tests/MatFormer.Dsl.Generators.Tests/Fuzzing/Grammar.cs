using System.Globalization;
using System.Text;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Tests.Fuzzing;

/// <summary>
/// Draws declarations from a seed. Each value is first drawn as a valid one; then, as often as the declaration is wild, anything of its
/// type stands there instead. A new attribute, or a property of one, is a line in <see cref="Attributes"/>.
/// </summary>
internal sealed class Grammar
{
    private readonly Random _random;
    private readonly double _wildness;

    private Grammar(int seed)
    {
        _random = new Random(seed);
        _wildness = _random.Next(10) switch { < 5 => 0, < 8 => 0.03, _ => 0.2 };
    }

    /// <summary>A file with one declaration in a namespace of its own, <c>F0</c>, <c>F1</c>...</summary>
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

    // The grammar: every attribute and property that there is.
    private List<string> Attributes()
    {
        int layers = _random.Next(20) switch { 0 => 48, 1 => 200, _ => _random.Next(1, 7) };
        int keyValueHeads = _random.Next(1, 4), heads = keyValueHeads * _random.Next(1, 4), headWidth = 2 * _random.Next(1, 9);
        var widths = new SortedSet<int>();
        for (var granularities = _random.Next(2, 6); widths.Count < granularities;) widths.Add(_random.Next(1, 100));
        var hidden = widths.Max;
        string[] names = [.. Names().Take(widths.Count)];
        string Pattern() => string.Join(" ", Enumerable.Range(0, layers).Select(_ => Pick(names)));
        string Runs()
        {
            var first = _random.Next(layers + 1);
            return first == 0 || first == layers
                ? Invariant($"{layers}*{Pick(names)}")
                : Invariant($"{first}*{Pick(names)} {layers - first}*{Pick(names)}");
        }

        var attributes = new List<string>
        {
            Of("MatLM",
                ("Layers", Int(layers)), ("Width", Int(heads * headWidth)), ("Heads", Int(heads)), ("Context", Int(_random.Next(1, 300))),
                ("Vocabulary", Int(_random.Next(1, 1000)))),
            Of("FeedForward", ("", Int(hidden)), ("", Enum("Activation", "Gelu", "SquaredRelu", "SwiGlu", "GeGlu")), ("Bias?", Bool())),
        };
        attributes.AddRange(widths.Select((width, i) => Flip() || width * 8 % hidden != 0
            ? Of("Granularity", ("", Text(names[i])), ("", Int(width)))
            : Of("Granularity", ("", Text(names[i])), ("", Number((double)width / hidden)))));
        if (Flip())
        {
            attributes.Add(Of("Attention",
                ("KeyValueHeads", Int(keyValueHeads)), ("HeadWidth", Int(headWidth)), ("RotaryBase?", Number(_random.Next(2, 20000))),
                ("QkNorm?", Bool())));
        }

        if (Flip()) attributes.Add(Of("Norm", ("?", Enum("NormKind", "Rms", "Layer")), ("Epsilon?", Number(1e-6))));
        if (Flip()) attributes.Add(Of("Position", ("", Enum("PositionKind", "Rotary", "Learned"))));
        if (Flip()) attributes.Add(Of("Embedding", ("Tied?", Bool())));
        foreach (var name in Names().Where(name => !names.Contains(name)).Take(_random.Next(6)))
        {
            attributes.Add(_random.Next(4) switch
            {
                0 => Of("Profile", ("", Text(name)), ("", Text(Runs(), isPattern: true))),
                1 => Of("Profile", ("", Text(name)), ("", Text(Pattern(), isPattern: true))),
                2 => Of("Profile", [("", Text(name)), .. Enumerable.Range(0, layers).Select(_ => ("", Int(Pick([.. widths]))))]),
                _ => Of("Profile", ("", Text(name)), ("MaxParameters", Long(100_000_000))),
            });
        }

        // Attributes stand in any order, except that granularities grow.
        var granularity = attributes.Where(a => a.StartsWith("Granularity", StringComparison.Ordinal)).ToList();
        var others = attributes.Except(granularity).ToArray();
        _random.Shuffle(others);
        var at = _random.Next(others.Length + 1);
        return [.. others[..at], .. granularity, .. others[at..]];
    }

    // Ending in a question mark, a name is of an argument that may be left out; without a name, an argument stands by its place.
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
        "1000 * 1000", "unchecked(int.MaxValue + 1)", "int.MaxValue + 1", "default", "1.5", "\"3\"", "null", "-" + Plain(valid),
        Plain(valid + 1), Plain(valid * 2), Plain(_random.Next()), Plain(_random.Next(200)));

    private string Long(long valid) => !IsWild() ? Invariant($"{valid}") : Pick(
        "0", "-1", "1", "long.MaxValue", "long.MinValue", "1e9", "ulong.MaxValue", "1L << 40", "int.MaxValue", Plain(_random.Next(100_000)),
        Plain(_random.Next()));

    private string Number(double valid) => !IsWild() ? valid.ToString("R", CultureInfo.InvariantCulture) + "d" : Pick(
        "0.0", "-0.0", "1.0", "-1.5", "double.NaN", "double.PositiveInfinity", "double.NegativeInfinity", "double.Epsilon",
        "double.MaxValue", "1e-300", "1.0 / 3", "0.1 + 0.2", "0.1f", "1", "'x'", "1m", "0.0 / 0",
        _random.NextDouble().ToString("R", CultureInfo.InvariantCulture));

    private string Bool() => !IsWild() ? Pick("true", "false") : Pick("1 == 1", "!true", "0", "null", "default");

    private string Enum(string type, params string[] valid) => !IsWild() ? type + "." + Pick(valid) : Pick(
        "(" + type + ")99", "(" + type + ")(-1)", "default", "0", "1", type + ".None", "(" + type + ")int.MaxValue", "null",
        type + "." + valid[0] + " | " + type + "." + valid[^1]);

    private string Text(string valid, bool isPattern = false)
    {
        var value = valid;
        if (IsWild()) value = isPattern && Flip() ? WildPattern(valid) : WildText(valid);
        if (IsWild())
        {
            return Pick(
                "null", "(string)null", "default", "nameof(Model)", "\"a\" + \"b\"", "3", "typeof(int)", "\"\"\"\n  S\n  \"\"\"");
        }

        var literal = SymbolDisplay.FormatLiteral(value, quote: true);
        return Pick(0, 1, 2, 3, 4, 5, 6, 7) switch
        {
            // An escape moves what follows it, a verbatim string may hold line ends, and this one is no literal at all.
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
        "op_Implicit", "\u00DCber", "\u5927", "\u0130stanbul", "a\u200Db", "e\u0301", "\u2028", "\uFEFF", "\u202E", "\uD83D\uDE00",
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
                "S*2", "S", "Skip", "2*Skip", "skip", "(2*S)", ",", ";", "+", "|", "\t", "\n", "\u3000", "\u00A0", "\u0661*S", "1e1*S",
                "0x2*S", "2 * S", "2*S*S", "\0", WildText("S")));
            if (Flip()) text.Append(' ');
        }

        return text.ToString();
    }

    private string Random(int length) => string.Concat(Enumerable.Range(0, length).Select(_ => (char)(_random.Next(3) switch
    {
        0 => _random.Next(32, 127),
        1 => _random.Next(0, 0x250),
        _ => _random.Next(0, 0x10000),
    })));

    // Names that are good ones, each once.
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
