using MatFormer.Generators.Validation;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>
/// Writes the members of a model with a wrong declaration, all of which throw. With these members, the mistake is the program's only error.
/// </summary>
internal static class SkeletonEmitter
{
    private const string Constants = """
        /// <summary>Not available, because the declaration has an error.</summary>
        public const long ParameterCount = 0;

        /// <summary>Not available, because the declaration has an error.</summary>
        public const long NonEmbeddingParameterCount = 0;

        /// <summary>Not available, because the declaration has an error.</summary>
        public const long FlopsPerToken = 0;

        /// <summary>Not available, because the declaration has an error.</summary>
        public const long FlopsPerImage = 0;

        /// <summary>Not available, because the declaration has an error.</summary>
        public const long FlopsPerText = 0;

        /// <summary>Not available, because the declaration has an error.</summary>
        public const long KeyValueCacheBytesPerToken = 0;
        """;

    public static CodeFile Emit(Output.Skeleton skeleton)
    {
        var f = new CodeFile(skeleton.Type);
        var hasTensors = skeleton.Type.HasTensors;
        f.Bases = hasTensors
            ? $" : {f.MatFormerModel}, global::MatFormer.IMatFormer<{f.Model}>"
            : $" : global::MatFormer.IDecodable<{f.Model}>";
        var list = $"global::System.Collections.Generic.IReadOnlyList<{f.Profile}>";
        var reason = Literals.Of($"The declaration of {skeleton.Type.Name} has an error ({skeleton.Reason})");
        const string problem = "throw new global::System.InvalidOperationException(Problem)";
        var properties = skeleton.Names.Select(name => $$"""
            /// <summary>Not available, because the declaration has an error.</summary>
            public static {{f.Profile}} {{name}} => {{problem}};
            """);
        f.Write($$"""
            {{Constants}}

            private const string Problem = {{reason}};

            /// <summary>Not available, because the declaration has an error.</summary>
            public static {{f.ModelSpec}} Spec => {{problem}};

            /// <summary>Not available, because the declaration has an error.</summary>
            public static {{list}} Granularities => {{problem}};

            /// <summary>Not available, because the declaration has an error.</summary>
            public static {{list}} Profiles => {{problem}};

            static {{f.DecodingNetwork}} global::MatFormer.IDecodable<{{f.Model}}>.CreateDecodingNetwork(
                global::System.Collections.Immutable.ImmutableArray<{{f.LayerSlice}}> layers, {{f.WeightPacker}} packer) => {{problem}};

            /// <summary>Not available, because the declaration has an error.</summary>
            public static class Profile
            {
                {{string.Join("\n\n", properties)}}
            }
            """);
        if (hasTensors) WriteTensors(f, skeleton.Type.Name, problem);
        foreach (var name in skeleton.Names) WriteSubmodel(f, name, problem, hasTensors);
        return f;
    }

    private static void WriteTensors(CodeFile f, string name, string problem) => f.Write($$"""

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Model}}({{f.Device}}? device = null)
            : base("{{name}}") => {{problem}};

        {{Overrides(f, problem)}}

        /// <summary>Not available, because the declaration has an error.</summary>
        public static {{f.Model}} Create({{f.Device}}? device = null) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public static {{f.MatFormerModel}} CreateSubmodel({{f.Profile}} profile, {{f.Device}}? device = null) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} Forward({{f.Profile}} profile, {{f.Tensor}} tokens) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.Tensor}} input, int? width = null) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} Embed({{f.Profile}} profile, {{f.EmbeddingDimension}} dimension, {{f.Tensor}} input) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} Classify({{f.Profile}} profile, {{f.Tensor}} pixels, int? width = null) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} Loss({{f.Profile}} profile, {{f.Tensor}} tokens, {{f.Tensor}} targets) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} JointLosses({{f.Tensor}} tokens, {{f.Tensor}} targets) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} Losses(
            {{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, {{f.Recomputation}}? recomputation = null) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}} DistilledLosses(
            {{f.Streams}} streams, {{f.Tensor}} tokens, {{f.Tensor}} targets, double temperature, {{f.Recomputation}}? recomputation = null)
            => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.Tensor}}[] HiddenImportance({{f.Tensor}} tokens) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public void ReorderHiddenUnits(int layer, {{f.Tensor}} order) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public TSubmodel Extract<TSubmodel>() => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.MatFormerModel}} Extract({{f.Profile}} profile) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public TSubmodel View<TSubmodel>() => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public {{f.MatFormerModel}} View({{f.Profile}} profile) => {{problem}};

        /// <summary>Not available, because the declaration has an error.</summary>
        public class Submodel : {{f.MatFormerModel}}
        {
            /// <summary>Not available, because the declaration has an error.</summary>
            public Submodel({{f.Profile}} profile, {{f.Device}}? device = null)
                : base("{{name}}") => {{problem}};

            {{Overrides(f, problem)}}

            /// <summary>Not available, because the declaration has an error.</summary>
            public {{f.Tensor}} Loss({{f.Tensor}} tokens, {{f.Tensor}} targets) => {{problem}};
        }
        """);

    private static void WriteSubmodel(CodeFile f, string name, string problem, bool hasTensors)
    {
        var submodel = $"global::MatFormer.ISubmodel<{f.Model}, {name}>";
        f.Write($$"""

            #pragma warning disable CS8981 // The declaration chooses this name.
            /// <summary>Not available, because the declaration has an error.</summary>
            public {{(hasTensors ? $"sealed class {name} : Submodel, {submodel}" : $"static class {name}")}}
            #pragma warning restore CS8981
            {
                {{Constants}}
                {{(!hasTensors ? null : $$"""

                    /// <summary>Not available, because the declaration has an error.</summary>
                    public {{name}}({{f.Device}}? device = null)
                        : base({{f.Model}}.Profile.{{name}}, device)
                    {
                    }

                    static {{f.Profile}} {{submodel}}.Profile => {{problem}};

                    static {{name}} {{submodel}}.From({{f.Model}} model, bool copy) => {{problem}};
                    """)}}
            }
            """);
    }

    private static string Overrides(CodeFile f, string problem) => $$"""
        /// <inheritdoc/>
        public override {{f.ModelSpec}} Architecture => {{problem}};

        /// <inheritdoc/>
        public override string ProfileName => {{problem}};

        /// <inheritdoc/>
        public override global::System.Collections.Immutable.ImmutableArray<{{f.LayerSlice}}> Layers => {{problem}};

        /// <inheritdoc/>
        public override bool IsUniversal => {{problem}};

        /// <inheritdoc/>
        public override {{f.Device}} Device => {{problem}};

        /// <inheritdoc/>
        public override {{f.Tensor}} forward({{f.Tensor}} tokens) => {{problem}};

        /// <inheritdoc/>
        public override {{f.Tensor}} forward({{f.Tensor}} tokens, {{f.KeyValueCache}} cache) => {{problem}};

        /// <inheritdoc/>
        protected override void BindParameters() => {{problem}};
        """;
}
