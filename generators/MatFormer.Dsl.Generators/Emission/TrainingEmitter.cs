using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>The losses that training minimises.</summary>
internal static class TrainingEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model)
    {
        var f = new CodeFile(spec.Type);
        WriteModel(f, spec, model);
        WriteBlocks(f, spec, model);
        WriteNetwork(f, spec, model);
        return f;
    }

    private static void WriteModel(CodeFile f, ModelSpec spec, Architecture model)
    {
        var granularities = spec.Granularities.Reverse().Select(g => g.Name).ToList();
        var (input, check, head) = (model.Input.Name, model.Input.Check, model.Head);
        var mask = model.Mask.PassArgument is null ? null : ", null";
        f.Write($$"""
            /// <summary>
            /// The sampled objective: {{Lower(head.Loss)}} of one submodel, a float32 scalar. {{head.Batch}}.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">{{head.NotFittingBatch}}.</exception>
            public {{f.Tensor}} Loss({{f.Profile}} profile, {{f.Tensor}} {{input}}, {{f.Tensor}} targets)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                using var losses = Losses({{f.Streams}}.Of(profile), {{input}}, targets);  //| (1)
                return losses.sum();  //| ()
            }

            /// <summary>
            /// The joint objective: {{Lower(head.Loss)}} of {{string.Join(", ", granularities)}} on the same batch,
            /// computed in one stacked pass, ({{Literals.Of(granularities.Count)}}) float32. {{head.Batch}}.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">{{head.NotFittingBatch}}.</exception>
            public {{f.Tensor}} JointLosses({{f.Tensor}} {{input}}, {{f.Tensor}} targets) => Losses(Network.Joint, {{input}}, targets);

            /// <summary>
            /// {{head.Loss}} of each stream, (streams.Count) float32, in the order of the streams, on the same
            /// batch or its own rows of it, in one stacked pass. {{head.Batch}}. With a recomputation, what the layers compute
            /// is not kept for the gradients, which that then gives.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">
            /// {{head.NotFittingBatch}}, or not the rows that the streams divide among them.
            /// </exception>
            public {{f.Tensor}} Losses({{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                {{check}}({{input}});
                CheckTargets({{input}}, targets);
                streams.CheckBatch({{input}});
                return _network.Losses(streams, {{input}}, targets, ComputeType, recomputation);
            }

            /// <summary>
            /// Two rows (2, streams.Count) float32: the losses of Losses, and how far each stream is from {{spec.Widest.Name}} on the same rows,
            /// temperature^2 KL({{spec.Widest.Name}} || stream), 0 for {{spec.Widest.Name}} itself. {{spec.Widest.Name}} learns nothing by that; where it is not
            /// among the streams of some rows, it runs over them without gradient. {{head.Batch}}.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">As of Losses, or the temperature is not above 0.</exception>
            public {{f.Tensor}} DistilledLosses(
                {{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, double temperature, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                {{check}}({{input}});
                CheckTargets({{input}}, targets);
                streams.CheckBatch({{input}});
                global::System.ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
                return _network.DistilledLosses(streams, {{input}}, targets, temperature, ComputeType, recomputation);
            }

            /// <summary>
            /// How much each hidden unit of each layer adds to {{model.Input.Takes.TrimEnd(',')}}: the mean magnitude of its activation times the norm of what
            /// it writes, (hidden) float32 for each layer.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">{{model.Input.NotFitting}}.</exception>
            public {{f.Tensor}}[] HiddenImportance({{f.Tensor}} {{input}})
            {
                {{check}}({{input}});
                using var frozen = global::TorchSharp.torch.no_grad();
                var importance = new {{f.Tensor}}[{{Literals.Of(spec.Layers)}}];
                _network.States({{input}}, {{f.Streams}}.Of(Profile.{{spec.Widest.Name}}){{mask}}, ComputeType, importance: importance).Dispose();
                return importance;
            }

            /// <summary>Puts the hidden units of a layer into another order, (hidden) int64; {{spec.Widest.Name}} computes what it did, up to rounding.</summary>
            public void ReorderHiddenUnits(int layer, {{f.Tensor}} order) => _network.Blocks[layer]{{(spec.CanSkip ? "!" : null)}}.Reorder(order);

            """);
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, widest, loss, t) = (model.Input.Name, spec.Widest.Name, model.Head.Loss, model.Head.Losses(f));
        var joint = string.Join(", ", spec.Granularities.Reverse().Select(g => "Profile." + g.Name));
        var (targets, targetsParameter) = t.NeedsTargets ? ("targets, ", $"{f.Tensor} targets, ") : (null, null);
        f.Write($$"""
            internal sealed partial class Network
            {
                public static readonly {{f.Streams}} Joint = {{f.Streams}}.Of<{{f.Model}}>({{joint}});  //| all granularities

                // {{loss}} of each stream: {{t.Batch}} to (R) float32.
                public {{f.Tensor}} Losses(
                    {{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, {{f.ScalarType}} type, {{f.Recomputation}}? recomputation = null)
                {
                    using var {{t.Vectors}} = {{t.Computed(input, "streams", ", recomputation")}};  //| {{t.Stacked}}
                    return {{t.Loss}};  //| (R)
                }

                // {{loss}} of each stream, and its divergence from {{widest}}: {{t.Batch}} to (2, R) float32.
                public {{f.Tensor}} DistilledLosses(
                    {{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, double temperature, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation)
                {
                    using var {{t.Vectors}} = {{t.Computed(input, "streams", ", recomputation")}};  //| {{t.Stacked}}
                    using var losses = {{t.Loss}};  //| (R)
                    using var divergences = Divergences({{t.Vectors}}, {{input}}, {{targets}}streams, temperature, type);  //| (R)
                    return global::TorchSharp.torch.stack([losses, divergences]);  //| (2, R)
                }

                // The divergence of each stream from {{widest}}: {{t.Stacked}} to (R) float32.
                private {{f.Tensor}} Divergences(
                    {{f.Tensor}} {{t.Vectors}}, {{f.Tensor}} {{input}}, {{targetsParameter}}{{f.Streams}} streams, double temperature, {{f.ScalarType}} type)
                {
                    var student = streams.BeginWith(Profile.{{widest}}.Layers) ? 1 : 0;
                    if (student == streams.Count) return global::TorchSharp.torch.zeros(student, {{f.ScalarType}}.Float32, {{t.Vectors}}.device);
                    using var teacher = Teacher({{t.Vectors}}, {{input}}, streams, student, type);  //| {{t.Shared}}, of the students' rows
                    return {{t.Divergence}};  //| (R)
                }

                // What {{widest}} makes, without gradient, of the rows that others than it run over: {{t.Shared}}.
                private {{f.Tensor}} Teacher({{f.Tensor}} {{t.Vectors}}, {{f.Tensor}} {{input}}, {{f.Streams}} streams, int student, {{f.ScalarType}} type)
                {
                    using var frozen = global::TorchSharp.torch.no_grad();
                    if (student == 1 && streams.BatchRows is null)
                    {
                        using var detached = {{t.Vectors}}.detach();  //| {{t.Stacked}}
                        return detached.narrow(0, 0, {{input}}.shape[0]);  //| {{t.Shared}}
                    }

                    var first = student == 1 ? streams.BatchRows![0] : 0;
                    using var others = {{input}}.narrow(0, first, {{input}}.shape[0] - first);
                    return {{t.Computed("others", $"{f.Streams}.Of(Profile.{widest})", null)}};  //| {{t.Shared}}
                }
            }
            """);
    }

    private static string Lower(string sentence) => char.ToLowerInvariant(sentence[0]) + sentence.Substring(1);

    // What orders hidden units by importance.
    private static void WriteBlocks(CodeFile f, ModelSpec spec, Architecture model)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1)
        {
            f.Write($$"""
                internal abstract partial class Block
                {
                    // How much each hidden unit adds to x: (B, T, {{Literals.Of(spec.Width)}}) to (m) float32.
                    public abstract {{f.Tensor}} Importance({{f.Tensor}} x);

                    // Puts the hidden units into another order: (m) int64.
                    public abstract void Reorder({{f.Tensor}} order);
                }

                """);
        }

        foreach (var kind in kinds)
        {
            var overrides = kinds.Count > 1 ? "override " : null;
            var hidden = model.WeightsOf(kind.Block)
                .Select(weight => (weight.Field, Dimension: weight.Shape.ToList().FindIndex(d => d.Axis == Axis.Hidden)))
                .Where(weight => weight.Dimension >= 0)
                .Select(weight => $"{f.Weights}.Reorder({weight.Field}, {Literals.Of(weight.Dimension)}, order);");
            f.Write($$"""
                internal sealed partial class {{kind.Name}}
                {
                    // How much each hidden unit adds to x: (B, T, {{Literals.Of(spec.Width)}}) to (m) float32.
                    public {{overrides}}{{f.Tensor}} Importance({{f.Tensor}} x) => {{f.Kernels}}.HiddenImportance(x, FeedForwardWeights);

                    // Puts the hidden units into another order: (m) int64.
                    public {{overrides}}void Reorder({{f.Tensor}} order)
                    {
                        {{string.Join("\n", hidden)}}
                    }
                }

                """);
        }
    }
}
