using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes the forward pass of the universal model, the blocks and the network. Temporaries are released after their use.</summary>
internal static class ForwardEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model)
    {
        var file = new CodeFile(spec.Type);
        WriteModel(file, spec, model);
        WriteBlocks(file, spec, model);
        WriteNetwork(file, spec, model);
        return file;
    }

    private static void WriteModel(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, head) = (model.Input, model.Head);
        f.Write($$"""
            /// <summary>Returns {{head.Gives}} of the whole model: {{input.Takes}} to {{head.Given}}.</summary>
            /// <exception cref="{{f.ArgumentException}}">{{input.NotFitting}}.</exception>
            public override {{f.Tensor}} forward({{f.Tensor}} {{input.Name}}) => Forward(Profile.{{spec.Widest.Name}}, {{input.Name}});

            {{string.Join("\n\n", head.ModelMembers(f))}}

            """);
    }

    private static void WriteBlocks(CodeFile f, ModelSpec spec, Architecture model)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1)
        {
            var stacked = model.Block.Select(part => $"{part.StackedComment}\npublic abstract {part.StackedMethod(f)};");
            f.Write($$"""
                internal abstract partial class Block
                {
                    {{ForwardComment(spec)}}
                    public abstract {{Forward(f, model)}};

                    {{string.Join("\n\n", stacked)}}
                }

                """);
        }

        foreach (var kind in kinds) WriteBlock(f, spec, model, kind, kinds.Count > 1 ? "override " : null);
    }

    private static void WriteBlock(CodeFile f, ModelSpec spec, Architecture model, BlockKind kind, string? overrides)
    {
        var stacked = model.Block.Select(part =>
            $"{part.StackedComment}\npublic {overrides}{part.StackedMethod(f)} =>\n    {part.StackedCall(f)};");
        f.Write($$"""
            internal sealed partial class {{kind.Name}}
            {
                {{ForwardComment(spec)}}
                public {{overrides}}{{Forward(f, model)}}
                {
                    {{string.Join("\n", BlockLines(f, model))}}
                }

                {{string.Join("\n\n", stacked)}}

                {{string.Join("\n\n", model.Block.Select(part => part.WeightsProperty(f, kind.Block)))}}
            }

            """);
    }

    // The input of each part is the result of the part before it.
    private static IEnumerable<string> BlockLines(CodeFile f, Architecture model)
    {
        var x = "x";
        for (var i = 0; i < model.Block.Count; i++)
        {
            var part = model.Block[i];
            var isLast = i == model.Block.Count - 1;
            yield return $"{(isLast ? "return" : $"using var {part.Result} =")} {part.Call(f, x)};  //| {part.Does}";
            x = part.Passes;
        }
    }

    private static string Forward(CodeFile f, Architecture model) =>
        $"{f.Tensor} Forward({f.Tensor} x{model.Positions.LayerParameters(f)}{model.Mask.BlockParameters(f)})";

    private static string ForwardComment(ModelSpec spec) =>
        $"// One layer of a slice, with all its hidden units and heads: {Shape.States(spec)} to the same shape.";

    private static void WriteNetwork(CodeFile f, ModelSpec spec, Architecture model)
    {
        f.Write($$"""
            internal sealed partial class Network
            {
                {{string.Join("\n\n", model.Head.NetworkMembers(f))}}

            """);
        PassEmitter.WriteStacked(f, spec, model);
        f.Write($$"""
            }
            """);
    }
}
