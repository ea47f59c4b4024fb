using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes the losses that training minimises, and the importance of hidden units.</summary>
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
        WriteLosses(f, spec, model);
        WriteDistilledLosses(f, spec, model);
        WriteImportance(f, spec, model);
    }

    private static void WriteLosses(CodeFile f, ModelSpec spec, Architecture model)
    {
        var granularities = spec.Granularities.Reverse().Select(g => g.Name).ToList();
        var (input, check, head) = (model.Input.Name, model.Input.Check, model.Head);
        var (loss, count) = (Lower(head.Loss), Literals.Of(granularities.Count));
        const string sampled = "Returns the loss of one submodel, a float32 scalar: the sampled objective (see <c>Losses</c>).";
        var joint = $"Returns the losses of {string.Join(", ", granularities)} on the same batch, ({count}) float32: the joint objective "
            + "(see <c>Losses</c>).";
        var passes = spec.ElasticWidth ? "a stacked pass for each width" : "one stacked pass";
        var each = $"Returns the {loss} of each stream, (streams.Count) float32 in the order of the streams, computed in {passes}. "
            + $"Each stream runs over the whole batch or over its own rows. {head.Batch}. With a recomputation, the results inside the "
            + "layers are not kept for the gradients, and <c>Recomputation.Backward</c> computes the gradients.";
        var refused = $"{head.NotFittingBatch}, or the batch does not have the rows that the streams divide among them.";
        var parameters = $"{f.Streams} streams, {f.Tensor} {input}, {f.Tensor} targets, {f.Recomputation}? recomputation = null";
        f.Write($$"""
            /// <summary>{{sampled}}</summary>
            /// <exception cref="{{f.ArgumentException}}">{{head.NotFittingBatch}}.</exception>
            public {{f.Tensor}} Loss({{f.Profile}} profile, {{f.Tensor}} {{input}}, {{f.Tensor}} targets)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                using var losses = Losses({{f.Streams}}.Of(profile), {{input}}, targets);  //| (1)
                return losses.sum();  //| ()
            }

            /// <summary>{{joint}}</summary>
            /// <exception cref="{{f.ArgumentException}}">{{head.NotFittingBatch}}.</exception>
            public {{f.Tensor}} JointLosses({{f.Tensor}} {{input}}, {{f.Tensor}} targets) => Losses(Network.Joint, {{input}}, targets);

            /// <summary>{{each}}</summary>
            /// <exception cref="{{f.ArgumentException}}">
            /// {{refused}}
            /// </exception>
            public {{f.Tensor}} Losses({{parameters}})
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                {{check}}({{input}});
                CheckTargets({{input}}, targets);
                streams.CheckBatch({{input}});
                {{EachWidth(spec, input, "Losses", null)}}
            }

            """);
    }

    // Streams of different widths run one width after the other.
    private static string EachWidth(ModelSpec spec, string input, string method, string? more) => !spec.ElasticWidth
        ? $"return _network.{method}(streams, {input}, targets, {more}ComputeType, recomputation);"
        : $"""
            return streams.OfEachWidth({input}, targets, recomputation, (its, rows, known) =>
                _network.{method}(its, rows, known, {more}ComputeType, recomputation));
            """;

    private static void WriteDistilledLosses(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, check, widest) = (model.Input.Name, model.Input.Check, spec.Widest.Name);
        var summary = "Returns two rows (2, streams.Count) float32. The first row has the losses of <c>Losses</c>. The second row has the "
            + $"divergence of each stream from {widest} on the same rows, temperature^2 KL({widest} || stream), which is 0 for {widest} "
            + $"itself. No gradient flows into {widest} from the second row. {widest} runs without gradient over the rows that it is not "
            + $"trained on. {model.Head.Batch}.";
        var parameters = $"{f.Streams} streams, {f.Tensor} {input}, {f.Tensor} targets, double temperature";
        f.Write($$"""
            /// <summary>{{summary}}</summary>
            /// <exception cref="{{f.ArgumentException}}">As for <c>Losses</c>, or the temperature is not above 0.</exception>
            public {{f.Tensor}} DistilledLosses(
                {{parameters}}, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                {{check}}({{input}});
                CheckTargets({{input}}, targets);
                streams.CheckBatch({{input}});
                global::System.ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
                {{EachWidth(spec, input, "DistilledLosses", "temperature, ")}}
            }

            """);
    }

    private static void WriteImportance(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, check, widest) = (model.Input.Name, model.Input.Check, spec.Widest.Name);
        var mask = model.Mask.PassArgument is null ? null : ", null";
        var block = $"_network.Blocks[layer]{(spec.CanSkip ? "!" : null)}";
        var measured = "Returns the importance of each hidden unit, (hidden) float32 for each layer: the mean magnitude of its activation "
            + $"times the norm of its column of the down projection. It is measured on the given {model.Input.Takes.TrimEnd(',')}.";
        var ordered = "Reorders the hidden units of a layer. The order is (hidden) int64. "
            + $"The output of {widest} changes only by rounding.";
        f.Write($$"""
            /// <summary>{{measured}}</summary>
            /// <exception cref="{{f.ArgumentException}}">{{model.Input.NotFitting}}.</exception>
            public {{f.Tensor}}[] HiddenImportance({{f.Tensor}} {{input}})
            {
                {{check}}({{input}});
                using var frozen = global::TorchSharp.torch.no_grad();
                var importance = new {{f.Tensor}}[{{Literals.Of(spec.Layers)}}];
                _network.States({{input}}, {{f.Streams}}.Of(Profile.{{widest}}){{mask}}, ComputeType, importance: importance).Dispose();
                return importance;
            }

            /// <summary>{{ordered}}</summary>
            public void ReorderHiddenUnits(int layer, {{f.Tensor}} order) => {{block}}.Reorder(order);

            """);
        if (!spec.ElasticWidth) return;
        var channels = "Returns the importance of each channel of the residual stream, (Width) float32: the mean magnitude of the normed "
            + $"states before each feed-forward. It is measured on the given {model.Input.Takes.TrimEnd(',')}.";
        var permuted = "Reorders the channels of the residual stream in all weights. The order is (Width) int64. "
            + $"The output of {widest} changes only by rounding.";
        f.Write($$"""
            /// <summary>{{channels}}</summary>
            /// <exception cref="{{f.ArgumentException}}">{{model.Input.NotFitting}}.</exception>
            public {{f.Tensor}} ChannelImportance({{f.Tensor}} {{input}})
            {
                {{check}}({{input}});
                using var frozen = global::TorchSharp.torch.no_grad();
                var channels = new {{f.Tensor}}[{{Literals.Of(spec.Layers)}}];
                _network.States({{input}}, {{f.Streams}}.Of(Profile.{{widest}}){{mask}}, ComputeType, channels: channels).Dispose();
                return {{f.Kernels}}.Mean(channels);
            }

            /// <summary>{{permuted}}</summary>
            public void ReorderChannels({{f.Tensor}} order) => _network.ReorderChannels(order);

            """);
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, widest, loss, t) = (model.Input.Name, spec.Widest.Name, model.Head.Loss, model.Head.Losses(f));
        var joint = string.Join(", ", spec.Granularities.Reverse().Select(g => "Profile." + g.Name));
        var (targets, targetsParameter) = t.NeedsTargets ? ("targets, ", $"{f.Tensor} targets, ") : (null, null);
        var batch = $"{f.Streams} streams, {f.Tensor} {input}, {f.Tensor} targets";
        var vectors = $"{f.Tensor} {t.Vectors}, {f.Tensor} {input}";
        var whole = $"{f.Streams}.Of(Profile.{widest}){(spec.Lookup is null ? null : ".At(streams.Grid)")}";
        var zeros = $"global::TorchSharp.torch.zeros(student, {f.ScalarType}.Float32, {t.Vectors}.device)";
        f.Write($$"""
            internal sealed partial class Network
            {
                public static readonly {{f.Streams}} Joint = {{f.Streams}}.Of<{{f.Model}}>({{joint}});  //| all granularities

                // {{loss}} of each stream: {{t.Batch}} to (R) float32.
                public {{f.Tensor}} Losses(
                    {{batch}}, {{f.ScalarType}} type, {{f.Recomputation}}? recomputation = null)
                {
                    using var {{t.Vectors}} = {{t.Computed(input, "streams", ", recomputation")}};  //| {{t.Stacked}}
                    return {{t.Loss}};  //| (R)
                }

                // {{loss}} of each stream, and its divergence from {{widest}}: {{t.Batch}} to (2, R) float32.
                public {{f.Tensor}} DistilledLosses(
                    {{batch}}, double temperature, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation)
                {
                    using var {{t.Vectors}} = {{t.Computed(input, "streams", ", recomputation")}};  //| {{t.Stacked}}
                    using var losses = {{t.Loss}};  //| (R)
                    using var divergences = Divergences({{t.Vectors}}, {{input}}, {{targets}}streams, temperature, type);  //| (R)
                    return global::TorchSharp.torch.stack([losses, divergences]);  //| (2, R)
                }

                // The divergence of each stream from {{widest}}: {{t.Stacked}} to (R) float32.
                private {{f.Tensor}} Divergences(
                    {{vectors}}, {{targetsParameter}}{{f.Streams}} streams, double temperature, {{f.ScalarType}} type)
                {
                    var student = streams.BeginWith(Profile.{{widest}}.Layers) ? 1 : 0;
                    if (student == streams.Count) return {{zeros}};
                    using var teacher = Teacher({{t.Vectors}}, {{input}}, streams, student, type);  //| {{t.Shared}}, for the students' rows
                    return {{t.Divergence}};  //| (R)
                }

                // The vectors of {{widest}} for the rows of the other streams, without gradient: {{t.Shared}}.
                private {{f.Tensor}} Teacher({{vectors}}, {{f.Streams}} streams, int student, {{f.ScalarType}} type)
                {
                    using var frozen = global::TorchSharp.torch.no_grad();
                    if (student == 1 && streams.BatchRows is null)
                    {
                        using var detached = {{t.Vectors}}.detach();  //| {{t.Stacked}}
                        return detached.narrow(0, 0, {{input}}.shape[0]);  //| {{t.Shared}}
                    }

                    var first = student == 1 ? streams.BatchRows![0] : 0;
                    using var others = {{input}}.narrow(0, first, {{input}}.shape[0] - first);
                    return {{t.Computed("others", whole, null)}};  //| {{t.Shared}}
                }
                {{(spec.ElasticWidth ? ReorderChannels(f, spec, model) : null)}}
            }
            """);
    }

    private static string ReorderChannels(CodeFile f, ModelSpec spec, Architecture model)
    {
        var layer = $"Blocks[layer]{(spec.CanSkip ? "!" : null)}.ReorderChannels(order);";
        return $$"""

            // Reorders the channels of the residual stream. The order is (w) int64.
            public void ReorderChannels({{f.Tensor}} order)
            {
                {{string.Join("\n    ", Reordered(f, model.WeightsAround, Axis.Channels))}}
                for (var layer = 0; layer < {{Literals.Of(spec.Layers)}}; layer++) {{layer}}
            }
            """;
    }

    // Returns the statements that reorder weights along an axis.
    private static IEnumerable<string> Reordered(CodeFile f, IEnumerable<WeightSpec> weights, Axis axis) => weights
        .Select(weight => (weight.Field, Dimension: weight.Shape.ToList().FindIndex(d => d.Axis == axis)))
        .Where(weight => weight.Dimension >= 0)
        .Select(weight => $"{f.Weights}.Reorder({weight.Field}, {Literals.Of(weight.Dimension)}, order);");

    private static string Width(ModelSpec spec) => spec.ElasticWidth ? "w" : Literals.Of(spec.Width);

    /// <summary>Returns a sentence with a small first letter.</summary>
    public static string Lower(string sentence) => char.ToLowerInvariant(sentence[0]) + sentence.Substring(1);

    // Writes the methods that order hidden units by importance.
    private static void WriteBlocks(CodeFile f, ModelSpec spec, Architecture model)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1)
        {
            f.Write($$"""
                internal abstract partial class Block
                {
                    // The importance of each hidden unit for x: (B, T, {{Width(spec)}}) to (m) float32.
                    public abstract {{f.Tensor}} Importance({{f.Tensor}} x);

                    // Reorders the hidden units. The order is (m) int64.
                    public abstract void Reorder({{f.Tensor}} order);
                    {{(spec.ElasticWidth ? $"""

                        // The importance of each channel for the feed-forward: (B, T, {Width(spec)}) to ({Width(spec)}) float32.
                        public abstract {f.Tensor} ChannelImportance({f.Tensor} x);

                        // Reorders the channels. The order is ({Width(spec)}) int64.
                        public abstract void ReorderChannels({f.Tensor} order);
                        """ : null)}}
                }

                """);
        }

        foreach (var kind in kinds)
        {
            var overrides = kinds.Count > 1 ? "override " : null;
            var weights = model.WeightsOf(kind.Block).ToList();
            var hidden = Reordered(f, weights, Axis.Hidden);
            var channels = Reordered(f, weights, Axis.Channels);
            f.Write($$"""
                internal sealed partial class {{kind.Name}}
                {
                    // The importance of each hidden unit for x: (B, T, {{Width(spec)}}) to (m) float32.
                    public {{overrides}}{{f.Tensor}} Importance({{f.Tensor}} x) => {{f.Kernels}}.HiddenImportance(x, FeedForwardWeights);

                    // Reorders the hidden units. The order is (m) int64.
                    public {{overrides}}void Reorder({{f.Tensor}} order)
                    {
                        {{string.Join("\n", hidden)}}
                    }
                    {{(spec.ElasticWidth ? $$"""

                        // The importance of each channel for the feed-forward: (B, T, {{Width(spec)}}) to ({{Width(spec)}}) float32.
                        public {{overrides}}{{f.Tensor}} ChannelImportance({{f.Tensor}} x) =>
                            {{f.Kernels}}.ChannelImportance(x, FeedForwardWeights);

                        // Reorders the channels. The order is ({{Width(spec)}}) int64.
                        public {{overrides}}void ReorderChannels({{f.Tensor}} order)
                        {
                            {{string.Join("\n    ", channels)}}
                        }
                        """ : null)}}
                }

                """);
        }
    }
}
