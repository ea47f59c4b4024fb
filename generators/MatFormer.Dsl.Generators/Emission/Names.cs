using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Emission;

/// <summary>Names that generated code uses, or that it makes.</summary>
internal static class Names
{
    /// <summary>The attributes that make a class a model.</summary>
    public static readonly IReadOnlyList<string> ModelAttributes = [Of<MatLMAttribute>()];

    /// <summary>Types that generated code calls by their last name, through an alias of each file, unless that name is hidden.</summary>
    public static readonly IReadOnlyDictionary<string, string> Aliases = new SortedDictionary<string, string>(StringComparer.Ordinal)
    {
        ["ArgumentException"] = "System.ArgumentException",
        ["ArgumentNullException"] = "System.ArgumentNullException",
        ["Device"] = "TorchSharp.torch.Device",
        ["FeedForwardKind"] = "MatFormer.FeedForwardKind",
        ["GeneratedCodeAttribute"] = "System.CodeDom.Compiler.GeneratedCodeAttribute",
        ["Kernels"] = "MatFormer.Kernels",
        ["KeyValueCache"] = "MatFormer.KeyValueCache",
        ["LayerSlice"] = "MatFormer.LayerSlice",
        ["MatFormerModel"] = "MatFormer.MatFormerModel",
        ["ModelSpec"] = "MatFormer.ModelSpec",
        ["Module"] = "TorchSharp.torch.nn.Module",
        ["Parameter"] = "TorchSharp.Modules.Parameter",
        ["RotaryTable"] = "MatFormer.RotaryTable",
        ["ScalarType"] = "TorchSharp.torch.ScalarType",
        ["Streams"] = "MatFormer.Streams",
        ["Tensor"] = "TorchSharp.torch.Tensor",
        ["Weights"] = "MatFormer.Weights",
    };

    /// <summary>
    /// The files of a model, and members and types that are generated into its class: neither it nor a profile can have such a name.
    /// </summary>
    public static readonly IReadOnlyCollection<string> Generated = new HashSet<string>(StringComparer.OrdinalIgnoreCase)
    {
        "Parameters", "Forward", "Training", "Profiles", "Skeleton",
        "Block", "Network", "Profile", "Submodel", "Declared",
        "ParameterCount", "NonEmbeddingParameterCount", "FlopsPerToken", "KeyValueCacheBytesPerToken",
        "Spec", "Granularities", "Joint", "CreateSubmodel", "Extract", "View", "Loss", "Losses", "JointLosses", "CheckTargets", "Problem",
        "_network",
    };

    /// <summary>The full name of an attribute, whose source is shared with the assembly that users reference.</summary>
    public static string Of<TAttribute>() => typeof(TAttribute).FullName;

    /// <summary>A name as source writes it.</summary>
    public static string Escape(string name) =>
        SyntaxFacts.GetKeywordKind(name) == SyntaxKind.None && SyntaxFacts.GetContextualKeywordKind(name) == SyntaxKind.None
            ? name
            : "@" + name;
}
