using System.Collections.Immutable;
using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Analyzers;

/// <summary>
/// Checks constant texts that are passed to <c>Profile&lt;TModel&gt;.Parse</c> by the validator's rules for declared profiles. Without this
/// check, a text that is not a profile of the model would only be an exception at run time.
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class ProfileTextAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [MisuseDescriptors.NoProfile];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Analyze, OperationKind.Invocation);
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        var call = (IInvocationOperation)context.Operation;
        if (call is not { TargetMethod: { Name: "Parse", ContainingType: var profile }, Arguments.Length: 1 }
            || !Operations.IsOurs(profile, "Profile")
            || profile.TypeArguments.Single() is not INamedTypeSymbol model
            || call.Arguments[0].Value is not { ConstantValue: var constant } argument
            || constant is not { HasValue: true, Value: string { Length: > 0 } text }
            || DeclarationAnalyzer.Parse(model, context.Compilation, context.CancellationToken) is not { } declaration
            || Validator.Check(declaration).Output is not Output.Whole { Spec: var spec })
        {
            return;
        }

        var names = spec.Granularities.Select(g => g.Name).Concat(spec.Profiles.Select(p => p.Name)).ToList();
        if (names.Contains(text)) return;
        var located = new LocatedText(text, LocationInfo.Of(argument.Syntax), CharactersOf(argument.Syntax, text));
        var (remedy, reason) = text.Any(c => c == '*' || char.IsWhiteSpace(c))
            ? Pattern(declaration, spec, located)
            : (located.Slice(0, text.Length).ReplacedBy(located.Characters is null ? null : EditDistance.Nearest(text, names)),
                "write one of " + string.Join(", ", names) + ", or a pattern of granularities");
        if (reason is null) return;
        context.ReportDiagnostic(
            new DiagnosticInfo(MisuseDescriptors.NoProfile, remedy, spec.Type.Name, reason).ToDiagnostic([argument.Syntax.SyntaxTree]));
    }

    // Reports what the validator would report about a declared profile with this pattern. At run time, the pattern is the profile's name.
    private static (Remedy At, string? Reason) Pattern(Declaration declaration, ModelSpec spec, LocatedText pattern)
    {
        const string name = "ParsedText";
        var parsed = new ProfileDeclaration(
            new LocatedText(name, pattern.At, null), pattern, null, null, null, null, null, null, null, null, null, null);
        var judged = Validator.Check(declaration with { Profiles = new[] { parsed }.ToEquatableArray(), Grid = null });
        if (judged.Output is Output.Whole { Spec: { CanSkip: true } } && !spec.CanSkip)
            return (pattern.At, "no declared profile leaves layers out, so no profile can at run time; declare one that does");
        if (judged.Diagnostics.FirstOrDefault(d => d.Descriptor.DefaultSeverity == DiagnosticSeverity.Error) is not { } found)
            return (pattern.At, null);
        var renamed = found with { Arguments = found.Arguments.Select(a => a == name ? pattern.Value : a).ToEquatableArray() };
        return (found.At.ReplacedBy(found.Replacement), renamed.ToDiagnostic().GetMessage(CultureInfo.InvariantCulture));
    }

    private static LocationInfo? CharactersOf(SyntaxNode syntax, string text)
    {
        if (syntax is not LiteralExpressionSyntax { RawKind: (int)SyntaxKind.StringLiteralExpression } literal) return null;
        var start = literal.Token.Text.IndexOf(text, StringComparison.Ordinal);
        return start < 0 || text.Contains('\n')
            ? null
            : LocationInfo.Of(literal.SyntaxTree, new TextSpan(literal.SpanStart + start, text.Length));
    }
}
