using static TorchSharp.torch;

namespace MatFormer;

/// <summary>What generated code implements for a declared model over tensors, and all that the runtime knows of it.</summary>
/// <typeparam name="TSelf">The declared model.</typeparam>
public interface IMatFormer<TSelf> : IDecodable<TSelf>
    where TSelf : MatFormerModel, IMatFormer<TSelf>
{
    /// <summary>A universal model with newly drawn weights (<c>torch.manual_seed</c> decides them).</summary>
    static abstract TSelf Create(Device? device = null);

    /// <summary>A model of one profile's shape with newly drawn weights, to load a slice into.</summary>
    static abstract MatFormerModel CreateSubmodel(Profile<TSelf> profile, Device? device = null);

    /// <summary>
    /// What a submodel gives: of a language model tokens (B, T) int64 to logits (B, T, Vocabulary) float32; of a vision transformer pixels
    /// (B, C, H, H) float32 to logits (B, Classes); of a text encoder tokens, -1 behind their ends, to embeddings (B, width) of length 1.
    /// </summary>
    Tensor Forward(Profile<TSelf> profile, Tensor input);

    /// <summary>Embeddings of length 1 by a submodel of an encoder, cut to their first numbers before: (B, width) float32.</summary>
    /// <param name="profile">The submodel.</param>
    /// <param name="input">As of <see cref="Forward"/>.</param>
    /// <param name="width">One of the declared dimensions; all if null.</param>
    /// <exception cref="ArgumentException">No such dimension is declared.</exception>
    Tensor Embed(Profile<TSelf> profile, Tensor input, int? width = null) =>
        throw new NotSupportedException($"{TSelf.Spec.Name} is a language model, and gives no embeddings.");

    /// <summary>Logits (B, Classes) that a submodel of a vision transformer finds in the first numbers of its embeddings alone.</summary>
    /// <param name="profile">The submodel.</param>
    /// <param name="pixels">As of <see cref="Forward"/>.</param>
    /// <param name="width">One of the declared dimensions; all, which is <see cref="Forward"/>, if null.</param>
    /// <exception cref="ArgumentException">No such dimension is declared.</exception>
    Tensor Classify(Profile<TSelf> profile, Tensor pixels, int? width = null) =>
        throw new NotSupportedException($"{TSelf.Spec.Name} is no vision transformer, and classifies nothing.");

    /// <summary>
    /// The loss of each stream, float32 (streams.Count,), in the order of the streams: mean cross-entropy in nats per token, image or text.
    /// Of language models tokens and targets (B, T) int64; of vision transformers pixels and classes (B) int64, or their probabilities;
    /// of text encoders queries and documents in turn, and (B) int64, rows of the same number being never each other's negatives. With a
    /// recomputation, what the layers compute is not kept for the gradients, which that then gives.
    /// </summary>
    Tensor Losses(Streams streams, Tensor input, Tensor targets, Recomputation? recomputation = null);

    /// <summary>
    /// Two rows, float32 (2, streams.Count): the losses of <see cref="Losses"/>, and temperature^2 KL(largest granularity || stream) on the
    /// same rows, without gradient into the largest; 0 for itself.
    /// </summary>
    Tensor DistilledLosses(
        Streams streams, Tensor input, Tensor targets, double temperature, Recomputation? recomputation = null);

    /// <summary>
    /// How much each hidden unit of each layer adds to an input as of <see cref="Forward"/>: the mean magnitude of its activation times the
    /// norm of what it writes, (hidden) float32 for each layer.
    /// </summary>
    Tensor[] HiddenImportance(Tensor input);

    /// <summary>
    /// Puts the hidden units of a layer into another order, (hidden) int64; the whole model computes what it did, up to rounding.
    /// </summary>
    void ReorderHiddenUnits(int layer, Tensor order);

    /// <summary>A model of its own with only the profile's weights, copied.</summary>
    MatFormerModel Extract(Profile<TSelf> profile);

    /// <summary>The same without a copy: it shares this model's weights, for inference only.</summary>
    MatFormerModel View(Profile<TSelf> profile);
}

/// <summary>What generated code implements for the class of one profile, such as <c>DocsLm.Phone</c>.</summary>
/// <typeparam name="TModel">The declared model.</typeparam>
/// <typeparam name="TSelf">The class of the profile.</typeparam>
public interface ISubmodel<TModel, TSelf>
    where TModel : MatFormerModel, IMatFormer<TModel>
    where TSelf : MatFormerModel, ISubmodel<TModel, TSelf>
{
    /// <summary>The profile whose shape the class has.</summary>
    static abstract Profile<TModel> Profile { get; }

    /// <summary>Takes the profile's weights out of <paramref name="model"/>, copied, or shared for inference only.</summary>
    static abstract TSelf From(TModel model, bool copy);
}
