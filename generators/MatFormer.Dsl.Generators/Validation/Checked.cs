using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Validation;

/// <summary>What to generate for a class.</summary>
internal abstract record Output(TypeSpec Type)
{
    /// <summary>A valid model.</summary>
    public sealed record Whole(ModelSpec Spec) : Output(Spec.Type);

    /// <summary>A declaration with a mistake, which gets members that let the rest of the program compile.</summary>
    /// <param name="Type">The class.</param>
    /// <param name="Reason">The first mistake.</param>
    /// <param name="Names">The names of granularities and profiles that are valid names of classes.</param>
    public sealed record Skeleton(TypeSpec Type, string Reason, EquatableArray<string> Names) : Output(Type)
    {
        /// <summary>True if profiles have bits, which some constants tell.</summary>
        public bool HasPrecision { get; init; }
    }
}

/// <summary>The result of validation: what to generate (null if nothing can be generated), and the diagnostics.</summary>
internal sealed record Checked(Output? Output, EquatableArray<DiagnosticInfo> Diagnostics);
