using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>
/// A part of an architecture that stands around the blocks. It knows its weights, its costs, and the lines that it adds to the code. A new
/// part is a new class; <see cref="Architecture"/> is the only place that chooses among the parts.
/// </summary>
internal abstract class Part(ModelSpec spec)
{
    protected ModelSpec Spec { get; } = spec;

    /// <summary>Its weights, in the order in which they are drawn.</summary>
    public virtual IEnumerable<WeightSpec> Weights => [];

    /// <summary>FLOPs of one token, image or text.</summary>
    public virtual long Flops => 0;

    /// <summary>Initializers of the run-time <c>ModelSpec</c>.</summary>
    public virtual IEnumerable<string> SpecLines => [];

    /// <summary>True if the network holds a table for this part.</summary>
    public virtual bool HasTable => false;

    /// <summary>What the network holds beside its weights, or null.</summary>
    public virtual TableSpec? Table(CodeFile f) => null;

    /// <summary>Statements of a forward pass in front of the first layer.</summary>
    public virtual IEnumerable<string> Enter(Pass pass) => [];

    /// <summary>Statements of a forward pass behind the last layer.</summary>
    public virtual IEnumerable<string> Leave(Pass pass) => [];

    /// <summary>The fields that a decoding network holds for this part.</summary>
    public virtual IEnumerable<PackedField> Packed(CodeFile f) => [];
}

/// <summary>A part of a block: a kernel that adds something to the residual stream.</summary>
internal abstract class BlockPart(ModelSpec spec)
{
    protected ModelSpec Spec { get; } = spec;

    /// <summary>The name of the result, as a variable.</summary>
    public abstract string Result { get; }

    /// <summary>What the part does, for a comment behind its line in a block.</summary>
    public abstract string Does { get; }

    /// <summary>Initializers of the run-time <c>ModelSpec</c>.</summary>
    public virtual IEnumerable<string> SpecLines => [];

    /// <summary>Its weights, in the order in which they are drawn.</summary>
    public abstract IEnumerable<WeightSpec> Weights(BlockSpec block);

    /// <summary>FLOPs of one token, image or text for each key/value head, beside those of the matrices.</summary>
    public virtual long FlopsPerKeyValueHead(BlockSpec block) => 0;

    /// <summary>Bytes of key/value cache that a token takes for each key/value head.</summary>
    public virtual long CacheBytesPerHead(BlockSpec block) => 0;

    /// <summary>The property that hands the weights to the kernel.</summary>
    public abstract string WeightsProperty(CodeFile f, BlockSpec block);

    /// <summary>The call of the kernel for all that a slice keeps of the block.</summary>
    public abstract string Call(CodeFile f, string x);

    /// <summary>What the method for all stacked streams does: a comment.</summary>
    public abstract string StackedComment { get; }

    /// <summary>The method for all stacked streams, without modifiers and body.</summary>
    public abstract string StackedMethod(CodeFile f);

    /// <summary>The body of that method: an expression.</summary>
    public abstract string StackedCall(CodeFile f);

    /// <summary>The statements with which the network runs the part for all stacked streams; <paramref name="block"/> is an expression.</summary>
    public abstract IEnumerable<string> StackedLines(CodeFile f, string block);

    /// <summary>The fields that a layer of a decoding network holds for the part.</summary>
    public abstract IEnumerable<PackedField> Packed(CodeFile f, BlockSpec block);

    /// <summary>The statements of a decoding step.</summary>
    public abstract IEnumerable<string> DecodingLines(CodeFile f, BlockSpec block);
}

/// <summary>A table of numbers that are computed and not trained.</summary>
/// <param name="Class">The class that holds it.</param>
/// <param name="Field">The network's field.</param>
/// <param name="Shape">Its shape, for a comment.</param>
/// <param name="Sizes">Arguments of its constructor that stand before the device.</param>
/// <param name="Options">Arguments that stand behind the device.</param>
internal sealed record TableSpec(string Class, string Field, string Shape, string Sizes, string? Options = null);

/// <summary>A field of a decoding network.</summary>
/// <param name="Type">Its type.</param>
/// <param name="Name">Its name; several names, separated by commas, are set together.</param>
/// <param name="Value">What it is set to.</param>
/// <param name="Shape">Its shape, for a comment.</param>
internal sealed record PackedField(string Type, string Name, string Value, string? Shape = null)
{
    /// <summary>The field as it is declared.</summary>
    public string Declaration => $"private readonly {Type} {Name};" + (Shape is null ? null : "  //| " + Shape);

    /// <summary>The statement that sets it.</summary>
    public string Assignment => (Name.Contains(',') ? $"({Name})" : Name) + $" = {Value};";
}

/// <summary>A forward pass whose lines the parts write.</summary>
/// <param name="File">The file that it is in.</param>
/// <param name="IsStacked">
/// True for the network's pass of all streams, which training uses; false for a slice's own pass of its one stream.
/// </param>
internal sealed record Pass(CodeFile File, bool IsStacked)
{
    /// <summary>What stands in front of the network's members.</summary>
    public string Network => IsStacked ? "" : "Network.";

    /// <summary>The dtype of the computation.</summary>
    public string Type => IsStacked ? "type" : "ComputeType";

    /// <summary>The first dimension of states behind the first layer: N rows of all streams, or the batch.</summary>
    public string Rows => IsStacked ? "N" : "B";
}
