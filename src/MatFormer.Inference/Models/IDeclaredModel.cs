namespace MatFormer;

/// <summary>What generated code implements for a declared model, whether or not there is a library of tensors.</summary>
/// <typeparam name="TSelf">The declared model.</typeparam>
public interface IDeclaredModel<TSelf>
    where TSelf : IDeclaredModel<TSelf>
{
    /// <summary>Sizes and costs.</summary>
    static abstract ModelSpec Spec { get; }

    /// <summary>The granularities as profiles, narrowest first; the last is the whole model.</summary>
    static abstract IReadOnlyList<Profile<TSelf>> Granularities { get; }

    /// <summary>The declared profiles, in the order of the declaration.</summary>
    static abstract IReadOnlyList<Profile<TSelf>> Profiles { get; }
}
