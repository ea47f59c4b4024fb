namespace MatFormer;

/// <summary>Whether a tokenizer is a model's.</summary>
internal static class TokenizerChecks
{
    /// <summary>Checks that a model can have a tokenizer's tokens; more than there are do no harm.</summary>
    /// <exception cref="TokenizerException">It cannot.</exception>
    public static void CheckFits(this Tokenizer tokenizer, ModelSpec spec)
    {
        var size = tokenizer.VocabularySize;
        if (spec.Vocabulary >= size) return;
        var rounded = (size + 63) / 64 * 64;
        throw new TokenizerException(
            $"{spec.Name} has a vocabulary of {spec.Vocabulary}, but the tokenizer ({tokenizer.Describe()}) has {size} tokens; declare "
            + $"Vocabulary = {rounded}{(tokenizer.IsByteLevel ? string.Empty : ", or train a smaller tokenizer")}.");
    }

    /// <summary>Checks that a model can have these tokens and, if it is known with which it was trained, that it was with these.</summary>
    /// <exception cref="TokenizerException">It cannot, or was not.</exception>
    public static void CheckFits(this Tokenizer tokenizer, ModelSpec spec, string? trainedWith)
    {
        tokenizer.CheckFits(spec);
        if (trainedWith is not null && trainedWith != tokenizer.Fingerprint)
        {
            throw new TokenizerException(
                $"The weights of {spec.Name} were trained with another tokenizer (fingerprint {trainedWith}, this one, "
                + $"{tokenizer.Describe()}, has {tokenizer.Fingerprint}); give the {Tokenizer.FileName} that lies beside the weights.");
        }
    }
}
