using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>What the kinds of model take and give, in names and in prose: what differs between them where the code is alike.</summary>
/// <param name="Input">The name of the argument.</param>
/// <param name="Takes">It, with its shape.</param>
/// <param name="Gives">What the forward pass gives.</param>
/// <param name="Shape">The shape of that.</param>
/// <param name="NotFitting">When an input is refused.</param>
/// <param name="Check">The method that checks it.</param>
/// <param name="Method">The network's method that gives it.</param>
/// <param name="Loss">What a loss is.</param>
/// <param name="Batch">What losses take.</param>
/// <param name="NotFittingBatch">When a batch is refused.</param>
internal sealed record ModelText(
    string Input, string Takes, string Gives, string Shape, string NotFitting, string Check, string Method, string Loss, string Batch,
    string NotFittingBatch)
{
    /// <summary>What the forward pass gives, with its dtype.</summary>
    public string Result => Shape + " float32";

    public static ModelText Of(ModelSpec spec) => spec.Kind switch
    {
        ModelKind.VisionTransformer => OfImages(spec.Image!),
        ModelKind.TextEncoder => new(
            "tokens",
            "tokens (B, T) int64, -1 behind the end of a text,",
            "Embeddings of length 1",
            $"(B, {Literals.Digits(spec.Embedding!.Width)})",
            $"Not (B, T) int64, or longer than {Literals.Text(spec.Context)} tokens",
            "CheckTokens",
            "Forward",
            "Mean cross-entropy in nats of finding each text's partner among the others",
            "tokens (B, T) int64: a query and its document in turn, -1 behind their ends; targets (B) int64: rows of the same number are never"
            + " each other's negatives",
            "Not such tokens and targets, or longer than the context"),
        _ => new(
            "tokens",
            "tokens (B, T) int64",
            "Logits",
            $"(B, T, {Literals.Digits(spec.Vocabulary)})",
            $"Not (B, T) int64, or longer than {Literals.Text(spec.Context)} tokens",
            "CheckTokens",
            "Logits",
            "Mean cross-entropy in nats per token",
            "tokens and targets: (B, T) int64",
            "Not (B, T) int64 both, or longer than the context"),
    };

    private static ModelText OfImages(ImageSpec image)
    {
        var size = Literals.Digits(image.Size);
        var pixels = $"(B, {Literals.Digits(image.Channels)}, {size}, {size})";
        var classes = Literals.Digits(image.Classes);
        return new(
            "pixels",
            $"pixels {pixels} float32, from -1 to 1,",
            "Logits of the classes",
            $"(B, {classes})",
            $"Not {pixels} float32",
            "CheckPixels",
            "Logits",
            "Mean cross-entropy in nats per image",
            $"pixels {pixels} float32; targets: classes (B) int64, or their probabilities (B, {classes}) float32",
            "Not such pixels and targets");
    }
}
