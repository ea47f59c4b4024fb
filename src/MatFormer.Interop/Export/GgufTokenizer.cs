using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>
/// Maps a tokenizer to one of llama.cpp's: <c>gpt2</c> merges pairs of bytes, and <c>llama</c> (SentencePiece's) merges pairs of
/// characters.
/// </summary>
internal static class GgufTokenizer
{
    // Values of llama.cpp's llama_token_type.
    private const int NormalToken = 1;
    private const int UnknownToken = 2;
    private const int ControlToken = 3;
    private const int UserDefinedToken = 4;
    private const int UnusedToken = 5;
    private const int ByteToken = 6;

    /// <summary>Returns what the tokenizer does that llama.cpp does not, or null.</summary>
    public static string? Problem(Tokenizer tokenizer)
    {
        var content = tokenizer.Content;
        if (content.Before.Length > 1 || content.After.Length > 1) return "adds more than one token before or after a text";
        if (content.After is [var last] && last != tokenizer.EndOfText) return "adds a token after a text that does not end texts";
        if (!content.HasPieces) return PreTokenizer(content) is null ? "cuts text into words in its own way" : null;
        if (content.WordsFirst) return "makes whole words tokens regardless of their pairs (ignore_merges)";
        if (AddsSpace(content) is null) return "normalizes text in its own way";
        return Scores(content) is null ? "merges pairs in its own way" : null;
    }

    /// <summary>Writes the tokenizer, which must have no problem.</summary>
    /// <param name="file">The file.</param>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="vocabulary">The number of tokens of the model, which may be more than the tokenizer's.</param>
    public static void Write(GgufWriter file, Tokenizer tokenizer, int vocabulary)
    {
        var content = tokenizer.Content;
        var (texts, kinds) = Vocabulary(content, vocabulary);
        file.Add("tokenizer.ggml.model", content.HasPieces ? "llama" : "gpt2");
        file.Add("tokenizer.ggml.pre", content.HasPieces ? "default" : PreTokenizer(content)!);
        file.Add("tokenizer.ggml.tokens", texts);
        file.Add("tokenizer.ggml.token_type", kinds);
        if (content.HasPieces)
        {
            var scores = Scores(content)!;
            file.Add("tokenizer.ggml.scores", [.. scores, .. new float[texts.Count - scores.Length]]);
            file.Add("tokenizer.ggml.add_space_prefix", AddsSpace(content)!.Value);
            if (content.Unknown is { } unknown) file.Add("tokenizer.ggml.unknown_token_id", (uint)unknown);
        }
        else
        {
            file.Add("tokenizer.ggml.merges", content.Merges.Select(m => $"{texts[m.Left]} {texts[m.Right]}").ToList());
        }

        // Without these ids, llama.cpp would end texts at token 11. The byte 0xFF is safe, because no UTF-8 text contains it.
        var end = tokenizer.EndOfText ?? content.Pieces.IndexOf(
            content.HasPieces ? BytePairs.NameOf(byte.MaxValue) : [byte.MaxValue], 0, ByteStrings.Comparer);
        file.Add("tokenizer.ggml.bos_token_id", (uint)(content.Before is [var begin] ? begin : end));
        file.Add("tokenizer.ggml.eos_token_id", (uint)end);
        file.Add("tokenizer.ggml.add_bos_token", !content.Before.IsEmpty);
        file.Add("tokenizer.ggml.add_eos_token", !content.After.IsEmpty);
    }

    /// <summary>Returns the text and the kind of each token.</summary>
    internal static (List<string> Texts, List<int> Kinds) Vocabulary(TokenizerContent content, int vocabulary)
    {
        var added = content.Added.ToDictionary(a => a.Token);
        var bytes = Enumerable.Range(0, content.HasPieces ? 256 : 0).Select(value => BytePairs.NameOf((byte)value))
            .ToHashSet(ByteStrings.Comparer);
        var (texts, kinds) = (new List<string>(), new List<int>());
        for (var token = 0; token < content.Pieces.Length; token++)
        {
            var piece = content.Pieces[token];
            var isAdded = added.TryGetValue(token, out var its);
            texts.Add(isAdded || content.HasPieces ? Encoding.UTF8.GetString(piece) : ByteAlphabet.ToText(piece));
            kinds.Add(content.HasPieces && token == content.Unknown ? UnknownToken
                : isAdded ? its!.IsSpecial ? ControlToken : UserDefinedToken
                : bytes.Contains(piece) ? ByteToken : NormalToken);
        }

        // llama.cpp takes the vocabulary's size from the tokens, so every row of the embedding needs a token.
        for (var token = texts.Count; token < vocabulary; token++)
        {
            texts.Add(string.Create(CultureInfo.InvariantCulture, $"[UNUSED{token}]"));
            kinds.Add(UnusedToken);
        }

        return (texts, kinds);
    }

    /// <summary>
    /// Returns the scores of pieces. llama.cpp merges any two neighbours that make a piece, the one with the highest score first. So the
    /// scores fall in the order of the merges. Returns null if it would merge pairs that are not among the merges, or in another order.
    /// </summary>
    internal static float[]? Scores(TokenizerContent content)
    {
        var scores = new float[content.Pieces.Length];
        var (rank, previous) = (0, -1);
        foreach (var (_, _, result) in content.Merges)
        {
            if (result == previous) continue;
            if (scores[result] < 0) return null;
            scores[result] = -++rank;
            previous = result;
        }

        var ids = new Dictionary<byte[], int>(ByteStrings.Comparer);
        for (var token = 0; token < content.Pieces.Length; token++) ids.TryAdd(content.Pieces[token], token);
        var find = ids.GetAlternateLookup<ReadOnlySpan<byte>>();
        var merges = content.Merges.Select(m => BytePairs.Key(m.Left, m.Right)).ToHashSet();
        var special = content.Added.Where(a => a.IsSpecial).Select(a => a.Token).ToHashSet();
        for (var token = 0; token < content.Pieces.Length; token++)
        {
            var piece = content.Pieces[token].AsSpan();
            if (special.Contains(token)) continue;

            // Where words begin at spaces, no pair crosses the beginning of a word.
            if (content.Pattern == WordPattern.Marks && piece.LastIndexOf(SpaceRule.Mark) > 0) return null;
            for (var cut = 1; cut < piece.Length; cut++)
            {
                if (find.TryGetValue(piece[..cut], out var left) && find.TryGetValue(piece[cut..], out var right)
                    && !merges.Contains(BytePairs.Key(left, right))) return null;
            }
        }

        return scores;
    }

    // Whether a space is put before a text; null if text is changed in another way. Where Metaspace puts it there, llama.cpp does so even
    // if the text begins with a space, as SentencePiece did before the file was converted.
    private static bool? AddsSpace(TokenizerContent content)
    {
        var prepend = new TextStep(TextStepKind.Prepend, [], TextStep.MarkSpaces.To);
        var marks = TextStep.MarkSpaces;
        return (content.Normalizer, content.Spaces) switch
        {
            ([], { } spaces) => spaces.Prepends,
            ([var only], null) when only == marks => false,
            ([var one, var two], null) when (one == prepend && two == marks) || (one == marks && two == prepend) => true,
            _ => null,
        };
    }

    // llama.cpp's name for the way in which words are cut; null if llama.cpp has no equivalent.
    private static string? PreTokenizer(TokenizerContent content) => content switch
    {
        { Merges.Count: 0, WordsFirst: false } => "gpt-2",
        { Pattern: WordPattern.Gpt2, WordsFirst: false } => "gpt-2",
        { Pattern: WordPattern.Llama3, WordsFirst: true } => "llama-bpe",
        { Pattern: WordPattern.Qwen2, WordsFirst: false } => "qwen2",
        { Pattern: WordPattern.Tekken, WordsFirst: true } => "tekken",
        _ => null,
    };
}
