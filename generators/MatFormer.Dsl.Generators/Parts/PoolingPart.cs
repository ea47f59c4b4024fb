using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>Turns the states <c>last</c> of the last layer into the input of the head, and applies the last norm.</summary>
internal abstract class PoolingPart(ModelSpec spec, Architecture architecture) : Part(spec)
{
    private protected Architecture Architecture { get; } = architecture;

    /// <summary>The end of an expression that adds a class token to the number of tokens.</summary>
    public virtual string? ExtraTokens => null;

    /// <summary>True if the result has a vector for each token, and false if it has one vector for each sequence.</summary>
    public virtual bool KeepsTokens => false;

    /// <summary>The class token, as an argument of the input's kernel.</summary>
    public virtual string ClassToken(Pass pass) => "classToken: null";

    /// <summary>Returns the shape of the result.</summary>
    public string Result(string rows) => KeepsTokens ? Shape.Of(rows, "T", Shape.Width(Spec)) : Shape.Of(rows, Shape.Width(Spec));

    public override IEnumerable<string> SpecLines => [$"Pooling = global::MatFormer.Pooling.{Spec.Pooling},"];

    private protected string Norm(Pass pass, string x) => Architecture.Norm.Call(pass, x, pass.Network + "Norm");
}

/// <summary>Keeps the states of all tokens.</summary>
internal sealed class NoPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override bool KeepsTokens => true;

    public override IEnumerable<string> SpecLines => [];

    public override IEnumerable<string> Leave(Pass pass) => [$"return {Norm(pass, "last")};  //| {Result(pass.Rows)}"];
}

/// <summary>Takes the state of a class token, which is put before the sequence.</summary>
internal sealed class ClassTokenPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override string ExtraTokens => " + 1";

    public override IEnumerable<WeightSpec> Weights =>
        [WeightSpec.Embedding("ClassToken", Spec.IsVision ? "vit.embeddings.cls_token" : "model.class_token", 1, 1, Spec.Stream)];

    public override string ClassToken(Pass pass) => pass.Network + "ClassToken";

    public override IEnumerable<string> Leave(Pass pass) =>
    [
        $"using var first = {pass.File.Kernels}.FirstToken(last);  //| {Result(pass.Rows)}",
        $"return {Norm(pass, "first")};  //| {Result(pass.Rows)}",
    ];
}

/// <summary>Takes the mean of the states of all tokens.</summary>
internal sealed class MeanPooling(ModelSpec spec, Architecture architecture) : PoolingPart(spec, architecture)
{
    public override IEnumerable<string> Leave(Pass pass) =>
    [
        $"using var normed = {Norm(pass, "last")};  //| {Shape.Of(pass.Rows, "T", Shape.Width(Spec))}",
        $"return {pass.File.Kernels}.MeanToken(normed{Architecture.Mask.PoolingArgument});  //| {Result(pass.Rows)}",
    ];
}
