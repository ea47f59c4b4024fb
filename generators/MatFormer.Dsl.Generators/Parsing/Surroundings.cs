using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Text;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators.Parsing;

/// <summary>
/// Everything in a compilation, except for the class itself, that the meaning of a declaration may depend on: references, options, and
/// the <see cref="Surface"/> of each file. In the same surroundings, the same class has the same declaration.
/// </summary>
internal sealed class Surroundings
{
    private static readonly ConditionalWeakTable<Compilation, Surroundings> s_known = new();

    // The names of the attributes as source code writes them, with and without their suffix.
    private static readonly HashSet<string> s_names = new(
        Names.ModelAttributes
            .Select(LastPart)
            .SelectMany(name => new[] { name, name.Substring(0, name.Length - nameof(Attribute).Length) }),
        StringComparer.Ordinal);

    private readonly string? _assembly;
    private readonly CompilationOptions _options;
    private readonly ImmutableArray<MetadataReference> _references;
    private readonly Surface[] _surfaces;
    private readonly HashSet<string> _aliases = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _parts = new(StringComparer.Ordinal);

    private Surroundings(Compilation compilation, CancellationToken cancellation)
    {
        _assembly = compilation.AssemblyName;
        _options = compilation.Options;
        _references = compilation.ExternalReferences;
        _surfaces = compilation.SyntaxTrees.Select(tree => Surface.Of(tree, cancellation)).ToArray();
        foreach (var surface in _surfaces)
        {
            _aliases.UnionWith(surface.ModelAliases);
            foreach (var part in surface.Parts)
                _parts[part.Key] = _parts.TryGetValue(part.Key, out var others) ? others + part.Value : part.Value;
        }
    }

    /// <summary>Returns the surroundings that a compilation gives its declarations.</summary>
    public static Surroundings Of(Compilation compilation, CancellationToken cancellation) =>
        s_known.GetValue(compilation, _ => new Surroundings(compilation, cancellation));

    /// <summary>Returns false if an attribute certainly does not make a class a model.</summary>
    public bool MayMeanAModel(AttributeSyntax attribute)
    {
        var name = LastPart(attribute.Name.ToString());
        return s_names.Contains(name) || _aliases.Contains(name) || _aliases.Contains(name + nameof(Attribute));
    }

    /// <summary>Returns true if a class of this name has the same declaration in both surroundings.</summary>
    public bool AreSameFor(string name, Surroundings others) =>
        ReferenceEquals(this, others)
        || (PartsOf(name) == others.PartsOf(name)
            && _assembly == others._assembly
            && _options.Equals(others._options)
            && (_references == others._references || _references.SequenceEqual(others._references))
            && _surfaces.SequenceEqual(others._surfaces));

    private string PartsOf(string name) => _parts.TryGetValue(name, out var parts) ? parts : "";

    // Returns the last part of a qualified or aliased name. A name with type arguments keeps them and so is a different name.
    private static string LastPart(string name) => name.Substring(name.LastIndexOfAny(['.', ':']) + 1).Trim().TrimStart('@');

    /// <summary>
    /// What declarations in other files can see of a file: using directives, the names of types and namespaces, and constants. The
    /// attributes and members of partial types are kept apart, because only classes of the same name see them.
    /// </summary>
    private sealed class Surface : IEquatable<Surface>
    {
        private static readonly ConditionalWeakTable<SyntaxTree, Surface> s_known = new();

        private readonly Dictionary<string, string> _parts = new(StringComparer.Ordinal);
        private readonly List<string> _aliases = [];
        private readonly string _text;

        private Surface(SyntaxTree tree, CancellationToken cancellation)
        {
            var text = new StringBuilder();
            if (tree.GetRoot(cancellation) is CompilationUnitSyntax unit) Add(text, unit.Externs, unit.Usings, unit.Members);
            _text = text.ToString();
        }

        /// <summary>Aliases of the attributes that using directives declare.</summary>
        public IReadOnlyList<string> ModelAliases => _aliases;

        /// <summary>The attributes and members that this file adds to each partial type, by the name of the type.</summary>
        public IReadOnlyDictionary<string, string> Parts => _parts;

        public static Surface Of(SyntaxTree tree, CancellationToken cancellation) =>
            s_known.GetValue(tree, _ => new Surface(tree, cancellation));

        /// <summary>Compares everything except for the parts.</summary>
        public bool Equals(Surface? other) => ReferenceEquals(this, other) || _text == other?._text;

        public override bool Equals(object? obj) => Equals(obj as Surface);

        public override int GetHashCode() => _text.Length;

        private void Add(
            StringBuilder text,
            SyntaxList<ExternAliasDirectiveSyntax> externs,
            SyntaxList<UsingDirectiveSyntax> usings,
            SyntaxList<MemberDeclarationSyntax> members)
        {
            foreach (var external in externs) Write(text, external);
            foreach (var directive in usings)
            {
                Write(text, directive);
                if (directive.Alias is { } alias && s_names.Contains(LastPart(directive.NamespaceOrType.ToString())))
                    _aliases.Add(alias.Name.Identifier.ValueText);
            }

            foreach (var member in members) Add(text, member);
            text.Append("}\n");
        }

        private void Add(StringBuilder text, MemberDeclarationSyntax member)
        {
            switch (member)
            {
                case BaseNamespaceDeclarationSyntax space:
                    Write(text, space.Name);
                    Add(text, space.Externs, space.Usings, space.Members);
                    break;
                case TypeDeclarationSyntax type:
                    text.Append(type.Modifiers.ToString()).Append(' ').Append(type.Keyword.ValueText).Append(' ');
                    text.Append(type.Identifier.ValueText);
                    Write(text, type.TypeParameterList);
                    Write(text, type.ParameterList);
                    Write(text, type.BaseList);
                    foreach (var inner in type.Members) Add(text, inner);
                    text.Append("}\n");
                    if (type.Modifiers.Any(SyntaxKind.PartialKeyword)) AddPart(type);
                    break;
                case FieldDeclarationSyntax field when field.Modifiers.Any(SyntaxKind.ConstKeyword):
                case EnumDeclarationSyntax or DelegateDeclarationSyntax:
                    Write(text, member);
                    break;
            }
        }

        private void AddPart(TypeDeclarationSyntax type)
        {
            var text = new StringBuilder(_parts.TryGetValue(type.Identifier.ValueText, out var others) ? others : "");
            foreach (var list in type.AttributeLists) Write(text, list);
            foreach (var member in type.Members) text.Append(member.Kind()).Append(' ').Append(NameOf(member)).Append('\n');
            _parts[type.Identifier.ValueText] = text.ToString();
        }

        private static string NameOf(MemberDeclarationSyntax member) => member switch
        {
            MethodDeclarationSyntax method => method.Identifier.ValueText,
            PropertyDeclarationSyntax property => property.Identifier.ValueText,
            EventDeclarationSyntax @event => @event.Identifier.ValueText,
            BaseFieldDeclarationSyntax field => field.Declaration.ToString(),
            _ => "",
        };

        private static void Write(StringBuilder text, SyntaxNode? node) => text.Append(node?.ToString()).Append('\n');
    }
}
