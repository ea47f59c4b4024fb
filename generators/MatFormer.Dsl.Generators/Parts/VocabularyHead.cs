using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>The logits of the next token. The weights are the embeddings (tied) or a separate matrix.</summary>
internal sealed class VocabularyHead(ModelSpec spec, Architecture architecture) : HeadPart(spec, architecture)
{
    public override string Gives => "logits";

    public override string GivenShape => $"(B, T, {Literals.Digits(Spec.Vocabulary)})";

    public override string Loss => "Mean cross-entropy in nats per token";

    public override string Batch => "The tokens and targets are (B, T) int64";

    public override string NotFittingBatch => "The tokens or targets are not (B, T) int64, or T is above the context";

    public override (string Of, string Name) FlopsConstant =>
        ("of one token's forward pass, averaged over a full context", "FlopsPerToken");

    public override IEnumerable<WeightSpec> Weights =>
        Spec.Tied ? [] : [WeightSpec.Embedding("Head", "lm_head.weight", Spec.Vocabulary, Spec.Stream)];

    // Tied and separate weights take the same FLOPs.
    public override long Flops => 2L * Spec.Vocabulary * Spec.Width;

    public override IEnumerable<string> SpecLines => Spec.Tied ? ["TiedHead = true,"] : [];

    public override IEnumerable<string> DecodingLines => [$"thread.Logits({(Spec.Tied ? "_embedTokens" : "_head")});"];

    private string Field => Spec.Tied ? Input.Field : "Head";

    public override IEnumerable<string> ModelMembers(CodeFile f) =>
    [
        CachedForward(f, $"return _network.Logits(tokens, {f.Streams}.Of({Widest}), cache, ComputeType);"),
        $$"""
        /// <summary>Returns logits of a submodel, computed with this model's weights: {{Input.Takes}} to {{Given}}.</summary>
        /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}.</exception>
        public {{f.Tensor}} Forward({{f.Profile}} profile, {{f.Tensor}} tokens)
        {
            {{f.ArgumentNullException}}.ThrowIfNull(profile);
            CheckTokens(tokens);
            return _network.Logits(tokens, {{f.Streams}}.Of(profile), null, ComputeType);
        }
        """,
    ];

    public override IEnumerable<string> NetworkMembers(CodeFile f) =>
    [
        $$"""
        // Logits of one stream: tokens (B, T) to {{Given}}.
        public {{f.Tensor}} Logits({{f.Tensor}} tokens, {{f.Streams}} streams, {{f.KeyValueCache}}? cache, {{f.ScalarType}} type)
        {
            using var states = States(tokens, streams, cache, type);  //| {{Shape.States(Spec)}}
            {{CodeFile.Indented(Logits(f, "states", Field + Nested))}}
        }
        """,
    ];

    public override string SliceForward(CodeFile f) => SliceLogits(f, "null");

    public override IEnumerable<string> SliceMembers(CodeFile f) => [CachedForward(f, CodeFile.Indented(SliceLogits(f, "cache")))];

    public override LossTerms Losses(CodeFile f) => new(
        "states",
        Shape.Stacked(Spec),
        Shape.States(Spec),
        "tokens and targets (B, T)",
        (input, streams, more) => $"States({input}, {streams}, null, type{more})",
        $"{f.Kernels}.LinearCrossEntropy(states, {Field}, targets, streams.Count, streams.BatchRows{Nested})",
        $"{f.Kernels}.LinearDivergence(\n    states, teacher, {Field}, streams.Count, streams.BatchRows, student, temperature{Nested})");

    public override IEnumerable<PackedField> Packed(CodeFile f)
    {
        var sizes = $"{Literals.Of(Spec.Vocabulary)}, {Shape.WidthExpression(Spec)}";
        return Spec.Tied
            ? []
            : [new(f.PackedMatrix, "_head", $"packer.Matrix(\"lm_head.weight\", {sizes})", $"({Spec.Vocabulary}, {Shape.Width(Spec)})")];
    }

    private string SliceLogits(CodeFile f, string cache) =>
        $"using var states = States(tokens, {cache});  //| {Shape.States(Spec)}\n" + Logits(f, "states", "Network." + Field);

    private string CachedForward(CodeFile f, string body) => $$"""
        /// <summary>
        /// Returns logits {{Given}} of tokens (B, T) int64 that follow the tokens in the cache, and adds the new tokens to the cache.
        /// </summary>
        /// <exception cref="{{f.ArgumentException}}">The tokens are not (B, T) int64, or the cache has no room for them.</exception>
        public override {{f.Tensor}} forward({{f.Tensor}} tokens, {{f.KeyValueCache}} cache)
        {
            CheckTokens(tokens, cache);
            {{body}}
        }
        """;
}
