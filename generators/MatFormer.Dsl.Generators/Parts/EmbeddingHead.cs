using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>Embeddings that may be cut to a prefix (Matryoshka representations, arXiv 2205.13147).</summary>
internal abstract class EmbeddingHead(ModelSpec spec, Architecture architecture) : HeadPart(spec, architecture)
{
    private protected EmbeddingSpec Embedding => Spec.Embedding!;

    private protected string Prefixes => $"[{string.Join(", ", Embedding.Dimensions.Select(d => Literals.Of(d)))}], "
        + $"[{string.Join(", ", Embedding.Weights.Select(w => Literals.Of(w)))}]";

    /// <summary>The call of the network that <c>Forward</c> makes.</summary>
    private protected abstract string NetworkMethod { get; }

    public override IEnumerable<string> SpecLines =>
    [
        $"EmbeddingWidth = {Literals.Of(Embedding.Width)},",
        $"EmbeddingDimensions = [{string.Join(", ", Embedding.Dimensions.Select(d => Literals.Of(d)))}],",
    ];

    public override IEnumerable<string> ModelMembers(CodeFile f)
    {
        var input = Input.Name;
        yield return $$"""
            /// <summary>{{Gives}}, by a submodel, computed with this model's weights: {{Input.Takes}} to {{Given}}.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}.</exception>
            public {{f.Tensor}} Forward({{f.Profile}} profile, {{f.Tensor}} {{input}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                {{Input.Check}}({{input}});
                return _network.{{NetworkMethod}}({{input}}, {{f.Streams}}.Of(profile), ComputeType);
            }
            """;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Embed({{f.Tensor}} {{input}}, int? width = null) => Embed({{Widest}}, {{input}}, width);
            """;
        yield return $$"""
            /// <summary>
            /// Embeddings of length 1 by a submodel, cut to their first numbers before: {{Input.Takes}} to (B, width) float32.
            /// </summary>
            /// <param name="profile">The submodel.</param>
            /// <param name="{{input}}">{{Input.Takes.TrimEnd(',')}}.</param>
            /// <param name="width">One of the dimensions; all if null.</param>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}, or no such dimension is declared.</exception>
            public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.Tensor}} {{input}}, int? width = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                {{Input.Check}}({{input}});
                return _network.Embed({{input}}, {{f.Streams}}.Of(profile), EmbeddingWidth(width), ComputeType);
            }
            """;
        yield return $$"""
            /// <summary>Embeddings of this width, of length 1, by a submodel: {{Input.Takes}} to (B, dimension) float32.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}.</exception>
            public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.EmbeddingDimension}} dimension, {{f.Tensor}} {{input}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(dimension);
                return Embed(profile, {{input}}, dimension.Width);
            }
            """;
    }

    public override IEnumerable<string> NetworkMembers(CodeFile f)
    {
        yield return $$"""
            // Embeddings of one stream, of length 1 after the cut: (B, width) float32.
            public {{f.Tensor}} Embed({{f.Tensor}} {{Input.Name}}, {{f.Streams}} streams, int width, {{f.ScalarType}} type)
            {
                using var whole = Embedded({{Input.Name}}, streams, type);  //| {{Shape.Of("B", Embedding.Width)}}
                return {{f.Kernels}}.UnitPrefix(whole, width);  //| (B, width)
            }
            """;
        yield return $$"""
            // What embeddings are cut from, of all streams: {{Shape.Of("N", Embedding.Width)}}.
            public {{f.Tensor}} Embedded({{f.Tensor}} {{Input.Name}}, {{f.Streams}} streams, {{f.ScalarType}} type, {{f.Recomputation}}? recomputation = null)
            {{EmbeddedBody(f)}}
            """;
    }

    public override IEnumerable<string> SliceMembers(CodeFile f)
    {
        var input = Input.Name;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Embed({{f.Tensor}} {{input}}, int? width = null)
            {
                {{Input.Check}}({{input}});
                {{CodeFile.Indented(SliceEmbedded(f))}}
                return {{f.Kernels}}.UnitPrefix(whole, EmbeddingWidth(width));  //| (B, width)
            }
            """;
        yield return $$"""
            /// <summary>Embeddings of this width, of length 1: {{Input.Takes}} to (B, dimension) float32.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}.</exception>
            public {{f.Tensor}} Embed({{f.EmbeddingDimension}} dimension, {{f.Tensor}} {{input}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(dimension);
                return Embed({{input}}, dimension.Width);
            }
            """;
    }

    /// <summary>The body of the network's method <c>Embedded</c>.</summary>
    private protected abstract string EmbeddedBody(CodeFile f);

    /// <summary>Statements that make <c>whole</c>, what embeddings of a slice are cut from.</summary>
    private protected abstract string SliceEmbedded(CodeFile f);

    /// <summary>The terms of losses over what embeddings are cut from.</summary>
    private protected LossTerms Terms(string batch, string loss, string divergence, bool needsTargets = false) => new(
        "embedded",
        Shape.Of("N", Embedding.Width),
        Shape.Of("B", Embedding.Width),
        batch,
        (input, streams, more) => $"Embedded({input}, {streams}, type{more})",
        loss,
        divergence,
        needsTargets);
}

/// <summary>A projection of the pooled states, trained on pairs of texts (InfoNCE, arXiv 1807.03748).</summary>
internal sealed class ProjectionHead(ModelSpec spec, Architecture architecture) : EmbeddingHead(spec, architecture)
{
    public override string Gives => "Embeddings of length 1";

    public override string GivenShape => $"(B, {Literals.Digits(Embedding.Width)})";

    public override string Loss => "Mean cross-entropy in nats of finding each text's partner among the others";

    public override string Batch =>
        "tokens (B, T) int64: a query and its document in turn, -1 behind their ends; targets (B) int64: rows of the same number are never"
        + " each other's negatives";

    public override string NotFittingBatch => "Not such tokens and targets, or longer than the context";

    public override (string Of, string Name) FlopsConstant =>
        ($"of the forward pass over one text of {Literals.Text(Spec.Context)} tokens", "FlopsPerText");

    public override IEnumerable<WeightSpec> Weights => [WeightSpec.Matrix(
        "Projection", "projection.weight", Draw.Normal, new Dimension(Embedding.Width, Axis.None), new Dimension(Spec.Width, Axis.None))];

    public override long Flops => 2L * Spec.Width * Embedding.Width;

    private protected override string NetworkMethod => "Forward";

    public override IEnumerable<string> NetworkMembers(CodeFile f)
    {
        yield return $$"""
            // Embeddings of one stream, of length 1: tokens (B, T) to {{Given}}.
            public {{f.Tensor}} Forward({{f.Tensor}} tokens, {{f.Streams}} streams, {{f.ScalarType}} type) =>
                Embed(tokens, streams, {{Literals.Of(Embedding.Width)}}, type);
            """;
        foreach (var member in base.NetworkMembers(f)) yield return member;
    }

    public override string SliceForward(CodeFile f) => "return Embed(tokens);  //| " + GivenShape;

    public override LossTerms Losses(CodeFile f) => Terms(
        "tokens (B, T) and targets (B)",
        $"{f.Kernels}.PairCrossEntropy(\n    embedded, targets, streams.Count, streams.BatchRows, {Literals.Of(Embedding.Temperature)},\n    {Prefixes})",
        $"{f.Kernels}.PairDivergence(\n    embedded, teacher, targets, streams.Count, streams.BatchRows,\n"
            + $"    student, {Literals.Of(Embedding.Temperature)}, temperature, {Prefixes})",
        needsTargets: true);

    private protected override string EmbeddedBody(CodeFile f) => $$"""
        {
            using var states = States({{Input.Name}}, streams, type, recomputation);  //| {{Shape.Of("N", Spec.Width)}}
            return {{f.Kernels}}.Linear(states, Projection);  //| {{Shape.Of("N", Embedding.Width)}}
        }
        """;

    private protected override string SliceEmbedded(CodeFile f) => $"""
        using var states = States({Input.Name});  //| {Shape.Of("B", Spec.Width)}
        using var whole = {f.Kernels}.Linear(states, Network.Projection);  //| {Shape.Of("B", Embedding.Width)}
        """;
}

/// <summary>A linear classifier of the pooled states, which are the embeddings.</summary>
internal sealed class ClassifierHead(ModelSpec spec, Architecture architecture) : EmbeddingHead(spec, architecture)
{
    public override string Gives => "Logits of the classes";

    public override string GivenShape => $"(B, {Classes})";

    public override string Loss => "Mean cross-entropy in nats per image";

    public override string Batch =>
        $"pixels {((PatchInput)Input).Pixels} float32; targets: classes (B) int64, or their probabilities (B, {Classes}) float32";

    public override string NotFittingBatch => "Not such pixels and targets";

    public override (string Of, string Name) FlopsConstant => ("of the forward pass over one image", "FlopsPerImage");

    public override IEnumerable<WeightSpec> Weights =>
    [
        WeightSpec.Embedding("Classifier", "classifier.weight", Spec.Image!.Classes, Spec.Width),
        WeightSpec.Vector("ClassifierBias", "classifier.bias", Draw.Zeros, new Dimension(Spec.Image.Classes, Axis.None)) with { IsEmbedding = true },
    ];

    public override long Flops => 2L * Spec.Width * Spec.Image!.Classes;

    private protected override string NetworkMethod => "Logits";

    private string Classes => Literals.Digits(Spec.Image!.Classes);

    public override IEnumerable<string> ModelMembers(CodeFile f)
    {
        foreach (var member in base.ModelMembers(f)) yield return member;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Classify({{f.Tensor}} pixels, int? width = null) => Classify({{Widest}}, pixels, width);
            """;
        yield return $$"""
            /// <summary>
            /// Logits that a submodel finds in the first numbers of its embeddings alone: {{Input.Takes}} to {{Given}}.
            /// </summary>
            /// <param name="profile">The submodel.</param>
            /// <param name="pixels">{{Input.Takes.TrimEnd(',')}}.</param>
            /// <param name="width">One of the dimensions; all, as Forward, if null.</param>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}, or no such dimension is declared.</exception>
            public {{f.Tensor}} Classify({{f.Profile}} profile, {{f.Tensor}} pixels, int? width = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                CheckPixels(pixels);
                return _network.Classify(pixels, {{f.Streams}}.Of(profile), EmbeddingWidth(width), ComputeType);
            }
            """;
    }

    public override IEnumerable<string> NetworkMembers(CodeFile f)
    {
        yield return $$"""
            // Logits of one stream: pixels to {{Given}}.
            public {{f.Tensor}} Logits({{f.Tensor}} pixels, {{f.Streams}} streams, {{f.ScalarType}} type)
            {
                using var states = States(pixels, streams, type);  //| {{Shape.Of("B", Spec.Width)}}
                {{CodeFile.Indented(Logits(f, "states", "Classifier, ClassifierBias"))}}
            }
            """;
        yield return $$"""
            // Logits of one stream by the first numbers alone: pixels to {{Given}}.
            public {{f.Tensor}} Classify({{f.Tensor}} pixels, {{f.Streams}} streams, int width, {{f.ScalarType}} type)
            {
                using var states = States(pixels, streams, type);  //| {{Shape.Of("B", Spec.Width)}}
                return {{f.Kernels}}.ClassLogits(states, Classifier, ClassifierBias, width);  //| {{GivenShape}}
            }
            """;
        foreach (var member in base.NetworkMembers(f)) yield return member;
    }

    public override string SliceForward(CodeFile f) =>
        $"using var states = States(pixels);  //| {Shape.Of("B", Spec.Width)}\n" + Logits(f, "states", "Network.Classifier, Network.ClassifierBias");

    public override IEnumerable<string> SliceMembers(CodeFile f)
    {
        foreach (var member in base.SliceMembers(f)) yield return member;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Classify({{f.Tensor}} pixels, int? width = null)
            {
                CheckPixels(pixels);
                using var states = States(pixels);  //| {{Shape.Of("B", Spec.Width)}}
                return {{f.Kernels}}.ClassLogits(states, Network.Classifier, Network.ClassifierBias, EmbeddingWidth(width));  //| {{GivenShape}}
            }
            """;
    }

    public override LossTerms Losses(CodeFile f) => Terms(
        "pixels and targets",
        $"{f.Kernels}.ClassCrossEntropy(\n    embedded, Classifier, ClassifierBias, targets, streams.Count, streams.BatchRows,\n    {Prefixes})",
        $"{f.Kernels}.ClassDivergence(\n    embedded, teacher, Classifier, ClassifierBias, streams.Count, streams.BatchRows,\n"
            + $"    student, temperature, {Prefixes})");

    private protected override string EmbeddedBody(CodeFile f) => $"    => States({Input.Name}, streams, type, recomputation);";

    private protected override string SliceEmbedded(CodeFile f) => $"using var whole = States({Input.Name});  //| {Shape.Of("B", Spec.Width)}";
}
