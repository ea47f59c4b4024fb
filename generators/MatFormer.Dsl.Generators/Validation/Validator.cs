using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Validation;

/// <summary>Checks a declaration. The result is a model to generate, or mistakes and their places.</summary>
internal sealed partial class Validator
{
    // These limits are far above any model. Apart from the FLOPs of encoders, no cost within them overflows 64 bits.
    private const int MaxLayers = 4096;
    private const int MaxWidth = 1 << 20;
    private const int MaxTokens = 1 << 24;
    private const int MaxLearnedContext = 1 << 16;
    private const int MaxImage = 1 << 12;
    private const int MaxChannels = 1 << 10;

    // The limit for names of granularities and profiles, which also become names of files.
    private const int MaxName = 64;

    private readonly Declaration _declaration;
    private readonly List<DiagnosticInfo> _diagnostics = [];

    private Validator(Declaration declaration) => _declaration = declaration;

    private string ModelName => _declaration.Type.Name;

    private string Attribute => _declaration.Model.Attribute;

    private bool IsDecoder => _declaration.Model.Kind == ModelKind.LanguageModel;

    private bool IsVision => _declaration.Model.Kind == ModelKind.VisionTransformer;

    private PositionKind Position => _declaration.Position?.Value ?? (IsVision ? PositionKind.Learned : PositionKind.Rotary);

    public static Checked Check(Declaration declaration) => new Validator(declaration).Check();

    // Reports every mistake that can be known in the first round, except for mistakes that only follow from other mistakes.
    private Checked Check()
    {
        _diagnostics.AddRange(_declaration.Problems);
        if (IsClassNameTaken) Report(Descriptors.ClassNameTaken, _declaration.NameAt, ModelName);
        var canBeWritten = _diagnostics.Count == 0;
        if (_declaration.Models.Count > 1)
        {
            var (first, second) = (_declaration.Models[0], _declaration.Models[1]);
            Report(Descriptors.SeveralModels, second.At, ModelName, first.Attribute, second.Attribute);
            return Wrong("it is declared as several models");
        }

        // The compiler has already reported an error in an attribute. Diagnostics about missing values would repeat that error.
        if (!_declaration.IsComplete) return Wrong("an attribute has an error");

        var spec = CheckModel();
        var mistake = _diagnostics.FirstOrDefault(d => d.Descriptor.DefaultSeverity == DiagnosticSeverity.Error);
        if (mistake is null && spec is not null)
        {
            Advise(spec);
            return new Checked(new Output.Whole(spec), _diagnostics.ToEquatableArray());
        }

        var message = mistake!.ToDiagnostic().GetMessage(CultureInfo.InvariantCulture);
        return Wrong(mistake.Descriptor.Id + ": " + message);

        Checked Wrong(string reason) => new(canBeWritten ? Skeleton(reason) : null, _diagnostics.ToEquatableArray());
    }

    // True if the name belongs to a generated or inherited member, or hides a namespace that generated code uses.
    private bool IsClassNameTaken => Names.IsGenerated(ModelName)
        || _declaration.TakenNames.Contains(ModelName)
        || (_declaration.Type.Namespace.Length == 0 && Names.Roots.Contains(_declaration.Type.Outermost));

    private ModelSpec? CheckModel()
    {
        CheckNames();
        var model = _declaration.Model;
        var layersAreGood = CheckSize(nameof(MatLMAttribute.Layers), model.Layers, MaxLayers);
        var sizesAreGood = CheckSize(nameof(MatLMAttribute.Width), model.Width, MaxWidth)
            & CheckSize(nameof(MatLMAttribute.Heads), model.Heads, MaxWidth)
            & (IsVision ? CheckImage() : CheckText());
        var headWidth = CheckAttentions();
        var feedForwardsAreGood = CheckFeedForwards();
        CheckNormAndPosition();
        CheckRotaryScaling();
        var embedding = CheckEmbedding();
        var precision = CheckPrecision();
        if (!layersAreGood) return null;

        var attentions = Assign(_declaration.Attentions, "attention", isNeeded: false);
        var feedForwards = feedForwardsAreGood ? Assign(_declaration.FeedForwards, "feed-forward", isNeeded: true) : null;
        var hiddenWidths = feedForwards?.Select(f => f!.Width.Value).ToArray();
        var blocks = sizesAreGood && headWidth is not null && attentions is not null && feedForwards is not null
            ? feedForwards.Select((feedForward, layer) => BlockOf(feedForward!, attentions[layer], headWidth.Value)).ToEquatableArray()
            : (EquatableArray<BlockSpec>?)null;
        var granularities = CheckGranularities(hiddenWidths, blocks);
        var patterns = CheckShapes();
        if (blocks is null || granularities is null || (!IsDecoder && embedding is null)) return null;

        var general = GeneralAttention;
        var image = IsVision
            ? new ImageSpec(model.Image!.Value, model.Patch!.Value, model.Channels?.Value ?? 3, model.Classes!.Value)
            : null;
        var pooling = model.Pooling?.Value ?? (IsVision ? Pooling.ClassToken : Pooling.Mean);
        var routing = CheckRouting(granularities, blocks.Value);
        var lookup = CheckLookup(image, model.Width!.Value, headWidth!.Value, pooling);
        var spec = new ModelSpec(
            _declaration.Type,
            model.Width.Value,
            headWidth.Value,
            image is null ? model.Context!.Value : image.Patches + (pooling == Pooling.ClassToken ? 1 : 0),
            image is null ? model.Vocabulary!.Value : 0,
            _declaration.Norm?.Kind.Value ?? (IsVision ? NormKind.Layer : NormKind.Rms),
            _declaration.Norm?.Epsilon?.Value ?? (IsVision && _declaration.Norm?.Kind.Value != NormKind.Rms ? 1e-12 : 1e-5),
            Position,
            general?.RotaryBase?.Value ?? 10000,
            general?.QkNorm?.Value ?? false,
            IsDecoder && (_declaration.Tied?.Value ?? true),
            lookup is null ? blocks.Value
                : blocks.Value.Select((block, layer) => block with { Spreads = layer < blocks.Value.Count - 1 }).ToEquatableArray(),
            granularities.ToEquatableArray(),
            default)
        {
            Kind = model.Kind,
            RotaryScaling = RotaryScalingOf(_declaration.RotaryScaling),
            Image = image,
            Embedding = embedding,
            Pooling = pooling,
            Precision = precision,
            AttentionBias = general?.Bias?.Value ?? false,
            OutputBias = (general?.OutputBias ?? general?.Bias)?.Value ?? false,
            Routing = routing,
            Lookup = lookup,
        };
        if (_declaration.Lookup is not null && lookup is not { Grids.Count: > 0 }) return null;
        return IsCountable(spec) ? spec with { Profiles = CheckProfiles(spec, patterns).ToEquatableArray() } : null;
    }

    // Only an encoder's costs can be too large, because they are counted for a whole sequence. A decoder's costs are for one token.
    private bool IsCountable(ModelSpec spec)
    {
        try
        {
            _ = Costs.Of(spec).Flops(spec.LayersOf(Enumerable.Repeat(spec.Granularities.Count - 1, spec.Layers).ToList()));
            return true;
        }
        catch (OverflowException)
        {
            var shorter = IsVision ? "side of the image" : "context";
            Report(Descriptors.TooLargeToCount, _declaration.Model.At, ModelName, Text(long.MaxValue), spec.Unit, shorter);
            return false;
        }
    }

    private bool CheckText()
    {
        var model = _declaration.Model;
        return CheckSize(nameof(MatLMAttribute.Context), model.Context, MaxTokens)
            & CheckSize(nameof(MatLMAttribute.Vocabulary), model.Vocabulary, MaxTokens)
            & (IsDecoder || CheckSize(nameof(MatEncoderAttribute.Embedding), model.Embedding, MaxWidth));
    }

    private bool CheckImage()
    {
        var model = _declaration.Model;
        var largestPatch = model.Image?.Value is >= 1 and <= MaxImage and { } most ? most : MaxImage;
        var isGood = CheckSize(nameof(MatViTAttribute.Image), model.Image, MaxImage)
            & CheckSize(nameof(MatViTAttribute.Patch), model.Patch, largestPatch)
            & (model.Channels is null || CheckSize(nameof(MatViTAttribute.Channels), model.Channels, MaxChannels))
            & CheckSize(nameof(MatViTAttribute.Classes), model.Classes, MaxTokens);
        if (!isGood || model.Image!.Value % model.Patch!.Value == 0) return isGood;
        var nearest = NearestDivisor(model.Image.Value, model.Patch.Value);
        Report(
            Descriptors.PatchDoesNotDivideImage, model.Patch.At.ReplacedBy(Text(nearest)), Text(model.Patch.Value), Text(model.Image.Value),
            Text(nearest));
        return false;
    }

    // Returns null for language models, and if anything is wrong.
    private EmbeddingSpec? CheckEmbedding()
    {
        var model = _declaration.Model;
        var nested = _declaration.Nested;
        CheckDefined(model.Pooling);
        CheckPositive(nameof(MatEncoderAttribute.Temperature), model.Temperature, 0);
        if (IsDecoder)
        {
            if (nested is null) return null;
            Report(
                Descriptors.NotOfThisModel, nested.At, "[NestedEmbedding]", "[MatViT] and [MatEncoder]", Attribute, "remove it");
            return null;
        }

        if (_declaration.EmbeddingAt is { } tied)
            Report(Descriptors.NotOfThisModel, tied, "[Embedding]", "[MatLM]", Attribute, "remove it");
        if ((IsVision ? model.Width : model.Embedding)?.Value is not { } whole || whole is < 1 or > MaxWidth) return null;
        var dimensions = new List<int>();
        foreach (var dimension in nested?.Dimensions ?? default)
        {
            if (!CheckSize("A dimension of the embedding", dimension, whole)) return null;
            if (dimensions.Count > 0 && dimension.Value <= dimensions[dimensions.Count - 1])
            {
                Report(
                    Descriptors.DimensionsNotIncreasing, dimension.At, Text(dimension.Value), Text(dimensions[dimensions.Count - 1]));
                return null;
            }

            dimensions.Add(dimension.Value);
        }

        if (nested is not null && (dimensions.Count == 0 || dimensions[dimensions.Count - 1] != whole))
        {
            var all = string.Join(", ", dimensions.Append(whole).Select(d => Text(d)));
            var at = nested.DimensionsAt.ReplacedBy(dimensions.Count == 0 ? null : all);
            Report(Descriptors.LastDimensionIsNotWhole, at, ModelName, Text(whole));
            return null;
        }

        if (dimensions.Count == 0) dimensions.Add(whole);
        var weights = nested?.Weights?.ToList() ?? Enumerable.Repeat(1.0, dimensions.Count).ToList();
        var sum = weights.Sum();
        var mistake = weights.Count != dimensions.Count ? "There " + (weights.Count == 1 ? "is " : "are ") + Count(weights.Count, "weight")
            : weights.Where(w => !(w > 0)).Select(w => "A weight is " + Text(w)).FirstOrDefault()
            ?? (double.IsInfinity(sum) ? "The weights add up to " + Text(sum) : null);
        if (mistake is not null)
        {
            Report(Descriptors.WrongDimensionWeights, nested!.WeightsAt!, mistake, Count(dimensions.Count, "dimension"));
            return null;
        }

        return new EmbeddingSpec(
            whole, dimensions.ToEquatableArray(), weights.Select(w => w / sum).ToEquatableArray(), model.Temperature?.Value ?? 0.05);
    }

    private void CheckNames()
    {
        // Names become names of files, and some file systems ignore case.
        var seen = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        var (named, general) = (new HashSet<string>(StringComparer.Ordinal), new HashSet<string>(StringComparer.Ordinal));
        var names = _declaration.Granularities

            // A granularity may be declared once for all layers, and again for some layers.
            .Where(g => named.Add(g.Name.Value) | (g.Layers is null && !general.Add(g.Name.Value)))
            .Select(g => (g.Name.Value, g.Name.At, Kind: "granularity"))
            .Concat(_declaration.Profiles.Select(p => (p.Name.Value, p.Name.At, "profile")));
        if (_declaration.Grid is { } grid)
        {
            CheckSize("The number of profiles", grid.Count, ProfileGridDeclaration.MaxCount);
            names = names.Concat(grid.Names.Select(name => (name, grid.Prefix?.At ?? grid.At, "profile")));
        }

        foreach (var (name, at, kind) in names)
        {
            var diagnostics = _diagnostics.Count;
            if (!IsIdentifier(name)) Report(Descriptors.InvalidName, at, name, kind == "profile" ? "Phone" : "S");
            else if (name == Pattern.Skip) Report(Descriptors.ReservedName, at, name);
            else if (IsTaken(name)) Report(Descriptors.NameTaken, at, name, ModelName);
            else if (seen.TryGetValue(name, out var first)) Report(Descriptors.DuplicateName, at, name, first, ModelName);
            else seen.Add(name, kind);

            // All names of a grid have the same mistake, so the first is enough.
            if (at == (_declaration.Grid?.Prefix?.At ?? _declaration.Grid?.At) && _diagnostics.Count > diagnostics) return;
        }
    }

    private bool IsTaken(string name) => name == ModelName || Names.IsGenerated(name) || _declaration.TakenNames.Contains(name);

    // Characters of the category Format are allowed in an identifier, but the compiler ignores them.
    private static bool IsIdentifier(string name) =>
        SyntaxFacts.IsValidIdentifier(name)
        && name.Length <= MaxName
        && !name.Any(c => char.GetUnicodeCategory(c) == UnicodeCategory.Format)
        && SyntaxFacts.GetKeywordKind(name) == SyntaxKind.None
        && SyntaxFacts.GetContextualKeywordKind(name) == SyntaxKind.None;

    private bool CheckSize(string name, Located<int>? size, int max, LocationInfo? missing = null)
    {
        if (size?.Value >= 1 && size.Value <= max) return true;
        var nearest = size is null ? null : Text(size.Value > max ? max : Math.Max(1, Math.Min(max, -(long)size.Value)));
        var at = (size?.At ?? missing ?? _declaration.Model.At).ReplacedBy(nearest);
        Report(Descriptors.SizeOutOfRange, at, name, size is null ? "missing" : Text(size.Value), Text(max));
        return false;
    }

    private void CheckPositive(string name, Located<double>? value, double above)
    {
        if (value is null || (value.Value > above && !double.IsInfinity(value.Value))) return;
        Report(Descriptors.NotPositive, value.At, name, Text(value.Value), Text(above));
    }

    private void CheckDefined<T>(Located<T>? value)
        where T : struct, Enum
    {
        if (value is null || Enum.IsDefined(typeof(T), value.Value)) return;
        Report(Descriptors.UndefinedValue, value.At, typeof(T).Name, value.Value.ToString(), Choices(Enum.GetNames(typeof(T))));
    }

    private void CheckNormAndPosition()
    {
        CheckDefined(_declaration.Norm?.Kind);
        CheckDefined(_declaration.Position);
        CheckPositive(nameof(NormAttribute.Epsilon), _declaration.Norm?.Epsilon, 0);
        if (_declaration.Position is { } position && position.Value == (IsVision ? PositionKind.Rotary : PositionKind.Sinusoidal))
        {
            var fitting = nameof(PositionKind) + "." + (IsVision ? PositionKind.Sinusoidal : PositionKind.Rotary);
            Report(Descriptors.PositionsDoNotFit, position.At, position.Value.ToString(), Attribute, fitting);
        }

        if (IsVision && Position == PositionKind.Sinusoidal && _declaration.Model is
            {
                Width: { Value: >= 1 and <= MaxWidth } width,
                Heads: { Value: >= 1 and <= MaxWidth } heads,
            }
            && width.Value % 4 != 0)
        {
            // If the width of a head is given, the heads need not divide the width.
            var step = GeneralAttention?.HeadWidth is null && width.Value % heads.Value == 0 ? MultipleOfFour(heads.Value) : 4;
            var nearest = Math.Max(step, (width.Value + (step / 2)) / step * step);
            Report(Descriptors.SinusoidalWidth, width.At.ReplacedBy(Text(nearest)), Text(width.Value), Text(nearest));
        }

        if (Position == PositionKind.Learned && _declaration.Model.Context is { Value: > MaxLearnedContext } context)
        {
            var most = Text(MaxLearnedContext);
            Report(Descriptors.LearnedContextTooLong, context.At.ReplacedBy(most), Text(context.Value), most);
        }
    }

    private void CheckRotaryScaling()
    {
        if (_declaration.RotaryScaling is not { } scaling) return;
        if (Position != PositionKind.Rotary)
        {
            Report(
                Descriptors.NotOfThisModel, scaling.At, "[RotaryScaling]", "PositionKind.Rotary", "PositionKind." + Position, "remove it");
            return;
        }

        CheckDefined(scaling.Kind);
        CheckPositive("The factor of [RotaryScaling]", scaling.Factor, 1);
        switch (scaling.Kind.Value)
        {
            case RotaryScalingKind.Linear:
                NotOfLinear(nameof(RotaryScalingAttribute.OriginalContext), scaling.OriginalContext?.At);
                NotOfLinear(nameof(RotaryScalingAttribute.LowFrequencyFactor), scaling.LowFrequencyFactor?.At);
                NotOfLinear(nameof(RotaryScalingAttribute.HighFrequencyFactor), scaling.HighFrequencyFactor?.At);
                break;
            case RotaryScalingKind.Llama3:
                CheckSize(nameof(RotaryScalingAttribute.OriginalContext), scaling.OriginalContext, MaxTokens, scaling.At);
                CheckPositive(nameof(RotaryScalingAttribute.LowFrequencyFactor), scaling.LowFrequencyFactor, 0);

                // A high factor below a wrong low factor is not reported as well.
                var (low, high) = Between(scaling);
                if (!(low > 0) || double.IsInfinity(low)) return;
                var at = (scaling.HighFrequencyFactor ?? scaling.LowFrequencyFactor)?.At ?? scaling.At;
                CheckPositive(nameof(RotaryScalingAttribute.HighFrequencyFactor), new Located<double>(high, at), low);
                break;
        }

        void NotOfLinear(string name, LocationInfo? at)
        {
            if (at is null) return;
            Report(Descriptors.NotOfThisModel, at, name, "RotaryScalingKind.Llama3", "RotaryScalingKind.Linear", "remove it");
        }
    }

    private static RotaryScalingSpec? RotaryScalingOf(RotaryScalingDeclaration? scaling) => scaling switch
    {
        null => null,
        { Kind.Value: RotaryScalingKind.Linear } => new(RotaryScalingKind.Linear, scaling.Factor.Value),
        _ => new(
            scaling.Kind.Value, scaling.Factor.Value, scaling.OriginalContext?.Value ?? 0, Between(scaling).Low, Between(scaling).High),
    };

    private static (double Low, double High) Between(RotaryScalingDeclaration scaling) =>
        (scaling.LowFrequencyFactor?.Value ?? 1, scaling.HighFrequencyFactor?.Value ?? 4);

    private Output.Skeleton Skeleton(string reason)
    {
        var seen = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        var names = _declaration.Granularities.Select(g => g.Name.Value).Concat(_declaration.Profiles.Select(p => p.Name.Value))
            .Concat(_declaration.Grid?.Names ?? []);
        return new Output.Skeleton(_declaration.Type, reason, names.Where(IsUsable).ToEquatableArray())
        {
            HasPrecision = _declaration.Precision is not null || _declaration.Profiles.Any(p => p.Bits is not null),
        };

        bool IsUsable(string name) => IsIdentifier(name) && name != Pattern.Skip && !IsTaken(name) && seen.Add(name);
    }

    private void Report(DiagnosticDescriptor descriptor, Remedy at, params string[] arguments) =>
        _diagnostics.Add(new DiagnosticInfo(descriptor, at, arguments));

    // Returns the smallest multiple of four that is also a multiple of the given number.
    private static int MultipleOfFour(int of) => of % 4 == 0 ? of : of % 2 == 0 ? 2 * of : 4 * of;

    // Returns the divisor that is nearest to the given number. Of two such divisors, it returns the larger.
    private static int NearestDivisor(int number, int near)
    {
        for (var distance = 1; distance < number; distance++)
        {
            if (near + distance <= number && number % (near + distance) == 0) return near + distance;
            if (near - distance >= 1 && number % (near - distance) == 0) return near - distance;
        }

        return number;
    }

    private static string Choices(IEnumerable<string> names) => string.Join(", ", names);

    private static string Count(long number, string thing) => Text(number) + " " + thing + (number == 1 ? "" : "s");

    private static string Text(IFormattable number) => number.ToString(null, CultureInfo.InvariantCulture);
}
