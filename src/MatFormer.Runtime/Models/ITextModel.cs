namespace MatFormer;

/// <summary>
/// The interface that generated code implements for a declared language model or text encoder over tensors. A vision transformer has only
/// <see cref="IMatFormer{TSelf}"/>, so the compiler refuses it where text is needed, as in <c>ServeCommand.For</c>.
/// </summary>
/// <typeparam name="TSelf">The declared model.</typeparam>
public interface ITextModel<TSelf> : IMatFormer<TSelf>
    where TSelf : MatFormerModel, ITextModel<TSelf>;
