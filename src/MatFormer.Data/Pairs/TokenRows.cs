using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Texts as rows of tokens of one length.</summary>
internal static class TokenRows
{
    // Shapes that come again find their memory; and the last few tokens of padding cost little.
    private const int Step = 8;

    /// <summary>The first tokens of a text.</summary>
    public static int[] Encode(string text, Tokenizer tokenizer, int context, List<int> buffer)
    {
        buffer.Clear();
        tokenizer.Encode(System.Text.Encoding.UTF8.GetBytes(text), buffer, specialTokens: false);
        return [.. CollectionsMarshal.AsSpan(buffer)[..Math.Min(buffer.Count, context)]];
    }

    /// <summary>What texts of at most so many tokens are padded to.</summary>
    public static int PaddedLength(int longest, int context) => Math.Clamp((longest + Step - 1) / Step * Step, 1, context);

    /// <summary>Tokens, and -1 behind them.</summary>
    public static void Pad(ReadOnlySpan<int> text, Span<long> row)
    {
        for (var t = 0; t < text.Length; t++) row[t] = text[t];
        row[text.Length..].Fill(-1);
    }
}
