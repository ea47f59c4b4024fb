using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Writing;

/// <summary>Names that generated code uses, or that it makes.</summary>
internal static class Names
{
    /// <summary>The attributes that make a class a model.</summary>
    public static readonly IReadOnlyList<string> ModelAttributes = [Of<MatLMAttribute>(), Of<MatViTAttribute>(), Of<MatEncoderAttribute>()];

    /// <summary>Types that generated code calls by their last name, through an alias of each file, unless that name is hidden.</summary>
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
        ["GeneratedCodeAttribute"] = "System.CodeDom.Compiler.GeneratedCodeAttribute",
        ["Kernels"] = "MatFormer.Kernels",
        ["KeyValueCache"] = "MatFormer.KeyValueCache",
        ["LayerSlice"] = "MatFormer.LayerSlice",
        ["MatFormerModel"] = "MatFormer.MatFormerModel",
        ["ModelSpec"] = "MatFormer.ModelSpec",
        ["Module"] = "TorchSharp.torch.nn.Module",
        ["PackedMatrix"] = "MatFormer.PackedMatrix",
        ["PackedTable"] = "MatFormer.PackedTable",
        ["Parameter"] = "TorchSharp.Modules.Parameter",
        ["Recomputation"] = "MatFormer.Recomputation",
        ["RotaryTable"] = "MatFormer.RotaryTable",
        ["ScalarType"] = "TorchSharp.torch.ScalarType",
        ["SinusoidalTable"] = "MatFormer.SinusoidalTable",
        ["Streams"] = "MatFormer.Streams",
        ["Tensor"] = "TorchSharp.torch.Tensor",
        ["WeightPacker"] = "MatFormer.WeightPacker",
        ["Weights"] = "MatFormer.Weights",
    };

    /// <summary>Namespaces that full names of generated code begin with: a type of that name in the global namespace would hide them.</summary>
    public static readonly IReadOnlyCollection<string> Roots = new HashSet<string>(StringComparer.Ordinal) { "System", "MatFormer", "TorchSharp" };

    private static readonly HashSet<string> s_members = new(StringComparer.Ordinal)
    {
        // "Block" and "Block0", "Block1"..., too
        "Network", "Decoding", "Profile", "Submodel", "Declared",
        "ParameterCount", "NonEmbeddingParameterCount", "FlopsPerToken", "KeyValueCacheBytesPerToken",
        "FlopsPerImage", "FlopsPerText", "Dimension", "Spec", "Granularities", "Profiles", "Problem", "_network", "get_Spec", "get_Granularities", "get_Profiles",
        "Architecture", "ProfileName", "Layers", "IsUniversal", "Device", "CanDecode",
    };

    /// <summary>Methods that are generated into a model's class: its author can have none but overloads of them.</summary>
    public static readonly IReadOnlyCollection<string> Methods = new HashSet<string>(StringComparer.Ordinal)
    {
        "forward", "Forward", "Loss", "Losses", "JointLosses", "DistilledLosses", "CheckTargets",
        "HiddenImportance", "ReorderHiddenUnits", "Create", "CreateSubmodel", "Extract", "View", "BindParameters", "Dispose",
        "NewDecodingNetwork", "CreateDecodingNetwork", "Embed", "Classify",
    };

    /// <summary>True for members that are generated into a model's class and are no methods: its author can have none of them.</summary>
    public static bool IsMember(string name) => s_members.Contains(name) || IsBlock(name);

    /// <summary>True for all generated members, and for what stands beside profiles: no model or profile can be so named.</summary>
    public static bool IsGenerated(string name) => IsMember(name) || Methods.Contains(name) || name is "Joint" or "States";

    /// <summary>The full name of an attribute, whose source is shared with the assembly that users reference.</summary>
    public static string Of<TAttribute>() => typeof(TAttribute).FullName;

    // Kinds of blocks are numbered by their first layers.
    private static bool IsBlock(string name) =>
        name.StartsWith("Block", StringComparison.Ordinal) && name.Skip("Block".Length).All(c => c is >= '0' and <= '9');

    /// <summary>A name as source writes it.</summary>
    public static string Escape(string name) =>
        SyntaxFacts.GetKeywordKind(name) == SyntaxKind.None && SyntaxFacts.GetContextualKeywordKind(name) == SyntaxKind.None
            ? name
            : "@" + name;
}
