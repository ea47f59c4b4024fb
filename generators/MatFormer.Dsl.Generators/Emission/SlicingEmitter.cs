using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes extraction, views, and the class of slices.</summary>
internal static class SlicingEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model)
    {
        var file = new CodeFile(spec.Type);
        WriteSlicing(file, spec);
        WriteSubmodel(file, spec, model);
        return file;
    }

    private static void WriteSlicing(CodeFile f, ModelSpec spec)
    {
        var example = spec.Profiles.Count > 0 ? spec.Profiles[0].Name : spec.Granularities[0].Name;
        f.Write($$"""
            static {{f.Model}} global::MatFormer.IMatFormer<{{f.Model}}>.Create({{f.Device}}? device) => new(device);

            /// <summary>Creates a model of one profile with random weights, to load a slice into.</summary>
            /// <param name="profile">The profile.</param>
            /// <param name="device">The device of the weights, or null for the CPU.</param>
            public static {{f.MatFormerModel}} CreateSubmodel({{f.Profile}} profile, {{f.Device}}? device = null) =>
                new Submodel(profile, device);

            /// <summary>Copies the weights of one profile into a separate model.</summary>
            /// <typeparam name="TSubmodel">The profile's class, such as <c>{{f.Model}}.{{example}}</c>.</typeparam>
            public TSubmodel Extract<TSubmodel>()
                where TSubmodel : {{f.MatFormerModel}}, global::MatFormer.ISubmodel<{{f.Model}}, TSubmodel>
                => TSubmodel.From(this, copy: true);

            /// <summary>Copies the weights of one profile into a separate model.</summary>
            public {{f.MatFormerModel}} Extract({{f.Profile}} profile) => new Submodel(this, profile, copy: true);

            /// <summary>Returns one profile as a model that shares this model's weights. The model is for inference only.</summary>
            /// <typeparam name="TSubmodel">The profile's class.</typeparam>
            public TSubmodel View<TSubmodel>()
                where TSubmodel : {{f.MatFormerModel}}, global::MatFormer.ISubmodel<{{f.Model}}, TSubmodel>
                => TSubmodel.From(this, copy: false);

            /// <summary>Returns one profile as a model that shares this model's weights. The model is for inference only.</summary>
            public {{f.MatFormerModel}} View({{f.Profile}} profile) => new Submodel(this, profile, copy: false);

            """);
    }

    private static void WriteSubmodel(CodeFile f, ModelSpec spec, Architecture model)
    {
        WriteSubmodelHead(f, spec, model);
        PassEmitter.WriteSlice(f, spec, model, null);
        WriteSubmodelMembers(f, spec, model);
    }

    // Writes the beginning of the class: constructors, properties, and the forward pass.
    private static void WriteSubmodelHead(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, head) = (model.Input, model.Head);
        f.Write($$"""
            /// <summary>A slice of {{spec.Type.Name}}: a separate model with the weights of one profile.</summary>
            [Generated]
            public class Submodel : {{f.MatFormerModel}}
            {
                private readonly {{f.Profile}} _profile;

                /// <summary>Creates a model of one profile with random weights. <c>torch.manual_seed</c> makes them reproducible.</summary>
                /// <param name="profile">The profile.</param>
                /// <param name="device">The device of the weights, or null for the CPU.</param>
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
                    DescendFrom(source);
                }

                private protected Network Network { get; }

                /// <inheritdoc/>
                public override {{f.ModelSpec}} Architecture => Spec;

                /// <inheritdoc/>
                public override string ProfileName => _profile.Name;

                /// <inheritdoc/>
                public override global::System.Collections.Immutable.ImmutableArray<{{f.LayerSlice}}> Layers => _profile.Layers;

                {{(spec.Precision.Count == 0 ? null : """
                /// <inheritdoc/>
                public override int? ProfileBits => _profile.Bits;

                """)}}
                /// <inheritdoc/>
                public override bool IsUniversal => false;

                /// <inheritdoc/>
                public override {{f.Device}} Device => Network.{{input.Field}}.device;

                /// <summary>Returns {{head.Gives}}: {{input.Takes}} to {{head.Given}}.</summary>
                /// <exception cref="{{f.ArgumentException}}">{{input.NotFitting}}.</exception>
                public override {{f.Tensor}} forward({{f.Tensor}} {{input.Name}})
                {
                    {{input.Check}}({{input.Name}});
                    {{head.SliceForward(f)}}
                }

            """);
    }

    // Writes the rest of the class: the members of the head, the loss, and decoding.
    private static void WriteSubmodelMembers(CodeFile f, ModelSpec spec, Architecture model)
    {
        var (input, head) = (model.Input, model.Head);
        var loss = $"Returns the {TrainingEmitter.Lower(head.Loss)}, a float32 scalar, to train the slice further. {head.Batch}.";
        f.Write($$"""

                {{string.Join("\n\n", head.SliceMembers(f))}}

                /// <summary>{{loss}}</summary>
                /// <exception cref="{{f.ArgumentException}}">{{head.NotFittingBatch}}.</exception>
                public {{f.Tensor}} Loss({{f.Tensor}} {{input.Name}}, {{f.Tensor}} targets)
                {
                    {{input.Check}}({{input.Name}});
                    CheckTargets({{input.Name}}, targets);
                    using var losses = Network.Losses({{f.Streams}}.Of(_profile), {{input.Name}}, targets, ComputeType);  //| (1)
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
                {{ParametersEmitter.Dispose(model, "Network")}}

                private static string NameOf({{f.Profile}} profile)
                {
                    {{f.ArgumentNullException}}.ThrowIfNull(profile);
                    return "{{spec.Type.Name}}." + profile.Name;
                }
            }
            """);
    }
}
