using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>Texts as Python sees them: as sequences of code points, with Python's white space.</summary>
internal static class JinjaText
{
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1c' and <= '\x1f';

    public static string TrimStart(string text)
    {
        var start = 0;
        while (start < text.Length && IsSpace(text[start])) start++;
        return text[start..];
    }

    public static string TrimEnd(string text)
    {
        var end = text.Length;
        while (end > 0 && IsSpace(text[end - 1])) end--;
        return text[..end];
    }

    /// <summary>Removes white space, or the given characters, from the ends of a text.</summary>
    public static string Trim(string text, string? characters, bool start, bool end)
    {
        if (characters is null)
        {
            if (start) text = TrimStart(text);
            return end ? TrimEnd(text) : text;
        }

        var all = Characters(characters);
        var rest = text.AsSpan();
        while (start && Found(rest, atEnd: false) is > 0 and var length) rest = rest[length..];
        while (end && Found(rest, atEnd: true) is > 0 and var length) rest = rest[..^length];
        return rest.ToString();

        int Found(ReadOnlySpan<char> within, bool atEnd)
        {
            foreach (var character in all)
            {
                if (atEnd ? within.EndsWith(character) : within.StartsWith(character)) return character.Length;
            }

            return 0;
        }
    }

    /// <summary>The number of code points.</summary>
    public static int Length(string text) => HasSurrogates(text) ? Characters(text).Count : text.Length;

    /// <summary>The code points, each as a string.</summary>
    public static List<string> Characters(string text)
    {
        var all = new List<string>(text.Length);
        for (var at = 0; at < text.Length;)
        {
            var length = char.IsHighSurrogate(text[at]) && at + 1 < text.Length && char.IsLowSurrogate(text[at + 1]) ? 2 : 1;
            all.Add(text.Substring(at, length));
            at += length;
        }

        return all;
    }

    public static bool HasSurrogates(string text) => text.AsSpan().ContainsAnyInRange('\ud800', '\udfff');

    /// <summary>Compares by code points.</summary>
    public static int Compare(string left, string right)
    {
        for (var i = 0; i < Math.Min(left.Length, right.Length); i++)
        {
            if (left[i] == right[i]) continue;
            // In UTF-16, surrogates are less than some characters, but they stand for larger ones.
            return (char.IsSurrogate(left[i]), char.IsSurrogate(right[i])) switch
            {
                (true, false) => 1,
                (false, true) => -1,
                _ => left[i].CompareTo(right[i]),
            };
        }

        return left.Length.CompareTo(right.Length);
    }

    public static string Capitalize(string text)
    {
        var length = text.Length > 1 && char.IsSurrogatePair(text, 0) ? 2 : Math.Min(1, text.Length);
        return text[..length].ToUpperInvariant() + text[length..].ToLowerInvariant();
    }

    /// <summary>Makes each letter that follows none upper case, and the others lower case (Python's <c>str.title</c>).</summary>
    public static string Title(string text)
    {
        var result = new StringBuilder(text.Length);
        var inWord = false;
        foreach (var c in text)
        {
            result.Append(!char.IsLetter(c) ? c : inWord ? char.ToLowerInvariant(c) : char.ToUpperInvariant(c));
            inWord = char.IsLetter(c);
        }

        return result.ToString();
    }

    /// <summary>Makes the first character of each word upper case, and the others lower case (Jinja's filter <c>title</c>).</summary>
    public static string TitleWords(string text)
    {
        var result = new StringBuilder(text.Length);
        var inWord = false;
        foreach (var c in text)
        {
            result.Append(inWord ? char.ToLowerInvariant(c) : char.ToUpperInvariant(c));
            inWord = !(IsSpace(c) || c is '-' or '(' or '{' or '[' or '<');
        }

        return result.ToString();
    }

    /// <summary>Cuts a text at white space, at most this many times if the number is not negative.</summary>
    public static List<object?> Split(string text, long most, bool fromEnd)
    {
        var parts = new List<object?>();
        if (fromEnd)
        {
            for (var end = text.Length; true;)
            {
                while (end > 0 && IsSpace(text[end - 1])) end--;
                if (end == 0) break;
                var start = end;
                if (most >= 0 && parts.Count == most) start = 0;
                else
                    while (start > 0 && !IsSpace(text[start - 1])) start--;
                parts.Add(text[start..end]);
                end = start;
            }

            parts.Reverse();
            return parts;
        }

        for (var start = 0; true;)
        {
            while (start < text.Length && IsSpace(text[start])) start++;
            if (start == text.Length) break;
            var end = start;
            if (most >= 0 && parts.Count == most) end = text.Length;
            else
                while (end < text.Length && !IsSpace(text[end])) end++;
            parts.Add(text[start..end]);
            start = end;
        }

        return parts;
    }

    /// <summary>Cuts a text at each separator, at most this many times if the number is not negative.</summary>
    public static List<object?> Split(string text, string separator, long most, bool fromEnd)
    {
        var parts = new List<object?>();
        if (fromEnd)
        {
            var end = text.Length;
            while ((most < 0 || parts.Count < most) && end >= separator.Length
                && text.AsSpan(0, end).LastIndexOf(separator) is >= 0 and var at)
            {
                parts.Add(text[(at + separator.Length)..end]);
                end = at;
            }

            parts.Add(text[..end]);
            parts.Reverse();
            return parts;
        }

        var start = 0;
        while ((most < 0 || parts.Count < most) && text.IndexOf(separator, start, StringComparison.Ordinal) is >= 0 and var at)
        {
            parts.Add(text[start..at]);
            start = at + separator.Length;
        }

        parts.Add(text[start..]);
        return parts;
    }

    /// <summary>Cuts a text into lines as Python does.</summary>
    public static List<object?> Lines(string text, bool keepEnds)
    {
        var lines = new List<object?>();
        for (var start = 0; start < text.Length;)
        {
            var end = start;
            while (end < text.Length && !EndsLine(text[end])) end++;
            var next = end == text.Length ? end : text[end] == '\r' && end + 1 < text.Length && text[end + 1] == '\n' ? end + 2 : end + 1;
            lines.Add(text[start..(keepEnds ? next : end)]);
            start = next;
        }

        return lines;

        static bool EndsLine(char c) => c is (>= '\n' and <= '\r') or (>= '\x1c' and <= '\x1e') or '\x85' or '\u2028' or '\u2029';
    }

    /// <summary>Returns a text as Python's <c>repr</c> writes it.</summary>
    public static string Quote(string text)
    {
        var quote = text.Contains('\'') && !text.Contains('"') ? '"' : '\'';
        var result = new StringBuilder(text.Length + 2).Append(quote);
        for (var at = 0; at < text.Length; at++)
        {
            var isPair = char.IsSurrogatePair(text, at);
            var code = isPair ? char.ConvertToUtf32(text[at], text[at + 1]) : text[at];
            if (isPair) at++;
            if (code == quote || code == '\\') result.Append('\\').Append((char)code);
            else if (code == '\n') result.Append("\\n");
            else if (code == '\r') result.Append("\\r");
            else if (code == '\t') result.Append("\\t");
            else if (code == ' ' || IsPrintable(code)) result.Append(isPair ? text.AsSpan(at - 1, 2) : text.AsSpan(at, 1));
            else if (code < 0x100) result.Append(CultureInfo.InvariantCulture, $"\\x{code:x2}");
            else if (code < 0x10000) result.Append(CultureInfo.InvariantCulture, $"\\u{code:x4}");
            else result.Append(CultureInfo.InvariantCulture, $"\\U{code:x8}");
        }

        return result.Append(quote).ToString();
    }

    /// <summary>Returns a number as Python writes it.</summary>
    public static string Of(double number)
    {
        if (double.IsNaN(number)) return "nan";
        if (double.IsInfinity(number)) return number > 0 ? "inf" : "-inf";
        var text = number.ToString("R", CultureInfo.InvariantCulture);
        if (Math.Abs(number) >= 1e16 && !text.Contains('E'))
        {
            var digits = text.TrimStart('-');
            var fraction = digits[1..].TrimEnd('0');
            text = string.Create(
                CultureInfo.InvariantCulture,
                $"{(number < 0 ? "-" : "")}{digits[0]}{(fraction.Length > 0 ? "." : "")}{fraction}e+{digits.Length - 1:00}");
        }
        else if (Math.Abs(number) < 1e16 && text.Contains("E+", StringComparison.Ordinal))
        {
            text = number.ToString("F1", CultureInfo.InvariantCulture);
        }

        return text.Contains('.') || text.Contains('E') || text.Contains('e') ? text.ToLowerInvariant() : text + ".0";
    }

    private static bool IsPrintable(int code) => CharUnicodeInfo.GetUnicodeCategory(code) is not (
        UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse
        or UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.SpaceSeparator);
}
