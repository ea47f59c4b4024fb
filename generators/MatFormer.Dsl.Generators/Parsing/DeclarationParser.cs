using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Validation;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators.Parsing;

/// <summary>Turns the attributes of a class into a <see cref="Declaration"/>. Later steps see neither symbols nor syntax.</summary>
internal static class DeclarationParser
{
    // The base class is in MatFormer.Runtime, and the interface in MatFormer.Inference, which the runtime references.
    private const string BaseClass = "MatFormer.MatFormerModel";
    private const string Interface = "MatFormer.IDeclaredModel`1";

    // Generated code uses params collections, which came with this version.
    private const LanguageVersion Oldest = LanguageVersion.CSharp13;

    /// <summary>Reads a class.</summary>
    /// <param name="symbol">The class.</param>
    /// <param name="syntax">The part of the class that has the attribute of the model.</param>
    /// <param name="compilation">The compilation, with or without generated code.</param>
    /// <param name="scope">The semantic model of the part, which knows the names that are hidden there; null if no code is written.</param>
    /// <param name="cancellation">Cancels reading.</param>
    public static Declaration Parse(
        INamedTypeSymbol symbol,
        TypeDeclarationSyntax syntax,
        Compilation compilation,
        SemanticModel? scope,
        CancellationToken cancellation)
    {
        var attributes = ReadAttributes(symbol, cancellation);
        var granularities = All<GranularityAttribute>().Select(ParseGranularity).ToList();
        var profiles = All<ProfileAttribute>().Select(ParseProfile).ToList();
        var grid = Find<ProfileGridAttribute>() is { } found ? ParseGrid(found) : null;
        var names = granularities.Select(g => g.Name.Value).Concat(profiles.Select(p => p.Name.Value)).Concat(grid?.Names ?? []).ToList();
        var own = new HashSet<string>(symbol.MemberNames, StringComparer.Ordinal);
        var inherited = new HashSet<string>(InheritedNames(compilation), StringComparer.Ordinal);
        return new Declaration(
            ParseType(symbol, syntax, scope, names, compilation.GetTypeByMetadataName(BaseClass) is not null),
            LocationInfo.Of(syntax.Identifier),
            TypeProblems(symbol, syntax, compilation).ToEquatableArray(),
            attributes.All(a => a.Reader.IsComplete),
            names.Append(symbol.Name).Distinct().Where(IsTaken).ToEquatableArray(),
            ModelsOf().ToEquatableArray(),
            All<FeedForwardAttribute>().Select(ParseFeedForward).ToEquatableArray(),
            All<AttentionAttribute>().Select(ParseAttention).ToEquatableArray(),
            Find<NormAttribute>() is { } norm ? ParseNorm(norm) : null,
            Find<PositionAttribute>()?.Argument<PositionKind>("kind"),
            Find<RotaryScalingAttribute>() is { } scaling ? ParseRotaryScaling(scaling) : null,
            Find<EmbeddingAttribute>()?.Property<bool>(nameof(EmbeddingAttribute.Tied)),
            Find<EmbeddingAttribute>()?.At,
            Find<NestedEmbeddingAttribute>() is { } nested ? ParseNested(nested) : null,
            granularities.ToEquatableArray(),
            profiles.ToEquatableArray(),
            grid,
            Find<RoutingAttribute>() is { } routing ? ParseRouting(routing) : null)
        {
            Precision = Find<PrecisionAttribute>() is { } precision ? ParsePrecision(precision) : null,
            Lookup = Find<LookupAttribute>() is { } lookup ? ParseLookup(lookup) : null,
        };

        IEnumerable<AttributeReader> All<T>() => attributes.Where(a => a.Name == Names.Of<T>()).Select(a => a.Reader);

        AttributeReader? Find<T>() => All<T>().FirstOrDefault();

        IEnumerable<ModelDeclaration> ModelsOf() => All<MatLMAttribute>().Select(a => ParseModel(ModelKind.LanguageModel, a))
            .Concat(All<MatViTAttribute>().Select(a => ParseModel(ModelKind.VisionTransformer, a)))
            .Concat(All<MatEncoderAttribute>().Select(a => ParseModel(ModelKind.TextEncoder, a)));

        // True if the user's own code has the name. Generated members have declared names too, but do not count.
        bool IsTaken(string name) => inherited.Contains(name) || (own.Contains(name) && !symbol.GetMembers(name).All(IsGenerated));
    }

    private static List<(string Name, AttributeReader Reader)> ReadAttributes(INamedTypeSymbol symbol, CancellationToken cancellation)
    {
        var attributes = new List<(string, AttributeReader)>();
        foreach (var data in symbol.GetAttributes())
        {
            var name = data.AttributeClass?.ToDisplayString() ?? "";
            if (name.StartsWith(nameof(MatFormer) + ".", StringComparison.Ordinal)
                && data.ApplicationSyntaxReference?.GetSyntax(cancellation) is AttributeSyntax syntax)
            {
                attributes.Add((name, new AttributeReader(data, syntax)));
            }
        }

        return attributes;
    }

    private static TypeSpec ParseType(
        INamedTypeSymbol symbol, TypeDeclarationSyntax syntax, SemanticModel? scope, IReadOnlyCollection<string> declaredNames,
        bool hasTensors)
    {
        var enclosing = new List<string>();
        var hintName = symbol.Name;
        for (var outer = symbol.ContainingType; outer is not null; outer = outer.ContainingType)
        {
            enclosing.Insert(0, "partial " + Keyword(outer) + " " + Names.Escape(outer.Name));
            hintName = outer.Name + "." + hintName;
        }

        var ns = symbol.ContainingNamespace.IsGlobalNamespace ? "" : symbol.ContainingNamespace.ToDisplayString();
        var hidden = Names.Aliases
            .Where(alias => declaredNames.Contains(alias.Key) || IsHidden(alias.Key, alias.Value))
            .Select(alias => alias.Key);
        var file = ns.Length == 0 ? hintName : ns.Replace("@", "") + "." + hintName;
        if (HasTwin(symbol)) file += "." + Fingerprint.Hash(file).Substring(0, 8);
        return new TypeSpec(ns, enclosing.ToEquatableArray(), symbol.Name, file, hidden.ToEquatableArray(), hasTensors);

        // If the user's code has a type with the name of an alias, the alias would clash with the type.
        bool IsHidden(string alias, string fullName) =>
            symbol.Name == alias
            || symbol.GetTypeMembers(alias).Length > 0
            || scope?.LookupNamespacesAndTypes(syntax.Identifier.SpanStart, name: alias).Any(f => f.ToDisplayString() != fullName) == true;
    }

    // True if the name of another type or namespace differs only in case. Some file systems ignore case in file names.
    private static bool HasTwin(ISymbol symbol)
    {
        for (var at = symbol; at.ContainingSymbol is INamespaceOrTypeSymbol around; at = around)
        {
            var members = around is INamespaceSymbol ns ? ns.GetMembers().AsEnumerable() : ((INamedTypeSymbol)around).GetTypeMembers();
            if (members.Any(other => other.Name != at.Name && string.Equals(other.Name, at.Name, StringComparison.OrdinalIgnoreCase)))
                return true;
        }

        return false;
    }

    private static string Keyword(INamedTypeSymbol type) => type switch
    {
        { IsRecord: true, TypeKind: TypeKind.Struct } => "record struct",
        { IsRecord: true } => "record",
        { TypeKind: TypeKind.Struct } => "struct",
        { TypeKind: TypeKind.Interface } => "interface",
        _ => "class",
    };

    private static IEnumerable<string> InheritedNames(Compilation compilation)
    {
        for (var type = compilation.GetTypeByMetadataName(BaseClass); type is not null; type = type.BaseType)
        {
            foreach (var name in type.MemberNames) yield return name;
        }
    }

    private static bool IsGenerated(ISymbol member) =>
        member.DeclaringSyntaxReferences.Any(part => Written.Is(part.SyntaxTree));

    private static IEnumerable<DiagnosticInfo> TypeProblems(INamedTypeSymbol symbol, TypeDeclarationSyntax syntax, Compilation compilation)
    {
        var at = LocationInfo.Of(syntax.Identifier);
        if (!syntax.Modifiers.Any(SyntaxKind.PartialKeyword)) yield return new DiagnosticInfo(Descriptors.NotPartial, at, symbol.Name);
        for (var outer = syntax.Parent as TypeDeclarationSyntax; outer is not null; outer = outer.Parent as TypeDeclarationSyntax)
        {
            if (!outer.Modifiers.Any(SyntaxKind.PartialKeyword))
            {
                var name = outer.Identifier;
                yield return new DiagnosticInfo(Descriptors.EnclosingNotPartial, LocationInfo.Of(name), name.ValueText, symbol.Name);
            }

            if (outer.TypeParameterList is { } outerParameters)
                yield return new DiagnosticInfo(Descriptors.Generic, LocationInfo.Of(outerParameters), outer.Identifier.ValueText);
        }

        if (syntax.TypeParameterList is { } parameters)
            yield return new DiagnosticInfo(Descriptors.Generic, LocationInfo.Of(parameters), symbol.Name);
        var bases = symbol.DeclaringSyntaxReferences
            .Where(part => !Written.Is(part.SyntaxTree))
            .Select(part => (part.GetSyntax() as TypeDeclarationSyntax)?.BaseList?.Types.FirstOrDefault())
            .OfType<BaseTypeSyntax>()
            .ToList();
        if (symbol.BaseType is { } other && other.ToDisplayString() != BaseClass
            && (other.SpecialType != SpecialType.System_Object || bases.Any(NamesObject)))
        {
            var baseAt = bases.Count > 0 ? LocationInfo.Of(bases[0]) : at;
            yield return new DiagnosticInfo(Descriptors.OtherBaseClass, baseAt, symbol.Name, other.ToDisplayString());
        }

        var unfit = symbol switch
        {
            { IsRecord: true } => "a record",
            { IsStatic: true } => "static",
            { IsAbstract: true } => "abstract",
            { IsFileLocal: true } => "local to its file",
            _ when HasParameters(symbol) => "a class with parameters",
            _ => null,
        };
        if (unfit is not null) yield return new DiagnosticInfo(Descriptors.UnfitClass, at, symbol.Name, unfit);
        foreach (var member in symbol.GetMembers().Where(member => Clashes(member) && !IsGenerated(member)))
        {
            var place = member.Locations[0];
            yield return new DiagnosticInfo(
                Descriptors.NameTaken, LocationInfo.Of(place.SourceTree!, place.SourceSpan), member.Name, symbol.Name);
        }

        if (compilation is CSharpCompilation { LanguageVersion: < Oldest and var version })
        {
            yield return new DiagnosticInfo(
                Descriptors.LanguageTooOld, at, symbol.Name, Oldest.ToDisplayString(), version.ToDisplayString());
        }

        if (compilation.GetTypeByMetadataName(Interface) is null) yield return new DiagnosticInfo(Descriptors.NoRuntime, at);
    }

    // True if a generated member has the same name, and the two cannot be overloads.
    private static bool Clashes(ISymbol member) => member is IMethodSymbol method
        ? Names.IsMember(member.Name) && method.AssociatedSymbol is null
        : Names.IsMember(member.Name) || Names.Methods.Contains(member.Name);

    private static bool HasParameters(INamedTypeSymbol symbol) =>
        symbol.DeclaringSyntaxReferences.Any(part => part.GetSyntax() is ClassDeclarationSyntax { ParameterList: not null });

    // Even object as an explicit base class leaves no room for the base class of the generated code.
    private static bool NamesObject(BaseTypeSyntax written) =>
        written.Type.ToString() is "object" or "Object" or "System.Object" or "global::System.Object";

    // Properties that several of these attributes have mean the same in each of them.
    private static ModelDeclaration ParseModel(ModelKind kind, AttributeReader reader) => new(
        kind,
        reader.At,
        reader.Property<int>(nameof(MatLMAttribute.Layers)),
        reader.Property<int>(nameof(MatLMAttribute.Width)),
        reader.Property<int>(nameof(MatLMAttribute.Heads)),
        reader.Property<int>(nameof(MatLMAttribute.Context)),
        reader.Property<int>(nameof(MatLMAttribute.Vocabulary)),
        reader.Property<int>(nameof(MatViTAttribute.Image)),
        reader.Property<int>(nameof(MatViTAttribute.Patch)),
        reader.Property<int>(nameof(MatViTAttribute.Channels)),
        reader.Property<int>(nameof(MatViTAttribute.Classes)),
        reader.Property<int>(nameof(MatEncoderAttribute.Embedding)),
        reader.Property<Pooling>(nameof(MatEncoderAttribute.Pooling)),
        reader.Property<double>(nameof(MatEncoderAttribute.Temperature)));

    private static NestedEmbeddingDeclaration ParseNested(AttributeReader reader)
    {
        var dimensions = reader.Array<int>("dimensions");
        var weights = reader.PropertyArray<double>(nameof(NestedEmbeddingAttribute.Weights));
        return new NestedEmbeddingDeclaration(
            reader.At, dimensions?.Items ?? default, dimensions?.At ?? reader.At, weights?.Items, weights?.At);
    }

    private static RoutingDeclaration ParseRouting(AttributeReader reader) => new(
        reader.At, reader.Array<double>("budgets")?.Items ?? default, reader.PropertyText(nameof(RoutingAttribute.Layers)));

    private static LookupDeclaration ParseLookup(AttributeReader reader) => new(
        reader.At, reader.Array<int>("grids")?.Items ?? default, reader.Property<int>(nameof(LookupAttribute.Hidden)));

    private static FeedForwardDeclaration ParseFeedForward(AttributeReader reader) => new(
        reader.At,
        reader.Argument<int>("width") ?? new Located<int>(0, reader.At),
        reader.Argument<Activation>("activation") ?? new Located<Activation>(default, reader.At),
        reader.Property<bool>(nameof(FeedForwardAttribute.Bias))?.Value ?? false,
        reader.PropertyText(nameof(FeedForwardAttribute.Layers)));

    private static AttentionDeclaration ParseAttention(AttributeReader reader) => new(
        reader.At,
        reader.Property<int>(nameof(AttentionAttribute.KeyValueHeads)),
        reader.Property<int>(nameof(AttentionAttribute.Window)),
        reader.Property<int>(nameof(AttentionAttribute.HeadWidth)),
        reader.Property<double>(nameof(AttentionAttribute.RotaryBase)),
        reader.Property<bool>(nameof(AttentionAttribute.QkNorm)),
        reader.Property<bool>(nameof(AttentionAttribute.Bias)),
        reader.Property<bool>(nameof(AttentionAttribute.OutputBias)),
        reader.PropertyText(nameof(AttentionAttribute.Layers)));

    private static RotaryScalingDeclaration ParseRotaryScaling(AttributeReader reader) => new(
        reader.At,
        reader.Argument<RotaryScalingKind>("kind") ?? new Located<RotaryScalingKind>(default, reader.At),
        reader.Argument<double>("factor") ?? new Located<double>(0, reader.At),
        reader.Property<int>(nameof(RotaryScalingAttribute.OriginalContext)),
        reader.Property<double>(nameof(RotaryScalingAttribute.LowFrequencyFactor)),
        reader.Property<double>(nameof(RotaryScalingAttribute.HighFrequencyFactor)));

    private static NormDeclaration ParseNorm(AttributeReader reader) => new(
        reader.Argument<NormKind>("kind") ?? new Located<NormKind>(default, reader.At),
        reader.Property<double>(nameof(NormAttribute.Epsilon)));

    private static GranularityDeclaration ParseGranularity(AttributeReader reader) => new(
        reader.Text("name") ?? new LocatedText("", reader.At, null),
        reader.Argument<int>("width"),
        reader.Argument<double>("fraction"),
        reader.Property<int>(nameof(GranularityAttribute.Heads)),
        reader.Property<int>(nameof(GranularityAttribute.Width)),
        reader.PropertyText(nameof(GranularityAttribute.Layers)));

    private static ProfileDeclaration ParseProfile(AttributeReader reader)
    {
        var widths = reader.Array<int>("widths");
        return new ProfileDeclaration(
            reader.Text("name") ?? new LocatedText("", reader.At, null),
            reader.Text("pattern"),
            widths?.Items,
            widths?.At,
            reader.Property<long>(nameof(ProfileAttribute.MaxParameters)),
            reader.Property<long>(nameof(ProfileAttribute.MaxNonEmbeddingParameters)),
            reader.Property<long>(nameof(ProfileAttribute.MaxFlopsPerToken)),
            reader.Property<long>(nameof(ProfileAttribute.MaxFlopsPerImage)),
            reader.Property<long>(nameof(ProfileAttribute.MaxFlopsPerText)),
            reader.Property<long>(nameof(ProfileAttribute.MaxWeightBytes)),
            reader.Property<WeightType>(nameof(ProfileAttribute.WeightType)),
            reader.Property<double>(nameof(ProfileAttribute.FeedForwardShare)))
        {
            Bits = reader.Property<int>(nameof(ProfileAttribute.Bits)),
        };
    }

    private static PrecisionDeclaration ParsePrecision(AttributeReader reader)
    {
        var bits = reader.Array<int>("bits");
        return new PrecisionDeclaration(reader.At, bits?.Items ?? default, bits?.At ?? reader.At);
    }

    private static ProfileGridDeclaration ParseGrid(AttributeReader reader) => new(
        reader.At,
        reader.Argument<int>("count") ?? new Located<int>(0, reader.At),
        reader.PropertyText(nameof(ProfileGridAttribute.Prefix)));
}
