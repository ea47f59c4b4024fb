namespace MatFormer;

/// <summary>The interface that generated code implements for every declared model, with or without a tensor library.</summary>
/// <typeparam name="TSelf">The declared model.</typeparam>
public interface IDeclaredModel<TSelf>
    where TSelf : IDeclaredModel<TSelf>
{
    /// <summary>The sizes and costs of the model.</summary>
    static abstract ModelSpec Spec { get; }

    /// <summary>The granularities as profiles, narrowest first. The last one is the whole model.</summary>
    static abstract IReadOnlyList<Profile<TSelf>> Granularities { get; }

    /// <summary>The declared profiles, in the order of the declaration.</summary>
    static abstract IReadOnlyList<Profile<TSelf>> Profiles { get; }
}
