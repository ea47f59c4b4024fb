using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Analyzers;

/// <summary>The diagnostics about the use of a correctly declared model. Each has a page in docs/diagnostics.</summary>
internal static class MisuseDescriptors
{
    public static readonly DiagnosticDescriptor NotDisposed = Create(
        "MFD0101",
        "A tensor is not disposed in a loop",
        "The tensor of '{0}' outlives the loop iteration; write 'using var {1} = ...', or open a scope in the loop with NewDisposeScope()",
        DiagnosticSeverity.Warning);

    public static readonly DiagnosticDescriptor BuiltBeforeMove = Create(
        "MFD0102",
        "An optimizer is built before its model moves",
        "'{0}' later replaces the parameters that are passed here; build the {1} after that call",
        DiagnosticSeverity.Warning);

    public static readonly DiagnosticDescriptor NoProfile = Create(
        "MFD0103", "A text is not a profile of the model", "This is not a profile of '{0}': {1}", DiagnosticSeverity.Warning);

    public static readonly DiagnosticDescriptor ViewTrained = Create(
        "MFD0104",
        "A view is trained",
        "A view shares its weights for inference only and has no gradients; train '{0}' itself, or a slice that Extract copies",
        DiagnosticSeverity.Warning);

    public static readonly DiagnosticDescriptor ReadsItself = Create(
        "MFD0105",
        "A declaration reads its own generated code",
        "An attribute of '{0}' has a value that is generated from the attributes; write the value itself",
        DiagnosticSeverity.Error,
        WellKnownDiagnosticTags.NotConfigurable);

    private static DiagnosticDescriptor Create(
        string id, string title, string message, DiagnosticSeverity severity, params string[] tags) => new(
            id,
            title,
            message,
            "MatFormer",
            severity,
            isEnabledByDefault: true,
            customTags: tags);
}
