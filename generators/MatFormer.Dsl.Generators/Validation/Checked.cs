using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;

namespace MatFormer.Generators.Validation;

/// <summary>What to emit for a class.</summary>
internal abstract record Output(TypeSpec Type)
{
    /// <summary>A valid model.</summary>
    public sealed record Whole(ModelSpec Spec) : Output(Spec.Type);

    /// <summary>A declaration with a mistake: members that let the rest of the program compile.</summary>
    /// <param name="Type">The class.</param>
    /// <param name="Reason">The first mistake.</param>
    /// <param name="Names">The granularities and profiles that can have classes.</param>
    public sealed record Skeleton(TypeSpec Type, string Reason, EquatableArray<string> Names) : Output(Type);
}

/// <summary>A judged declaration: what to emit, null if nothing can be, and what to say.</summary>
internal sealed record Checked(Output? Output, EquatableArray<DiagnosticInfo> Diagnostics);
