using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>How text is generated.</summary>
/// <remarks>
/// For each token, in this order, as in Hugging Face's transformers: the repetition penalty changes the logits; if the temperature is 0,
/// the largest is taken; else they are divided by the temperature, TopK, TopP and MinP each leave some of the tokens that are left, and
/// one of those is drawn by its probability among them. The likeliest token always stays. A filter that removes nothing changes nothing
/// of what is drawn, and the same seed and options draw the same from the same logits.
/// </remarks>
public sealed record GenerationOptions
{
    /// <summary>The tokenizer that the model was trained with.</summary>
    public Tokenizer Tokenizer { get; init; } = Tokenizer.ByteLevel;

    /// <summary>Tokens to generate; fewer if the document ends or a stop string comes.</summary>
    public int Tokens { get; init; } = 200;

    /// <summary>0 takes the most likely token (greedy); above, the larger, the more daring.</summary>
    public double Temperature { get; init; }

    /// <summary>Draws among this many most likely tokens only, and those exactly as likely as the last of them; 0 for all.</summary>
    public int TopK { get; init; }

    /// <summary>
    /// Draws among the fewest most likely tokens whose probabilities reach this sum (nucleus sampling: Holtzman et al., arXiv 1904.09751,
    /// section 3.1); of equally likely ones the first. Above 0; 1 for all.
    /// </summary>
    public double TopP { get; init; } = 1;

    /// <summary>
    /// Draws among the tokens at least this share as probable as the likeliest (Nguyen et al., arXiv 2407.01082, section 3); 0 for all.
    /// </summary>
    public double MinP { get; init; }

    /// <summary>
    /// What the logits of tokens that are there already, in the prompt too, are divided by, or multiplied with where they are negative
    /// (CTRL: Keskar et al., arXiv 1909.05858, section 4.1; the sign as in transformers). Above 1 against repetition; 1 for none.
    /// </summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>How many of the last tokens the repetition penalty looks at; 0 for all, as transformers does.</summary>
    public int RepetitionWindow { get; init; }

    /// <summary>
    /// Generation ends before the first of these texts; before the longest, if several are complete at the same byte. They may span tokens.
    /// </summary>
    public ImmutableArray<string> StopStrings { get; init; } = [];

    /// <summary>
    /// What a smaller submodel keeps of each layer, which drafts tokens that the model then verifies, several in one pass over its weights
    /// (speculative decoding: Leviathan et al., arXiv 2211.17192; a slice as the draft: MatFormer, arXiv 2310.07707, section 4.1.2). It
    /// changes the speed and nothing else: the tokens are, to the last, those that come without it. Both use one key/value cache. A
    /// profile's <see cref="Profile{TModel}.Layers"/>; default for none.
    /// </summary>
    public ImmutableArray<LayerSlice> Draft { get; init; }

    /// <summary>Tokens that are drafted at once; null chooses them by what is accepted and what passes take, up to 8.</summary>
    public int? DraftLength { get; init; }

    /// <summary>Decides what is drawn.</summary>
    public long Seed { get; init; } = 1;

    /// <exception cref="ArgumentException">A value is out of range; the message names it.</exception>
    internal void Validate()
    {
        Check(Tokenizer is not null, nameof(Tokenizer), "null", "the tokenizer of the model");
        Check(Tokens >= 0, nameof(Tokens), Tokens, "0 or more");
        Check(Temperature >= 0 && double.IsFinite(Temperature), nameof(Temperature), Temperature, "0 or more");
        Check(TopK >= 0, nameof(TopK), TopK, "0 (for all tokens) or more");
        Check(TopP is > 0 and <= 1, nameof(TopP), TopP, "above 0, at most 1 (for all tokens)");
        Check(MinP is >= 0 and <= 1, nameof(MinP), MinP, "within 0 (for all tokens) and 1");
        Check(
            RepetitionPenalty > 0 && double.IsFinite(RepetitionPenalty), nameof(RepetitionPenalty), RepetitionPenalty,
            "more than 0; above 1 is against repetition, 1 for none");
        Check(
            DraftLength is null or (>= 1 and <= DraftLengths.Longest), nameof(DraftLength), DraftLength!,
            $"within 1 and {DraftLengths.Longest}");
        Check(RepetitionWindow >= 0, nameof(RepetitionWindow), RepetitionWindow, "0 (for all tokens) or more");
        Check(!StopStrings.IsDefault, nameof(StopStrings), "default", "an array, [] for none");
        foreach (var stop in StopStrings)
        {
            Check(!string.IsNullOrEmpty(stop), nameof(StopStrings), "empty in one place", "texts of at least one character");
            Check(IsText(stop), nameof(StopStrings), "half a character in one place", "texts of whole characters");
        }

        static void Check(bool holds, string name, object value, string wanted)
        {
            if (holds) return;
            throw new ArgumentException(FormattableString.Invariant($"The generation option {name} is {value}; it must be {wanted}."));
        }
    }

    // Whether all surrogates are in pairs.
    private static bool IsText(string text)
    {
        for (var rest = text.AsSpan(); !rest.IsEmpty;)
        {
            if (Rune.DecodeFromUtf16(rest, out _, out var length) != System.Buffers.OperationStatus.Done) return false;
            rest = rest[length..];
        }

        return true;
    }
}
