using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>How the states <c>last</c> of the last layer become what the head takes; the last norm is on this way.</summary>
internal abstract class PoolingPart(ModelSpec spec, Architecture architecture) : Part(spec)
{
    private protected Architecture Architecture { get; } = architecture;

    /// <summary>What is added to the number of tokens, as the end of an expression.</summary>
    public virtual string? ExtraTokens => null;

    /// <summary>The states are of every token if true, one vector of each sequence if false.</summary>
    public virtual bool KeepsTokens => false;

    /// <summary>The argument of the input's kernel.</summary>
    public virtual string ClassToken(Pass pass) => "classToken: null";

    /// <summary>The shape of the result.</summary>
    public string Result(string rows) => KeepsTokens ? Shape.Of(rows, "T", Spec.Width) : Shape.Of(rows, Spec.Width);

    public override IEnumerable<string> SpecLines => [$"Pooling = global::MatFormer.Pooling.{Spec.Pooling},"];

    private protected string Norm(Pass pass, string x) => Architecture.Norm.Call(pass.File, x, pass.Network + "Norm");
}

/// <summary>The states of every token.</summary>
internal sealed class NoPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override bool KeepsTokens => true;

    public override IEnumerable<string> SpecLines => [];

    public override IEnumerable<string> Leave(Pass pass) => [$"return {Norm(pass, "last")};  //| {Result(pass.Rows)}"];
}

/// <summary>The state of a token that stands in front of the sequence.</summary>
internal sealed class ClassTokenPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override string ExtraTokens => " + 1";

    public override IEnumerable<WeightSpec> Weights =>
        [WeightSpec.Embedding("ClassToken", Spec.IsVision ? "vit.embeddings.cls_token" : "model.class_token", 1, 1, Spec.Width)];

    public override string ClassToken(Pass pass) => pass.Network + "ClassToken";

    public override IEnumerable<string> Leave(Pass pass) =>
    [
        $"using var first = {pass.File.Kernels}.FirstToken(last);  //| {Result(pass.Rows)}",
        $"return {Norm(pass, "first")};  //| {Result(pass.Rows)}",
    ];
}

/// <summary>The mean of the states of all tokens.</summary>
internal sealed class MeanPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override IEnumerable<string> Leave(Pass pass) =>
    [
        $"using var normed = {Norm(pass, "last")};  //| {Shape.Of(pass.Rows, "T", Spec.Width)}",
        $"return {pass.File.Kernels}.MeanToken(normed{Architecture.Mask.PoolingArgument});  //| {Result(pass.Rows)}",
    ];
}
