using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>Slicing by profiles.</summary>
internal static class SlicingEmitter
{
    public static CodeFile Emit(ModelSpec spec)
    {
        var file = new CodeFile(spec.Type);
        WriteSlicing(file, spec);
        WriteSubmodel(file, spec);
        return file;
    }

    private static void WriteSlicing(CodeFile f, ModelSpec spec)
    {
        var example = spec.Profiles.Count > 0 ? spec.Profiles[0].Name : spec.Granularities[0].Name;
        f.Write($$"""
            static {{f.Model}} global::MatFormer.IMatFormer<{{f.Model}}>.Create({{f.Device}}? device) => new(device);

            /// <summary>A model of one profile's shape with newly drawn weights, to load a slice into.</summary>
            /// <param name="profile">Its shape.</param>
            /// <param name="device">Where the weights are to be; the CPU if null.</param>
            public static {{f.MatFormerModel}} CreateSubmodel({{f.Profile}} profile, {{f.Device}}? device = null) =>
                new Submodel(profile, device);

            /// <summary>A model of its own with only the weights of one profile, copied.</summary>
            /// <typeparam name="TSubmodel">The profile's class, such as <c>{{f.Model}}.{{example}}</c>.</typeparam>
            public TSubmodel Extract<TSubmodel>()
                where TSubmodel : {{f.MatFormerModel}}, global::MatFormer.ISubmodel<{{f.Model}}, TSubmodel>
                => TSubmodel.From(this, copy: true);

            /// <summary>A model of its own with only the weights of one profile, copied.</summary>
            public {{f.MatFormerModel}} Extract({{f.Profile}} profile) => new Submodel(this, profile, copy: true);

            /// <summary>The same as <c>Extract</c> without a copy: it shares this model's weights, for inference only.</summary>
            /// <typeparam name="TSubmodel">The profile's class.</typeparam>
            public TSubmodel View<TSubmodel>()
                where TSubmodel : {{f.MatFormerModel}}, global::MatFormer.ISubmodel<{{f.Model}}, TSubmodel>
                => TSubmodel.From(this, copy: false);

            /// <summary>The same as <c>Extract</c> without a copy: it shares this model's weights, for inference only.</summary>
            public {{f.MatFormerModel}} View({{f.Profile}} profile) => new Submodel(this, profile, copy: false);

            """);
    }

    // What the states give.
    private static string Forward(CodeFile f, ModelSpec spec, string cache)
    {
        var io = ModelText.Of(spec);
        if (spec.Kind == ModelKind.TextEncoder) return "return Embed(tokens);  //| " + io.Shape;
        var (states, of, head) = spec.IsDecoder
            ? ($"(B, T, {Literals.Of(spec.Width)})", $"tokens, {cache}", $"Network.{ForwardEmitter.Head(spec)}")
            : ($"(B, {Literals.Of(spec.Width)})", "pixels", "Network.Classifier, Network.ClassifierBias");
        return $"""
            using var states = States({of});  //| {states}
            using var logits = {f.Kernels}.Linear(states, {head});  //| {io.Shape}
            return logits.to({f.ScalarType}.Float32);  //| {io.Shape}
            """;
    }

    private static void WriteSubmodel(CodeFile f, ModelSpec spec)
    {
        var io = ModelText.Of(spec);
        f.Write($$"""
            /// <summary>A slice of {{spec.Type.Name}}: a model of its own, with the weights of one profile.</summary>
            [Generated]
            public class Submodel : {{f.MatFormerModel}}
            {
                private readonly {{f.Profile}} _profile;

                /// <summary>A model of one profile's shape with newly drawn weights, which <c>torch.manual_seed</c> decides.</summary>
                /// <param name="profile">Its shape.</param>
                /// <param name="device">Where the weights are to be; the CPU if null.</param>
                public Submodel({{f.Profile}} profile, {{f.Device}}? device = null)
                    : base(NameOf(profile))
                {
                    _profile = profile;
                    Network = new Network(profile.Layers.AsSpan(), device ?? global::TorchSharp.torch.CPU);
                    Network.Register(this);
                }

                internal Submodel({{f.Model}} source, {{f.Profile}} profile, bool copy)
                    : base(NameOf(profile))
                {
                    _profile = profile;
                    Network = new Network(source._network, profile.Layers.AsSpan(), copy);
                    Network.Register(this);
                    ComputeType = source.ComputeType;
                    TokenizerFingerprint = source.TokenizerFingerprint;
                }

                private protected Network Network { get; }

                /// <inheritdoc/>
                public override {{f.ModelSpec}} Architecture => Spec;

                /// <inheritdoc/>
                public override string ProfileName => _profile.Name;

                /// <inheritdoc/>
                public override global::System.Collections.Immutable.ImmutableArray<{{f.LayerSlice}}> Layers => _profile.Layers;

                /// <inheritdoc/>
                public override bool IsUniversal => false;

                /// <inheritdoc/>
                public override {{f.Device}} Device => Network.{{ParametersEmitter.First(spec)}}.device;

                /// <summary>{{io.Gives}}: {{io.Takes}} to {{io.Result}}.</summary>
                /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
                public override {{f.Tensor}} forward({{f.Tensor}} {{io.Input}})
                {
                    {{io.Check}}({{io.Input}});
                    {{Forward(f, spec, "null")}}
                }

            """);
        StatesEmitter.Write(f, spec, null);
        f.Write($"");
        if (spec.IsDecoder)
        {
            f.Write($$"""
                /// <summary>
                /// Logits {{io.Shape}} float32 of tokens (B, T) int64 that follow those in the cache, which then holds them too.
                /// </summary>
                /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or more tokens than the cache has room for.</exception>
                public override {{f.Tensor}} forward({{f.Tensor}} tokens, {{f.KeyValueCache}} cache)
                {
                    CheckTokens(tokens, cache);
                    {{Forward(f, spec, "cache")}}
                }

            """);
        }
        else
        {
            f.Write($$"""
                /// <inheritdoc/>
                public override {{f.Tensor}} Embed({{f.Tensor}} {{io.Input}}, int? width = null)
                {
                    {{io.Check}}({{io.Input}});
                    using var pooled = States({{io.Input}});  //| (B, {{Literals.Of(spec.Width)}})
                    {{(spec.IsVision ? null : $"using var whole = {f.Kernels}.Linear(pooled, Network.Projection);  //| (B, {Literals.Of(spec.Embedding!.Width)})")}}
                    return {{f.Kernels}}.UnitPrefix({{(spec.IsVision ? "pooled" : "whole")}}, EmbeddingWidth(width));  //| (B, width)
                }

                /// <summary>Embeddings of this width, of length 1: {{io.Takes}} to (B, dimension) float32.</summary>
                /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
                public {{f.Tensor}} Embed({{f.EmbeddingDimension}} dimension, {{f.Tensor}} {{io.Input}})
                {
                    {{f.ArgumentNullException}}.ThrowIfNull(dimension);
                    return Embed({{io.Input}}, dimension.Width);
                }

            """);
            if (spec.IsVision)
            {
                f.Write($$"""
                    /// <inheritdoc/>
                    public override {{f.Tensor}} Classify({{f.Tensor}} pixels, int? width = null)
                    {
                        CheckPixels(pixels);
                        using var pooled = States(pixels);  //| (B, {{Literals.Of(spec.Width)}})
                        return {{f.Kernels}}.ClassLogits(pooled, Network.Classifier, Network.ClassifierBias, EmbeddingWidth(width));  //| {{io.Shape}}
                    }

                """);
            }
        }

        f.Write($$"""
                /// <summary>{{io.Loss}}, a float32 scalar, to train the slice further. {{io.Batch}}.</summary>
                /// <exception cref="{{f.ArgumentException}}">{{io.NotFittingBatch}}.</exception>
                public {{f.Tensor}} Loss({{f.Tensor}} {{io.Input}}, {{f.Tensor}} targets)
                {
                    {{io.Check}}({{io.Input}});
                    CheckTargets({{io.Input}}, targets);
                    using var losses = Network.Losses({{f.Streams}}.Of(_profile), {{io.Input}}, targets, ComputeType);  //| (1)
                    return losses.sum();  //| ()
                }

            """);
        if (spec.IsDecoder)
        {
            f.Write($$"""
                /// <inheritdoc/>
                protected override bool CanDecode => true;

                /// <inheritdoc/>
                protected override {{f.DecodingNetwork}} NewDecodingNetwork({{f.WeightPacker}} packer) => new Decoding(Layers, packer);

            """);
        }

        f.Write($$"""
                /// <inheritdoc/>
                protected override void BindParameters() => Network.Bind(this);
                {{ParametersEmitter.Dispose(spec, "Network")}}

                private static string NameOf({{f.Profile}} profile)
                {
                    {{f.ArgumentNullException}}.ThrowIfNull(profile);
                    return "{{spec.Type.Name}}." + profile.Name;
                }
            }
            """);
    }
}
