using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The members that generated code implements for a declared model over tensors.</summary>
/// <typeparam name="TSelf">The declared model.</typeparam>
public interface IMatFormer<TSelf> : IDecodable<TSelf>
    where TSelf : MatFormerModel, IMatFormer<TSelf>
{
    /// <summary>Creates a universal model with newly drawn weights. <c>torch.manual_seed</c> makes them reproducible.</summary>
    static abstract TSelf Create(Device? device = null);

    /// <summary>Creates a model of one profile's shape with newly drawn weights. A slice can be loaded into it.</summary>
    static abstract MatFormerModel CreateSubmodel(Profile<TSelf> profile, Device? device = null);

    /// <summary>
    /// Returns the output of a submodel. A language model takes tokens (B, T) int64 and returns logits (B, T, Vocabulary) float32. A vision
    /// transformer takes pixels (B, C, H, H) float32 and returns logits (B, Classes). A text encoder takes tokens, with -1 after the end of
    /// a text, and returns embeddings (B, width) of length 1.
    /// </summary>
    Tensor Forward(Profile<TSelf> profile, Tensor input);

    /// <summary>
    /// Returns the embeddings of an encoder's submodel, (B, width) float32. Each is cut to its first numbers and then scaled to length 1.
    /// </summary>
    /// <param name="profile">The submodel.</param>
    /// <param name="input">The input, as for <see cref="Forward"/>.</param>
    /// <param name="width">One of the declared dimensions; null keeps all numbers.</param>
    /// <exception cref="ArgumentException">No such dimension is declared.</exception>
    Tensor Embed(Profile<TSelf> profile, Tensor input, int? width = null) =>
        throw new NotSupportedException($"{TSelf.Spec.Name} is a language model; only encoders have embeddings.");

    /// <summary>
    /// Returns the logits (B, Classes) that a vision transformer's submodel computes from only the first numbers of its embeddings.
    /// </summary>
    /// <param name="profile">The submodel.</param>
    /// <param name="pixels">The pixels, as for <see cref="Forward"/>.</param>
    /// <param name="width">One of the declared dimensions; null uses all numbers, as <see cref="Forward"/> does.</param>
    /// <exception cref="ArgumentException">No such dimension is declared.</exception>
    Tensor Classify(Profile<TSelf> profile, Tensor pixels, int? width = null) =>
        throw new NotSupportedException($"{TSelf.Spec.Name} is not a vision transformer; only vision transformers classify.");

    /// <summary>
    /// Returns the loss of each stream, (streams.Count,) float32, in the order of the streams: the mean cross-entropy in nats per token,
    /// image or text. Language models take tokens and targets (B, T) int64. Vision transformers take pixels and classes (B) int64, or class
    /// probabilities. Text encoders take queries and documents in turn, and (B) int64: rows with the same number are never each other's
    /// negatives. With a recomputation, the activations of the layers are not kept, and <see cref="Recomputation.Backward"/> computes the
    /// gradients.
    /// </summary>
    Tensor Losses(Streams streams, Tensor input, Tensor targets, Recomputation? recomputation = null);

    /// <summary>
    /// Returns two rows, (2, streams.Count) float32: the losses of <see cref="Losses"/>, and temperature^2 KL(widest granularity || stream)
    /// on the same rows. No gradient flows into the widest granularity, and its own divergence is 0.
    /// </summary>
    Tensor DistilledLosses(
        Streams streams, Tensor input, Tensor targets, double temperature, Recomputation? recomputation = null);

    /// <summary>
    /// Returns the importance of each hidden unit, (hidden) float32 for each layer: the mean magnitude of its activation times the norm of
    /// its column of the down projection. The input is as for <see cref="Forward"/>.
    /// </summary>
    Tensor[] HiddenImportance(Tensor input);

    /// <summary>
    /// Reorders the hidden units of a layer by <paramref name="order"/>, (hidden) int64. The whole model's output stays the same up to
    /// rounding.
    /// </summary>
    void ReorderHiddenUnits(int layer, Tensor order);

    /// <summary>
    /// Returns the importance of each channel of the residual stream, (Width) float32: the mean magnitude of the normed states before each
    /// feed-forward. The input is as for <see cref="Forward"/>.
    /// </summary>
    /// <exception cref="NotSupportedException">No granularity keeps fewer channels.</exception>
    Tensor ChannelImportance(Tensor input) => throw NoWidths;

    /// <summary>
    /// Reorders the channels of the residual stream in all weights by <paramref name="order"/>, (Width) int64. The whole model's output
    /// stays the same up to rounding.
    /// </summary>
    /// <exception cref="NotSupportedException">No granularity keeps fewer channels.</exception>
    void ReorderChannels(Tensor order) => throw NoWidths;

    private static NotSupportedException NoWidths =>
        new($"All granularities of {TSelf.Spec.Name} keep the whole residual stream, so its channels have no order.");

    /// <summary>Creates an independent model with a copy of only the profile's weights.</summary>
    MatFormerModel Extract(Profile<TSelf> profile);

    /// <summary>
    /// Creates a model of the profile that shares this model's weights instead of copying them. It is for inference only.
    /// </summary>
    MatFormerModel View(Profile<TSelf> profile);
}

/// <summary>The members that generated code implements for the class of one profile, such as <c>DocsLm.Phone</c>.</summary>
/// <typeparam name="TModel">The declared model.</typeparam>
/// <typeparam name="TSelf">The class of the profile.</typeparam>
public interface ISubmodel<TModel, TSelf>
    where TModel : MatFormerModel, IMatFormer<TModel>
    where TSelf : MatFormerModel, ISubmodel<TModel, TSelf>
{
    /// <summary>The profile whose shape the class has.</summary>
    static abstract Profile<TModel> Profile { get; }

    /// <summary>Creates a submodel from the profile's weights in <paramref name="model"/>: copied, or shared for inference only.</summary>
    static abstract TSelf From(TModel model, bool copy);
}
