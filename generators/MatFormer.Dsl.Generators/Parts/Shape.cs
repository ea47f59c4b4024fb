using System.Globalization;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>Shapes as comments name them: B sequences, N rows of all stacked streams, T tokens, R streams.</summary>
internal static class Shape
{
    /// <summary>A shape such as <c>(B, T, 256)</c>.</summary>
    public static string Of(params object[] sizes) =>
        "(" + string.Join(", ", sizes.Select(size => Convert.ToString(size, CultureInfo.InvariantCulture))) + ")";

    /// <summary>The states of one stream.</summary>
    public static string States(ModelSpec spec) => Of("B", "T", spec.Width);

    /// <summary>The states of all streams.</summary>
    public static string Stacked(ModelSpec spec) => Of("N", "T", spec.Width);
}
