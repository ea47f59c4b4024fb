using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>Everything that affects encoding and decoding.</summary>
internal sealed record TokenizerContent
{
    private readonly ImmutableArray<byte[]> _pieces;

    public static TokenizerContent Bytes { get; } = new()
    {
        Tokens = [.. Enumerable.Range(0, 256).Select(value => new[] { (byte)value })],
        Merges = [],
        Added = [],
        Pattern = WordPattern.Whole,
    };

    /// <summary>The bytes that each token stands for.</summary>
    public required ImmutableArray<byte[]> Tokens { get; init; }

    /// <summary>
    /// The pieces of normalized text that become tokens, as UTF-8: a space is U+2581, and the names of bytes are <c>&lt;0x00&gt;</c> to
    /// <c>&lt;0xFF&gt;</c>. Where pairs of bytes are merged, a piece is what the token stands for.
    /// </summary>
    public ImmutableArray<byte[]> Pieces
    {
        get => HasPieces ? _pieces : Tokens;
        init => _pieces = value;
    }

    /// <summary>True if pairs of characters are merged, and characters without a token become bytes. False if pairs of bytes are.</summary>
    public bool HasPieces => !_pieces.IsDefault;

    /// <summary>The pairs of tokens and the tokens that they become, in the order in which they were learnt.</summary>
    public required IReadOnlyList<(int Left, int Right, int Result)> Merges { get; init; }

    public required ImmutableArray<AddedToken> Added { get; init; }

    public required WordPattern Pattern { get; init; }

    /// <summary>The steps that normalize text. Where pairs of bytes are merged, this can only be NFC.</summary>
    public ImmutableArray<TextStep> Normalizer { get; init; } = [];

    /// <summary>How spaces are marked after normalizing; null if they are not.</summary>
    public SpaceRule? Spaces { get; init; }

    /// <summary>Whether a word that is a token becomes that token, regardless of the merges.</summary>
    public bool WordsFirst { get; init; }

    /// <summary>The tokens that are added before a text.</summary>
    public ImmutableArray<int> Before { get; init; } = [];

    /// <summary>The tokens that are added after a text.</summary>
    public ImmutableArray<int> After { get; init; } = [];

    /// <summary>How many spaces at the beginning of decoded text are left out.</summary>
    public int LeadingSpaces { get; init; }

    /// <summary>The file's token for unknown characters. No text becomes it, because unknown characters become bytes.</summary>
    public int? Unknown { get; init; }

    public string TextOf(AddedToken added) => Encoding.UTF8.GetString(Pieces[added.Token]);

    // What is added around a text is left out, because weights that were trained before it was read must stay usable.
    public string Fingerprint()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData([(byte)Pattern, Normalizer.Contains(TextStep.Nfc) ? (byte)1 : (byte)0, WordsFirst ? (byte)1 : (byte)0]);
        AppendAll(Pieces);
        Append(Merges.Count);
        foreach (var (left, right, _) in Merges)
        {
            Append(left);
            Append(right);
        }

        foreach (var added in Added.OrderBy(a => a.Token)) Append((added.Token << 1) | (added.IsSpecial ? 1 : 0));
        if (!HasPieces) return Convert.ToHexStringLower(hash.GetHashAndReset());
        foreach (var step in Normalizer)
        {
            Append((int)step.Kind);
            AppendAll([step.From, step.To]);
        }

        Append(Spaces is null ? 0 : 1 + (Spaces.Prepends ? 1 : 0) + (Spaces.OnlyFirst ? 2 : 0));
        foreach (var added in Added.Where(a => a.IsNormalized).OrderBy(a => a.Token)) Append(added.Token);
        return Convert.ToHexStringLower(hash.GetHashAndReset());

        void AppendAll(ImmutableArray<byte[]> texts)
        {
            Append(texts.Length);
            foreach (var bytes in texts)
            {
                Append(bytes.Length);
                hash.AppendData(bytes);
            }
        }

        void Append(int number)
        {
            Span<byte> bytes = stackalloc byte[4];
            System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(bytes, number);
            hash.AppendData(bytes);
        }
    }
}
