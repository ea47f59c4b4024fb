using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>A step that normalizes UTF-8 text: Hugging Face's normalizers NFC, Prepend and Replace.</summary>
/// <param name="Kind">What the step does.</param>
/// <param name="From">The bytes that are replaced; empty for the other kinds.</param>
/// <param name="To">The bytes that replace them, or that are put before the text; empty for NFC.</param>
internal sealed record TextStep(TextStepKind Kind, byte[] From, byte[] To)
{
    /// <summary>Normalizes to NFC. Text that is not UTF-8 stays unchanged.</summary>
    public static TextStep Nfc { get; } = new(TextStepKind.Nfc, [], []);

    /// <summary>Replaces spaces by U+2581, which stands for them in SentencePiece's pieces.</summary>
    public static TextStep MarkSpaces { get; } = new(TextStepKind.Replace, [(byte)' '], [.. SpaceRule.Mark]);

    /// <summary>Returns the normalized text. Empty text stays empty.</summary>
    public static ReadOnlySpan<byte> Apply(ImmutableArray<TextStep> steps, ReadOnlySpan<byte> text)
    {
        foreach (var step in steps) text = text.IsEmpty ? text : step.Apply(text);
        return text;
    }

    /// <summary>Returns the text after the step.</summary>
    public ReadOnlySpan<byte> Apply(ReadOnlySpan<byte> text) => Kind switch
    {
        TextStepKind.Nfc => Normalize(text),
        TextStepKind.Prepend => (byte[])[.. To, .. text],
        TextStepKind.Replace => Replace(text),
        _ => throw new InvalidOperationException($"TextStepKind.{Kind} is unknown."),
    };

    public bool Equals(TextStep? other) =>
        other is not null && Kind == other.Kind && From.AsSpan().SequenceEqual(other.From) && To.AsSpan().SequenceEqual(other.To);

    public override int GetHashCode() =>
        HashCode.Combine(Kind, ByteStrings.Comparer.GetHashCode(From), ByteStrings.Comparer.GetHashCode(To));

    private static ReadOnlySpan<byte> Normalize(ReadOnlySpan<byte> text)
    {
        if (Ascii.IsValid(text) || !System.Text.Unicode.Utf8.IsValid(text)) return text;
        var characters = Encoding.UTF8.GetString(text);
        return characters.IsNormalized(NormalizationForm.FormC) ? text
            : Encoding.UTF8.GetBytes(characters.Normalize(NormalizationForm.FormC));
    }

    private ReadOnlySpan<byte> Replace(ReadOnlySpan<byte> text)
    {
        var next = text.IndexOf(From);
        if (next < 0) return text;
        var replaced = new List<byte>(text.Length + (text.Length / 2));
        for (; next >= 0; next = text.IndexOf(From))
        {
            replaced.AddRange(text[..next]);
            replaced.AddRange(To);
            text = text[(next + From.Length)..];
        }

        replaced.AddRange(text);
        return replaced.ToArray();
    }
}

/// <summary>The kinds of steps that normalize text. Fingerprints contain their numbers.</summary>
internal enum TextStepKind
{
    Nfc,
    Prepend,
    Replace,
}

/// <summary>How spaces are marked in each part of a text between added tokens: Hugging Face's pre-tokenizer Metaspace.</summary>
/// <param name="Prepends">Whether a mark is put before a part that does not begin with one.</param>
/// <param name="OnlyFirst">Whether it is put only before the text, and not before parts that follow an added token.</param>
internal sealed record SpaceRule(bool Prepends, bool OnlyFirst)
{
    /// <summary>U+2581, which stands for a space.</summary>
    public static ReadOnlySpan<byte> Mark => "\u2581"u8;

    /// <summary>Returns a part of a text with marks in place of spaces.</summary>
    public ReadOnlySpan<byte> Apply(ReadOnlySpan<byte> text, bool isFirst)
    {
        text = TextStep.MarkSpaces.Apply(text);
        return Prepends && (isFirst || !OnlyFirst) && !text.StartsWith(Mark) ? (byte[])[.. Mark, .. text] : text;
    }
}
