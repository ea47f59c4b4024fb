using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>The class of each granularity and profile.</summary>
internal static class SubmodelsEmitter
{
    // In one file: Roslyn compares the names of all generated files pairwise after every edit.
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

        var owned = spec.Type.HasTensors ? ", a model of its own" : null;

        // The compiler reserves names of small letters only for itself; this one is the user's choice.
        var isLower = profile.Name.All(c => c is >= 'a' and <= 'z');
        f.Write($$"""
            {{(isLower ? "#pragma warning disable CS8981 // The name is the declaration's." : null)}}
            /// <summary>{{profile.Name}}{{owned}}: {{SpecEmitter.Describe(spec, profile)}}.</summary>
            [Generated]
            public {{(spec.Type.HasTensors ? $"sealed class {profile.Name} : Submodel, {submodel}" : $"static class {profile.Name}")}}
            {{(isLower ? "#pragma warning restore CS8981" : null)}}
            {
                /// <summary>All parameters.</summary>
                public const long ParameterCount = {{Literals.Of(costs.ParameterCount(layers))}};

                /// <summary>Parameters without the embeddings and an untied head.</summary>
                public const long NonEmbeddingParameterCount = {{Literals.Of(costs.NonEmbeddingParameterCount(layers))}};

                {{SpecEmitter.FlopsConstant(model, costs, layers)}}

                {{SpecEmitter.CacheConstant(spec, costs, layers)}}
                {{(spec.Type.HasTensors ? Members(f, profile, submodel) : null)}}
            """);
        if (spec.Type.HasTensors && spec.HasOwnPasses)
        {
            f.Write($"");
            PassEmitter.WriteSlice(f, spec, model, profile);
        }

        f.Write($$"""
            }
            """);
    }

    private static string Members(CodeFile f, ProfileSpec profile, string submodel) => $$"""
        /// <summary>Newly drawn weights, which <c>torch.manual_seed</c> decides.</summary>
        /// <param name="device">Where the weights are to be; the CPU if null.</param>
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
