using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Turns texts into rows of tokens of equal length.</summary>
internal static class TokenRows
{
    // Lengths are multiples of 8, so that shapes recur and their memory is reused. A few more tokens of padding cost little.
    private const int Step = 8;

    /// <summary>Returns the first tokens of a text, at most <paramref name="context"/> of them.</summary>
    public static int[] Encode(string text, Tokenizer tokenizer, int context, List<int> buffer)
    {
        buffer.Clear();
        tokenizer.Encode(System.Text.Encoding.UTF8.GetBytes(text), buffer, specialTokens: false);
        return [.. CollectionsMarshal.AsSpan(buffer)[..Math.Min(buffer.Count, context)]];
    }

    /// <summary>Returns the length that texts of at most <paramref name="longest"/> tokens are padded to.</summary>
    public static int PaddedLength(int longest, int context) => Math.Clamp((longest + Step - 1) / Step * Step, 1, context);

    /// <summary>Writes tokens into a row and fills the rest with -1.</summary>
    public static void Pad(ReadOnlySpan<int> text, Span<long> row)
    {
        for (var t = 0; t < text.Length; t++) row[t] = text[t];
        row[text.Length..].Fill(-1);
    }
}
