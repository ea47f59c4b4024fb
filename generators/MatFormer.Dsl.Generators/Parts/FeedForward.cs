using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>The nested feed-forward, of which a slice keeps the first hidden units (arXiv 2310.07707, section 3.1).</summary>
internal class FeedForward(ModelSpec spec, Architecture architecture) : BlockPart(spec)
{
    private const string NormField = "PostAttentionLayerNorm";

    private readonly BlockNames _names = BlockNames.Of(spec.IsVision);

    public override string Result => "fed";

    public override string Does => "attended + feed-forward(norm(attended))";

    public override string StackedComment =>
        "// x + feed-forward(norm(x)) of R stacked streams, where stream r keeps its first widths[r] hidden units: "
        + $"{Shape.Stacked(Spec)} to the same shape"
        + (Parts ? $". If parting, x is {Shape.States(Spec)}, the same for all streams." : ".");

    /// <summary>The argument for the route of the tokens, or null if tokens are not routed.</summary>
    private protected virtual string? RouteArgument => null;

    // If granularities keep the same heads, streams part here and not before attention.
    private bool Parts => !Spec.ElasticHeads;

    public override IEnumerable<WeightSpec> Weights(BlockSpec block)
    {
        var width = Spec.Stream;
        var hidden = new Dimension(1, Axis.Hidden);
        foreach (var norm in architecture.Norm.WeightsOf(NormField, _names.FeedForwardNorm)) yield return norm;
        if (block.Gated)
        {
            yield return WeightSpec.Matrix("GateProjection", _names.Gate + ".weight", Draw.Normal, hidden, width);
            if (block.Bias) yield return WeightSpec.Vector("GateBias", _names.Gate + ".bias", Draw.Zeros, hidden);
        }

        yield return WeightSpec.Matrix("UpProjection", _names.Up + ".weight", Draw.Normal, hidden, width);
        if (block.Bias) yield return WeightSpec.Vector("UpBias", _names.Up + ".bias", Draw.Zeros, hidden);
        // A feed-forward that writes nothing at first learns faster than one that writes noise.
        yield return WeightSpec.Matrix("DownProjection", _names.Down + ".weight", Draw.Zeros, width, hidden);
        if (block.Bias) yield return WeightSpec.Vector("DownBias", _names.Down + ".bias", Draw.Zeros, width);
    }

    public override string WeightsProperty(CodeFile f, BlockSpec block)
    {
        var lines = new List<string> { $"Norm = {architecture.Norm.Fused(NormField)},", $"Kind = {f.FeedForwardKind}.{block.Activation}," };
        if (block.Gated) lines.Add("Gate = GateProjection,");
        if (block.Gated && block.Bias) lines.Add("GateBias = GateBias,");
        lines.Add("Up = UpProjection,");
        if (block.Bias) lines.Add("UpBias = UpBias,");
        lines.Add("Down = DownProjection,");
        if (block.Bias) lines.Add("DownBias = DownBias,");
        if (Spec.ElasticWidth) lines.Add("IsNested = true,");
        return $$"""
            private {{f.FeedForwardWeights}} FeedForwardWeights => new()
            {
                {{string.Join("\n    ", lines)}}
            };
            """;
    }

    public override string Call(CodeFile f, string x) => $"{f.Kernels}.FeedForward({x}, FeedForwardWeights)";

    public override string StackedMethod(CodeFile f) =>
        $"{f.Tensor} FeedForward({f.Tensor} x, int[] widths, int[]? rows{(Parts ? ", bool parting" : null)})";

    public override string StackedCall(CodeFile f) =>
        $"{f.Kernels}.FeedForward(x, FeedForwardWeights, widths, rows{(Parts ? ", parting" : null)})";

    public override IEnumerable<string> StackedLines(CodeFile f, string block)
    {
        yield return $"if (importance is not null) importance[layer] = {block}.Importance(attended);  //| (m)";
        if (Spec.ElasticWidth) yield return $"if (channels is not null) channels[layer] = {block}.ChannelImportance(attended);  //| (w)";
        if (Parts) yield return "// Up to the layer where the streams part, they are the same and are computed once.";
        var parting = Parts ? ", layer == streams.Fork" : null;
        var isReturned = ReferenceEquals(architecture.Block[architecture.Block.Count - 1], this);
        yield return $"{(isReturned ? null : "using ")}var fed = {block}.FeedForward(";
        yield return $"    attended, streams.HiddenWidths(layer), streams.Rows(layer){parting}{RouteArgument});  //| {Shape.Stacked(Spec)}";
    }

    public override IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block)
    {
        var width = Shape.WidthExpression(Spec);
        foreach (var norm in architecture.Norm.PackedOf(f, "_postAttentionNorm", suffix => Name(_names.FeedForwardNorm + suffix)))
            yield return norm;
        yield return new(f.PackedMatrix, "_expanding", block.Gated
            ? $"packer.Gated({Weight(_names.Gate)}, {Weight(_names.Up)}, slice.HiddenWidth, {width}{Bias(_names.Gate)}{Bias(_names.Up)})"
            : $"packer.Matrix({Weight(_names.Up)}, slice.HiddenWidth, {width}{Bias(_names.Up)})");
        yield return new(f.PackedMatrix, "_down", $"packer.Matrix({Weight(_names.Down)}, {width}, slice.HiddenWidth{Bias(_names.Down)})");

        string? Bias(string name) => block.Bias ? ", " + Name(name + ".bias") : null;

        static string Weight(string name) => Name(name + ".weight");

        static string Name(string name) => $"prefix + \"{name}\"";
    }

    public override IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block) =>
    [
        architecture.Norm.DecodingLine("_postAttentionNorm"),
        $"thread.Expand(layer, _expanding, {f.FeedForwardKind}.{block.Activation});",
        "thread.AddHidden(layer, _down);",
    ];
}
