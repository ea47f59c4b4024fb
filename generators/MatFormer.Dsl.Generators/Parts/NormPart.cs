using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>The norm before attention and feed-forward, and after the last layer.</summary>
internal abstract class NormPart(ModelSpec spec) : Part(spec)
{
    public override IEnumerable<WeightSpec> Weights => WeightsOf("Norm", Spec.IsVision ? "vit.layernorm" : "model.norm");

    public override IEnumerable<string> SpecLines =>
    [
        $"Norm = global::MatFormer.NormKind.{Spec.Norm},",
        $"NormEpsilon = {Epsilon},",
    ];

    protected string Epsilon => Literals.Of(Spec.Epsilon);

    private protected Dimension Width => Spec.Stream;

    // The weights of a slice are as wide as its stream.
    private protected string? Nested(Pass pass) => pass.IsStacked && Spec.ElasticWidth ? ", nested: true" : null;

    /// <summary>Returns the weights of one of the norms.</summary>
    public abstract IEnumerable<WeightSpec> WeightsOf(string field, string name);

    /// <summary>Returns the expression that norms <paramref name="x"/> with the weights in a field.</summary>
    public abstract string Call(Pass pass, string x, string field);

    /// <summary>Returns the expression that passes the weights to kernels that include the norm.</summary>
    public abstract string Fused(string field);

    /// <summary>Returns the statement of a decoding step.</summary>
    public abstract string DecodingLine(string field);

    /// <summary>Returns the fields of a decoding network for one of the norms. The name in files is an expression.</summary>
    public abstract IEnumerable<PackedField> PackedOf(CodeFile f, string field, Func<string, string> name);

    public override IEnumerable<PackedField> Packed(CodeFile f) => PackedOf(f, "_norm", suffix => $"\"model.norm{suffix}\"");
}

/// <summary>Root mean square norm (arXiv 1910.07467).</summary>
internal sealed class RmsNorm(ModelSpec spec) : NormPart(spec)
{
    public override IEnumerable<WeightSpec> WeightsOf(string field, string name) =>
        [WeightSpec.Vector(field, name + ".weight", Draw.Ones, Width)];

    public override string Call(Pass pass, string x, string field) =>
        $"{pass.File.Kernels}.RmsNorm({x}, {field}, {Epsilon}{Nested(pass)})";

    public override string Fused(string field) => $"new({field}, {Epsilon})";

    public override string DecodingLine(string field) => $"thread.RmsNorm({field}, {Epsilon});";

    public override IEnumerable<PackedField> PackedOf(CodeFile f, string field, Func<string, string> name) =>
        [new(f.PackedTable, field, $"packer.Vector({name(".weight")}, {Shape.WidthExpression(Spec)})", $"({Shape.Width(Spec)})")];
}

/// <summary>Layer norm with a bias (arXiv 1607.06450).</summary>
internal sealed class LayerNorm(ModelSpec spec) : NormPart(spec)
{
    public override IEnumerable<WeightSpec> WeightsOf(string field, string name) =>
    [
        WeightSpec.Vector(field, name + ".weight", Draw.Ones, Width),
        WeightSpec.Vector(field + "Bias", name + ".bias", Draw.Zeros, Width),
    ];

    public override string Call(Pass pass, string x, string field) =>
        $"{pass.File.Kernels}.LayerNorm({x}, {field}, {field}Bias, {Epsilon}{Nested(pass)})";

    public override string Fused(string field) => $"new({field}, {field}Bias, {Epsilon})";

    public override string DecodingLine(string field) => $"thread.LayerNorm({field}, {field}Bias, {Epsilon});";

    public override IEnumerable<PackedField> PackedOf(CodeFile f, string field, Func<string, string> name) =>
    [
        new(f.PackedTable, field, $"packer.Vector({name(".weight")}, {Shape.WidthExpression(Spec)})", $"({Shape.Width(Spec)})"),
        new(f.PackedTable, field + "Bias", $"packer.Vector({name(".bias")}, {Shape.WidthExpression(Spec)})", $"({Shape.Width(Spec)})"),
    ];
}
