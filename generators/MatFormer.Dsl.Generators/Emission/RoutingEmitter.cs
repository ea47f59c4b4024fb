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
        var routed = $"{f.Streams}.Routed<{f.Model}>(budget)";
        f.Write($$"""
            /// <inheritdoc/>
            public override {{f.Tensor}} Forward(double budget, {{f.Tensor}} {{input.Name}})
            {
                {{input.Check}}({{input.Name}});
                return _network.Logits({{input.Name}}, {{routed}}, ComputeType);  //| {{head.GivenShape}}
            }

            /// <inheritdoc/>
            public override {{f.Tensor}} Embed(double budget, {{f.Tensor}} {{input.Name}}, int? width = null)
            {
                {{input.Check}}({{input.Name}});
                return _network.Embed({{input.Name}}, {{routed}}, EmbeddingWidth(width), ComputeType);  //| (B, width)
            }

            /// <inheritdoc/>
            public override {{f.Tensor}} Classify(double budget, {{f.Tensor}} {{input.Name}}, int? width = null)
            {
                {{input.Check}}({{input.Name}});
                return _network.Classify({{input.Name}}, {{routed}}, EmbeddingWidth(width), ComputeType);  //| {{head.GivenShape}}
            }

            internal sealed partial class Network
            {
                public {{f.Routers}}? Routers;  //| of the universal model; a slice has none
            }
            """);
        return f;
    }
}
