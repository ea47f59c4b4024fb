using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// The characters that stand for bytes in tokenizer.json (GPT-2's <c>bytes_to_unicode</c>). Printable characters stand for themselves. The
/// other 68 bytes have the characters from U+0100 on, in order.
/// </summary>
internal static class ByteAlphabet
{
    private static readonly char[] Characters = new char[256];
    private static readonly Dictionary<char, byte> Values = [];

    static ByteAlphabet()
    {
        var next = 256;
        for (var value = 0; value < 256; value++)
        {
            Characters[value] = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF) ? (char)value : (char)next++;
            Values.Add(Characters[value], (byte)value);
        }

        Ordered = [.. Enumerable.Range(0, 256).OrderBy(value => Characters[value]).Select(value => (byte)value)];
    }

    /// <summary>All bytes in the order of their characters. GPT-2 and our tokenizers give them the ids 0 to 255 in this order.</summary>
    public static ImmutableArray<byte> Ordered { get; }

    /// <summary>Returns the characters that stand for bytes.</summary>
    public static string ToText(ReadOnlySpan<byte> bytes) => string.Create(bytes.Length, bytes, static (text, its) =>
    {
        for (var i = 0; i < its.Length; i++) text[i] = Characters[its[i]];
    });

    /// <summary>Returns the bytes that characters stand for, or null if a character stands for no byte.</summary>
    public static byte[]? ToBytes(string text)
    {
        var bytes = new byte[text.Length];
        for (var i = 0; i < bytes.Length; i++)
        {
            if (!Values.TryGetValue(text[i], out bytes[i])) return null;
        }

        return bytes;
    }
}
