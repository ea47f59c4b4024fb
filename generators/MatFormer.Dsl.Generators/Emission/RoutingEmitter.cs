using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes what the universal model computes at a compute budget. The routers themselves are a class of the runtime.</summary>
internal static class RoutingEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model)
    {
        var f = new CodeFile(spec.Type);
        var (input, head) = (model.Input, model.Head);
        if (spec.IsDecoder) WriteLogits(f, input, head);
        else WriteEncodings(f, spec, input, head);
        f.Write($$"""

            internal sealed partial class Network
            {
                public {{f.Routers}}? Routers;  //| of the universal model; a slice has none
            }
            """);
        return f;
    }

    // Each token chooses by thresholds, so that it does not depend on later ones.
    private static void WriteLogits(CodeFile f, InputPart input, HeadPart head) => f.Write($$"""
        /// <inheritdoc/>
        public override {{f.Tensor}} Forward(double budget, {{f.Tensor}} {{input.Name}})
        {
            {{input.Check}}({{input.Name}});
            var streams = {{f.Streams}}.Routed<{{f.Model}}>(budget, isCausal: true);
            return _network.Logits({{input.Name}}, streams, null, ComputeType);  //| {{head.GivenShape}}
        }
        """);

    private static void WriteEncodings(CodeFile f, ModelSpec spec, InputPart input, HeadPart head)
    {
        var routed = $"{f.Streams}.Routed<{f.Model}>(budget)";
        var whole = spec.IsVision ? "Logits" : "Forward";
        f.Write($$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Forward(double budget, {{f.Tensor}} {{input.Name}})
            {
                {{input.Check}}({{input.Name}});
                return _network.{{whole}}({{input.Name}}, {{routed}}, ComputeType);  //| {{head.GivenShape}}
            }

            /// <inheritdoc/>
            public override {{f.Tensor}} Embed(double budget, {{f.Tensor}} {{input.Name}}, int? width = null)
            {
                {{input.Check}}({{input.Name}});
                return _network.Embed({{input.Name}}, {{routed}}, EmbeddingWidth(width), ComputeType);  //| (B, width)
            }
            """);
        if (!spec.IsVision) return;
        f.Write($$"""

            /// <inheritdoc/>
            public override {{f.Tensor}} Classify(double budget, {{f.Tensor}} {{input.Name}}, int? width = null)
            {
                {{input.Check}}({{input.Name}});
                return _network.Classify({{input.Name}}, {{routed}}, EmbeddingWidth(width), ComputeType);  //| {{head.GivenShape}}
            }
            """);
    }
}
