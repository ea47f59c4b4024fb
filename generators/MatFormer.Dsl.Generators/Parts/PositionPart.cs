using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>Gives tokens their positions.</summary>
internal abstract class PositionPart(ModelSpec spec) : Part(spec)
{
    /// <summary>The parameters of a layer, with a comma in front.</summary>
    public virtual string? LayerParameters(CodeFile f) => null;

    /// <summary>The arguments for <see cref="LayerParameters"/>.</summary>
    public virtual string? LayerArguments => null;

    /// <summary>The statements that compute the arguments of a layer that is recomputed from its input <c>x</c>.</summary>
    public virtual IEnumerable<string> Recomputed(CodeFile f) => [];

    /// <summary>The positions that are added to the embeddings, as an argument of the input's kernel.</summary>
    public virtual string Added(Pass pass) => "positions: null";

    /// <summary>True if positions are added to the embeddings.</summary>
    public virtual bool AreAdded => true;

    /// <summary>The parameters of a layer's decoding step, with a comma in front.</summary>
    public virtual string? DecodingParameters(CodeFile f) => null;

    /// <summary>The arguments for <see cref="DecodingParameters"/>, which are fields of the network.</summary>
    public virtual string? DecodingArguments => null;

    /// <summary>The arguments that a layer passes on from its <see cref="DecodingParameters"/>.</summary>
    public virtual string? DecodingHandedOn => null;

    /// <summary>The positions that the decoding step adds to the embeddings, with a comma in front.</summary>
    public virtual string? DecodingAdded => null;

    /// <summary>True if the network has a table of positions.</summary>
    public virtual bool HasTable => false;

    /// <summary>Returns the table of positions that the network has besides its weights, or null.</summary>
    public virtual TableSpec? Table(CodeFile f) => null;

    public override IEnumerable<string> SpecLines => [$"Position = global::MatFormer.PositionKind.{Spec.Position},"];
}

/// <summary>Rotates queries and keys by angles that grow with the position (arXiv 2104.09864).</summary>
internal sealed class RotaryPositions(ModelSpec spec, Architecture architecture) : PositionPart(spec)
{
    public override bool AreAdded => false;

    public override string LayerParameters(CodeFile f) => $", {f.Tensor} cos, {f.Tensor} sin";

    public override string LayerArguments => ", cos, sin";

    public override string DecodingParameters(CodeFile f) => $", {f.PackedTable} cos, {f.PackedTable} sin";

    public override string DecodingArguments => ", _cos, _sin";

    public override string DecodingHandedOn => ", cos, sin";

    public override IEnumerable<string> SpecLines
    {
        get
        {
            foreach (var line in base.SpecLines) yield return line;
            yield return $"RotaryBase = {Literals.Of(Spec.RotaryBase)},";
            if (Spec.RotaryScaling is { } scaling) yield return $"RotaryScaling = {Scaling(scaling)},";
        }
    }

    public override bool HasTable => true;

    public override TableSpec Table(CodeFile f) => new(
        f.RotaryTable,
        "Rotary",
        $"({Spec.Sequence}, {Spec.HeadWidth / 2}) twice",
        $"{Literals.Of(Spec.Sequence)}, {Literals.Of(Spec.HeadWidth)}, {Literals.Of(Spec.RotaryBase)}, ",
        ScalingArgument(f));

    public override IEnumerable<string> Enter(Pass pass)
    {
        var count = $"tokens.shape[1]{architecture.Pooling.ExtraTokens}";
        return Angles($"{pass.Network}Rotary.Slice({architecture.Mask.Start}, {count})");
    }

    public override IEnumerable<string> Recomputed(CodeFile f) => Angles("Rotary.Slice(0, x.shape[1])");

    public override IEnumerable<PackedField> Packed(CodeFile f)
    {
        var shape = $"({Spec.Context}, {Spec.HeadWidth / 2})";
        var sizes = $"{Literals.Of(Spec.Context)}, {Literals.Of(Spec.HeadWidth)}, {Literals.Of(Spec.RotaryBase)}";
        yield return new(f.PackedTable, "_cos, _sin", $"packer.Rotary({sizes}{ScalingArgument(f)})", shape + " each");
    }

    private IEnumerable<string> Angles(string slice)
    {
        var angles = Shape.Of("T", Spec.HeadWidth / 2);
        yield return $"var (cosines, sines) = {slice};";
        yield return $"using var cos = cosines;  //| {angles}";
        yield return $"using var sin = sines;  //| {angles}";
    }

    private string? ScalingArgument(CodeFile f) => Spec.RotaryScaling is null ? null : $", {f.Model}.Spec.RotaryScaling";

    private static string Scaling(RotaryScalingSpec scaling)
    {
        var made = $"new(global::MatFormer.RotaryScalingKind.{scaling.Kind}, {Literals.Of(scaling.Factor)})";
        return scaling.Kind == RotaryScalingKind.Linear ? made : made + $$"""

            {
                OriginalContext = {{Literals.Of(scaling.OriginalContext)}},
                LowFrequencyFactor = {{Literals.Of(scaling.LowFrequencyFactor)}},
                HighFrequencyFactor = {{Literals.Of(scaling.HighFrequencyFactor)}},
            }
            """;
    }
}

/// <summary>Adds a trained vector for each position to the embeddings.</summary>
internal sealed class LearnedPositions(ModelSpec spec) : PositionPart(spec)
{
    public override IEnumerable<WeightSpec> Weights => [Spec.IsVision
        ? WeightSpec.Embedding("EmbedPositions", "vit.embeddings.position_embeddings", 1, Spec.Sequence, Spec.Stream)
        : WeightSpec.Embedding("EmbedPositions", "model.embed_positions.weight", Spec.Sequence, Spec.Stream)];

    public override string DecodingAdded => ", _embedPositions";

    public override string Added(Pass pass) => pass.Network + "EmbedPositions";

    public override IEnumerable<PackedField> Packed(CodeFile f) =>
    [
        new(
            f.PackedTable,
            "_embedPositions",
            $"packer.Table(\"model.embed_positions.weight\", {Literals.Of(Spec.Context)}, {Shape.WidthExpression(Spec)})",
            $"({Spec.Context}, {Shape.Width(Spec)})"),
    ];
}

/// <summary>Adds sines and cosines of a patch's row and column to the embeddings (arXiv 2205.01580).</summary>
internal sealed class SinusoidalPositions(ModelSpec spec) : PositionPart(spec)
{
    public override bool HasTable => true;

    public override TableSpec Table(CodeFile f) => new(
        f.SinusoidalTable,
        "Positions",
        $"({Spec.Sequence}, {Spec.Width})",
        $"{Literals.Of(Spec.Image!.Size / Spec.Image.Patch)}, {Literals.Of(Spec.Width)}, "
            + $"classToken: {(Spec.HasClassToken ? "true" : "false")}, ");

    public override string Added(Pass pass) => pass.Network + "Positions.Table";
}
