using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>The options of text generation.</summary>
/// <remarks>
/// Each token is chosen in these steps, as in Hugging Face's transformers. The repetition penalty changes the logits. Then the frequency
/// and presence penalties are subtracted and the biases are added, as in OpenAI's API. If the temperature is 0, the token with the largest
/// logit is taken. Otherwise the logits are divided by the temperature, then TopK, TopP and MinP each remove some of the remaining tokens,
/// and one of the rest is drawn by its probability. The likeliest token is never removed. A filter that removes nothing does not change the
/// result. The same seed and options draw the same token from the same logits.
/// </remarks>
public sealed record GenerationOptions
{
    /// <summary>The tokenizer that the model was trained with.</summary>
    public Tokenizer Tokenizer { get; init; } = Tokenizer.ByteLevel;

    /// <summary>The number of tokens to generate; fewer if the document ends or a stop string occurs.</summary>
    public int Tokens { get; init; } = 200;

    /// <summary>The temperature. 0 takes the most likely token (greedy); larger values give more varied text.</summary>
    public double Temperature { get; init; }

    /// <summary>
    /// Draws only among this many most likely tokens, and tokens exactly as likely as the last of them; 0 for all tokens.
    /// </summary>
    public int TopK { get; init; }

    /// <summary>
    /// Draws among the fewest most likely tokens whose probabilities reach this sum (nucleus sampling: Holtzman et al., arXiv 1904.09751,
    /// section 3.1). Among equally likely tokens, the first ones are kept. Above 0; 1 for all tokens.
    /// </summary>
    public double TopP { get; init; } = 1;

    /// <summary>
    /// Draws among the tokens whose probability is at least this share of the likeliest token's (Nguyen et al., arXiv 2407.01082, section
    /// 3); 0 for all tokens.
    /// </summary>
    public double MinP { get; init; }

    /// <summary>
    /// The repetition penalty: it divides positive logits, and multiplies negative logits, of tokens that occur in the text so far or in
    /// the prompt (CTRL: Keskar et al., arXiv 1909.05858, section 4.1; the sign as in transformers). Values above 1 reduce repetition; 1 is
    /// off.
    /// </summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>The number of last tokens that the repetition penalty considers; 0 for all, as in transformers.</summary>
    public int RepetitionWindow { get; init; }

    /// <summary>
    /// The frequency penalty: it is subtracted from the logit of a token as often as the token was generated. It reduces repetition if it
    /// is above 0. Tokens of the prompt do not count. 0 is off.
    /// </summary>
    public double FrequencyPenalty { get; init; }

    /// <summary>
    /// The presence penalty: it is subtracted once from the logit of each token that was generated. It reduces repetition if it is above 0.
    /// Tokens of the prompt do not count. 0 is off.
    /// </summary>
    public double PresencePenalty { get; init; }

    /// <summary>
    /// What is added to the logits of some tokens. In most models, 100 makes a token the only choice, and -100 excludes it.
    /// </summary>
    public ImmutableDictionary<int, double> LogitBias { get; init; } = ImmutableDictionary<int, double>.Empty;

    /// <summary>
    /// The number of likeliest tokens whose log probabilities are returned beside that of each generated token
    /// (<see cref="TextPiece.LogProbabilities"/>); null for no log probabilities. They are those of the model's logits, before the
    /// penalties, the biases, the temperature and the filters.
    /// </summary>
    public int? TopLogProbabilities { get; init; }

    /// <summary>
    /// Generation ends before the first of these texts. If several end at the same byte, it ends before the longest. A text may span
    /// tokens.
    /// </summary>
    public ImmutableArray<string> StopStrings { get; init; } = [];

    /// <summary>
    /// The <see cref="Profile{TModel}.Layers"/> of a smaller profile that drafts tokens; default for no draft. The model verifies several
    /// drafted tokens in one pass over its weights (speculative decoding: Leviathan et al., arXiv 2211.17192; a slice as the draft:
    /// MatFormer, arXiv 2310.07707, section 4.1.2). A draft changes only the speed: the tokens are exactly those that come without it. Both
    /// submodels use one key/value cache.
    /// </summary>
    public ImmutableArray<LayerSlice> Draft { get; init; }

    /// <summary>
    /// The format of the weights that the draft runs with: one of fewer bits than the engine holds, such as
    /// <see cref="DecodingWeights.Nested4"/> of an engine of <see cref="DecodingWeights.Nested8"/>. Both read the same bytes. The draft may
    /// then be as large as the model. Null drafts with the weights of the model.
    /// </summary>
    public DecodingWeights? DraftWeights { get; init; }

    /// <summary>
    /// The number of tokens that are drafted at once, up to 8. Null chooses it by the accepted share and the times of passes.
    /// </summary>
    public int? DraftLength { get; init; }

    /// <summary>
    /// Smaller submodels that answer while they are sure, narrowest first; empty for none. Each is a part of the next one, the last one of
    /// the model, and all have the model's heads. A token of which none is sure is the model's own. The widest submodel that can be asked
    /// computes the prompt. Unlike a draft, a cascade changes the text: thresholds trade quality for speed.
    /// </summary>
    /// <remarks>
    /// All submodels use one key/value cache, and none computes earlier tokens again. So a wider one reads the approximate keys and values
    /// that narrower ones left.
    /// </remarks>
    public ImmutableArray<CascadeLevel> Cascade { get; init; } = [];

    /// <summary>The seed of the random numbers.</summary>
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
            "more than 0; values above 1 reduce repetition, 1 is off");
        Check(DraftWeights is null || !Draft.IsDefault, nameof(DraftWeights), $"{DraftWeights}", "null without a Draft");
        Check(
            DraftLength is null or (>= 1 and <= DraftLengths.Longest), nameof(DraftLength), DraftLength!,
            $"within 1 and {DraftLengths.Longest}");
        Check(!Cascade.IsDefault, nameof(Cascade), "default", "an array; use [] for none");
        foreach (var level in Cascade)
        {
            Check(level is not null, nameof(Cascade), "null in one place", "levels with a submodel and a threshold");
            Check(level!.Threshold is >= 0 and <= 1, nameof(Cascade), FormattableString.Invariant($"at the threshold {level.Threshold}"),
                "at thresholds within 0 (always answers) and 1 (is never asked)");
        }

        Check(
            Cascade.IsEmpty || Draft.IsDefault, nameof(Cascade), "given beside a Draft",
            "given alone: a draft reproduces the text of one submodel, and a cascade has several");
        Check(double.IsFinite(FrequencyPenalty), nameof(FrequencyPenalty), FrequencyPenalty, "a finite number; 0 is off");
        Check(double.IsFinite(PresencePenalty), nameof(PresencePenalty), PresencePenalty, "a finite number; 0 is off");
        Check(LogitBias is not null, nameof(LogitBias), "null", "a dictionary; use an empty one for no bias");
        foreach (var (token, bias) in LogitBias!)
        {
            Check(
                token >= 0 && token < Tokenizer!.VocabularySize, nameof(LogitBias), $"for token {token}",
                $"for tokens within 0 and {Tokenizer!.VocabularySize - 1}");
            Check(double.IsFinite(bias), nameof(LogitBias), FormattableString.Invariant($"{bias} for token {token}"), "finite");
        }

        Check(
            TopLogProbabilities is null or >= 0, nameof(TopLogProbabilities), TopLogProbabilities!,
            "0 or more, or null for no log probabilities");
        Check(RepetitionWindow >= 0, nameof(RepetitionWindow), RepetitionWindow, "0 (for all tokens) or more");
        Check(!StopStrings.IsDefault, nameof(StopStrings), "default", "an array; use [] for none");
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

    // Returns true if all surrogates are in pairs.
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
