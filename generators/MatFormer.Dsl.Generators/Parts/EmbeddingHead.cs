using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>A head that returns embeddings, which may be cut to a prefix (Matryoshka representations, arXiv 2205.13147).</summary>
internal abstract class EmbeddingHead(ModelSpec spec, Architecture architecture) : HeadPart(spec, architecture)
{
    private protected EmbeddingSpec Embedding => Spec.Embedding!;

    // The embeddings of a vision transformer are its pooled states.
    private protected object WholeWidth => Spec.IsVision ? Shape.Width(Spec) : Embedding.Width;

    private protected string Prefixes => $"[{string.Join(", ", Embedding.Dimensions.Select(d => Literals.Of(d)))}], "
        + $"[{string.Join(", ", Embedding.Weights.Select(w => Literals.Of(w)))}]";

    /// <summary>The method of the network that <c>Forward</c> calls.</summary>
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
            /// <summary>Returns {{Gives}} of a submodel, computed with this model's weights: {{Input.Takes}} to {{Given}}.</summary>
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
        var cut = $"Returns the embeddings of a submodel, cut to a width and scaled to length 1: {Input.Takes} to (B, width) float32.";
        yield return $$"""
            /// <summary>{{cut}}</summary>
            /// <param name="profile">The submodel.</param>
            /// <param name="{{input}}">The {{Input.Takes.TrimEnd(',')}}.</param>
            /// <param name="width">One of the declared dimensions, or null for the whole embedding.</param>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}, or the dimension is not declared.</exception>
            public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.Tensor}} {{input}}, int? width = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                {{Input.Check}}({{input}});
                return _network.Embed({{input}}, {{f.Streams}}.Of(profile), EmbeddingWidth(width), ComputeType);
            }
            """;
        yield return $$"""
            /// <summary>{{cut.Replace("(B, width)", "(B, dimension)")}}</summary>
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
        var parameters = $"{f.Tensor} {Input.Name}, {f.Streams} streams, {f.ScalarType} type, {f.Recomputation}? recomputation = null";
        yield return $$"""
            // Embeddings of one stream, cut to a width and scaled to length 1: (B, width) float32.
            public {{f.Tensor}} Embed({{f.Tensor}} {{Input.Name}}, {{f.Streams}} streams, int width, {{f.ScalarType}} type)
            {
                using var whole = Embedded({{Input.Name}}, streams, type);  //| {{Shape.Of("B", WholeWidth)}}
                return {{f.Kernels}}.UnitPrefix(whole, width);  //| (B, width)
            }
            """;
        yield return $$"""
            // The whole embeddings of all streams, which are not cut or scaled yet: {{Shape.Of("N", WholeWidth)}}.
            public {{f.Tensor}} Embedded({{parameters}})
            {{EmbeddedBody(f)}}
            """;
    }

    public override IEnumerable<string> SliceMembers(CodeFile f)
    {
        var input = Input.Name;
        var body = $"{SliceEmbedded(f)}\nreturn {f.Kernels}.UnitPrefix(whole, EmbeddingWidth(width));  //| (B, width)";
        foreach (var method in SliceMethod(f, "Embed", body)) yield return method;
        yield return $$"""
            /// <summary>Returns embeddings, cut to a width and scaled to length 1: {{Input.Takes}} to (B, dimension) float32.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}.</exception>
            public {{f.Tensor}} Embed({{f.EmbeddingDimension}} dimension, {{f.Tensor}} {{input}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(dimension);
                return Embed({{input}}, dimension.Width);
            }
            """;
    }

    /// <summary>Returns a method of a slice that takes the input and a width, with the statements after the check of the input.</summary>
    private protected virtual IEnumerable<string> SliceMethod(CodeFile f, string name, string body) =>
    [
        $$"""
        /// <inheritdoc/>
        public override {{f.Tensor}} {{name}}({{f.Tensor}} {{Input.Name}}, int? width = null)
        {
            {{Input.Check}}({{Input.Name}});
            {{CodeFile.Indented(body)}}
        }
        """,
    ];

    /// <summary>The body of the network's method <c>Embedded</c>.</summary>
    private protected abstract string EmbeddedBody(CodeFile f);

    /// <summary>Statements that compute <c>whole</c>, the embeddings of a slice before they are cut and scaled.</summary>
    private protected abstract string SliceEmbedded(CodeFile f);

    /// <summary>Returns the terms of losses that are computed from whole embeddings.</summary>
    private protected LossTerms Terms(string batch, string loss, string divergence, bool needsTargets = false) => new(
        "embedded",
        Shape.Of("N", WholeWidth),
        Shape.Of("B", WholeWidth),
        batch,
        (input, streams, more) => $"Embedded({input}, {streams}, type{more})",
        loss,
        divergence,
        needsTargets);
}

/// <summary>A projection of the pooled states. It is trained on pairs of texts (InfoNCE, arXiv 1807.03748).</summary>
internal sealed class ProjectionHead(ModelSpec spec, Architecture architecture) : EmbeddingHead(spec, architecture)
{
    public override string Gives => "unit-length embeddings";

    public override string GivenShape => $"(B, {Literals.Digits(Embedding.Width)})";

    public override string Loss => "Mean contrastive cross-entropy (InfoNCE) in nats per text";

    public override string Batch =>
        "The tokens (B, T) int64 are queries and their documents in turn, with -1 after the end of a text. The targets (B) int64 number the"
        + " pairs: rows with the same number are not negatives of each other";

    public override string NotFittingBatch =>
        "The tokens or targets do not have these shapes and types, or a text is longer than the context";

    public override (string Of, string Name) FlopsConstant =>
        ($"of the forward pass over one text of {Literals.Text(Spec.Context)} tokens", "FlopsPerText");

    public override IEnumerable<WeightSpec> Weights => [WeightSpec.Matrix(
        "Projection", "projection.weight", Draw.Normal, new Dimension(Embedding.Width, Axis.None), Spec.Stream)];

    public override long Flops => 2L * Spec.Width * Embedding.Width;

    private protected override string NetworkMethod => "Forward";

    public override IEnumerable<string> NetworkMembers(CodeFile f)
    {
        yield return $$"""
            // Whole embeddings of one stream, scaled to length 1: tokens (B, T) to {{Given}}.
            public {{f.Tensor}} Forward({{f.Tensor}} tokens, {{f.Streams}} streams, {{f.ScalarType}} type) =>
                Embed(tokens, streams, {{Literals.Of(Embedding.Width)}}, type);
            """;
        foreach (var member in base.NetworkMembers(f)) yield return member;
    }

    public override string SliceForward(CodeFile f) => "return Embed(tokens);  //| " + GivenShape;

    public override LossTerms Losses(CodeFile f) => Terms(
        "tokens (B, T) and targets (B)",
        $"{f.Kernels}.PairCrossEntropy(\n    embedded, targets, streams.Count, streams.BatchRows, {Literals.Of(Embedding.Temperature)},\n"
            + $"    {Prefixes})",
        $"{f.Kernels}.PairDivergence(\n    embedded, teacher, targets, streams.Count, streams.BatchRows,\n"
            + $"    student, {Literals.Of(Embedding.Temperature)}, temperature, {Prefixes})",
        needsTargets: true);

    private protected override string EmbeddedBody(CodeFile f) => $$"""
        {
            using var states = States({{Input.Name}}, streams, type, recomputation);  //| {{Shape.Of("N", Shape.Width(Spec))}}
            return {{f.Kernels}}.Linear(states, Projection{{Nested}});  //| {{Shape.Of("N", WholeWidth)}}
        }
        """;

    private protected override string SliceEmbedded(CodeFile f) => $"""
        using var states = States({Input.Name});  //| {Shape.Of("B", Shape.Width(Spec))}
        using var whole = {f.Kernels}.Linear(states, Network.Projection);  //| {Shape.Of("B", WholeWidth)}
        """;
}

/// <summary>A linear classifier of the pooled states. The pooled states are the embeddings.</summary>
internal class ClassifierHead(ModelSpec spec, Architecture architecture) : EmbeddingHead(spec, architecture)
{
    public override string Gives => "class logits";

    public override string GivenShape => $"(B, {Classes})";

    public override string Loss => "Mean cross-entropy in nats per image";

    public override string Batch =>
        $"The pixels are {((PatchInput)Input).Pixels} float32. The targets are classes (B) int64, or probabilities of the classes "
        + $"(B, {Classes}) float32";

    public override string NotFittingBatch => "The pixels or targets do not have these shapes and types";

    public override (string Of, string Name) FlopsConstant => ("of the forward pass over one image", "FlopsPerImage");

    public override IEnumerable<WeightSpec> Weights
    {
        get
        {
            var classes = Spec.Image!.Classes;
            var bias = WeightSpec.Vector("ClassifierBias", "classifier.bias", Draw.Zeros, new Dimension(classes, Axis.None));
            return [WeightSpec.Embedding("Classifier", "classifier.weight", classes, Spec.Stream), bias with { IsEmbedding = true }];
        }
    }

    public override long Flops => 2L * Spec.Width * Spec.Image!.Classes;

    private protected override string NetworkMethod => "Logits";

    private string Classes => Literals.Digits(Spec.Image!.Classes);

    /// <summary>The call that computes the states of a slice.</summary>
    private protected virtual string SliceStates => "States(pixels)";

    private string StatesLine => $"using var states = {SliceStates};  //| {Shape.Of("B", Shape.Width(Spec))}";

    public override IEnumerable<string> ModelMembers(CodeFile f)
    {
        foreach (var member in base.ModelMembers(f)) yield return member;
        var summary = $"Returns class logits of a submodel, computed from its embeddings cut to a width: {Input.Takes} to {Given}.";
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Classify({{f.Tensor}} pixels, int? width = null) => Classify({{Widest}}, pixels, width);
            """;
        yield return $$"""
            /// <summary>{{summary}}</summary>
            /// <param name="profile">The submodel.</param>
            /// <param name="pixels">The {{Input.Takes.TrimEnd(',')}}.</param>
            /// <param name="width">One of the declared dimensions, or null for the whole embedding, which Forward uses.</param>
            /// <exception cref="{{f.ArgumentException}}">{{Input.NotFitting}}, or the dimension is not declared.</exception>
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
                using var states = States(pixels, streams, type);  //| {{Shape.Of("B", Shape.Width(Spec))}}
                {{CodeFile.Indented(Logits(f, "states", "Classifier, ClassifierBias" + Nested))}}
            }
            """;
        yield return $$"""
            // Logits of one stream, computed from its embeddings cut to a width: pixels to {{Given}}.
            public {{f.Tensor}} Classify({{f.Tensor}} pixels, {{f.Streams}} streams, int width, {{f.ScalarType}} type)
            {
                using var states = States(pixels, streams, type);  //| {{Shape.Of("B", Shape.Width(Spec))}}
                return {{f.Kernels}}.ClassLogits(states, Classifier, ClassifierBias, width);  //| {{GivenShape}}
            }
            """;
        foreach (var member in base.NetworkMembers(f)) yield return member;
    }

    public override string SliceForward(CodeFile f) =>
        StatesLine + "\n" + Logits(f, "states", "Network.Classifier, Network.ClassifierBias");

    public override IEnumerable<string> SliceMembers(CodeFile f)
    {
        foreach (var member in base.SliceMembers(f)) yield return member;
        var logits = $"{f.Kernels}.ClassLogits(states, Network.Classifier, Network.ClassifierBias, EmbeddingWidth(width))";
        foreach (var method in SliceMethod(f, "Classify", $"{StatesLine}\nreturn {logits};  //| {GivenShape}")) yield return method;
    }

    public override LossTerms Losses(CodeFile f) => Terms(
        "pixels and targets",
        $"{f.Kernels}.ClassCrossEntropy(\n    embedded, Classifier, ClassifierBias, targets, streams.Count, streams.BatchRows,\n"
            + $"    {Prefixes})",
        $"{f.Kernels}.ClassDivergence(\n    embedded, teacher, Classifier, ClassifierBias, streams.Count, streams.BatchRows,\n"
            + $"    student, temperature, {Prefixes})");

    private protected override string EmbeddedBody(CodeFile f) => $"    => States({Input.Name}, streams, type, recomputation);";

    private protected override string SliceEmbedded(CodeFile f) =>
        $"using var whole = {SliceStates};  //| {Shape.Of("B", Shape.Width(Spec))}";
}
