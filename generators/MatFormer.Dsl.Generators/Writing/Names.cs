using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Writing;

/// <summary>The names that generated code uses and declares.</summary>
internal static class Names
{
    /// <summary>The attributes that make a class a model.</summary>
    public static readonly IReadOnlyList<string> ModelAttributes = [Of<MatLMAttribute>(), Of<MatViTAttribute>(), Of<MatEncoderAttribute>()];

    /// <summary>The aliases that generated files declare for types, and their full names. An alias that is hidden is not used.</summary>
    public static readonly IReadOnlyDictionary<string, string> Aliases = new SortedDictionary<string, string>(StringComparer.Ordinal)
    {
        ["ArgumentException"] = "System.ArgumentException",
        ["ArgumentNullException"] = "System.ArgumentNullException",
        ["AttentionWeights"] = "MatFormer.AttentionWeights",
        ["DecodingNetwork"] = "MatFormer.DecodingNetwork",
        ["DecodingThread"] = "MatFormer.DecodingThread",
        ["Device"] = "TorchSharp.torch.Device",
        ["FeedForwardKind"] = "MatFormer.FeedForwardKind",
        ["FeedForwardWeights"] = "MatFormer.FeedForwardWeights",
        ["GatheredTokens"] = "MatFormer.GatheredTokens",
        ["GatherWeights"] = "MatFormer.GatherWeights",
        ["GeneratedCodeAttribute"] = "System.CodeDom.Compiler.GeneratedCodeAttribute",
        ["Kernels"] = "MatFormer.Kernels",
        ["KeyValueCache"] = "MatFormer.KeyValueCache",
        ["LayerSlice"] = "MatFormer.LayerSlice",
        ["MatFormerModel"] = "MatFormer.MatFormerModel",
        ["ModelSpec"] = "MatFormer.ModelSpec",
        ["Module"] = "TorchSharp.torch.nn.Module",
        ["PackedMatrix"] = "MatFormer.PackedMatrix",
        ["PackedRouter"] = "MatFormer.PackedRouter",
        ["PackedTable"] = "MatFormer.PackedTable",
        ["Parameter"] = "TorchSharp.Modules.Parameter",
        ["Recomputation"] = "MatFormer.Recomputation",
        ["RotaryTable"] = "MatFormer.RotaryTable",
        ["Route"] = "MatFormer.Route",
        ["Routers"] = "MatFormer.Routers",
        ["ScalarType"] = "TorchSharp.torch.ScalarType",
        ["SinusoidalTable"] = "MatFormer.SinusoidalTable",
        ["SpreadWeights"] = "MatFormer.SpreadWeights",
        ["Streams"] = "MatFormer.Streams",
        ["Tensor"] = "TorchSharp.torch.Tensor",
        ["WeightPacker"] = "MatFormer.WeightPacker",
        ["Weights"] = "MatFormer.Weights",
    };

    /// <summary>
    /// The namespaces that full names in generated code begin with. A type of the same name in the global namespace would hide them.
    /// </summary>
    public static readonly IReadOnlyCollection<string> Roots =
        new HashSet<string>(StringComparer.Ordinal) { "System", "MatFormer", "TorchSharp" };

    private static readonly HashSet<string> s_members = new(StringComparer.Ordinal)
    {
        // "Block", "Block0", "Block1" and so on are members too: see IsBlock.
        "Network", "Decoding", "Profile", "Submodel", "Declared",
        "ParameterCount", "NonEmbeddingParameterCount", "FlopsPerToken", "KeyValueCacheBytesPerToken",
        "FlopsPerImage", "FlopsPerText", "Dimension", "Spec", "Granularities", "Profiles", "Problem",
        "_network", "get_Spec", "get_Granularities", "get_Profiles",
        "Architecture", "ProfileName", "Layers", "IsUniversal", "Device", "CanDecode",
    };

    /// <summary>The methods that are generated into a model's class. Of these names, the user's code can declare only overloads.</summary>
    public static readonly IReadOnlyCollection<string> Methods = new HashSet<string>(StringComparer.Ordinal)
    {
        "forward", "Forward", "Loss", "Losses", "JointLosses", "DistilledLosses", "CheckTargets",
        "HiddenImportance", "ReorderHiddenUnits", "ChannelImportance", "ReorderChannels",
        "Create", "CreateSubmodel", "Extract", "View", "BindParameters", "Dispose",
        "NewDecodingNetwork", "CreateDecodingNetwork", "Embed", "Classify",
    };

    /// <summary>Returns true for generated members that are not methods. The user's code cannot declare members of these names.</summary>
    public static bool IsMember(string name) => s_members.Contains(name) || IsBlock(name);

    /// <summary>Returns true for names that no model and no profile can have, because generated code uses them.</summary>
    public static bool IsGenerated(string name) =>
        IsMember(name) || Methods.Contains(name) || name is "Joint" or "States" or "Bits" or "WeightBytes";

    /// <summary>
    /// Returns the full name of an attribute. The attributes are compiled into the generator too, under the names that users reference.
    /// </summary>
    public static string Of<TAttribute>() => typeof(TAttribute).FullName;

    // The classes of blocks end in the number of their first layer.
    private static bool IsBlock(string name) =>
        name.StartsWith("Block", StringComparison.Ordinal) && name.Skip("Block".Length).All(c => c is >= '0' and <= '9');

    /// <summary>Escapes a name that is a keyword.</summary>
    public static string Escape(string name) =>
        SyntaxFacts.GetKeywordKind(name) == SyntaxKind.None && SyntaxFacts.GetContextualKeywordKind(name) == SyntaxKind.None
            ? name
            : "@" + name;
}
