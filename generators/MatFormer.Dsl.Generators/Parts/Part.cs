using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>
/// A part of a model outside the blocks. It knows its weights, its costs, and the lines that it adds to the code. A new part is a new
/// class. Only <see cref="Architecture"/> chooses among the parts.
/// </summary>
internal abstract class Part(ModelSpec spec)
{
    protected ModelSpec Spec { get; } = spec;

    /// <summary>The weights of the part, in the order in which they are drawn.</summary>
    public virtual IEnumerable<WeightSpec> Weights => [];

    /// <summary>The FLOPs of one token, image or text.</summary>
    public virtual long Flops => 0;

    /// <summary>The initializers that the part adds to the run-time <c>ModelSpec</c>.</summary>
    public virtual IEnumerable<string> SpecLines => [];

    /// <summary>The statements of a forward pass before the first layer.</summary>
    public virtual IEnumerable<string> Enter(Pass pass) => [];

    /// <summary>The statements of a forward pass after the last layer.</summary>
    public virtual IEnumerable<string> Leave(Pass pass) => [];

    /// <summary>The fields that a decoding network has for this part.</summary>
    public virtual IEnumerable<PackedField> Packed(CodeFile f) => [];
}

/// <summary>A part of a block, which is one kernel that adds to the residual stream.</summary>
internal abstract class BlockPart(ModelSpec spec)
{
    protected ModelSpec Spec { get; } = spec;

    /// <summary>The name of the variable that holds the result.</summary>
    public abstract string Result { get; }

    /// <summary>The input of the next part, as an expression.</summary>
    public virtual string Passes => Result;

    /// <summary>The formula of the part, for a comment after its line in a block.</summary>
    public abstract string Does { get; }

    /// <summary>The initializers that the part adds to the run-time <c>ModelSpec</c>.</summary>
    public virtual IEnumerable<string> SpecLines => [];

    /// <summary>Returns the weights of the part, in the order in which they are drawn.</summary>
    public abstract IEnumerable<WeightSpec> Weights(BlockSpec block);

    /// <summary>The FLOPs of one token, image or text in every slice, without the FLOPs of the matrices.</summary>
    public virtual long Flops(BlockSpec block) => 0;

    /// <summary>The FLOPs of one token, image or text for each key/value head, without the FLOPs of the matrices.</summary>
    public virtual long FlopsPerKeyValueHead(BlockSpec block) => 0;

    /// <summary>The bytes of key/value cache that a token takes for each key/value head.</summary>
    public virtual long CacheBytesPerHead(BlockSpec block) => 0;

    /// <summary>The property that passes the weights to the kernel.</summary>
    public abstract string WeightsProperty(CodeFile f, BlockSpec block);

    /// <summary>The call of the kernel with all heads and hidden units of a slice.</summary>
    public abstract string Call(CodeFile f, string x);

    /// <summary>The comment of the method that runs all stacked streams.</summary>
    public abstract string StackedComment { get; }

    /// <summary>The method that runs all stacked streams, without modifiers and body.</summary>
    public abstract string StackedMethod(CodeFile f);

    /// <summary>The body of the method that runs all stacked streams, as an expression.</summary>
    public abstract string StackedCall(CodeFile f);

    /// <summary>The statements with which the network runs the part for all stacked streams.</summary>
    /// <param name="f">The file.</param>
    /// <param name="block">The block, as an expression.</param>
    public abstract IEnumerable<string> StackedLines(CodeFile f, string block);

    /// <summary>The fields that a layer of a decoding network has for the part.</summary>
    public abstract IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block);

    /// <summary>The statements of a decoding step.</summary>
    public abstract IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block);
}

/// <summary>A table of numbers that are computed, not trained.</summary>
/// <param name="Class">The class of the table.</param>
/// <param name="Field">The field of the network.</param>
/// <param name="Shape">The shape of the table, for a comment.</param>
/// <param name="Sizes">The constructor's arguments before the device.</param>
/// <param name="Options">The constructor's arguments after the device.</param>
internal sealed record TableSpec(string Class, string Field, string Shape, string Sizes, string? Options = null);

/// <summary>A field of a decoding network.</summary>
/// <param name="Type">The type of the field.</param>
/// <param name="Name">The name of the field, or several names, separated by commas, that one assignment sets.</param>
/// <param name="Value">The value of the field.</param>
/// <param name="Shape">The shape of the field, for a comment.</param>
internal sealed record PackedField(string Type, string Name, string Value, string? Shape = null)
{
    /// <summary>The declaration of the field.</summary>
    public string Declaration => $"private readonly {Type} {Name};" + (Shape is null ? null : "  //| " + Shape);

    /// <summary>The statement that sets the field.</summary>
    public string Assignment => (Name.Contains(',') ? $"({Name})" : Name) + $" = {Value};";
}

/// <summary>A forward pass, to which the parts add lines.</summary>
/// <param name="File">The file with the pass.</param>
/// <param name="IsStacked">
/// True for the network's pass over all streams, which training uses. False for the pass of a slice, which is one stream.
/// </param>
internal sealed record Pass(CodeFile File, bool IsStacked)
{
    /// <summary>The prefix of the network's members.</summary>
    public string Network => IsStacked ? "" : "Network.";

    /// <summary>The dtype of the computation, as an expression.</summary>
    public string Type => IsStacked ? "type" : "ComputeType";

    /// <summary>The name of the first dimension of states after the first layer: N rows of all streams, or the batch B.</summary>
    public string Rows => IsStacked ? "N" : "B";
}
