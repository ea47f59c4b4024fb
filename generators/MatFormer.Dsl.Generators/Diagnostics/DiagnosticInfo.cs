using System.Collections.Immutable;
using MatFormer.Generators.Model;
using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Diagnostics;

/// <summary>A mistake: its kind, its place, the arguments of its message, and the text that would correct it.</summary>
/// <param name="Descriptor">The kind of mistake.</param>
/// <param name="At">Its place.</param>
/// <param name="Arguments">The arguments of the message.</param>
/// <param name="Replacement">
/// The text that corrects the mistake if it replaces exactly the characters at <paramref name="At"/>, or null. A code fix offers this
/// text for every kind of mistake.
/// </param>
internal sealed record DiagnosticInfo(
    DiagnosticDescriptor Descriptor, LocationInfo At, EquatableArray<string> Arguments, string? Replacement = null)
{
    /// <summary>The key of <see cref="Replacement"/> in a diagnostic's properties.</summary>
    public const string ReplacementKey = nameof(Replacement);

    public DiagnosticInfo(DiagnosticDescriptor descriptor, Remedy at, params string[] arguments)
        : this(descriptor, at.At, new EquatableArray<string>(arguments), at.Replacement)
    {
    }

    /// <summary>Returns a diagnostic for a generator, which holds no syntax trees.</summary>
    public Diagnostic ToDiagnostic() => ToDiagnostic(At.ToLocation());

    /// <summary>Returns a diagnostic for an analyzer. Its location is in one of the trees, so that editors offer fixes there.</summary>
    public Diagnostic ToDiagnostic(IEnumerable<SyntaxTree> trees) =>
        ToDiagnostic(trees.FirstOrDefault(t => t.FilePath == At.Path && t.Length >= At.Span.End) is { } tree
            ? Location.Create(tree, At.Span)
            : At.ToLocation());

    private Diagnostic ToDiagnostic(Location at) => Diagnostic.Create(
        Descriptor,
        at,
        Replacement is null ? null : ImmutableDictionary<string, string?>.Empty.Add(ReplacementKey, Replacement),
        [.. Arguments]);
}
