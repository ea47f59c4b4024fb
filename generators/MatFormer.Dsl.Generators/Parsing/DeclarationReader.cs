using System.Runtime.CompilerServices;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators.Parsing;

/// <summary>
/// Reads declarations and caches them. <c>ForAttributeWithMetadataName</c> would bind the attributes of every model again after every edit
/// of any file. This reader binds them again only if the class, or anything that its declaration may depend on, has changed.
/// </summary>
internal static class DeclarationReader
{
    private static readonly ConditionalWeakTable<SyntaxNode, Memory> s_memories = new();

    /// <summary>Returns true for a class that may declare a model.</summary>
    public static bool MayDeclare(SyntaxNode node) =>
        node is ClassDeclarationSyntax { AttributeLists.Count: > 0 } or RecordDeclarationSyntax { AttributeLists.Count: > 0 };

    /// <summary>Returns the declaration of a class, or null if this part of the class has no attribute of a model.</summary>
    public static Declaration? Read(GeneratorSyntaxContext context, CancellationToken cancellation)
    {
        var syntax = (TypeDeclarationSyntax)context.Node;
        var surroundings = Surroundings.Of(context.SemanticModel.Compilation, cancellation);
        if (!syntax.AttributeLists.Any(list => list.Attributes.Any(surroundings.MayMeanAModel))) return null;

        var memory = s_memories.GetOrCreateValue(syntax);
        if (memory.Reading is { } last && last.Surroundings.AreSameFor(syntax.Identifier.ValueText, surroundings)) return last.Declaration;
        var declaration = Parse(context, syntax, cancellation);
        memory.Reading = new Reading(surroundings, declaration);
        return declaration;
    }

    private static Declaration? Parse(GeneratorSyntaxContext context, TypeDeclarationSyntax syntax, CancellationToken cancellation)
    {
        if (context.SemanticModel.GetDeclaredSymbol(syntax, cancellation) is not INamedTypeSymbol symbol) return null;
        var model = symbol.GetAttributes()
            .FirstOrDefault(data => Names.ModelAttributes.Contains(data.AttributeClass?.ToDisplayString() ?? ""));

        // If a class has several parts, only the part with the attribute counts, so that there is one model.
        return model?.ApplicationSyntaxReference?.GetSyntax(cancellation).Parent?.Parent == syntax
            ? DeclarationParser.Parse(symbol, syntax, context.SemanticModel.Compilation, context.SemanticModel, cancellation)
            : null;
    }

    // Each syntax node has one. Its only field is written atomically, so no lock is needed.
    private sealed class Memory
    {
        public Reading? Reading { get; set; }
    }

    private sealed class Reading(Surroundings surroundings, Declaration? declaration)
    {
        public Surroundings Surroundings { get; } = surroundings;

        public Declaration? Declaration { get; } = declaration;
    }
}
