namespace MatFormer;

/// <summary>Whether a tokenizer is that of a model in memory.</summary>
internal static class ModelTokenizers
{
    /// <summary>Checks that a model can have these tokens and was not trained with others.</summary>
    /// <exception cref="TokenizerException">It cannot, or was.</exception>
    public static void CheckFits(this Tokenizer tokenizer, MatFormerModel model) =>
        tokenizer.CheckFits(model.Architecture, model.TokenizerFingerprint);
}
