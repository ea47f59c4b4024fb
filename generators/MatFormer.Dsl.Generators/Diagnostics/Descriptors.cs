using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Diagnostics;

/// <summary>The diagnostics about a declaration. Each has a page in docs/diagnostics.</summary>
internal static class Descriptors
{
    public static readonly DiagnosticDescriptor NotPartial = Error(
        "MFD0001", "The class is not partial", "The code of '{0}' is generated into the class; declare it as 'partial class {0}'");

    public static readonly DiagnosticDescriptor EnclosingNotPartial = Error(
        "MFD0002", "The enclosing type is not partial", "'{0}' encloses '{1}', whose code is generated; declare '{0}' as partial too");

    public static readonly DiagnosticDescriptor Generic = Error(
        "MFD0003", "The class is generic", "A model cannot have type parameters; declare '{0}' without them");

    public static readonly DiagnosticDescriptor OtherBaseClass = Error(
        "MFD0004",
        "The class has another base class",
        "'{0}' must derive from MatFormer.MatFormerModel, not from '{1}'; remove the base class");

    public static readonly DiagnosticDescriptor UnfitClass = Error(
        "MFD0005", "The class cannot be a model", "'{0}' is {1}, which a model cannot be; declare it as 'partial class {0}'");

    public static readonly DiagnosticDescriptor NoRuntime = Error(
        "MFD0006",
        "The runtime is not referenced",
        "The generated code needs MatFormer.Runtime, or MatFormer.Inference to decode only; add a reference to one of them");

    public static readonly DiagnosticDescriptor SizeOutOfRange = Error(
        "MFD0007", "A size is out of range", "{0} is {1}; write a number from 1 to {2}");

    public static readonly DiagnosticDescriptor NotPositive = Error(
        "MFD0008", "A value is not positive", "{0} is {1}; write a finite number above {2}");

    public static readonly DiagnosticDescriptor UndefinedValue = Error(
        "MFD0009", "A value is not in its enumeration", "{1} is not a value of {0}; write one of {2}");

    public static readonly DiagnosticDescriptor HeadsDoNotDivideWidth = Error(
        "MFD0010",
        "The heads do not divide the width",
        "{0} heads do not divide the width {1}; write Heads = {2}, or set the width of a head with [Attention(HeadWidth = ...)]");

    public static readonly DiagnosticDescriptor KeyValueHeadsDoNotDivideHeads = Error(
        "MFD0011",
        "The key/value heads do not divide the heads",
        "{0} key/value heads cannot be shared evenly by {1} heads; write KeyValueHeads = {2}");

    public static readonly DiagnosticDescriptor OddHeadWidth = Error(
        "MFD0012",
        "Rotary positions need an even head width",
        "Rotary positions rotate pairs of numbers, but a head is {0} wide; write an even head width, or [Position(PositionKind.Learned)]");

    public static readonly DiagnosticDescriptor NoFeedForward = Error(
        "MFD0013", "The feed-forward is missing", "'{0}' declares no feed-forward; add one, such as [FeedForward({1}, Activation.SwiGlu)]");

    public static readonly DiagnosticDescriptor TooFewGranularities = Error(
        "MFD0014",
        "There are fewer than two granularities",
        "'{0}' declares {1}, but a nested model has at least two; write for example {2}");

    public static readonly DiagnosticDescriptor GranularityTooWide = Error(
        "MFD0015",
        "A granularity is wider than the feed-forward",
        "'{0}' keeps {1} hidden units, but the feed-forward{3} has {2}; write {2} or less");

    public static readonly DiagnosticDescriptor GranularitiesNotIncreasing = Error(
        "MFD0016",
        "The granularities do not increase",
        "'{0}' keeps {1} hidden units{4}, which is not more than the {3} of '{2}' before it; declare granularities narrowest first, "
        + "each wider than the one before");

    public static readonly DiagnosticDescriptor WidestIsNotWhole = Error(
        "MFD0017",
        "The widest granularity is not the whole model",
        "The last granularity, '{0}', keeps {1} of {2} {3}{4}; write {2}, so that none is left untrained");

    public static readonly DiagnosticDescriptor FractionNotWhole = Error(
        "MFD0018",
        "A fraction does not give a whole width",
        "{1} of {2} hidden units is {3}, not a whole number from 1 to {2}; write {4}, or a width such as [Granularity(\"{0}\", {5})]");

    public static readonly DiagnosticDescriptor UnknownGranularity = Error(
        "MFD0019", "A pattern names an unknown granularity", "'{0}' is not a granularity of '{1}'; write one of {2}");

    public static readonly DiagnosticDescriptor MalformedPattern = Error(
        "MFD0020", "A pattern cannot be read", "'{0}' is not a run of layers; write a granularity with a count in front, such as '{1}'");

    public static readonly DiagnosticDescriptor WrongLength = Error(
        "MFD0021", "A profile has the wrong number of layers", "The profile '{0}' has {1}, but '{2}' has {3}; {4}");

    public static readonly DiagnosticDescriptor WidthIsNoGranularity = Error(
        "MFD0022", "A width belongs to no granularity", "{0} is not the width of any granularity{3} of '{1}'; write one of {2}");

    public static readonly DiagnosticDescriptor BudgetTooSmall = Error(
        "MFD0023",
        "The budget is below the smallest model",
        "No submodel of '{0}' fits {1} {2}, since the smallest has {3}; write {4} = {3} or more");

    public static readonly DiagnosticDescriptor ProfileShape = Error(
        "MFD0024",
        "A profile needs a pattern, widths or a budget",
        "The profile '{0}' has {1}; give exactly one, such as [Profile(\"{0}\", \"{2}\")] or [Profile(\"{0}\", MaxParameters = ...)]");

    public static readonly DiagnosticDescriptor DuplicateName = Error(
        "MFD0025",
        "A name is used twice",
        "'{0}' is already the name of a {1} (case does not count), so there can be no class '{2}.{0}'; choose another name");

    public static readonly DiagnosticDescriptor InvalidName = Error(
        "MFD0026",
        "A name is not an identifier",
        "'{0}' cannot name a class; write an identifier of letters and digits that is not a keyword, such as \"{1}\"");

    public static readonly DiagnosticDescriptor NameTaken = Error(
        "MFD0027", "A name is taken", "'{0}' is already a member of '{1}'; choose another name");

    public static readonly DiagnosticDescriptor ClassNameTaken = Error(
        "MFD0028",
        "The name of the class is taken",
        "A model cannot be named '{0}' here: generated code uses this name, or that of an enclosing type; choose another name");

    public static readonly DiagnosticDescriptor NoLayers = Error(
        "MFD0029", "Layers cannot be read", "'{0}' names no layers; write numbers from 0 to {1} and ranges of them, such as {2}");

    public static readonly DiagnosticDescriptor LayerDeclaredTwice = Error(
        "MFD0030", "A layer is named twice", "Layer {0} already has its {1}; name each layer once");

    public static readonly DiagnosticDescriptor LayerNotDeclared = Error(
        "MFD0031",
        "A layer has no feed-forward or granularity",
        "Layer {0} of '{1}' has no {2}; name the layer too, or add an attribute without Layers, for all other layers");

    public static readonly DiagnosticDescriptor DeclaredTwice = Error(
        "MFD0032",
        "Two attributes are for all layers",
        "'{0}' already has its {1} for all layers; remove one attribute, or name the layers that it is for with Layers");

    public static readonly DiagnosticDescriptor SameInAllLayers = Error(
        "MFD0033",
        "A value must be the same in all layers",
        "{0} must be the same in all layers; write it in an [Attention] without Layers");

    public static readonly DiagnosticDescriptor HeadsNotWholeGroups = Error(
        "MFD0034",
        "The heads of a granularity are not whole groups",
        "'{0}' keeps {1} heads, but each key/value head{4} is shared by {2} heads; write Heads = {3}");

    public static readonly DiagnosticDescriptor GranularityHeadsDecrease = Error(
        "MFD0035",
        "A wider granularity keeps fewer heads",
        "'{0}' keeps {1} heads{4}, fewer than the {3} of '{2}' before it, whose weights it must contain; write Heads = {3} or more");

    public static readonly DiagnosticDescriptor AllLayersSkipped = Error(
        "MFD0036", "A profile leaves out every layer", "The profile '{0}' leaves out every layer; keep at least one, such as {1}");

    public static readonly DiagnosticDescriptor ReservedName = Error(
        "MFD0037", "A name is reserved", "'{0}' leaves layers out in patterns; choose another name");

    public static readonly DiagnosticDescriptor WidthIsAmbiguous = Error(
        "MFD0038",
        "A width belongs to several granularities",
        "{0} is the width of {1}, which differ in {2}; name one of them in a pattern");

    public static readonly DiagnosticDescriptor ShareOutOfRange = Error(
        "MFD0039", "A share is out of range", "{0} is {1}; write a share above 0 and up to 1");

    public static readonly DiagnosticDescriptor WeightTypeOfNothing = Error(
        "MFD0040", "A weight type has no budget", "{0} says in which type {1} counts; give {1} too, or remove {0}");

    public static readonly DiagnosticDescriptor GridTooFine = Error(
        "MFD0041",
        "A grid has more profiles than there are mixes",
        "There are {1} mixes between '{2}' and '{3}', not {0}; write {1} or less");

    public static readonly DiagnosticDescriptor LearnedContextTooLong = Error(
        "MFD0042",
        "The context is too long for learned positions",
        "Learned positions have a row for each of {0} tokens; write Context = {1} or less, or [Position(PositionKind.Rotary)]");

    public static readonly DiagnosticDescriptor BudgetTooLarge = Warning(
        "MFD0043",
        "The budget is above the whole model",
        "The whole of '{3}' has {4} {2}, which is within {1}, so '{0}' equals '{6}'; write {5} below {4}");

    public static readonly DiagnosticDescriptor WidthNotAligned = Hint(
        "MFD0044",
        "A width does not fill vector units",
        "'{0}' keeps {1} hidden units; a multiple of {2}, such as {3}, makes better use of vector and matrix units");

    public static readonly DiagnosticDescriptor SameAsAnother = Hint(
        "MFD0045", "Two profiles are the same", "'{0}' is the same model as '{1}': {2}");

    public static readonly DiagnosticDescriptor ManyProfiles = Hint(
        "MFD0056",
        "Many profiles are declared",
        "'{0}' declares {1} profiles, and each is a class that makes builds slower (above {2}, all share one forward pass); "
        + "declare the profiles that the program names, and create the others with 'new Profile<{0}>(name, pattern)'");

    public static readonly DiagnosticDescriptor NarrowsWithDepth = Hint(
        "MFD0046",
        "A profile narrows with depth",
        "'{0}' becomes narrower at layer {1}; mixes whose widths never decrease with depth were consistently more accurate "
        + "(MatFormer, arXiv 2310.07707, section 3.3)");

    public static readonly DiagnosticDescriptor PatchDoesNotDivideImage = Error(
        "MFD0047",
        "The patches do not divide the image",
        "Patches of {0} x {0} pixels do not divide an image of {1} x {1}; write Patch = {2}");

    public static readonly DiagnosticDescriptor NotOfThisModel = Error(
        "MFD0048", "A setting does not apply to this kind of model", "{0} applies only to {1}, not to {2}; {3}");

    public static readonly DiagnosticDescriptor PositionsDoNotFit = Error(
        "MFD0049", "The positions do not fit the model", "{0} positions do not work with {1}; write {2} or PositionKind.Learned");

    public static readonly DiagnosticDescriptor DimensionsNotIncreasing = Error(
        "MFD0050", "The dimensions do not increase", "{0} is not more than the {1} before it; write the dimensions narrowest first");

    public static readonly DiagnosticDescriptor LastDimensionIsNotWhole = Error(
        "MFD0051",
        "The last dimension is not the whole embedding",
        "The embedding of '{0}' is {1} wide, so the last dimension must be {1}; write {1} last");

    public static readonly DiagnosticDescriptor WrongDimensionWeights = Error(
        "MFD0052",
        "The dimensions' weights do not fit",
        "{0}; write a weight above 0 for each of {1}");

    public static readonly DiagnosticDescriptor SeveralModels = Error(
        "MFD0053", "A class is several models", "'{0}' already has {1}; remove {2}, or declare another class");

    public static readonly DiagnosticDescriptor SinusoidalWidth = Error(
        "MFD0054",
        "Sinusoidal positions need a width that is a multiple of four",
        "Sinusoidal positions are the sines and cosines of row and column, each a quarter of the width, but four does not divide {0}; "
        + "write Width = {1} or PositionKind.Learned");

    public static readonly DiagnosticDescriptor TooLargeToCount = Error(
        "MFD0055",
        "The model is too large to be counted",
        "'{0}' takes more than {1} FLOPs per {2}; write fewer or narrower layers, or a shorter {3}");

    public static readonly DiagnosticDescriptor LanguageTooOld = Error(
        "MFD0057",
        "The version of C# is too old",
        "The code of '{0}' needs C# {1} or later, but the project is compiled as C# {2}; remove <LangVersion> or raise it");

    public static readonly DiagnosticDescriptor OutputBiasAlone = Error(
        "MFD0058",
        "Only the output of attention has a bias",
        "OutputBias gives the output of attention a bias, but queries, keys and values have none; write Bias = true as well, or remove it");

    public static readonly DiagnosticDescriptor GranularityStreamDecreases = Error(
        "MFD0059",
        "A wider granularity keeps fewer channels",
        "'{0}' keeps {1} channels of the residual stream, fewer than the {3} of '{2}' before it, whose weights it must contain; write "
        + "Width = {3} or more");

    public static readonly DiagnosticDescriptor ProfileMixesStreams = Error(
        "MFD0060",
        "A profile mixes widths of the residual stream",
        "The profile '{0}' has layers of '{1}', which keeps {2} channels of the residual stream, and of '{3}', which keeps {4}; all layers "
        + "add to the same stream, so choose granularities of one Width");

    public static readonly DiagnosticDescriptor StreamDiffersByLayer = Error(
        "MFD0061",
        "The layers of a granularity keep different channels",
        "'{0}' keeps {1} channels of the residual stream here, but {2} in its other layers; all layers add to the same stream, so write "
        + "Width = {2}");

    public static readonly DiagnosticDescriptor StreamNotAligned = Hint(
        "MFD0062",
        "A width of the residual stream does not fill vector units",
        "'{0}' keeps {1} channels of the residual stream; a multiple of 32, such as {2}, makes better use of vector units and of "
        + "llama.cpp's blocks");

    public static readonly DiagnosticDescriptor BitsNotNested = Error(
        "MFD0063",
        "The bits of a model are not nested",
        "[Precision] of '{0}' has {1}; write 8, and after it 4, 2 or both, because fewer bits are the upper ones of 8");

    public static readonly DiagnosticDescriptor ProfileBits = Error(
        "MFD0064", "The bits of a profile do not fit the model", "Bits of '{0}' is {1}, but {2}; {3}");

    public static readonly DiagnosticDescriptor SizeEndsInGroup = Error(
        "MFD0065",
        "A granularity ends inside a group of weights",
        "With [Precision], {0} weights of a row share a scale, but '{1}' ends inside such a group with {2} {3}{4}; write a multiple of "
        + "{5}");

    public static readonly DiagnosticDescriptor LookupExcludes = Error(
        "MFD0066",
        "Compressed tokens do not work with another choice",
        "{0} does not work with [Lookup] of '{1}', because {2}; remove one of the two");

    public static readonly DiagnosticDescriptor RoutingBudgetOutOfRange = Error(
        "MFD0067",
        "A routing budget is out of range",
        "A routing budget of {0} cannot be met: it must be above {1}, the share of the hidden units that '{2}' has, and at most 1; "
        + "write a number between them");

    public static readonly DiagnosticDescriptor RoutedWidthsAreEqual = Error(
        "MFD0068",
        "Two granularities of a routed layer have the same width",
        "In layer {0} '{1}' and '{2}' both have {3} hidden units, so routing a token to one or the other is the same; "
        + "give them different widths there, or leave the layer out of [Routing]");

    public static readonly DiagnosticDescriptor RoutingBudgetsNotIncreasing = Error(
        "MFD0069",
        "The routing budgets do not increase",
        "A routing budget of {0} is not more than the {1} before it; write each budget once, the smallest first");

    public static readonly DiagnosticDescriptor NoGrid = Error(
        "MFD0070",
        "The compressed tokens have no grid",
        "[Lookup] of '{0}' names no grid of compressed tokens; write the sides of one or more, each from 1 to {1}");

    public static readonly DiagnosticDescriptor GridsNotIncreasing = Error(
        "MFD0071",
        "The grids of compressed tokens do not increase",
        "A grid of side {0} is not more than the {1} before it; write each side once, the smallest first");

    public static readonly DiagnosticDescriptor LookupPoolsCompressed = Error(
        "MFD0072",
        "Compressed tokens do not work with a class token",
        "'{0}' classifies by the mean of its compressed tokens and has no class token; write Pooling = Pooling.Mean in [MatViT]");

    public static readonly DiagnosticDescriptor LookupHeads = Error(
        "MFD0073",
        "The heads of the cross-attention do not fill the width",
        "Heads of {0} do not fill the width of {1}, which the cross-attention of '{2}' divides among them; choose a HeadWidth that divides "
        + "it");

    // An error cannot be hidden by a setting or pragma, because the code that is generated for a wrong declaration only throws.
    private static DiagnosticDescriptor Error(string id, string title, string message) => new(
        id,
        title,
        message,
        "MatFormer",
        DiagnosticSeverity.Error,
        isEnabledByDefault: true,
        customTags: WellKnownDiagnosticTags.NotConfigurable);

    private static DiagnosticDescriptor Warning(string id, string title, string message) => new(
        id,
        title,
        message,
        "MatFormer",
        DiagnosticSeverity.Warning,
        isEnabledByDefault: true);

    private static DiagnosticDescriptor Hint(string id, string title, string message) => new(
        id,
        title,
        message,
        "MatFormer",
        DiagnosticSeverity.Info,
        isEnabledByDefault: true);
}
