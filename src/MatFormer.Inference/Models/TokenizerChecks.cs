namespace MatFormer;

/// <summary>Checks whether a tokenizer fits a model.</summary>
internal static class TokenizerChecks
{
    /// <summary>Checks that the model's vocabulary has room for the tokenizer's tokens. A larger vocabulary is fine.</summary>
    /// <exception cref="TokenizerException">The vocabulary is too small.</exception>
    public static void CheckFits(this Tokenizer tokenizer, ModelSpec spec)
    {
        var size = tokenizer.VocabularySize;
        if (spec.Vocabulary >= size) return;
        var rounded = (size + 63) / 64 * 64;
        throw new TokenizerException(
            $"{spec.Name} has a vocabulary of {spec.Vocabulary}, but the tokenizer ({tokenizer.Describe()}) has {size} tokens; declare "
            + $"Vocabulary = {rounded}{(tokenizer.IsByteLevel ? string.Empty : ", or train a smaller tokenizer")}.");
    }

    /// <summary>Checks that a tokenizer fits the vocabulary and, if it is known, that the model was trained with this tokenizer.</summary>
    /// <exception cref="TokenizerException">The vocabulary is too small, or the tokenizer is another one.</exception>
    public static void CheckFits(this Tokenizer tokenizer, ModelSpec spec, string? trainedWith)
    {
        tokenizer.CheckFits(spec);
        if (trainedWith is not null && trainedWith != tokenizer.Fingerprint)
        {
            throw new TokenizerException(
                $"The weights of {spec.Name} were trained with another tokenizer (fingerprint {trainedWith}; this one, "
                + $"{tokenizer.Describe()}, has {tokenizer.Fingerprint}); give the {Tokenizer.FileName} that lies beside the weights.");
        }
    }
}
