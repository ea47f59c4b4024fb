using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>The patches of an image, and in front of them the compressed tokens (LookupViT, arXiv 2407.12753).</summary>
internal sealed class LookupInput(ModelSpec spec, ImageSpec image, Architecture architecture) : PatchInput(spec, image, architecture)
{
    public override IEnumerable<string> SpecLines =>
        base.SpecLines.Append($"Lookup = new([{Grids(Spec)}], {Literals.Of(Spec.Lookup!.Hidden)}),");

    /// <summary>Returns the sides of the declared grids, separated by commas.</summary>
    public static string Grids(ModelSpec spec) => string.Join(", ", spec.Lookup!.Grids.Select(grid => Literals.Of(grid)));

    private protected override string Embedded(Pass pass)
    {
        var grid = pass.IsStacked ? $"streams.Grid ?? {Literals.Of(Spec.Lookup!.Largest)}" : "grid";
        return $"EmbedLookup(\n    pixels, {Projection(pass)}, {Positions(pass)}, {pass.Type}, {grid})";
    }
}

/// <summary>The mean of the compressed tokens.</summary>
internal sealed class CompressedPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override IEnumerable<string> Leave(Pass pass) =>
    [
        $"using var compressed = {pass.File.Kernels}.CompressedTokens(last, {Literals.Of(Spec.Context)});  //| {Compressed(pass)}",
        $"using var normed = {Norm(pass, "compressed")};  //| {Compressed(pass)}",
        $"return {pass.File.Kernels}.MeanToken(normed);  //| {Result(pass.Rows)}",
    ];

    private string Compressed(Pass pass) => Shape.Of(pass.Rows, "M", Spec.Width);
}

/// <summary>
/// The first half of the cross-attention: compressed tokens gather from lookup tokens. Attention and feed-forward after it are those of the
/// compressed tokens. All granularities have the whole of it.
/// </summary>
internal sealed class LookupGather(ModelSpec spec, Architecture architecture) : BlockPart(spec)
{
    private const string NormField = "GatherNorm";
    private const string LookupNormField = "LookupNorm";

    public override string Result => "gathered";

    public override string Passes => "gathered.Compressed";

    public override string Does => "compressed + attention(norm(compressed), norm(lookup))";

    public override string StackedComment =>
        "// compressed + attention(norm(compressed), norm(lookup)). In x, which is "
        + $"{Shape.Stacked(Spec)}, the compressed tokens come before the lookup tokens.";

    public override IEnumerable<WeightSpec> Weights(BlockSpec block)
    {
        var lookup = Projection("GatherKey", "key").Concat(Projection("GatherValue", "value"));
        return architecture.Norm.WeightsOf(NormField, "lookup.gather_norm")
            .Concat(architecture.Norm.WeightsOf(LookupNormField, "lookup.norm"))
            .Concat(Projection("GatherQuery", "query"))
            .Concat(lookup.Select(weight => weight with { IsOfAllTokens = true }))
            .Concat(LookupSpread.Linear("GatherOutput", "lookup.output", Draw.Residual, Spec.Width, Spec.Width, Spec.OutputBias));

        IEnumerable<WeightSpec> Projection(string field, string name) =>
            LookupSpread.Linear(field, "lookup." + name, Draw.Normal, Spec.Width, Spec.Width, Spec.AttentionBias);
    }

    // Scores and values take 2 * width each for each pair of a compressed token and a lookup token.
    public override long Flops(BlockSpec block) => 4L * Spec.Attending * Spec.Context * Spec.Width;

    public override string WeightsProperty(CodeFile f, BlockSpec block)
    {
        var lines = new List<string>
        {
            $"Norm = {architecture.Norm.Fused(NormField)},",
            $"LookupNorm = {architecture.Norm.Fused(LookupNormField)},",
            "Query = GatherQuery,",
            "Key = GatherKey,",
            "Value = GatherValue,",
            "Output = GatherOutput,",
        };
        if (Spec.AttentionBias)
            lines.AddRange(["QueryBias = GatherQueryBias,", "KeyBias = GatherKeyBias,", "ValueBias = GatherValueBias,"]);
        if (Spec.OutputBias) lines.Add("OutputBias = GatherOutputBias,");
        lines.Add($"HeadWidth = {Literals.Of(Spec.HeadWidth)},");
        lines.Add($"LookupTokens = {Literals.Of(Spec.Context)},");
        return $$"""
            private {{f.GatherWeights}} GatherWeights => new()
            {
                {{string.Join("\n    ", lines)}}
            };
            """;
    }

    public override string Call(CodeFile f, string x) => $"{f.Kernels}.Gather({x}, GatherWeights)";

    public override string StackedMethod(CodeFile f) => $"{f.GatheredTokens} Gather({f.Tensor} x)";

    public override string StackedCall(CodeFile f) => Call(f, "x");

    public override IEnumerable<string> StackedLines(CodeFile f, string block) =>
        [$"using var gathered = {block}.Gather(x);  //| (N, M, {Literals.Digits(Spec.Width)}) compressed"];

    public override IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block) => [];

    public override IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block) => [];
}

/// <summary>
/// The second half of the cross-attention, which gives the result back to the lookup tokens, and their light feed-forward. In the last
/// layer nothing reads the lookup tokens any more, so it has no weights for them.
/// </summary>
internal sealed class LookupSpread(ModelSpec spec, Architecture architecture) : BlockPart(spec)
{
    private const string NormField = "SpreadNorm";
    private const string LightNormField = "LightNorm";

    private readonly int _hidden = spec.Lookup!.Hidden;

    public override string Result => "spread";

    public override string Does => "lookup + values(norm(fed)), and then the light feed-forward";

    public override string StackedComment =>
        "// Gives the compressed tokens x to the lookup tokens, by the transposed attention of the gathering, and then the light "
        + $"feed-forward: {Shape.Stacked(Spec)}.";

    public override IEnumerable<WeightSpec> Weights(BlockSpec block) => !block.Spreads ? []
        : architecture.Norm.WeightsOf(NormField, "lookup.spread_norm")
            .Concat(Linear("SpreadValue", "lookup.spread_value", Draw.Residual, Spec.Width, Spec.Width, Spec.AttentionBias))
            .Concat(architecture.Norm.WeightsOf(LightNormField, "lookup.light_norm"))
            .Concat(Linear("LightUp", "lookup.up", Draw.Normal, _hidden, Spec.Width, block.Bias).Select(OfAllTokens))
            .Concat(Linear("LightDown", "lookup.down", Draw.Zeros, Spec.Width, _hidden, block.Bias).Select(OfAllTokens));

    public override long Flops(BlockSpec block) => block.Spreads ? 2L * Spec.Attending * Spec.Context * Spec.Width : 0;

    /// <summary>Returns a matrix, and a bias if there is one.</summary>
    public static IEnumerable<WeightSpec> Linear(string field, string name, Draw draw, int rows, int columns, bool bias)
    {
        yield return WeightSpec.Matrix(field, name + ".weight", draw, rows, columns);
        if (bias) yield return WeightSpec.Vector(field + "Bias", name + ".bias", Draw.Zeros, rows);
    }

    public override string WeightsProperty(CodeFile f, BlockSpec block)
    {
        if (!block.Spreads)
            return $"// Nothing reads the lookup tokens after this layer.\nprivate {f.SpreadWeights}? SpreadWeights => null;";
        var biases = block.Bias ? "\n        UpBias = LightUpBias,\n        DownBias = LightDownBias," : null;
        return $$"""
            private {{f.SpreadWeights}} SpreadWeights => new()
            {
                Norm = {{architecture.Norm.Fused(NormField)}},
                Value = SpreadValue,{{(Spec.AttentionBias ? "\n    ValueBias = SpreadValueBias," : null)}}
                Light = new()
                {
                    Norm = {{architecture.Norm.Fused(LightNormField)}},
                    Kind = {{f.FeedForwardKind}}.Gelu,
                    Up = LightUp,
                    Down = LightDown,{{biases}}
                },
            };
            """;
    }

    public override string Call(CodeFile f, string x) => $"{f.Kernels}.Spread(gathered, {x}, SpreadWeights)";

    public override string StackedMethod(CodeFile f) => $"{f.Tensor} Spread({f.GatheredTokens} gathered, {f.Tensor} x)";

    public override string StackedCall(CodeFile f) => Call(f, "x");

    public override IEnumerable<string> StackedLines(CodeFile f, string block) =>
        [$"var spread = {block}.Spread(gathered, fed);  //| {Shape.Stacked(Spec)}"];

    public override IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block) => [];

    public override IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block) => [];

    private static WeightSpec OfAllTokens(WeightSpec weight) => weight with { IsOfAllTokens = true };
}

/// <summary>A classifier of the compressed tokens, at a grid that the caller chooses.</summary>
internal sealed class LookupHead(ModelSpec spec, Architecture architecture) : ClassifierHead(spec, architecture)
{
    private string Largest => Literals.Of(Spec.Lookup!.Largest);

    public override (string Of, string Name) FlopsConstant
    {
        get
        {
            var (of, name) = base.FlopsConstant;
            return ($"{of}, at the largest grid", name);
        }
    }

    private protected override string SliceStates => "States(pixels, grid)";

    public override IEnumerable<string> ModelMembers(CodeFile f)
    {
        foreach (var member in base.ModelMembers(f)) yield return member;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Forward(int grid, {{f.Tensor}} pixels) => Forward({{Widest}}.At(grid), pixels);
            """;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Embed(int grid, {{f.Tensor}} pixels, int? width = null) =>
                Embed({{Widest}}.At(grid), pixels, width);
            """;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Classify(int grid, {{f.Tensor}} pixels, int? width = null) =>
                Classify({{Widest}}.At(grid), pixels, width);
            """;
    }

    public override string SliceForward(CodeFile f) => $"return Forward({Largest}, pixels);";

    // The members without a grid call those with one.
    public override IEnumerable<string> SliceMembers(CodeFile f)
    {
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Forward(int grid, {{f.Tensor}} pixels)
            {
                CheckPixels(pixels);
                CheckGrid(grid);
                {{CodeFile.Indented(base.SliceForward(f))}}
            }
            """;
        foreach (var member in base.SliceMembers(f)) yield return member;
    }

    private protected override IEnumerable<string> SliceMethod(CodeFile f, string name, string body)
    {
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} {{name}}({{f.Tensor}} pixels, int? width = null) => {{name}}({{Largest}}, pixels, width);
            """;
        yield return $$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} {{name}}(int grid, {{f.Tensor}} pixels, int? width = null)
            {
                CheckPixels(pixels);
                CheckGrid(grid);
                {{CodeFile.Indented(body)}}
            }
            """;
    }
}
