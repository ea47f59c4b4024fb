using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes a class for each granularity and profile.</summary>
internal static class SubmodelsEmitter
{
    // All classes are in one file, because Roslyn compares the names of all generated files pairwise after every edit.
    public static CodeFile Emit(ModelSpec spec, Architecture model, Costs costs)
    {
        var f = new CodeFile(spec.Type);
        var isFirst = true;
        foreach (var profile in spec.GranularityProfiles.Concat(spec.Profiles))
        {
            if (!isFirst) f.Write($"");
            isFirst = false;
            Write(f, spec, model, costs, profile);
        }

        return f;
    }

    private static void Write(CodeFile f, ModelSpec spec, Architecture model, Costs costs, ProfileSpec profile)
    {
        var layers = spec.LayersOf(profile.Choices);
        var submodel = $"global::MatFormer.ISubmodel<{f.Model}, {profile.Name}>";

        var owned = spec.Type.HasTensors ? " as a separate model" : null;

        // The compiler warns about names that have only small letters. Here the user chose the name.
        var isLower = profile.Name.All(c => c is >= 'a' and <= 'z');
        f.Write($$"""
            {{(isLower ? "#pragma warning disable CS8981 // The declaration chooses this name." : null)}}
            /// <summary>{{profile.Name}}{{owned}}: {{SpecEmitter.Describe(spec, profile)}}.</summary>
            [Generated]
            public {{(spec.Type.HasTensors ? $"sealed class {profile.Name} : Submodel, {submodel}" : $"static class {profile.Name}")}}
            {{(isLower ? "#pragma warning restore CS8981" : null)}}
            {
                /// <summary>The number of parameters.</summary>
                public const long ParameterCount = {{Literals.Of(costs.ParameterCount(layers))}};

                /// <summary>The number of parameters, without the embeddings and an untied head.</summary>
                public const long NonEmbeddingParameterCount = {{Literals.Of(costs.NonEmbeddingParameterCount(layers))}};

                {{SpecEmitter.FlopsConstant(model, costs, layers)}}

                {{SpecEmitter.CacheConstant(spec, costs, layers)}}
                {{BitConstants(costs, layers, profile)}}
                {{(spec.Type.HasTensors ? Members(f, profile, submodel) : null)}}
            """);
        if (spec.Type.HasTensors && spec.HasOwnPasses)
        {
            f.Write($"");
            var narrowed = spec.Narrowed(spec.WidthOf(layers));
            PassEmitter.WriteSlice(f, narrowed, ReferenceEquals(narrowed, spec) ? model : Architecture.Of(narrowed), profile);
        }

        f.Write($$"""
            }
            """);
    }

    private static string? BitConstants(Costs costs, LayerSlice[] layers, ProfileSpec profile) => profile.Bits == 0 ? null : $$"""
        /// <summary>The bits in which the weights are meant to be stored and decoded.</summary>
        public const int Bits = {{Literals.Of(profile.Bits)}};

        /// <summary>The bytes of the weights at these bits, with a half for each 32 of a row, and norms and biases in float32.</summary>
        public const long WeightBytes = {{Literals.Of(costs.WeightBytes(layers, profile.Bits))}};

        """;

    private static string Members(CodeFile f, ProfileSpec profile, string submodel) => $$"""
        /// <summary>Creates the model with random weights. <c>torch.manual_seed</c> makes them reproducible.</summary>
        /// <param name="device">The device of the weights, or null for the CPU.</param>
        public {{profile.Name}}({{f.Device}}? device = null)
            : base({{f.Model}}.Profile.{{profile.Name}}, device)
        {
        }

        private {{profile.Name}}({{f.Model}} source, bool copy)
            : base(source, {{f.Model}}.Profile.{{profile.Name}}, copy)
        {
        }

        static {{f.Profile}} {{submodel}}.Profile => {{f.Model}}.Profile.{{profile.Name}};
        static {{profile.Name}} {{submodel}}.From({{f.Model}} model, bool copy) => new(model, copy);
        """;
}
