using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>How text is cut into words, within which byte pairs are merged. In tokenizer.json these are regular expressions.</summary>
internal enum WordPattern
{
    /// <summary>Not at all.</summary>
    Whole,

    /// <summary>As GPT-2: contractions, letters, numbers and other signs with at most one space before, white space.</summary>
    Gpt2,

    /// <summary>As Llama 3: letters with any one sign before, at most three digits, other signs with the line ends after them.</summary>
    Llama3,

    /// <summary>As Qwen 2: like Llama 3, but single digits.</summary>
    Qwen2,
}

/// <summary>
/// Cuts UTF-8 into words by hand-written scanners, which give what the regular expressions give without their cost. A byte that is not
/// UTF-8 counts as a sign of its own.
/// </summary>
internal static class WordPatterns
{
    /// <summary>The regular expression that ByteLevel stands for.</summary>
    public const string Gpt2 = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    /// <summary>That of Llama 3.</summary>
    public const string Llama3 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        + @"|\s+(?!\S)|\s+";

    /// <summary>That of Qwen 2.</summary>
    public const string Qwen2 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        + @"|\s+(?!\S)|\s+";

    private static readonly Kind[] Ascii = [.. Enumerable.Range(0, 128).Select(c => KindOf(new Rune(c)))];

    private enum Kind : byte
    {
        Other,
        Letter,
        Number,
        Space,
        LineEnd, // white space, too
    }

    /// <summary>The pattern of a regular expression, or null if it is another.</summary>
    public static WordPattern? Of(string regex) => regex switch
    {
        Gpt2 => WordPattern.Gpt2,
        Llama3 => WordPattern.Llama3,
        Qwen2 => WordPattern.Qwen2,
        _ => null,
    };

    /// <summary>How long the first word of a text, which is not empty, is in bytes.</summary>
    public static int First(WordPattern pattern, ReadOnlySpan<byte> text) => pattern switch
    {
        WordPattern.Whole => text.Length,
        WordPattern.Gpt2 => FirstOfGpt2(text),
        WordPattern.Llama3 => FirstOfLlama3(text, digits: 3),
        WordPattern.Qwen2 => FirstOfLlama3(text, digits: 1),
        _ => throw new ArgumentOutOfRangeException(nameof(pattern), pattern, null),
    };

    private static int FirstOfGpt2(ReadOnlySpan<byte> text)
    {
        var contraction = Contraction(text, ignoreCase: false);
        if (contraction > 0) return contraction;
        var kind = At(text, 0, out var length);
        if (text[0] == ' ' && text.Length > 1 && At(text, 1, out var next) is var second && second < Kind.Space)
            return RunOf(text, 1 + next, second);
        return kind < Kind.Space ? RunOf(text, length, kind) : WhiteSpace(text);
    }

    private static int FirstOfLlama3(ReadOnlySpan<byte> text, int digits)
    {
        var contraction = Contraction(text, ignoreCase: true);
        if (contraction > 0) return contraction;
        var kind = At(text, 0, out var length);
        switch (kind)
        {
            case Kind.Letter:
                return RunOf(text, length, Kind.Letter);
            case Kind.Number:
                for (; digits > 1 && length < text.Length && At(text, length, out var digit) == Kind.Number; digits--) length += digit;
                return length;
        }

        // One sign or space before letters belongs to them.
        var after = length < text.Length ? At(text, length, out var next) : (Kind?)null;
        if (kind != Kind.LineEnd && after == Kind.Letter) return RunOf(text, length, Kind.Letter);
        if (kind == Kind.Other || (text[0] == ' ' && after == Kind.Other))
        {
            var end = RunOf(text, length, Kind.Other);
            while (end < text.Length && text[end] is (byte)'\r' or (byte)'\n') end++;
            return end;
        }

        // White space up to its last line end, if it has one.
        var lines = 0;
        for (var i = 0; i < text.Length && At(text, i, out var size) is var its && its >= Kind.Space;)
        {
            i += size;
            if (its == Kind.LineEnd) lines = i;
        }

        return lines > 0 ? lines : WhiteSpace(text);
    }

    // The end of a run of one kind.
    private static int RunOf(ReadOnlySpan<byte> text, int start, Kind kind)
    {
        var end = start;
        while (end < text.Length && At(text, end, out var length) == kind) end += length;
        return end;
    }

    // All white space at the end of the text; else all but the last, which belongs to what follows; a single one alone.
    private static int WhiteSpace(ReadOnlySpan<byte> text)
    {
        var (end, last) = (0, 0);
        while (end < text.Length && At(text, end, out var length) >= Kind.Space)
        {
            last = end;
            end += length;
        }

        return end == text.Length || last == 0 ? end : last;
    }

    private static int Contraction(ReadOnlySpan<byte> text, bool ignoreCase)
    {
        if (text.Length < 2 || text[0] != '\'') return 0;
        var (first, second) = (Lower(text[1]), text.Length > 2 ? Lower(text[2]) : (byte)0);
        if (first is (byte)'s' or (byte)'t' or (byte)'m' or (byte)'d') return 2;
        if ((first, second) is ((byte)'r', (byte)'e') or ((byte)'v', (byte)'e') or ((byte)'l', (byte)'l')) return 3;

        // The long s is an s to whoever ignores case.
        return ignoreCase && text[1..].StartsWith("ſ"u8) ? 3 : 0;

        byte Lower(byte value) => ignoreCase && value is >= (byte)'A' and <= (byte)'Z' ? (byte)(value | 0x20) : value;
    }

    private static Kind At(ReadOnlySpan<byte> text, int position, out int length)
    {
        length = 1;
        if (text[position] < 128) return Ascii[text[position]];
        var valid = Rune.DecodeFromUtf8(text[position..], out var rune, out length) == System.Buffers.OperationStatus.Done;
        return valid ? KindOf(rune) : Kind.Other;
    }

    private static Kind KindOf(Rune rune) => rune.Value is '\r' or '\n' ? Kind.LineEnd : Rune.IsWhiteSpace(rune) ? Kind.Space
        : Rune.GetUnicodeCategory(rune) switch
        {
            <= UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            _ => Kind.Other,
        };
}
