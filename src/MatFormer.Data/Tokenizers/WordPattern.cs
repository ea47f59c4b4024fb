using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>
/// The ways to cut text into words. Pairs are merged only within words. In tokenizer.json, most ways are regular expressions. Fingerprints
/// contain the numbers.
/// </summary>
internal enum WordPattern
{
    /// <summary>Text is not cut.</summary>
    Whole,

    /// <summary>GPT-2's words: contractions; letters, numbers or other characters with at most one space before; white space.</summary>
    Gpt2,

    /// <summary>
    /// Llama 3's words: contractions; letters with at most one other character before; at most three digits; other characters with the line
    /// ends after them; white space.
    /// </summary>
    Llama3,

    /// <summary>Qwen 2's words: the same as Llama 3's, but with single digits.</summary>
    Qwen2,

    /// <summary>
    /// Mistral Nemo's words: capital letters, then small ones, with at most one other character before; single digits; other characters
    /// with the line ends and slashes after them; white space.
    /// </summary>
    Tekken,

    /// <summary>SentencePiece's words: each begins at U+2581, which stands for a space.</summary>
    Marks,
}

/// <summary>
/// Cuts UTF-8 into words with hand-written scanners. They give the same words as the regular expressions, but faster. Bytes that are not
/// UTF-8 count as characters that are neither letters, numbers nor white space.
/// </summary>
internal static class WordPatterns
{
    /// <summary>GPT-2's regular expression, which ByteLevel stands for.</summary>
    public const string Gpt2 = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    /// <summary>Llama 3's regular expression.</summary>
    public const string Llama3 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        + @"|\s+(?!\S)|\s+";

    /// <summary>Qwen 2's regular expression.</summary>
    public const string Qwen2 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        + @"|\s+(?!\S)|\s+";

    /// <summary>Mistral Nemo's regular expression.</summary>
    public const string Tekken = @"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        + @"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
        + @"|\s*[\r\n]+|\s+(?!\S)|\s+";

    private static readonly Kind[] Ascii = [.. Enumerable.Range(0, 128).Select(c => KindOf(new Rune(c)))];

    private enum Kind : byte
    {
        Other,
        Letter,
        Number,
        Space,
        LineEnd, // a line end is white space too
    }

    /// <summary>Returns the pattern of a regular expression, or null if it is not supported.</summary>
    public static WordPattern? Of(string regex) => regex switch
    {
        Gpt2 => WordPattern.Gpt2,
        Llama3 => WordPattern.Llama3,
        Qwen2 => WordPattern.Qwen2,
        Tekken => WordPattern.Tekken,
        _ => null,
    };

    /// <summary>Returns the length in bytes of the first word of a text. The text must not be empty.</summary>
    public static int First(WordPattern pattern, ReadOnlySpan<byte> text) => pattern switch
    {
        WordPattern.Whole => text.Length,
        WordPattern.Gpt2 => FirstOfGpt2(text),
        WordPattern.Llama3 => FirstOfLlama3(text, digits: 3),
        WordPattern.Qwen2 => FirstOfLlama3(text, digits: 1),
        WordPattern.Tekken => FirstOfTekken(text),
        WordPattern.Marks => text[1..].IndexOf(SpaceRule.Mark) is var mark && mark < 0 ? text.Length : 1 + mark,
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

        // One other character or space before letters belongs to their word.
        var after = length < text.Length ? At(text, length, out _) : (Kind?)null;
        if (kind != Kind.LineEnd && after == Kind.Letter) return RunOf(text, length, Kind.Letter);
        return OthersOrWhiteSpace(text, kind, length, after, "\r\n"u8);
    }

    private static int FirstOfTekken(ReadOnlySpan<byte> text)
    {
        var kind = At(text, 0, out var length);
        if (kind == Kind.Number) return length;

        // One other character or space before letters belongs to their word. The regular expression tries that first.
        var isBefore = kind is Kind.Other or Kind.Space;
        if (isBefore && Cased(text, length, needsSmall: true) is var small && small > length) return small;
        if (Cased(text, 0, needsSmall: true) is var own && own > 0) return own;
        if (isBefore && Cased(text, length, needsSmall: false) is var capitals && capitals > length) return capitals;
        if (Cased(text, 0, needsSmall: false) is var all && all > 0) return all;
        var after = length < text.Length ? At(text, length, out _) : (Kind?)null;
        return OthersOrWhiteSpace(text, kind, length, after, "\r\n/"u8);
    }

    // Returns the end of the capital letters and then small ones from a place on, or the place if there are none. Letters without case and
    // marks are both. If the last of them must be small, capital letters at the end are left to the next word.
    private static int Cased(ReadOnlySpan<byte> text, int start, bool needsSmall)
    {
        var (end, lastBoth) = (start, start);
        while (end < text.Length && LettersAt(text, end, out var length) is (true, var both))
        {
            end += length;
            if (both) lastBoth = end;
        }

        var capitals = end;
        while (end < text.Length && LettersAt(text, end, out var length).Small) end += length;
        return end > capitals || !needsSmall ? end : lastBoth;
    }

    // Returns whether a character may stand among capital letters, and whether among small ones.
    private static (bool Capital, bool Small) LettersAt(ReadOnlySpan<byte> text, int position, out int length)
    {
        if (Rune.DecodeFromUtf8(text[position..], out var rune, out length) != System.Buffers.OperationStatus.Done) return (false, false);
        return Rune.GetUnicodeCategory(rune) switch
        {
            UnicodeCategory.UppercaseLetter or UnicodeCategory.TitlecaseLetter => (true, false),
            UnicodeCategory.LowercaseLetter => (false, true),
            UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => (true, true),
            UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark => (true, true),
            _ => (false, false),
        };
    }

    // Returns the end of other characters, perhaps with a space before them, and of the characters that may follow them; or of white space.
    private static int OthersOrWhiteSpace(ReadOnlySpan<byte> text, Kind kind, int length, Kind? after, ReadOnlySpan<byte> following)
    {
        if (kind == Kind.Other || (text[0] == ' ' && after == Kind.Other))
        {
            var end = RunOf(text, length, Kind.Other);
            while (end < text.Length && following.Contains(text[end])) end++;
            return end;
        }

        // If white space contains a line end, the word is the white space up to the last line end.
        var lines = 0;
        for (var i = 0; i < text.Length && At(text, i, out var size) is var its && its >= Kind.Space;)
        {
            i += size;
            if (its == Kind.LineEnd) lines = i;
        }

        return lines > 0 ? lines : WhiteSpace(text);
    }

    // Returns the end of a run of characters of one kind.
    private static int RunOf(ReadOnlySpan<byte> text, int start, Kind kind)
    {
        var end = start;
        while (end < text.Length && At(text, end, out var length) == kind) end += length;
        return end;
    }

    // Returns the end of a word of white space. At the end of the text, the word is all of the white space. Otherwise its last character is
    // left to the next word, unless it is the only one.
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

        // Without case, the long s equals s.
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
