using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>Multi-head attention with shared key/value heads (arXiv 2305.13245). A slice may keep only the first heads.</summary>
internal sealed class Attention(ModelSpec spec, Architecture architecture) : BlockPart(spec)
{
    private const string NormField = "InputLayerNorm";

    private readonly BlockNames _names = BlockNames.Of(spec.IsVision);

    public override string Result => "attended";

    public override string Does => "x + attention(norm(x))";

    public override IEnumerable<string> SpecLines
    {
        get
        {
            if (Spec.AttentionBias) yield return "AttentionBias = true,";
            if (Spec.AttentionBias && !Spec.OutputBias) yield return "OutputBias = false,";
            if (Spec.QkNorm) yield return "QkNorm = true,";
        }
    }

    public override string StackedComment => Spec.ElasticHeads
        ? "// x + attention(norm(x)) of R stacked streams, where stream r keeps its first heads[r] heads: "
            + $"{Shape.Stacked(Spec)} to the same shape."
        : $"// x + attention(norm(x)): {Shape.Stacked(Spec)} to the same shape.";

    public override IEnumerable<WeightSpec> Weights(BlockSpec block)
    {
        var width = Spec.Stream;
        var queries = new Dimension(block.HeadWidth, Axis.Heads);
        var keys = new Dimension(block.HeadWidth, Axis.KeyValueHeads);
        foreach (var norm in architecture.Norm.WeightsOf(NormField, _names.AttentionNorm)) yield return norm;
        var projections = new[] { ("Query", _names.Query, queries), ("Key", _names.Key, keys), ("Value", _names.Value, keys) };
        foreach (var (field, name, rows) in projections)
        {
            yield return WeightSpec.Matrix(field + "Projection", name + ".weight", Draw.Normal, rows, width);
            if (Spec.AttentionBias) yield return WeightSpec.Vector(field + "Bias", name + ".bias", Draw.Zeros, rows);
        }

        yield return WeightSpec.Matrix("OutputProjection", _names.Output + ".weight", Draw.Residual, width, queries);
        if (Spec.OutputBias) yield return WeightSpec.Vector("OutputBias", _names.Output + ".bias", Draw.Zeros, width);
        if (!Spec.QkNorm) yield break;
        var head = new Dimension(block.HeadWidth, Axis.None);
        yield return WeightSpec.Vector("QueryNorm", _names.QueryNorm + ".weight", Draw.Ones, head);
        yield return WeightSpec.Vector("KeyNorm", _names.KeyNorm + ".weight", Draw.Ones, head);
    }

    // Scores and values take 4 * head width for each pair of a query and a key. For a decoder, the average over a full context counts.
    public override long FlopsPerKeyValueHead(BlockSpec block) =>
        (long)(4m * block.Group * block.HeadWidth * architecture.Mask.Pairs(block) * Spec.TokensPerUnit / Spec.Attending);

    public override long CacheBytesPerHead(BlockSpec block) => architecture.Mask.CacheBytesPerHead(block);

    public override string WeightsProperty(CodeFile f, BlockSpec block)
    {
        var lines = new List<string>
        {
            $"Norm = {architecture.Norm.Fused(NormField)},",
            "Query = QueryProjection,",
            "Key = KeyProjection,",
            "Value = ValueProjection,",
            "Output = OutputProjection,",
        };
        if (Spec.AttentionBias) lines.AddRange(["QueryBias = QueryBias,", "KeyBias = KeyBias,", "ValueBias = ValueBias,"]);
        if (Spec.OutputBias) lines.Add("OutputBias = OutputBias,");
        if (Spec.QkNorm)
        {
            lines.Add($"QueryNorm = new(QueryNorm, {Literals.Of(Spec.Epsilon)}),");
            lines.Add($"KeyNorm = new(KeyNorm, {Literals.Of(Spec.Epsilon)}),");
        }

        lines.Add($"HeadWidth = {Literals.Of(Spec.HeadWidth)},");
        if (Spec.ElasticWidth) lines.Add("IsNested = true,");
        lines.AddRange(architecture.Mask.AttentionLines(block));
        return $$"""
            private {{f.AttentionWeights}} AttentionWeights => new()
            {
                {{string.Join("\n    ", lines)}}
            };
            """;
    }

    public override string Call(CodeFile f, string x) =>
        $"{f.Kernels}.Attend({x}, AttentionWeights{architecture.Positions.LayerArguments}{architecture.Mask.KernelArguments})";

    public override string StackedMethod(CodeFile f)
    {
        var heads = Spec.ElasticHeads ? ", int[] heads, int[]? rows" : null;
        return $"{f.Tensor} Attend({f.Tensor} x{architecture.Positions.LayerParameters(f)}{heads}{architecture.Mask.BlockParameters(f)})";
    }

    public override string StackedCall(CodeFile f)
    {
        var heads = Spec.ElasticHeads ? ", heads: heads, rows: rows" : null;
        return $"{f.Kernels}.Attend(x, AttentionWeights{architecture.Positions.LayerArguments}{architecture.Mask.KernelArguments}{heads})";
    }

    // If granularities keep different heads, streams part before attention. Otherwise, they part before the feed-forward.
    public override IEnumerable<string> StackedLines(CodeFile f, string block)
    {
        var (angles, mask, stacked) = (architecture.Positions.LayerArguments, architecture.Mask.BlockArguments, Shape.Stacked(Spec));
        var x = architecture.Attended;
        if (!Spec.ElasticHeads)
        {
            yield return $"using var attended = {block}.Attend({x}{angles}{mask});  //| {stacked}";
            yield break;
        }

        yield return "// Up to the layer where the streams part, they are the same and are computed once.";
        yield return $"using var forked = layer == streams.Fork ? {f.Kernels}.Fork({x}, streams.Count) : null;  //| {stacked}";
        yield return $"using var attended = {block}.Attend(";
        yield return $"    forked ?? {x}{angles}, streams.Heads(layer), streams.Rows(layer){mask});  //| {stacked}";
    }

    public override IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block)
    {
        var (width, headWidth) = (Shape.WidthExpression(Spec), Literals.Of(Spec.HeadWidth));
        var heads = Spec.ElasticHeads ? "slice.Heads" : Literals.Of(block.Heads);
        var keyHeads = !Spec.ElasticHeads ? Literals.Of(block.KeyValueHeads)
            : block.Group == 1 ? "slice.Heads" : $"slice.Heads / {Literals.Of(block.Group)}";
        foreach (var norm in architecture.Norm.PackedOf(f, "_inputNorm", suffix => Name(_names.AttentionNorm + suffix))) yield return norm;
        yield return ToHeads("_query", _names.Query, heads);
        yield return ToHeads("_key", _names.Key, keyHeads);
        yield return ToHeads("_value", _names.Value, keyHeads);
        yield return new(
            f.PackedMatrix,
            "_output",
            $"packer.FromHeads({Name(_names.Output + ".weight")}, {width}, {heads}, {headWidth}{Bias(_names.Output)})");
        if (!Spec.QkNorm) yield break;
        yield return HeadNorm("_queryNorm", _names.QueryNorm);
        yield return HeadNorm("_keyNorm", _names.KeyNorm);

        PackedField ToHeads(string field, string name, string count) =>
            new(f.PackedMatrix, field, $"packer.ToHeads({Name(name + ".weight")}, {count}, {headWidth}, {width}{Bias(name)})");

        PackedField HeadNorm(string field, string name) =>
            new(f.PackedTable, field, $"packer.Vector({Name(name + ".weight")}, {headWidth})");

        string? Bias(string name) => (name == _names.Output ? Spec.OutputBias : Spec.AttentionBias) ? ", " + Name(name + ".bias") : null;

        static string Name(string name) => $"prefix + \"{name}\"";
    }

    public override IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block)
    {
        var norms = Spec.QkNorm ? $", queryNorm: _queryNorm, keyNorm: _keyNorm, epsilon: {Literals.Of(Spec.Epsilon)}" : null;
        var window = block.Window > 0 ? $", window: {Literals.Of(block.Window)}" : null;
        yield return architecture.Norm.DecodingLine("_inputNorm");
        yield return $"thread.Heads(layer, _query, _key, _value{architecture.Positions.DecodingHandedOn}{norms});";
        yield return $"thread.Attend(layer{window});";
        yield return "thread.AddAttended(layer, _output);";
    }
}
