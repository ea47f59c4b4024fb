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
            /// batch in one stacked pass. tokens and targets: (B, T) int64.
            /// </summary>
            /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64 both, or longer than the context.</exception>
            [Generated]
            public {{f.Tensor}} Losses({{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets)
            {
                {{f.ArgumentNullException}}.ThrowIfNull(streams);
                CheckTokens(tokens);
                CheckTargets(tokens, targets);
                return _network.Losses(streams, tokens, targets, ComputeType);
            }

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

            private sealed partial class Network
            {
                // Mean cross-entropy of each stream: tokens and targets (B, T) to (R) float32.
                public {{f.Tensor}} Losses({{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, {{f.ScalarType}} type)
                {
                    using var hidden = Hidden(tokens, streams, null, type);  //| (R*B, T, {{Literals.Of(spec.Width)}})
                    return {{f.Kernels}}.LinearCrossEntropy(hidden, {{ForwardEmitter.Head(spec)}}, targets, streams.Count);  //| (R)
                }
            }
            """);
        return f;
    }
}
