using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>What a model gives, and what it is trained for.</summary>
internal abstract class HeadPart(ModelSpec spec, Architecture architecture) : Part(spec)
{
    /// <summary>What the forward pass gives, in prose.</summary>
    public abstract string Gives { get; }

    /// <summary>The shape of what the forward pass gives.</summary>
    public abstract string GivenShape { get; }

    /// <summary>The same, with its dtype.</summary>
    public string Given => GivenShape + " float32";

    /// <summary>What a loss is, as the beginning of a sentence.</summary>
    public abstract string Loss { get; }

    /// <summary>What losses take.</summary>
    public abstract string Batch { get; }

    /// <summary>When a batch is refused.</summary>
    public abstract string NotFittingBatch { get; }

    /// <summary>What FLOPs are counted of, and the constant's name.</summary>
    public abstract (string Of, string Name) FlopsConstant { get; }

    private protected Architecture Architecture { get; } = architecture;

    private protected InputPart Input => Architecture.Input;

    /// <summary>The members of the universal model beside <c>forward</c>.</summary>
    public abstract IEnumerable<string> ModelMembers(CodeFile f);

    /// <summary>The members of the network that turn states into what the model gives.</summary>
    public abstract IEnumerable<string> NetworkMembers(CodeFile f);

    /// <summary>The body of a slice's <c>forward</c>, behind the check of its input.</summary>
    public abstract string SliceForward(CodeFile f);

    /// <summary>The members of a slice beside <c>forward</c>.</summary>
    public abstract IEnumerable<string> SliceMembers(CodeFile f);

    /// <summary>How losses are computed.</summary>
    public abstract LossTerms Losses(CodeFile f);

    /// <summary>The last statements of a decoding step; none if the model does not decode.</summary>
    public virtual IEnumerable<string> DecodingLines => [];

    /// <summary>The profile that <c>forward</c> runs.</summary>
    private protected string Widest => "Profile." + Spec.Widest.Name;

    /// <summary>The head's multiplication, where a decoder's embeddings may serve as its weights too.</summary>
    private protected string Logits(CodeFile f, string states, string weights) => $$"""
        using var logits = {{f.Kernels}}.Linear({{states}}, {{weights}});  //| {{GivenShape}}
        return logits.to({{f.ScalarType}}.Float32);  //| {{GivenShape}}
        """;
}

/// <summary>How the losses of a kind of head are computed: expressions over <c>streams</c>, <c>targets</c> and the vectors.</summary>
/// <param name="Vectors">The name of what losses are computed from.</param>
/// <param name="Stacked">Its shape, of all streams.</param>
/// <param name="Shared">Its shape, of one stream.</param>
/// <param name="Batch">What the method takes, for a comment.</param>
/// <param name="Computed">The call that makes the vectors of an input and streams, with further arguments.</param>
/// <param name="Loss">The call that makes the losses.</param>
/// <param name="Divergence">The call that compares with a teacher.</param>
/// <param name="NeedsTargets">True if divergences depend on the targets.</param>
internal sealed record LossTerms(
    string Vectors, string Stacked, string Shared, string Batch, Func<string, string, string?, string> Computed, string Loss, string Divergence,
    bool NeedsTargets = false);
