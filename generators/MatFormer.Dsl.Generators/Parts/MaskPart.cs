using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>Decides which tokens a token may attend to. Passes and layers get the parameters that attention needs for this.</summary>
internal abstract class MaskPart(ModelSpec spec) : Part(spec)
{
    /// <summary>The position of the first token, as an expression.</summary>
    public virtual string Start => "0";

    /// <summary>The parameter of a pass, with a comma in front.</summary>
    public virtual string? PassParameter(CodeFile f) => null;

    /// <summary>The argument for <see cref="PassParameter"/>.</summary>
    public virtual string? PassArgument => null;

    /// <summary>The parameter of a layer, with a comma after it.</summary>
    public virtual string? LayerParameter(CodeFile f) => null;

    /// <summary>The argument for <see cref="LayerParameter"/>.</summary>
    public virtual string? LayerArgument => null;

    /// <summary>The parameter of a recomputed layer, with a comma after it.</summary>
    public virtual string? RecomputedParameter(CodeFile f) => LayerParameter(f);

    /// <summary>The argument for <see cref="RecomputedParameter"/>.</summary>
    public virtual string? RecomputedArgument => LayerArgument;

    /// <summary>The argument that a recomputed layer passes for <see cref="LayerParameter"/>.</summary>
    public virtual string? RecomputedLayerArgument => LayerArgument;

    /// <summary>The parameters of a block, with a comma in front.</summary>
    public virtual string? BlockParameters(CodeFile f) => null;

    /// <summary>The arguments for <see cref="BlockParameters"/>.</summary>
    public virtual string? BlockArguments => null;

    /// <summary>The parameters of a block as named arguments of a kernel.</summary>
    public virtual string? KernelArguments => null;

    /// <summary>The argument of mean pooling, with a comma in front.</summary>
    public virtual string? PoolingArgument => null;

    /// <summary>The initializers of the attention's weights.</summary>
    public virtual IEnumerable<string> AttentionLines(BlockSpec block) => [];

    /// <summary>The number of pairs of a query and a key that one head computes over a full context.</summary>
    public virtual long Pairs(BlockSpec block) => (long)Spec.Attending * Spec.Attending;

    /// <summary>The bytes of key/value cache that a token takes for each key/value head.</summary>
    public virtual long CacheBytesPerHead(BlockSpec block) => 0;
}

/// <summary>A token attends to itself and to earlier tokens, including the cache. A window limits this to the nearest tokens.</summary>
internal sealed class CausalMask(ModelSpec spec) : MaskPart(spec)
{
    public override string Start => "cache?.Length ?? 0";

    public override string PassParameter(CodeFile f) => $", {f.KeyValueCache}? cache";

    public override string PassArgument => ", cache";

    public override string LayerParameter(CodeFile f) => $"{f.KeyValueCache}? cache, ";

    public override string LayerArgument => "cache, ";

    public override string? RecomputedParameter(CodeFile f) => null;

    public override string? RecomputedArgument => null;

    public override string RecomputedLayerArgument => "null, ";

    public override string BlockParameters(CodeFile f) => $", {f.KeyValueCache}? cache, int layer";

    public override string BlockArguments => ", cache, layer";

    public override string KernelArguments => ", cache: cache, layer: layer";

    public override IEnumerable<string> AttentionLines(BlockSpec block)
    {
        yield return "IsCausal = true,";
        if (block.Window > 0) yield return $"Window = {Literals.Of(block.Window)},";
    }

    public override IEnumerable<string> Leave(Pass pass) => ["cache?.Advance((int)tokens.shape[1]);"];

    // The first tokens see fewer keys than the window allows.
    public override long Pairs(BlockSpec block)
    {
        long context = Spec.Sequence, window = block.Window == 0 ? context : Math.Min(block.Window, context);
        return (window * (window + 1) / 2) + ((context - window) * window);
    }

    public override long CacheBytesPerHead(BlockSpec block) => 2L * block.HeadWidth * sizeof(float);
}

/// <summary>Texts of different lengths share a batch. A token attends to the tokens of its own text.</summary>
internal sealed class LengthMask(ModelSpec spec) : MaskPart(spec)
{
    public override string LayerParameter(CodeFile f) => $"{f.Tensor} lengths, ";

    public override string LayerArgument => "lengths, ";

    public override string BlockParameters(CodeFile f) => $", {f.Tensor} lengths";

    public override string BlockArguments => ", lengths";

    public override string KernelArguments => ", lengths: lengths";

    public override string PoolingArgument => ", lengths";

    public override IEnumerable<string> Enter(Pass pass)
    {
        var lengths = $"{pass.File.Kernels}.Lengths(tokens, {(Spec.HasClassToken ? 1 : 0)});  //| (B)";
        if (!pass.IsStacked)
        {
            yield return "using var lengths = " + lengths;
            yield break;
        }

        // A recomputed layer needs the lengths again in the backward pass.
        yield return "var lengths = " + lengths;
        yield return "using var released = recomputation is null ? lengths : null;";
        yield return "recomputation?.Keep(lengths);";
        if (Spec.Routing is not null) yield return "streams = streams.Over(lengths);";
    }
}

/// <summary>Every token attends to all tokens.</summary>
internal sealed class NoMask(ModelSpec spec) : MaskPart(spec);
