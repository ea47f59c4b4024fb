using System.Text;
using System.Xml;

namespace MatFormer;

/// <summary>Turns the XML documentation that C# compilers write into plain text, one document per type.</summary>
internal static class XmlDocumentation
{
    /// <summary>True if the file is XML documentation, which has the root element <c>doc</c>.</summary>
    public static bool IsDocumentation(string path)
    {
        if (!path.EndsWith(".xml", StringComparison.OrdinalIgnoreCase)) return false;
        try
        {
            using var reader = Open(path);
            return reader.MoveToContent() == XmlNodeType.Element && reader.Name == "doc";
        }
        catch (XmlException)
        {
            return false; // the file is then read as plain text
        }
    }

    /// <summary>Reads the types of a file in its order, with the text of each type and of its members.</summary>
    /// <exception cref="DataException">The file is not valid XML.</exception>
    public static IEnumerable<(string Type, string Text)> Read(string path)
    {
        // Members of one type follow each other in these files. Rare exceptions give the type a second document.
        var text = new StringBuilder();
        var current = string.Empty;
        using var reader = Open(path);
        while (Advance(reader, path))
        {
            if (reader.NodeType != XmlNodeType.Element || reader.Name != "member"
                || reader.GetAttribute("name") is not { Length: > 2 } id) continue;
            var type = TypeOf(id);
            if (type != current)
            {
                if (text.Length > 0) yield return (current, text.ToString());
                text.Clear();
                current = type;
            }

            var body = new StringBuilder();
            ReadElement(reader, body, path);
            if (body.Length == 0) continue;
            if (text.Length > 0) text.Append('\n');
            text.Append(DisplayName(id)).Append('\n').Append(body);
        }

        if (text.Length > 0) yield return (current, text.ToString());
    }

    /// <summary>Reads the members that have a summary, in the file's order: their types, ids, and summaries followed by remarks.</summary>
    /// <exception cref="DataException">The file is not valid XML.</exception>
    public static IEnumerable<(string Type, string Id, string Text)> ReadSummaries(string path)
    {
        var id = string.Empty;
        var (summary, remarks) = (new StringBuilder(), new StringBuilder());
        using var reader = Open(path);
        while (Advance(reader, path))
        {
            switch (reader.NodeType, reader.Name)
            {
                case (XmlNodeType.Element, "member"):
                    id = reader.GetAttribute("name") ?? string.Empty;
                    summary.Clear();
                    remarks.Clear();
                    break;
                case (XmlNodeType.Element, "summary"):
                    ReadElement(reader, summary, path);
                    break;
                case (XmlNodeType.Element, "remarks"):
                    ReadElement(reader, remarks, path);
                    break;
                case (XmlNodeType.EndElement, "member") when id.Length > 2 && summary.Length > 0:
                    yield return (TypeOf(id), id, summary.Append(remarks).ToString().TrimEnd('\n'));
                    break;
            }
        }
    }

    /// <summary>
    /// Returns the name of a member for readers: <c>M:System.String.IndexOf(System.Char)</c> becomes <c>String.IndexOf(Char)</c>.
    /// </summary>
    internal static string DisplayName(string id)
    {
        var kind = id[0];
        var rest = id.AsSpan(id.Length > 1 && id[1] == ':' ? 2 : 0);
        var open = rest.IndexOf('(');
        var path = open < 0 ? rest : rest[..open];
        var result = new StringBuilder();
        var last = path.LastIndexOf('.');
        if (kind is 'T' or 'N' || last < 0)
        {
            AppendName(result, path[(kind == 'N' ? 0 : last + 1)..]);
        }
        else
        {
            var owner = path[..last];
            AppendName(result, owner[(owner.LastIndexOf('.') + 1)..]);
            var member = path[(last + 1)..];
            if (member is not "#ctor" and not "#cctor")
            {
                result.Append('.');
                AppendName(result, member[(member.LastIndexOf('#') + 1)..]);
            }
            else if (open < 0)
            {
                result.Append("()");
            }
        }

        if (open >= 0) AppendParameters(result, rest[open..]);
        return result.ToString();
    }

    private static string TypeOf(string id)
    {
        var end = id.IndexOf('(', 2);
        var path = end < 0 ? id[2..] : id[2..end];
        return id[0] is 'T' or 'N' || path.LastIndexOf('.') is var last && last < 0 ? path : path[..last];
    }

    // Appends a parameter list, with type names without their namespaces.
    private static void AppendParameters(StringBuilder result, ReadOnlySpan<char> list)
    {
        for (var i = 0; i < list.Length;)
        {
            if (!char.IsLetter(list[i]))
            {
                result.Append(list[i] switch { '{' => "<", '}' => ">", ',' => ", ", '@' or '`' => string.Empty, _ => list[i].ToString() });
                i++;
                continue;
            }

            var end = i;
            while (end < list.Length && (char.IsLetterOrDigit(list[end]) || list[end] is '.' or '_')) end++;
            var name = list[i..end];
            result.Append(name[(name.LastIndexOf('.') + 1)..]);
            i = end;
        }
    }

    // Appends a name, where List`1 becomes List<T>.
    private static void AppendName(StringBuilder result, ReadOnlySpan<char> name)
    {
        var tick = name.IndexOf('`');
        result.Append(tick < 0 ? name : name[..tick]);
        if (tick >= 0) result.Append("<T>");
    }

    // Reads the text of the current element. The reader is then at the element's end.
    private static void ReadElement(XmlReader reader, StringBuilder body, string path)
    {
        if (reader.IsEmptyElement) return;
        try
        {
            ReadText(reader, body);
        }
        catch (XmlException e)
        {
            throw Unsound(path, e);
        }
    }

    private static void ReadText(XmlReader reader, StringBuilder body)
    {
        var depth = reader.Depth;
        var line = new StringBuilder();
        while (reader.Read() && !(reader.NodeType == XmlNodeType.EndElement && reader.Depth == depth))
        {
            switch (reader.NodeType)
            {
                case XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.Whitespace or XmlNodeType.SignificantWhitespace:
                    line.Append(reader.Value);
                    break;
                case XmlNodeType.Element:
                    StartElement(reader, line, body);
                    break;
                case XmlNodeType.EndElement when IsBlock(reader.Name):
                    EndLine(line, body);
                    break;
            }
        }

        EndLine(line, body);
    }

    private static void StartElement(XmlReader reader, StringBuilder line, StringBuilder body)
    {
        if (IsBlock(reader.Name)) EndLine(line, body);
        switch (reader.Name)
        {
            case "param" or "typeparam":
                line.Append(reader.GetAttribute("name")).Append(": ");
                break;
            case "returns":
                line.Append("Returns: ");
                break;
            case "value":
                line.Append("Value: ");
                break;
            case "exception":
                line.Append(Reference(reader)).Append(": ");
                break;
            case "paramref" or "typeparamref":
                line.Append(reader.GetAttribute("name"));
                break;
            case "see" or "seealso" or "xref" when reader.IsEmptyElement:
                line.Append(Reference(reader));
                break;
        }
    }

    private static bool IsBlock(string element) => element is "summary" or "remarks" or "param" or "typeparam" or "returns" or "value"
        or "exception"
        or "para" or "p" or "br" or "div" or "code" or "example" or "list" or "item" or "listheader" or "li" or "ul" or "seealso";

    private static string Reference(XmlReader reader)
    {
        if (reader.GetAttribute("langword") is { } word) return word;
        if (reader.GetAttribute("cref") is { Length: > 2 } cref)
        {
            // References are easier to read without parameters.
            var open = cref.IndexOf('(', StringComparison.Ordinal);
            return DisplayName(open < 0 ? cref : cref[..open]);
        }

        return reader.GetAttribute("href") ?? string.Empty;
    }

    // White space has no meaning in XML, so runs of it become one blank, and lines without text are dropped.
    private static void EndLine(StringBuilder line, StringBuilder body)
    {
        var blank = true;
        var start = body.Length;
        for (var i = 0; i < line.Length; i++)
        {
            var c = line[i];
            if (!char.IsWhiteSpace(c))
            {
                body.Append(c);
                blank = false;
            }
            else if (!blank)
            {
                body.Append(' ');
                blank = true;
            }
        }

        if (body.Length > start && body[^1] == ' ') body.Length--;
        if (body.Length > start && body[^1] != ':') body.Append('\n');
        else body.Length = start; // drops a label without a text, such as "Returns:"
        line.Clear();
    }

    private static bool Advance(XmlReader reader, string path)
    {
        try
        {
            return reader.Read();
        }
        catch (XmlException e)
        {
            throw Unsound(path, e);
        }
    }

    private static DataException Unsound(string path, XmlException e) =>
        new($"The XML documentation '{path}' is not valid XML: {e.Message} Repair the file or leave it out.", e);

    private static XmlReader Open(string path) => XmlReader.Create(
        path,
        new XmlReaderSettings
        {
            DtdProcessing = DtdProcessing.Prohibit,
            XmlResolver = null,
            IgnoreComments = true,
            IgnoreProcessingInstructions = true,
            CloseInput = true
        });
}
