using System.Globalization;
using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>
/// Writes shapes for comments: B sequences, N rows of all stacked streams, T tokens, R streams, and w channels if granularities keep
/// different numbers of them.
/// </summary>
internal static class Shape
{
    /// <summary>Returns a shape such as <c>(B, T, 256)</c>.</summary>
    public static string Of(params object[] sizes) =>
        "(" + string.Join(", ", sizes.Select(size => Convert.ToString(size, CultureInfo.InvariantCulture))) + ")";

    /// <summary>Returns the width of the residual stream.</summary>
    public static object Width(ModelSpec spec) => spec.ElasticWidth ? "w" : spec.Width;

    /// <summary>Returns the width of the residual stream as an expression. Code with several widths has a variable of this name.</summary>
    public static string WidthExpression(ModelSpec spec) => spec.ElasticWidth ? "width" : Literals.Of(spec.Width);

    /// <summary>Returns the shape of the states of one stream.</summary>
    public static string States(ModelSpec spec) => Of("B", "T", Width(spec));

    /// <summary>Returns the shape of the states of all stacked streams.</summary>
    public static string Stacked(ModelSpec spec) => Of("N", "T", Width(spec));
}
