using System.Globalization;
using System.Text;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Writing;

/// <summary>One generated file, which is a part of the user's class. Its text is the same on every machine.</summary>
internal sealed class CodeFile
{
    // These characters stand for an empty argument of a template, and for the end of a line within an argument.
    private const char Nothing = '\uE000';
    private const char LineEnd = '\uE001';
    private const string Comment = " //|";

    private const int Columns = 140;

    private static readonly string s_generated =
        "(\"" + typeof(CodeFile).Assembly.GetName().Name + "\", \"" + typeof(CodeFile).Assembly.GetName().Version + "\")]";

    private readonly TypeSpec _type;
    private readonly int _maxLine; // for lines of the class's body, which is indented once for the class and each type around it
    private readonly SortedSet<string> _aliases = new(StringComparer.Ordinal);
    private readonly StringBuilder _body = new();

    public CodeFile(TypeSpec type) => (_type, _maxLine) = (type, Columns - (4 * (type.Enclosing.Count() + 1)));

    /// <summary>The base types of the class, with a colon in front.</summary>
    public string Bases { get; set; } = "";

    /// <summary>The name of the class, escaped if necessary.</summary>
    public string Model => Names.Escape(_type.Name);

    public string ArgumentException => Alias(nameof(ArgumentException));

    public string ArgumentNullException => Alias(nameof(ArgumentNullException));

    public string AttentionWeights => Alias(nameof(AttentionWeights));

    public string DecodingNetwork => Alias(nameof(DecodingNetwork));

    public string DecodingThread => Alias(nameof(DecodingThread));

    public string Device => Alias(nameof(Device));

    public string FeedForwardKind => Alias(nameof(FeedForwardKind));

    public string FeedForwardWeights => Alias(nameof(FeedForwardWeights));

    public string GatheredTokens => Alias(nameof(GatheredTokens));

    public string GatherWeights => Alias(nameof(GatherWeights));

    public string Kernels => Alias(nameof(Kernels));

    public string KeyValueCache => Alias(nameof(KeyValueCache));

    public string LayerSlice => Alias(nameof(LayerSlice));

    public string MatFormerModel => Alias(nameof(MatFormerModel));

    public string ModelSpec => Alias(nameof(ModelSpec));

    public string Module => Alias(nameof(Module));

    public string PackedMatrix => Alias(nameof(PackedMatrix));

    public string PackedRouter => Alias(nameof(PackedRouter));

    public string PackedTable => Alias(nameof(PackedTable));

    public string Parameter => Alias(nameof(Parameter));

    /// <summary>The type of the widths of the model's embeddings.</summary>
    public string EmbeddingDimension => "global::MatFormer.EmbeddingDimension<" + Model + ">";

    /// <summary>The type of the model's profiles.</summary>
    public string Profile => "global::MatFormer.Profile<" + Model + ">";

    public string Recomputation => Alias(nameof(Recomputation));

    public string RotaryTable => Alias(nameof(RotaryTable));

    public string Route => Alias(nameof(Route));

    public string Routers => Alias(nameof(Routers));

    public string ScalarType => Alias(nameof(ScalarType));

    public string SinusoidalTable => Alias(nameof(SinusoidalTable));

    public string SpreadWeights => Alias(nameof(SpreadWeights));

    public string Streams => Alias(nameof(Streams));

    public string Tensor => Alias(nameof(Tensor));

    public string WeightPacker => Alias(nameof(WeightPacker));

    public string Weights => Alias(nameof(Weights));

    /// <summary>Indents all lines but the first by one more level, for an argument of a template within another template.</summary>
    public static string Indented(string lines) => lines.Replace("\n", "\n    ");

    /// <summary>
    /// Writes lines of the class's body. A line that contains only empty arguments is dropped. All lines of an argument get the indentation
    /// of its first line. <c>[Generated]</c> becomes the attribute. Comments that begin with <c>//|</c> are aligned with each other, up to
    /// the next empty line. Lines that are too long are broken.
    /// </summary>
    public void Write(FormattableString template)
    {
        var arguments = template.GetArguments();
        for (var i = 0; i < arguments.Length; i++)
        {
            arguments[i] = arguments[i] is string { Length: > 0 } text ? text.Replace("\r", "").Replace('\n', LineEnd)
                : arguments[i] is null or "" ? Nothing
                : arguments[i];
        }

        var lines = string.Format(CultureInfo.InvariantCulture, template.Format, arguments)
            .Replace("\r", "")
            .Split('\n')
            .SelectMany(Unfold)
            .ToList();
        for (var start = 0; start < lines.Count;)
        {
            var end = lines.FindIndex(start, line => line.Length == 0);
            var paragraph = lines.GetRange(start, (end < 0 ? lines.Count : end + 1) - start);
            var column = paragraph.Max(line => line.IndexOf(Comment, StringComparison.Ordinal)) + 1;
            foreach (var line in paragraph.SelectMany(line => Fit(line, column))) _body.Append(line).Append('\n');
            start += paragraph.Count;
        }
    }

    /// <summary>Returns the text of the whole file.</summary>
    public override string ToString()
    {
        var text = new StringBuilder("// <auto-generated/>\n#nullable enable\n");
        if (_aliases.Count > 0) text.Append('\n');
        foreach (var alias in _aliases) text.Append("using " + alias + " = global::" + Names.Aliases[alias] + ";\n");
        text.Append('\n');
        if (_type.Namespace.Length > 0) text.Append("namespace ").Append(_type.Namespace).Append(";\n\n");

        var depth = 0;
        foreach (var head in _type.Enclosing.Append("partial class " + Model + Bases))
        {
            Indented(text, head, depth);
            Indented(text, "{", depth++);
        }

        foreach (var line in _body.ToString().TrimEnd('\n').Split('\n')) Indented(text, line, depth);
        while (depth > 0) Indented(text, "}", --depth);
        return text.ToString();
    }

    private static void Indented(StringBuilder text, string line, int depth)
    {
        // Preprocessor directives are not indented.
        if (line.Length > 0) text.Append(' ', line[0] == '#' ? 0 : 4 * depth).Append(line);
        text.Append('\n');
    }

    private IEnumerable<string> Unfold(string line)
    {
        if (line.IndexOf(Nothing) >= 0)
        {
            line = line.Replace(Nothing.ToString(), "");
            if (string.IsNullOrWhiteSpace(line)) return [];
        }

        if (line.Contains("[Generated]")) line = line.Replace("[Generated]", "[" + Alias("GeneratedCodeAttribute") + s_generated);
        var indentation = line.Substring(0, line.Length - line.TrimStart().Length);
        return line.Split(LineEnd).Select((part, i) => (i == 0 || part.Length == 0 ? part : indentation + part).TrimEnd());
    }

    // Breaks a line into lines that are not too long. A comment after code is aligned if there is room; otherwise it moves to its own line
    // before the code.
    private IEnumerable<string> Fit(string line, int column)
    {
        var comment = line.IndexOf(Comment, StringComparison.Ordinal);
        if (comment < 0) return line.TrimStart().StartsWith("//", StringComparison.Ordinal) ? Wrap(line) : Fold(line);
        var (code, said) = (line.Substring(0, comment).TrimEnd(), "//" + line.Substring(comment + Comment.Length));
        if (Math.Max(code.Length + 2, column) + said.Length <= _maxLine) return [code.PadRight(column) + said];
        return code.Length + 2 + said.Length <= _maxLine ? [code + "  " + said]
            : [code.Substring(0, code.Length - code.TrimStart().Length) + said, .. Fold(code)];
    }

    // Breaks a line of code after an arrow, the head of a loop or an opening parenthesis, and the resulting lines after commas.
    private IEnumerable<string> Fold(string code)
    {
        var indentation = code.Substring(0, code.Length - code.TrimStart().Length);
        if (code.Length <= _maxLine || code.TrimStart().StartsWith("#", StringComparison.Ordinal)) return [code];
        var (depth, lowest, open, comma, inText) = (0, 0, -1, -1, false);
        var (best, longest) = (-1, 0);
        for (var i = indentation.Length; i < code.Length; i++)
        {
            if (code[i] == '"' && (i == 0 || code[i - 1] != '\\')) inText = !inText;
            if (inText) continue;
            if (string.CompareOrdinal(code, i, "//", 0, 2) == 0) return [code];
            if (depth <= 0 && string.CompareOrdinal(code, i, " => ", 0, 4) == 0) return Broken(i + 4, indentation + "    ");
            if (code[i] is '(' or '[' or '{')
            {
                if (depth++ == 0 && code[i] == '(') open = i + 1;
            }
            else if (code[i] is ')' or ']' or '}')
            {
                lowest = Math.Min(lowest, --depth);
                if (depth != 0 || code[i] != ')') continue;
                if (code.IndexOf("for (", indentation.Length, StringComparison.Ordinal) == indentation.Length)
                    return Broken(i + 1, indentation + "    ");
                if (i - open > longest) (best, longest) = (open, i - open);
            }
            else if (code[i] == ',' && depth == 0 && i < _maxLine)
            {
                comma = i + 1;
            }
        }

        // Commas separate arguments only if the parenthesis was opened in an earlier line.
        return comma > 0 && lowest < 0 ? Broken(comma, indentation) : best > 0 ? Broken(best, indentation + "    ") : [code];

        IEnumerable<string> Broken(int at, string margin) =>
            at == code.Length ? [code] : [.. Fold(code.Substring(0, at).TrimEnd()), .. Fold(margin + code.Substring(at).TrimStart())];
    }

    // Breaks a comment that has its own line into lines that are not too long. The tags of a broken summary get their own lines.
    private IEnumerable<string> Wrap(string line)
    {
        const string summary = "<summary>", end = "</summary>";
        var text = line.TrimStart();
        var start = text.StartsWith("/// ", StringComparison.Ordinal) ? 4 : text.StartsWith("// ", StringComparison.Ordinal) ? 3 : 0;
        if (start == 0 || line.Length <= _maxLine) return [line];

        var margin = line.Substring(0, line.Length - text.Length) + text.Substring(0, start);
        text = text.Substring(start);
        return text.StartsWith(summary, StringComparison.Ordinal) && text.EndsWith(end, StringComparison.Ordinal)
            ? [margin + summary, .. Broken(text.Substring(summary.Length, text.Length - summary.Length - end.Length)), margin + end]
            : Broken(text);

        IEnumerable<string> Broken(string prose)
        {
            while (margin.Length + prose.Length > _maxLine && prose.LastIndexOf(' ', _maxLine - margin.Length) is > 0 and var space)
            {
                yield return margin + prose.Substring(0, space);
                prose = prose.Substring(space + 1);
            }

            yield return margin + prose;
        }
    }

    private string Alias(string name)
    {
        if (_type.HiddenNames.Contains(name)) return "global::" + Names.Aliases[name];
        _aliases.Add(name);
        return name;
    }
}
