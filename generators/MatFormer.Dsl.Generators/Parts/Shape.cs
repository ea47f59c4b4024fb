using System.Globalization;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>Writes shapes for comments: B sequences, N rows of all stacked streams, T tokens, R streams.</summary>
internal static class Shape
{
    /// <summary>Returns a shape such as <c>(B, T, 256)</c>.</summary>
    public static string Of(params object[] sizes) =>
        "(" + string.Join(", ", sizes.Select(size => Convert.ToString(size, CultureInfo.InvariantCulture))) + ")";

    /// <summary>Returns the shape of the states of one stream.</summary>
    public static string States(ModelSpec spec) => Of("B", "T", spec.Width);

    /// <summary>Returns the shape of the states of all stacked streams.</summary>
    public static string Stacked(ModelSpec spec) => Of("N", "T", spec.Width);
}
