using System.Buffers;
using System.Collections.Immutable;

namespace MatFormer;

/// <summary>A token that is found in a text before the text is cut into words.</summary>
/// <param name="Token">The token.</param>
/// <param name="IsSpecial">Whether it is a special token, which plain text never becomes.</param>
/// <param name="IsNormalized">Whether it is found by its normalized name in normalized text. Otherwise it is found in text as it
/// is.</param>
internal sealed record AddedToken(int Token, bool IsSpecial, bool IsNormalized = false);

/// <summary>Looks for the names of added tokens in texts. Some families have thousands of them.</summary>
internal sealed class AddedTokenSearch
{
    private readonly Dictionary<byte[], AddedToken>.AlternateLookup<ReadOnlySpan<byte>> _byName;
    private readonly SearchValues<byte> _starts;
    private readonly ImmutableArray<int> _lengths; // of names, the longest first

    public AddedTokenSearch(IEnumerable<(byte[] Name, AddedToken Added)> names)
    {
        var byName = new Dictionary<byte[], AddedToken>(ByteStrings.Comparer);
        foreach (var (name, added) in names.Where(n => n.Name.Length > 0)) byName.TryAdd(name, added);
        _byName = byName.GetAlternateLookup<ReadOnlySpan<byte>>();
        _starts = SearchValues.Create([.. byName.Keys.Select(name => name[0])]);
        _lengths = [.. byName.Keys.Select(name => name.Length).Distinct().OrderDescending()];
    }

    /// <summary>
    /// Returns the first added token in a text, where it starts, and the length of its name. If several start there, the longest is taken.
    /// If there is none, the start is the end of the text.
    /// </summary>
    /// <param name="text">The text.</param>
    /// <param name="specialTokens">Whether special tokens are looked for.</param>
    public (int Start, int Length, int? Token) First(ReadOnlySpan<byte> text, bool specialTokens)
    {
        for (var start = 0; start < text.Length; start++)
        {
            var skipped = text[start..].IndexOfAny(_starts);
            if (skipped < 0) break;
            start += skipped;
            foreach (var length in _lengths)
            {
                if (length <= text.Length - start && _byName.TryGetValue(text.Slice(start, length), out var added)
                    && (specialTokens || !added.IsSpecial)) return (start, length, added.Token);
            }
        }

        return (text.Length, 0, null);
    }
}
