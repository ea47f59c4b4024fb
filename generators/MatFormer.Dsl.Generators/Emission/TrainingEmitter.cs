using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>The losses that training minimises.</summary>
internal static class TrainingEmitter
{
    public static CodeFile Emit(ModelSpec spec)
    {
        var f = new CodeFile(spec.Type);
        var granularities = spec.Granularities.Reverse().Select(g => g.Name).ToList();
        f.Write($$"""
            /// <summary>
            /// The sampled objective: mean cross-entropy in nats per token of one submodel, a float32 scalar. tokens and targets:
            /// (B, T) int64.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64 both, or longer than the context.</exception>
            [Generated]
            public {{f.Tensor}} Loss({{f.Profile}} profile, {{f.Tensor}} tokens, {{f.Tensor}} targets)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(profile);
                using var losses = Losses(profile.Streams, tokens, targets);  //| (1)
                return losses.sum();  //| ()
            }

            /// <summary>
            /// The joint objective: mean cross-entropy in nats per token of {{string.Join(", ", granularities)}} on the same batch,
            /// computed in one stacked pass, ({{Literals.Of(granularities.Count)}}) float32. tokens and targets: (B, T) int64.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64 both, or longer than the context.</exception>
            [Generated]
            public {{f.Tensor}} JointLosses({{f.Tensor}} tokens, {{f.Tensor}} targets) => Losses(Declared.Joint, tokens, targets);

            /// <summary>
            /// Mean cross-entropy in nats per token of each stream, (streams.Count) float32, in the order of the streams, on the same
            /// batch or its own rows of it, in one stacked pass. tokens and targets: (B, T) int64. With a recomputation, what the layers compute
            /// is not kept for the gradients, which that then gives.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">
            /// Not (B, T) int64 both, longer than the context, or not the rows that the streams divide among them.
            /// </exception>
            [Generated]
            public {{f.Tensor}} Losses({{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                CheckTokens(tokens);
                CheckTargets(tokens, targets);
                streams.CheckBatch(tokens);
                return _network.Losses(streams, tokens, targets, ComputeType, recomputation);
            }

            /// <summary>
            /// Two rows (2, streams.Count) float32: the losses of Losses, and how far each stream is from {{spec.Widest.Name}} on the same rows,
            /// temperature^2 KL({{spec.Widest.Name}} || stream), 0 for {{spec.Widest.Name}} itself. {{spec.Widest.Name}} learns nothing by that; where it is not
            /// among the streams of some rows, it runs over them without gradient. tokens and targets: (B, T) int64.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">As of Losses, or the temperature is not above 0.</exception>
            [Generated]
            public {{f.Tensor}} DistilledLosses(
                {{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, double temperature, {{f.Recomputation}}? recomputation = null)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                CheckTokens(tokens);
                CheckTargets(tokens, targets);
                streams.CheckBatch(tokens);
                global::System.ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
                return _network.DistilledLosses(streams, tokens, targets, temperature, ComputeType, recomputation);
            }

            /// <summary>
            /// How much each hidden unit of each layer adds to tokens (B, T) int64: the mean magnitude of its activation times the norm of what
            /// it writes, (hidden) float32 for each layer.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or longer than the context.</exception>
            [Generated]
            public {{f.Tensor}}[] HiddenImportance({{f.Tensor}} tokens)
            {
                CheckTokens(tokens);
                using var frozen = global::TorchSharp.torch.no_grad();
                var importance = new {{f.Tensor}}[{{Literals.Of(spec.Layers)}}];
                _network.Hidden(tokens, Profile.{{spec.Widest.Name}}.Streams, null, ComputeType, importance: importance).Dispose();
                return importance;
            }

            /// <summary>Puts the hidden units of a layer into another order, (hidden) int64; {{spec.Widest.Name}} computes what it did, up to rounding.</summary>
            [Generated]
            public void ReorderHiddenUnits(int layer, {{f.Tensor}} order) => _network.Blocks[layer]{{(spec.CanSkip ? "!" : null)}}.Reorder(order);

            [Generated]
            private static void CheckTargets({{f.Tensor}} tokens, {{f.Tensor}} targets)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(targets);
                long[] expected = tokens.shape, given = targets.shape;
                if (targets.dtype == {{f.ScalarType}}.Int64 && global::System.MemoryExtensions.SequenceEqual<long>(given, expected)) return;
                throw new {{f.ArgumentException}}(
                    $"The targets are to be ({string.Join(", ", expected)}) Int64, as the tokens are, "
                    + $"not ({string.Join(", ", given)}) {targets.dtype}.",
                    nameof(targets));
            }

            """);
        WriteBlocks(f, spec);
        f.Write($$"""
            private sealed partial class Network
            {
                // Mean cross-entropy of each stream: tokens and targets (B, T) to (R) float32.
                public {{f.Tensor}} Losses(
                    {{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, {{f.ScalarType}} type, {{f.Recomputation}}? recomputation = null)
                {
                    using var hidden = Hidden(tokens, streams, null, type, recomputation);  //| (N, T, {{Literals.Of(spec.Width)}})
                    return {{f.Kernels}}.LinearCrossEntropy(hidden, {{ForwardEmitter.Head(spec)}}, targets, streams.Count, streams.BatchRows);  //| (R)
                }

                // Mean cross-entropy of each stream, and its divergence from {{spec.Widest.Name}}: tokens and targets (B, T) to (2, R) float32.
                public {{f.Tensor}} DistilledLosses(
                    {{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, double temperature, {{f.ScalarType}} type,
                    {{f.Recomputation}}? recomputation)
                {
                    using var hidden = Hidden(tokens, streams, null, type, recomputation);  //| (N, T, {{Literals.Of(spec.Width)}})
                    using var losses = {{f.Kernels}}.LinearCrossEntropy(hidden, {{ForwardEmitter.Head(spec)}}, targets, streams.Count, streams.BatchRows);  //| (R)
                    using var divergences = Divergences(hidden, tokens, streams, temperature, type);  //| (R)
                    return global::TorchSharp.torch.stack([losses, divergences]);  //| (2, R)
                }

                // The divergence of each stream from {{spec.Widest.Name}}: hidden (N, T, {{Literals.Of(spec.Width)}}) to (R) float32.
                private {{f.Tensor}} Divergences({{f.Tensor}} hidden, {{f.Tensor}} tokens, {{f.Streams}} streams, double temperature, {{f.ScalarType}} type)
                {
                    var student = streams.BeginWith(Profile.{{spec.Widest.Name}}.Layers) ? 1 : 0;
                    if (student == streams.Count) return global::TorchSharp.torch.zeros(student, {{f.ScalarType}}.Float32, hidden.device);
                    using var teacher = Teacher(hidden, tokens, streams, student, type);  //| (B, T, {{Literals.Of(spec.Width)}}), of the students' rows
                    return {{f.Kernels}}.LinearDivergence(
                        hidden, teacher, {{ForwardEmitter.Head(spec)}}, streams.Count, streams.BatchRows, student, temperature);  //| (R)
                }

                // {{spec.Widest.Name}}'s last hidden states, without gradient, of the rows that others than it run over: (B, T, {{Literals.Of(spec.Width)}}).
                private {{f.Tensor}} Teacher({{f.Tensor}} hidden, {{f.Tensor}} tokens, {{f.Streams}} streams, int student, {{f.ScalarType}} type)
                {
                    using var frozen = global::TorchSharp.torch.no_grad();
                    if (student == 1 && streams.BatchRows is null)
                    {
                        using var detached = hidden.detach();  //| (N, T, {{Literals.Of(spec.Width)}})
                        return detached.narrow(0, 0, tokens.shape[0]);  //| (B, T, {{Literals.Of(spec.Width)}})
                    }

                    var first = student == 1 ? streams.BatchRows![0] : 0;
                    using var others = tokens.narrow(0, first, tokens.shape[0] - first);  //| (B, T)
                    return Hidden(others, Profile.{{spec.Widest.Name}}.Streams, null, type);  //| (B, T, {{Literals.Of(spec.Width)}})
                }
            }
            """);
        return f;
    }

    // What orders hidden units by importance.
    private static void WriteBlocks(CodeFile f, ModelSpec spec)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1)
        {
            f.Write($$"""
                private abstract partial class Block
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
            var block = kind.Block;
            var hidden = Model.Weights.OfBlock(spec, block)
                .Select(weight => (weight.Field, Dimension: weight.Shape.ToList().FindIndex(d => d.Axis == Axis.Hidden)))
                .Where(weight => weight.Dimension >= 0)
                .Select(weight => $"{f.Weights}.Reorder({weight.Field}, {Literals.Of(weight.Dimension)}, order);");
            f.Write($$"""
                private sealed partial class {{kind.Name}}
                {
                    // How much each hidden unit adds to x: (B, T, {{Literals.Of(spec.Width)}}) to (m) float32.
                    public {{overrides}}{{f.Tensor}} Importance({{f.Tensor}} x)
                    {
                        using var normed = {{ForwardEmitter.Norm(f, spec, "x", "PostAttentionLayerNorm")}};  //| (B, T, {{Literals.Of(spec.Width)}})
                        return {{f.Kernels}}.HiddenImportance(
                            normed,
                            {{ForwardEmitter.ExpandingWeights(block)}},
                            DownProjection, {{f.FeedForwardKind}}.{{block.Activation}});  //| (m)
                    }

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
