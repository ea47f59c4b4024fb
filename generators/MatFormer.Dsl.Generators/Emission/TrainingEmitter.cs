using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>The losses that training minimises.</summary>
internal static class TrainingEmitter
{
    public static CodeFile Emit(ModelSpec spec)
    {
        var f = new CodeFile(spec.Type);
        var granularities = spec.Granularities.Reverse().Select(g => g.Name).ToList();
        var io = ModelText.Of(spec);
        var input = io.Input;
        f.Write($$"""
            /// <summary>
            /// The sampled objective: {{Lower(io.Loss)}} of one submodel, a float32 scalar. {{io.Batch}}.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFittingBatch}}.</exception>
            public {{f.Tensor}} Loss({{f.Profile}} profile, {{f.Tensor}} {{input}}, {{f.Tensor}} targets)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                using var losses = Losses({{f.Streams}}.Of(profile), {{input}}, targets);  //| (1)
                return losses.sum();  //| ()
            }

            /// <summary>
            /// The joint objective: {{Lower(io.Loss)}} of {{string.Join(", ", granularities)}} on the same batch,
            /// computed in one stacked pass, ({{Literals.Of(granularities.Count)}}) float32. {{io.Batch}}.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFittingBatch}}.</exception>
            public {{f.Tensor}} JointLosses({{f.Tensor}} {{input}}, {{f.Tensor}} targets) => Losses(Network.Joint, {{input}}, targets);

            /// <summary>
            /// {{io.Loss}} of each stream, (streams.Count) float32, in the order of the streams, on the same
            /// batch or its own rows of it, in one stacked pass. {{io.Batch}}. With a recomputation, what the layers compute
            /// is not kept for the gradients, which that then gives.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">
            /// {{io.NotFittingBatch}}, or not the rows that the streams divide among them.
            /// </exception>
            public {{f.Tensor}} Losses({{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                {{io.Check}}({{input}});
                CheckTargets({{input}}, targets);
                streams.CheckBatch({{input}});
                return _network.Losses(streams, {{input}}, targets, ComputeType, recomputation);
            }

            /// <summary>
            /// Two rows (2, streams.Count) float32: the losses of Losses, and how far each stream is from {{spec.Widest.Name}} on the same rows,
            /// temperature^2 KL({{spec.Widest.Name}} || stream), 0 for {{spec.Widest.Name}} itself. {{spec.Widest.Name}} learns nothing by that; where it is not
            /// among the streams of some rows, it runs over them without gradient. {{io.Batch}}.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">As of Losses, or the temperature is not above 0.</exception>
            public {{f.Tensor}} DistilledLosses(
                {{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, double temperature, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                {{io.Check}}({{input}});
                CheckTargets({{input}}, targets);
                streams.CheckBatch({{input}});
                global::System.ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
                return _network.DistilledLosses(streams, {{input}}, targets, temperature, ComputeType, recomputation);
            }

            /// <summary>
            /// How much each hidden unit of each layer adds to {{io.Takes.TrimEnd(',')}}: the mean magnitude of its activation times the norm of what
            /// it writes, (hidden) float32 for each layer.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
            public {{f.Tensor}}[] HiddenImportance({{f.Tensor}} {{input}})
            {
                {{io.Check}}({{input}});
                using var frozen = global::TorchSharp.torch.no_grad();
                var importance = new {{f.Tensor}}[{{Literals.Of(spec.Layers)}}];
                _network.{{(spec.IsDecoder ? "Hidden" : "Pooled")}}({{input}}, {{f.Streams}}.Of(Profile.{{spec.Widest.Name}}), {{(spec.IsDecoder ? "null, " : null)}}ComputeType, importance: importance).Dispose();
                return importance;
            }

            /// <summary>Puts the hidden units of a layer into another order, (hidden) int64; {{spec.Widest.Name}} computes what it did, up to rounding.</summary>
            public void ReorderHiddenUnits(int layer, {{f.Tensor}} order) => _network.Blocks[layer]{{(spec.CanSkip ? "!" : null)}}.Reorder(order);

            """);
        WriteBlocks(f, spec);
        var t = Terms.Of(f, spec);
        var joint = string.Join(", ", spec.Granularities.Reverse().Select(g => "Profile." + g.Name));
        f.Write($$"""
            internal sealed partial class Network
            {
                public static readonly {{f.Streams}} Joint = {{f.Streams}}.Of<{{f.Model}}>({{joint}});  //| all granularities

                // {{io.Loss}} of each stream: {{t.Batch}} to (R) float32.
                public {{f.Tensor}} Losses(
                    {{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, {{f.ScalarType}} type, {{f.Recomputation}}? recomputation = null)
                {
                    using var {{t.Vectors}} = {{t.Computed(input, ", recomputation")}};  //| {{t.Stacked}}
                    return {{t.Loss}};  //| (R)
                }

                // {{io.Loss}} of each stream, and its divergence from {{spec.Widest.Name}}: {{t.Batch}} to (2, R) float32.
                public {{f.Tensor}} DistilledLosses(
                    {{f.Streams}} streams, {{f.Tensor}} {{input}}, {{f.Tensor}} targets, double temperature, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation)
                {
                    using var {{t.Vectors}} = {{t.Computed(input, ", recomputation")}};  //| {{t.Stacked}}
                    using var losses = {{t.Loss}};  //| (R)
                    using var divergences = Divergences({{t.Vectors}}, {{input}}, {{t.Targets}}streams, temperature, type);  //| (R)
                    return global::TorchSharp.torch.stack([losses, divergences]);  //| (2, R)
                }

                // The divergence of each stream from {{spec.Widest.Name}}: {{t.Stacked}} to (R) float32.
                private {{f.Tensor}} Divergences(
                    {{f.Tensor}} {{t.Vectors}}, {{f.Tensor}} {{input}}, {{(t.Targets.Length > 0 ? f.Tensor + " targets, " : null)}}{{f.Streams}} streams, double temperature, {{f.ScalarType}} type)
                {
                    var student = streams.BeginWith(Profile.{{spec.Widest.Name}}.Layers) ? 1 : 0;
                    if (student == streams.Count) return global::TorchSharp.torch.zeros(student, {{f.ScalarType}}.Float32, {{t.Vectors}}.device);
                    using var teacher = Teacher({{t.Vectors}}, {{input}}, streams, student, type);  //| {{t.Shared}}, of the students' rows
                    return {{t.Divergence}};  //| (R)
                }

                // What {{spec.Widest.Name}} makes, without gradient, of the rows that others than it run over: {{t.Shared}}.
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
                    return {{t.Computed("others", null).Replace("streams", $"{f.Streams}.Of(Profile.{spec.Widest.Name})")}};  //| {{t.Shared}}
                }
            }
            """);
        return f;
    }

    /// <summary>How the losses of the kinds of model are computed.</summary>
    /// <param name="Vectors">The name of what they are computed from.</param>
    /// <param name="Stacked">Its shape, of all streams.</param>
    /// <param name="Shared">Its shape, of one.</param>
    /// <param name="Batch">What the method takes.</param>
    /// <param name="Computed">The call that makes the vectors of an input.</param>
    /// <param name="Loss">The call that makes the losses.</param>
    /// <param name="Divergence">The call that compares with a teacher.</param>
    /// <param name="Targets">The argument of the targets, where divergences depend on them.</param>
    private sealed record Terms(
        string Vectors, string Stacked, string Shared, string Batch, Func<string, string?, string> Computed, string Loss, string Divergence,
        string Targets)
    {
        public static Terms Of(CodeFile f, ModelSpec spec)
        {
            if (spec.Embedding is not { } embedding)
            {
                var head = ForwardEmitter.Head(spec);
                return new(
                    "hidden", $"(N, T, {Literals.Of(spec.Width)})", $"(B, T, {Literals.Of(spec.Width)})", "tokens and targets (B, T)",
                    (input, recomputation) => $"Hidden({input}, streams, null, type{recomputation})",
                    $"{f.Kernels}.LinearCrossEntropy(hidden, {head}, targets, streams.Count, streams.BatchRows)",
                    $"{f.Kernels}.LinearDivergence(\n    hidden, teacher, {head}, streams.Count, streams.BatchRows, student, temperature)",
                    "");
            }

            var prefixes = $"[{string.Join(", ", embedding.Dimensions.Select(d => Literals.Of(d)))}], "
                + $"[{string.Join(", ", embedding.Weights.Select(w => Literals.Of(w)))}]";
            var (all, one) = ($"(N, {Literals.Of(embedding.Width)})", $"(B, {Literals.Of(embedding.Width)})");
            return spec.IsVision
                ? new(
                    "embedded", all, one, "pixels and targets", Computed,
                    $"{f.Kernels}.ClassCrossEntropy(\n    embedded, Classifier, ClassifierBias, targets, streams.Count, streams.BatchRows,\n    {prefixes})",
                    $"{f.Kernels}.ClassDivergence(\n    embedded, teacher, Classifier, ClassifierBias, streams.Count, streams.BatchRows,\n    student, temperature, {prefixes})",
                    "")
                : new(
                    "embedded", all, one, "tokens (B, T) and targets (B)", Computed,
                    $"{f.Kernels}.PairCrossEntropy(\n    embedded, targets, streams.Count, streams.BatchRows, {Literals.Of(embedding.Temperature)},\n    {prefixes})",
                    $"{f.Kernels}.PairDivergence(\n    embedded, teacher, targets, streams.Count, streams.BatchRows,\n    student, {Literals.Of(embedding.Temperature)}, temperature, {prefixes})",
                    "targets, ");

            static string Computed(string input, string? recomputation) => $"Embedded({input}, streams, type{recomputation})";
        }
    }

    private static string Lower(string sentence) => char.ToLowerInvariant(sentence[0]) + sentence.Substring(1);

    // What orders hidden units by importance.
    private static void WriteBlocks(CodeFile f, ModelSpec spec)
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
            var hidden = Model.Weights.OfBlock(spec, kind.Block)
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
