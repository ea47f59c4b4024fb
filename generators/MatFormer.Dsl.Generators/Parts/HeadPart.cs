using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>The head, which computes a model's output and its losses.</summary>
internal abstract class HeadPart(ModelSpec spec, Architecture architecture) : Part(spec)
{
    /// <summary>The output of the forward pass, as a noun in prose.</summary>
    public abstract string Gives { get; }

    /// <summary>The shape of the output.</summary>
    public abstract string GivenShape { get; }

    /// <summary>The shape and dtype of the output.</summary>
    public string Given => GivenShape + " float32";

    /// <summary>A description of the loss, as the beginning of a sentence.</summary>
    public abstract string Loss { get; }

    /// <summary>Sentences about the batch that losses take, without the last period.</summary>
    public abstract string Batch { get; }

    /// <summary>The condition of the exception for a wrong batch.</summary>
    public abstract string NotFittingBatch { get; }

    /// <summary>What FLOPs are counted for, in prose, and the name of the constant.</summary>
    public abstract (string Of, string Name) FlopsConstant { get; }

    private protected Architecture Architecture { get; } = architecture;

    /// <summary>The argument with which a kernel takes the first channels of a weight, with a comma in front.</summary>
    private protected string? Nested => Spec.ElasticWidth ? ", nested: true" : null;

    private protected InputPart Input => Architecture.Input;

    /// <summary>The members of the universal model besides <c>forward</c>.</summary>
    public abstract IEnumerable<string> ModelMembers(CodeFile f);

    /// <summary>The members of the network that turn states into the output.</summary>
    public abstract IEnumerable<string> NetworkMembers(CodeFile f);

    /// <summary>The body of a slice's <c>forward</c> after the check of the input.</summary>
    public abstract string SliceForward(CodeFile f);

    /// <summary>The members of a slice besides <c>forward</c>.</summary>
    public abstract IEnumerable<string> SliceMembers(CodeFile f);

    /// <summary>The calls that compute losses.</summary>
    public abstract LossTerms Losses(CodeFile f);

    /// <summary>The last statements of a decoding step, or none if the model does not decode.</summary>
    public virtual IEnumerable<string> DecodingLines => [];

    /// <summary>The profile that <c>forward</c> runs.</summary>
    private protected string Widest => "Profile." + Spec.Widest.Name;

    /// <summary>The statements that multiply by the head. A decoder's embeddings may serve as the weights of the head.</summary>
    private protected string Logits(CodeFile f, string states, string weights) => $$"""
        using var logits = {{f.Kernels}}.Linear({{states}}, {{weights}});  //| {{GivenShape}}
        return logits.to({{f.ScalarType}}.Float32);  //| {{GivenShape}}
        """;
}

/// <summary>The calls that compute the losses of a head. Their variables are <c>streams</c>, <c>targets</c> and the vectors.</summary>
/// <param name="Vectors">The name of the vectors that losses are computed from.</param>
/// <param name="Stacked">The shape of the vectors of all streams.</param>
/// <param name="Shared">The shape of the vectors of one stream.</param>
/// <param name="Batch">The batch that the method takes, for a comment.</param>
/// <param name="Computed">Returns the call that computes the vectors, given the names of input and streams, and further arguments.</param>
/// <param name="Loss">The call that computes the losses.</param>
/// <param name="Divergence">The call that computes the divergences from a teacher.</param>
/// <param name="NeedsTargets">True if divergences depend on the targets.</param>
internal sealed record LossTerms(
    string Vectors,
    string Stacked,
    string Shared,
    string Batch,
    Func<string, string, string?, string> Computed,
    string Loss,
    string Divergence,
    bool NeedsTargets = false);
