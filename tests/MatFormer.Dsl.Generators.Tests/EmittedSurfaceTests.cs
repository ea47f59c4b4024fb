using System.Globalization;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators.Tests;

/// <summary>What generated code calls: of TorchSharp's namespaces only what TorchSharp 0.107.0 has, whoever provides it here.</summary>
public sealed class EmittedSurfaceTests
{
    private static readonly Dictionary<string, HashSet<string>> s_surface = ReadList();

    public static TheoryData<string> Declarations =>
        [.. Cases.All.Keys, .. Examples.Select(file => Path.GetRelativePath(Repository.Root, file))];

    private static IEnumerable<string> Examples => Directory
        .EnumerateFiles(Path.Combine(Repository.Root, "examples"), "*.cs", SearchOption.AllDirectories)
        .Where(file => !file.Split(Path.DirectorySeparatorChar).Any(folder => folder is "obj" or "bin"))
        .Where(file => File.ReadAllText(file).Contains("[Granularity(", StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(Declarations))]
    public void Generated_code_calls_nothing_that_TorchSharp_lacks(string name)
    {
        var run = Run(name);
        var used = UsedSymbols(run).ToHashSet(SymbolEqualityComparer.Default);
        Assert.True(used.Count >= 4, $"Only {used.Count} symbols of TorchSharp were found: the test looks at the wrong thing.");
        Assert.Empty(used.OfType<ISymbol>().Where(symbol => !IsTorchSharps(symbol)).Select(symbol => symbol.ToDisplayString()));
    }

    [Theory]
    [MemberData(nameof(Declarations))]
    public void Generated_code_compiles_with_warnings_as_errors(string name)
    {
        var run = Run(name);
        var strict = run.Compilation.WithOptions(((CSharpCompilationOptions)run.Compilation.Options)
            .WithGeneralDiagnosticOption(ReportDiagnostic.Error)
            .WithWarningLevel(9999));
        Assert.Empty(strict.GetDiagnostics().Where(d => d.Severity >= DiagnosticSeverity.Warning));
    }

    /// <summary>A list that has everything would pass anything.</summary>
    [Fact]
    public void A_member_of_ours_alone_is_noticed()
    {
        var compilation = GeneratorRun.Compile("");
        var tensor = compilation.GetTypeByMetadataName("TorchSharp.torch")!.GetTypeMembers("Tensor").Single();
        Assert.True(IsTorchSharps(tensor));
        Assert.True(IsTorchSharps(tensor.GetMembers("requires_grad").Single()));
        Assert.All(tensor.GetMembers("sum"), member => Assert.True(IsTorchSharps(member), member.ToDisplayString()));
        var ours = GeneratorRun.Compile("namespace TorchSharp; public class Mine { public int Field; public void add_(int target) { } }");
        var mine = ours.GetTypeByMetadataName("TorchSharp.Mine")!;
        Assert.False(IsTorchSharps(mine));
        Assert.All(mine.GetMembers(), member => Assert.False(IsTorchSharps(member)));
    }

    private static GeneratorRun Run(string name) =>
        GeneratorRun.Of(Cases.All.TryGetValue(name, out var source) ? source : File.ReadAllText(Path.Combine(Repository.Root, name)));

    // Everything in TorchSharp's namespaces that the generated files name, call, convert by, derive from or override.
    private static IEnumerable<ISymbol> UsedSymbols(GeneratorRun run)
    {
        foreach (var tree in run.Result.GeneratedTrees)
        {
            var model = run.Compilation.GetSemanticModel(tree);
            foreach (var node in tree.GetRoot().DescendantNodes())
            {
                ISymbol?[] found = node switch
                {
                    ExpressionSyntax expression => [model.GetSymbolInfo(expression).Symbol, model.GetConversion(expression).MethodSymbol],
                    ConstructorInitializerSyntax initializer => [model.GetSymbolInfo(initializer).Symbol],
                    MemberDeclarationSyntax => Overridden(model.GetDeclaredSymbol(node)),
                    _ => [],
                };
                foreach (var symbol in found)
                {
                    var member = symbol is IMethodSymbol { AssociatedSymbol: { } property } ? property : symbol;
                    var isOfAssembly = member is INamedTypeSymbol or IPropertySymbol or IFieldSymbol or IEventSymbol
                        || member is IMethodSymbol { MethodKind: not MethodKind.BuiltinOperator };
                    if (isOfAssembly && IsInTorchSharp(member!)) yield return member!.OriginalDefinition;
                }
            }
        }

        static ISymbol?[] Overridden(ISymbol? symbol) => symbol switch
        {
            IMethodSymbol method => [method.OverriddenMethod],
            IPropertySymbol property => [property.OverriddenProperty],
            INamedTypeSymbol type => [type.BaseType],
            _ => [],
        };
    }

    private static bool IsInTorchSharp(ISymbol symbol)
    {
        var ns = symbol.ContainingNamespace;
        while (ns is { IsGlobalNamespace: false, ContainingNamespace.IsGlobalNamespace: false }) ns = ns.ContainingNamespace;
        return ns?.Name == "TorchSharp";
    }

    private static bool IsTorchSharps(ISymbol symbol) => symbol is INamedTypeSymbol type
        ? s_surface.ContainsKey(TypeName(type))
        : s_surface.TryGetValue(TypeName(symbol.ContainingType), out var members) && members.Contains(Member(symbol));

    // By the name of a type, its members.
    private static Dictionary<string, HashSet<string>> ReadList()
    {
        var types = new Dictionary<string, HashSet<string>>();
        HashSet<string>? current = null;
        var path = Path.Combine(Repository.Root, "tests", "MatFormer.LibTorch.Tests", "torchsharp-0.107.0-api.txt");
        foreach (var line in File.ReadLines(path))
        {
            if (line.StartsWith("  ", StringComparison.Ordinal))
            {
                current!.Add(line.Trim());
            }
            else if (line.Length > 0)
            {
                var words = line.Split(" : ")[0];
                var kind = ((string[])["static class ", "abstract class ", "class ", "struct ", "interface ", "enum "])
                    .First(prefix => words.StartsWith(prefix, StringComparison.Ordinal));
                current = types[words[kind.Length..]] = [];
            }
        }

        return types;
    }

    // As the list writes it.
    private static string Member(ISymbol symbol)
    {
        var access = symbol.DeclaredAccessibility == Accessibility.Public ? "" : "protected ";
        switch (symbol)
        {
            case IMethodSymbol { MethodKind: MethodKind.Constructor } constructor:
                return $"{access}ctor({Parameters(constructor.Parameters)})";
            case IMethodSymbol method:
                var modifier = method.IsStatic ? "static " : method.IsAbstract ? "abstract "
                    : (method.IsVirtual || method.IsOverride) && !method.IsSealed ? "virtual " : "";
                var generic = method.TypeParameters.Length > 0 ? $"<{string.Join(", ", method.TypeParameters.Select(t => t.Name))}>" : "";
                return $"{access}{modifier}{TypeName(method.ReturnType)} {method.Name}{generic}({Parameters(method.Parameters)})";
            case IPropertySymbol property:
                var accessors = (IsVisible(property.GetMethod) ? "get; " : "") + (IsVisible(property.SetMethod) ? "set; " : "");
                var name = property.IsIndexer ? $"this[{Parameters(property.Parameters)}]" : property.Name;
                return $"{(property.IsStatic ? "static " : "")}{TypeName(property.Type)} {name} {{ {accessors}}}";
            case IFieldSymbol field:
                return $"{(field.IsStatic ? "static " : "")}{TypeName(field.Type)} {field.Name}";
            default:
                return symbol.ToDisplayString();
        }

        static bool IsVisible(IMethodSymbol? accessor) => accessor?.DeclaredAccessibility
            is Accessibility.Public or Accessibility.Protected or Accessibility.ProtectedOrInternal;
    }

    private static string Parameters(IEnumerable<IParameterSymbol> parameters) => string.Join(", ", parameters.Select(p =>
        (p.IsParams ? "params " : "")
        + (p.RefKind == RefKind.None ? "" : p.RefKind == RefKind.Out ? "out " : "ref ")
        + TypeName(p.Type) + " " + p.Name
        + (p.HasExplicitDefaultValue ? " = " + Default(p.ExplicitDefaultValue) : "")));

    private static string Default(object? value) => value switch
    {
        null => "null",
        bool b => b ? "true" : "false",
        string s => $"\"{s}\"",
        IFormattable f => f.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString()!,
    };

    private static string TypeName(ITypeSymbol type)
    {
        if (type is IArrayTypeSymbol array) return TypeName(array.ElementType) + "[]";
        if (type is ITypeParameterSymbol) return type.Name;
        if (type.SpecialType is SpecialType.System_IntPtr) return "nint";
        if (type.SpecialType is SpecialType.System_Boolean or SpecialType.System_Byte or SpecialType.System_SByte
            or SpecialType.System_Int16 or SpecialType.System_Int32 or SpecialType.System_Int64 or SpecialType.System_UInt64
            or SpecialType.System_Single or SpecialType.System_Double or SpecialType.System_String or SpecialType.System_Object or SpecialType.System_Void)
        {
            return type.WithNullableAnnotation(NullableAnnotation.NotAnnotated).ToDisplayString();
        }

        var named = (INamedTypeSymbol)type;
        if (named.OriginalDefinition.SpecialType == SpecialType.System_Nullable_T) return TypeName(named.TypeArguments[0]) + "?";
        if (named.IsTupleType) return $"({string.Join(", ", named.TupleElements.Select(element => TypeName(element.Type)))})";
        var name = type.Name;
        for (var outer = type.ContainingType; outer is not null; outer = outer.ContainingType) name = outer.Name + "." + name;
        var ns = type.ContainingNamespace.ToDisplayString();
        var prefix = ((string[])["TorchSharp", "System.Collections.Generic", "System"])
            .FirstOrDefault(p => ns == p || ns.StartsWith(p + ".", StringComparison.Ordinal));
        ns = prefix is null ? ns : ns[prefix.Length..].TrimStart('.');
        var arguments = named.TypeArguments.Length > 0 ? $"<{string.Join(", ", named.TypeArguments.Select(TypeName))}>" : "";
        return (ns.Length > 0 ? ns + "." : "") + name + arguments;
    }
}
