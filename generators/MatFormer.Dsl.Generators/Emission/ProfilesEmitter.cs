using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>The profiles, and slicing by them.</summary>
internal static class ProfilesEmitter
{
    public static CodeFile Emit(ModelSpec spec, Costs costs)
    {
        var file = new CodeFile(spec.Type);
        WriteProfiles(file, spec, costs);
        WriteSlicing(file, spec);
        WriteSubmodel(file, spec);
        return file;
    }

    /// <summary>What a profile is, for tooltips.</summary>
    public static string Describe(ModelSpec spec, ProfileSpec profile) =>
        Pattern.Format(spec, profile.Choices) + (profile.Origin.Length > 0 ? ", " + profile.Origin : "");

    /// <summary>What a profile costs, for tooltips: lines of a doc comment.</summary>
    public static string CostTable(ModelSpec spec, Costs costs, ProfileSpec profile)
    {
        var layers = spec.LayersOf(profile.Choices);
        var cache = costs.KeyValueCacheBytesPerToken(layers);
        (string What, long Cost)[] rows =
        [
            ("parameters", costs.ParameterCount(layers)),
            ("parameters without embeddings", costs.NonEmbeddingParameterCount(layers)),
            ("FLOPs per token", costs.FlopsPerToken(layers)),
            ("bytes of float32 weights", costs.WeightBytes(layers, WeightType.Float32)),
            ("bytes of bfloat16 weights", costs.WeightBytes(layers, WeightType.BFloat16)),
            ("bytes of int8 weights", costs.WeightBytes(layers, WeightType.Int8)),
            ("bytes of float32 key/value cache per token", cache),
            ("bytes of bfloat16 key/value cache per token", cache / 2),
        ];
        var items = rows.Select(row => $"/// <item><term>{row.What}</term><description>{Literals.Text(row.Cost)}</description></item>");
        return "/// <remarks>\n/// <list type=\"table\">\n" + string.Join("\n", items) + "\n/// </list>\n/// </remarks>";
    }

    private static void WriteProfiles(CodeFile f, ModelSpec spec, Costs costs)
    {
        var properties = spec.GranularityProfiles.Concat(spec.Profiles).Select(profile => $$"""
            /// <summary>{{Describe(spec, profile)}}.</summary>
            {{CostTable(spec, costs, profile)}}
            public static {{f.Profile}} {{profile.Name}} { get; } = new("{{profile.Name}}", "{{Pattern.Format(spec, profile.Choices)}}");
            """);
        var joint = Names(spec.Granularities.Reverse().Select(g => g.Name));
        f.Write($$"""
            /// <summary>The granularities and Mix'n'Match profiles of {{spec.Type.Name}}.</summary>
            [Generated]
            public static class Profile
            {
                {{string.Join("\n\n", properties)}}
            }

            // Lists of them: in a class of their own, since a profile needs Spec to be there first.
            [Generated]
            private static class Declared
            {
                public static readonly global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Granularities =
                    [{{Names(spec.Granularities.Select(g => g.Name))}}];

                public static readonly global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Profiles =
                    [{{Names(spec.Profiles.Select(p => p.Name))}}];

                public static readonly {{f.Streams}} Joint = {{f.Streams}}.Of<{{f.Model}}>({{joint}});
            }

            """);
    }

    private static void WriteSlicing(CodeFile f, ModelSpec spec)
    {
        var example = spec.Profiles.Count > 0 ? spec.Profiles[0].Name : spec.Granularities[0].Name;
        f.Write($$"""
            /// <summary>The granularities as profiles, narrowest first; the last is the whole model.</summary>
            [Generated]
            public static global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Granularities => Declared.Granularities;

            /// <summary>The declared profiles, in the order of the declaration.</summary>
            [Generated]
            public static global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Profiles => Declared.Profiles;

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
        var logits = $"(B, T, {Literals.Of(spec.Vocabulary)})";
        var context = Literals.Text(spec.Context);
        f.Write($$"""
            /// <summary>A slice of {{spec.Type.Name}}: a model of its own, with the weights of one profile.</summary>
            [Generated]
            public class Submodel : {{f.MatFormerModel}}
            {
                private readonly Network _network;
                private readonly {{f.Profile}} _profile;

                /// <summary>A model of one profile's shape with newly drawn weights, which <c>torch.manual_seed</c> decides.</summary>
                /// <param name="profile">Its shape.</param>
                /// <param name="device">Where the weights are to be; the CPU if null.</param>
                public Submodel({{f.Profile}} profile, {{f.Device}}? device = null)
                    : base(NameOf(profile))
                {
                    _profile = profile;
                    _network = new Network(profile.Layers.AsSpan(), device ?? global::TorchSharp.torch.CPU);
                    _network.Register(this);
                }

                internal Submodel({{f.Model}} source, {{f.Profile}} profile, bool copy)
                    : base(NameOf(profile))
                {
                    _profile = profile;
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
                public override {{f.Device}} Device => _network.EmbedTokens.device;

                /// <summary>Logits: tokens (B, T) int64 to {{logits}} float32.</summary>
                /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or longer than {{context}} tokens.</exception>
                public override {{f.Tensor}} forward({{f.Tensor}} tokens)
                {
                    CheckTokens(tokens);
                    return _network.Logits(tokens, _profile.Streams, null, ComputeType);
                }

                /// <summary>
                /// Logits {{logits}} float32 of tokens (B, T) int64 that follow those in the cache, which then holds them too.
                /// </summary>
                /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64, or more tokens than the cache has room for.</exception>
                public override {{f.Tensor}} forward({{f.Tensor}} tokens, {{f.KeyValueCache}} cache)
                {
                    CheckTokens(tokens, cache);
                    return _network.Logits(tokens, _profile.Streams, cache, ComputeType);
                }

                /// <summary>
                /// Mean cross-entropy in nats per token, a float32 scalar, to train the slice further. tokens and targets: (B, T) int64.
                /// </summary>
                /// <exception cref="{{f.ArgumentException}}">Not (B, T) int64 both, or longer than the context.</exception>
                public {{f.Tensor}} Loss({{f.Tensor}} tokens, {{f.Tensor}} targets)
                {
                    CheckTokens(tokens);
                    CheckTargets(tokens, targets);
                    using var losses = _network.Losses(_profile.Streams, tokens, targets, ComputeType);  //| (1)
                    return losses.sum();  //| ()
                }

                /// <inheritdoc/>
                protected override bool CanDecode => true;

                /// <inheritdoc/>
                protected override {{f.DecodingNetwork}} NewDecodingNetwork({{f.WeightPacker}} packer) => new Decoding(Layers, packer);

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

    private static string Names(IEnumerable<string> names) => string.Join(", ", names.Select(name => "Profile." + name));
}
