using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Text;
using MatFormer.Generators.Emission;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators.Parsing;

/// <summary>
/// Everything of a compilation, but for the class itself, that the meaning of a declaration may depend on: references, options, and of
/// each file its <see cref="Surface"/>. In equal surroundings the same class declares the same.
/// </summary>
internal sealed class Surroundings : IEquatable<Surroundings>
{
    private static readonly ConditionalWeakTable<Compilation, Surroundings> s_known = new();

    // The attributes' names, as they are written.
    private static readonly HashSet<string> s_names = new(
        Names.ModelAttributes.Select(LastPart).SelectMany(name => new[] { name, name.Substring(0, name.Length - nameof(Attribute).Length) }),
        StringComparer.Ordinal);

    private readonly string? _assembly;
    private readonly CompilationOptions _options;
    private readonly ImmutableArray<MetadataReference> _references;
    private readonly Surface[] _surfaces;
    private readonly HashSet<string> _aliases;

    private Surroundings(Compilation compilation, CancellationToken cancellation)
    {
        _assembly = compilation.AssemblyName;
        _options = compilation.Options;
        _references = compilation.ExternalReferences;
        _surfaces = compilation.SyntaxTrees.Select(tree => Surface.Of(tree, cancellation)).ToArray();
        _aliases = new HashSet<string>(_surfaces.SelectMany(surface => surface.ModelAliases), StringComparer.Ordinal);
    }

    /// <summary>Those of a compilation.</summary>
    public static Surroundings Of(Compilation compilation, CancellationToken cancellation) =>
        s_known.GetValue(compilation, _ => new Surroundings(compilation, cancellation));

    /// <summary>False if an attribute is none of a model's, whatever its name means.</summary>
    public bool MayMeanAModel(AttributeSyntax attribute)
    {
        var name = LastPart(attribute.Name.ToString());
        return s_names.Contains(name) || _aliases.Contains(name) || _aliases.Contains(name + nameof(Attribute));
    }

    public bool Equals(Surroundings? other) => other is not null
        && (ReferenceEquals(this, other)
            || (_assembly == other._assembly
                && _options.Equals(other._options)
                && (_references == other._references || _references.SequenceEqual(other._references))
                && _surfaces.SequenceEqual(other._surfaces)));

    public override bool Equals(object? obj) => Equals(obj as Surroundings);

    public override int GetHashCode() => _surfaces.Length;

    // Of a qualified or aliased name; type arguments make it another name.
    private static string LastPart(string name) => name.Substring(name.LastIndexOfAny(['.', ':']) + 1).Trim().TrimStart('@');

    /// <summary>
    /// What other files can see of a file in a declaration: using directives, types and namespaces by name, constants, and the parts of
    /// partial types, of which the class may be one.
    /// </summary>
    private sealed class Surface : IEquatable<Surface>
    {
        private static readonly ConditionalWeakTable<SyntaxTree, Surface> s_known = new();

        private readonly string _text;

        private Surface(SyntaxTree tree, CancellationToken cancellation)
        {
            var text = new StringBuilder(tree.Options.GetHashCode().ToString());
            var aliases = new List<string>();
            if (tree.GetRoot(cancellation) is CompilationUnitSyntax unit)
            {
                foreach (var external in unit.Externs) Add(text, external);
                Add(text, aliases, unit.Usings);
                foreach (var member in unit.Members) Add(text, aliases, member);
            }

            _text = text.ToString();
            ModelAliases = aliases;
        }

        /// <summary>Other names for the attributes, by a using directive.</summary>
        public IReadOnlyList<string> ModelAliases { get; }

        public static Surface Of(SyntaxTree tree, CancellationToken cancellation) =>
            s_known.GetValue(tree, _ => new Surface(tree, cancellation));

        public bool Equals(Surface? other) => ReferenceEquals(this, other) || _text == other?._text;

        public override bool Equals(object? obj) => Equals(obj as Surface);

        public override int GetHashCode() => _text.Length;

        private static void Add(StringBuilder text, List<string> aliases, SyntaxList<UsingDirectiveSyntax> usings)
        {
            foreach (var directive in usings)
            {
                Add(text, directive);
                if (directive.Alias is { } alias && s_names.Contains(LastPart(directive.NamespaceOrType.ToString())))
                    aliases.Add(alias.Name.Identifier.ValueText);
            }
        }

        private static void Add(StringBuilder text, List<string> aliases, MemberDeclarationSyntax member, bool isOfPart = false)
        {
            switch (member)
            {
                case BaseNamespaceDeclarationSyntax space:
                    Add(text, space.Name);
                    foreach (var external in space.Externs) Add(text, external);
                    Add(text, aliases, space.Usings);
                    foreach (var inner in space.Members) Add(text, aliases, inner);
                    text.Append('}');
                    break;
                case TypeDeclarationSyntax type:
                    var isPart = type.Modifiers.Any(SyntaxKind.PartialKeyword);
                    if (isPart)
                        foreach (var list in type.AttributeLists) Add(text, list);
                    text.Append(type.Modifiers.ToString()).Append(' ').Append(type.Keyword.ValueText).Append(' ');
                    text.Append(type.Identifier.ValueText);
                    Add(text, type.TypeParameterList);
                    Add(text, type.ParameterList);
                    Add(text, type.BaseList);
                    foreach (var inner in type.Members) Add(text, aliases, inner, isPart);
                    text.Append('}');
                    break;
                case FieldDeclarationSyntax field when isOfPart || field.Modifiers.Any(SyntaxKind.ConstKeyword):
                case EnumDeclarationSyntax or DelegateDeclarationSyntax:
                    Add(text, member);
                    break;
                case not null when isOfPart:
                    text.Append(NameOf(member)).Append('\n');
                    break;
            }
        }

        private static string NameOf(MemberDeclarationSyntax member) => member switch
        {
            MethodDeclarationSyntax method => method.Identifier.ValueText,
            PropertyDeclarationSyntax property => property.Identifier.ValueText,
            EventDeclarationSyntax @event => @event.Identifier.ValueText,
            EventFieldDeclarationSyntax events => events.Declaration.ToString(),
            _ => member.Kind().ToString(),
        };

        private static void Add(StringBuilder text, SyntaxNode? node) => text.Append(node?.ToString()).Append('\n');
    }
}
