using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Validation;

/// <summary>A mistake, where it is, and what its message is filled with.</summary>
internal sealed record DiagnosticInfo(DiagnosticDescriptor Descriptor, LocationInfo At, EquatableArray<string> Arguments)
{
    public DiagnosticInfo(DiagnosticDescriptor descriptor, LocationInfo at, params string[] arguments)
        : this(descriptor, at, new EquatableArray<string>(arguments))
    {
    }

    public Diagnostic ToDiagnostic() => Diagnostic.Create(Descriptor, At.ToLocation(), [.. Arguments]);
}
