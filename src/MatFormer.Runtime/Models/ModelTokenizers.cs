namespace MatFormer;

/// <summary>Checks whether a tokenizer belongs to a model in memory.</summary>
internal static class ModelTokenizers
{
    /// <summary>Checks that the tokenizer's vocabulary fits a model and that the model was not trained with another tokenizer.</summary>
    /// <exception cref="TokenizerException">The vocabulary does not fit, or the model was trained with another tokenizer.</exception>
    public static void CheckFits(this Tokenizer tokenizer, MatFormerModel model) =>
        tokenizer.CheckFits(model.Architecture, model.TokenizerFingerprint);
}
