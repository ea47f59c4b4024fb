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
            [Generated]
            static {{f.Model}} global::MatFormer.IMatFormer<{{f.Model}}>.Create({{f.Device}}? device) => new(device);

            /// <summary>A model of one profile's shape with newly drawn weights, to load a slice into.</summary>
            /// <param name="profile">Its shape.</param>
            /// <param name="device">Where the weights are to be; the CPU if null.</param>
            [Generated]
            public static {{f.MatFormerModel}} CreateSubmodel({{f.Profile}} profile, {{f.Device}}? device = null) =>
                new Submodel(profile, device);

            /// <summary>A model of its own with only the weights of one profile, copied.</summary>
            /// <typeparam name="TSubmodel">The profile's class, such as <c>{{f.Model}}.{{example}}</c>.</typeparam>
            [Generated]
            public TSubmodel Extract<TSubmodel>()
                where TSubmodel : {{f.MatFormerModel}}, global::MatFormer.ISubmodel<{{f.Model}}, TSubmodel>
                => TSubmodel.From(this, copy: true);

            /// <summary>A model of its own with only the weights of one profile, copied.</summary>
            [Generated]
            public {{f.MatFormerModel}} Extract({{f.Profile}} profile) => new Submodel(this, profile, copy: true);

            /// <summary>The same as <c>Extract</c> without a copy: it shares this model's weights, for inference only.</summary>
            /// <typeparam name="TSubmodel">The profile's class.</typeparam>
            [Generated]
            public TSubmodel View<TSubmodel>()
                where TSubmodel : {{f.MatFormerModel}}, global::MatFormer.ISubmodel<{{f.Model}}, TSubmodel>
                => TSubmodel.From(this, copy: false);

            /// <summary>The same as <c>Extract</c> without a copy: it shares this model's weights, for inference only.</summary>
            [Generated]
            public {{f.MatFormerModel}} View({{f.Profile}} profile) => new Submodel(this, profile, copy: false);

            """);
    }

    private static void WriteSubmodel(CodeFile f, ModelSpec spec)
    {
        var io = ModelText.Of(spec);
        f.Write($$"""
            /// <summary>A slice of {{spec.Type.Name}}: a model of its own, with the weights of one profile.</summary>
            [Generated]
            public class Submodel : {{f.MatFormerModel}}
            {
                private readonly Network _network;
                private readonly {{f.Profile}} _profile;
                private readonly {{f.Streams}} _streams;

                /// <summary>A model of one profile's shape with newly drawn weights, which <c>torch.manual_seed</c> decides.</summary>
                /// <param name="profile">Its shape.</param>
                /// <param name="device">Where the weights are to be; the CPU if null.</param>
                public Submodel({{f.Profile}} profile, {{f.Device}}? device = null)
                    : base(NameOf(profile))
                {
                    _profile = profile;
                    _streams = {{f.Streams}}.Of(profile);
                    _network = new Network(profile.Layers.AsSpan(), device ?? global::TorchSharp.torch.CPU);
                    _network.Register(this);
                }

                internal Submodel({{f.Model}} source, {{f.Profile}} profile, bool copy)
                    : base(NameOf(profile))
                {
                    _profile = profile;
                    _streams = {{f.Streams}}.Of(profile);
                    _network = new Network(source._network, profile.Layers.AsSpan(), copy);
                    _network.Register(this);
                    ComputeType = source.ComputeType;
                    TokenizerFingerprint = source.TokenizerFingerprint;
                }

                /// <inheritdoc/>
                public override {{f.ModelSpec}} Architecture => Spec;

                /// <inheritdoc/>
                public override string ProfileName => _profile.Name;

                /// <inheritdoc/>
                public override global::System.Collections.Immutable.ImmutableArray<{{f.LayerSlice}}> Layers => _profile.Layers;

                /// <inheritdoc/>
                public override bool IsUniversal => false;

                /// <inheritdoc/>
                public override {{f.Device}} Device => _network.{{ParametersEmitter.First(spec)}}.device;

                /// <summary>{{io.Gives}}: {{io.Takes}} to {{io.Result}}.</summary>
                /// <exception cref="{{f.ArgumentException}}">{{io.NotFitting}}.</exception>
                public override {{f.Tensor}} forward({{f.Tensor}} {{io.Input}})
                {
                    {{io.Check}}({{io.Input}});
                    return _network.{{io.Method}}({{io.Input}}, _streams, {{(spec.IsDecoder ? "null, " : null)}}ComputeType);
                }

            """);
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
                    return _network.Logits(tokens, _streams, cache, ComputeType);
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
                    return _network.Embed({{io.Input}}, _streams, EmbeddingWidth(width), ComputeType);
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
                        return _network.Classify(pixels, _streams, EmbeddingWidth(width), ComputeType);
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
                    using var losses = _network.Losses(_streams, {{io.Input}}, targets, ComputeType);  //| (1)
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
                protected override void BindParameters() => _network.Bind(this);
                {{ParametersEmitter.Dispose(spec)?.Replace("[Generated]\n", "")}}

                private static string NameOf({{f.Profile}} profile)
                {
                    {{f.ArgumentNullException}}.ThrowIfNull(profile);
                    return "{{spec.Type.Name}}." + profile.Name;
                }
            }
            """);
    }
}
