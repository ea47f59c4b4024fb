using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>
/// A feed-forward of which each token may use a granularity of its own, which a router chooses (arXiv 2407.19985). Only the pass over all
/// streams routes. The routers belong to the universal model and not to its blocks, so slices have none.
/// </summary>
internal sealed class RoutedFeedForward(ModelSpec spec, Architecture architecture) : FeedForward(spec, architecture)
{
    public override string StackedComment =>
        base.StackedComment + " With a route, there is one stream, and each token uses the hidden units of its granularity.";

    public override string StackedMethod(CodeFile f)
    {
        var whole = base.StackedMethod(f);
        return $"{whole.Substring(0, whole.Length - 1)}, {f.Route}? route)";
    }

    public override string StackedCall(CodeFile f) =>
        $"route is null\n        ? {base.StackedCall(f)}\n        : {f.Kernels}.FeedForward(x, FeedForwardWeights, route)";

    private protected override string? RouteArgument => $", Routers?.Of(layer, streams{(Spec.IsDecoder ? ", attended" : null)})";

    public override IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block)
    {
        var (granularities, budgets) = (Literals.Of(Spec.Granularities.Count), Literals.Of(Spec.Routing!.Budgets.Count));
        var router = new PackedField(
            f.PackedRouter + "?", "_router", $"packer.Router(prefix, {granularities}, {Shape.WidthExpression(Spec)}, {budgets})",
            "null if the layer is not routed, and in a slice");
        return [router, .. base.Packed(f, block)];
    }

    public override IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block) =>
        ["thread.Route(layer, _router);", .. base.DecodingLines(f, block)];
}
