using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes sizes, costs and profiles, which are known without the weights and need no tensors.</summary>
internal static class SpecEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model, Costs costs)
    {
        var file = new CodeFile(spec.Type);
        if (!spec.Type.HasTensors) file.Bases = $" : global::MatFormer.{(spec.IsDecoder ? "IDecodable" : "IDeclaredModel")}<{file.Model}>";
        WriteSpec(file, spec, model, costs);
        WriteProfiles(file, spec, costs);
        return file;
    }

    /// <summary>Returns the constant for the FLOPs of a model or submodel.</summary>
    public static string FlopsConstant(Architecture model, Costs costs, LayerSlice[] layers)
    {
        var (of, name) = model.Head.FlopsConstant;
        return $"/// <summary>The FLOPs (a multiply-add is two) {of}.</summary>\n"
            + $"public const long {name} = {Literals.Of(costs.Flops(layers))};";
    }

    /// <summary>Returns the constant for the cache of a decoder, with an empty line after it, or null for an encoder.</summary>
    public static string? CacheConstant(ModelSpec spec, Costs costs, LayerSlice[] layers) => !spec.IsDecoder ? null :
        "/// <summary>The bytes of key/value cache that one token takes in float32. In bfloat16, it takes half.</summary>\n"
        + $"public const long KeyValueCacheBytesPerToken = {Literals.Of(costs.KeyValueCacheBytesPerToken(layers))};\n";

    /// <summary>Returns the pattern and the origin of a profile, for tooltips.</summary>
    public static string Describe(ModelSpec spec, ProfileSpec profile) =>
        Pattern.Format(spec, profile.Choices)
        + (spec.ElasticWidth ? $", {Literals.Text(spec.WidthOf(spec.LayersOf(profile.Choices)))} channels" : "")
        + (profile.Bits > 0 ? $" at {Literals.Digits(profile.Bits)} bits" : "")
        + (profile.Origin.Length > 0 ? ", " + profile.Origin : "");

    /// <summary>Returns the costs of a profile as lines of a doc comment, for tooltips.</summary>
    public static string CostTable(ModelSpec spec, Costs costs, ProfileSpec profile)
    {
        var layers = spec.LayersOf(profile.Choices);
        var cache = costs.KeyValueCacheBytesPerToken(layers);
        var parameters = $"{Literals.Text(costs.ParameterCount(layers))}, "
            + $"without embeddings {Literals.Text(costs.NonEmbeddingParameterCount(layers))}";
        List<(string What, string Cost)> rows =
        [
            ("parameters", parameters),
            ("FLOPs per " + spec.Unit, Literals.Text(costs.Flops(layers))),
            ("bytes of weights", Each(WeightType.Float32, WeightType.BFloat16, WeightType.Int8)),
        ];
        if (spec.Precision.Count > 0)
        {
            var each = spec.Precision.Select(bits => $"{Literals.Text(costs.WeightBytes(layers, bits))} in {Literals.Digits(bits)} bits");
            rows.Add(("bytes of nested weights", string.Join(", ", each)));
        }

        if (spec.IsDecoder)
            rows.Add(("bytes of key/value cache per token", $"{Literals.Text(cache)} in float32, {Literals.Text(cache / 2)} in bfloat16"));
        var items = rows.Select(row => $"/// <item><term>{row.What}</term><description>{row.Cost}</description></item>");
        return "/// <remarks>\n/// <list type=\"table\">\n" + string.Join("\n", items) + "\n/// </list>\n/// </remarks>";

        string Each(params WeightType[] types) => string.Join(
            ", ", types.Select(type => $"{Literals.Text(costs.WeightBytes(layers, type))} in {type.ToString().ToLowerInvariant()}"));
    }

    private static void WriteSpec(CodeFile f, ModelSpec spec, Architecture model, Costs costs)
    {
        var whole = spec.Blocks.Select(b => b.Whole).ToArray();
        var granularities = spec.Granularities.Select(g => $"new(\"{g.Name}\", {RunsOf(g.Layers)}),");
        f.Write($$"""
            /// <summary>The number of parameters of the whole model.</summary>
            public const long ParameterCount = {{Literals.Of(costs.ParameterCount(whole))}};

            /// <summary>The number of parameters of the whole model, without the embeddings and an untied head.</summary>
            public const long NonEmbeddingParameterCount = {{Literals.Of(costs.NonEmbeddingParameterCount(whole))}};

            {{FlopsConstant(model, costs, whole)}}

            {{CacheConstant(spec, costs, whole)}}
            /// <summary>The sizes and costs of the model.</summary>
            public static {{f.ModelSpec}} Spec { get; } = new()
            {
                Name = "{{spec.Type.Name}}",
                Fingerprint = "{{Fingerprint.Of(spec)}}",
                Width = {{Literals.Of(spec.Width)}},
                HeadWidth = {{Literals.Of(spec.HeadWidth)}},
                Context = {{Literals.Of(spec.Context)}},
                {{(spec.IsDecoder ? null : $"Kind = global::MatFormer.ModelKind.{spec.Kind},")}}
                {{string.Join("\n", model.SpecLines)}}
                Granularities =
                [
                    {{string.Join("\n", granularities)}}
                ],
                EmbeddingParameters = {{Literals.Of(costs.EmbeddingParameters)}},
                SharedParameters = {{Literals.Of(costs.SharedParameters)}},
                SharedFlops = {{Literals.Of(costs.SharedFlops)}},
                {{(spec.ElasticWidth ? PerChannel(costs) : null)}}
                Blocks = global::MatFormer.BlockSpec.Stack(
                    {{string.Join(",\n", BlockRuns(spec, costs))}}),
                {{(spec.Precision.Count > 0 ? $"Precision = [{string.Join(", ", spec.Precision.Select(b => Literals.Of(b)))}]," : null)}}
                {{(spec.CanSkip ? "CanSkip = true," : null)}}
                {{Routing(spec)}}
            };

            """);
    }

    private static string? Routing(ModelSpec spec) => spec.Routing is not { } routing ? null
        : $"Routing = new([{string.Join(", ", routing.Budgets.Select(b => Literals.Of(b)))}], "
            + $"[{string.Join(", ", routing.Layers.Select(layer => Literals.Of(layer)))}]),";

    // Returns the sizes of the layers as runs.
    private static string RunsOf(IReadOnlyList<LayerSlice> layers) => string.Join(
        ", ",
        Pattern.Runs(layers).Select(run =>
            $"({Literals.Of(run.Count)}, new({Literals.Of(run.Item.HiddenWidth)}, {Literals.Of(run.Item.Heads)}){WidthOf(run.Item)})"));

    private static string? WidthOf(LayerSlice slice) => slice.Width == 0 ? null : $" {{ Width = {Literals.Of(slice.Width)} }}";

    private static string PerChannel(Costs costs)
    {
        var less = costs.WithoutAChannel;
        return $"""
            EmbeddingParametersPerChannel = {Literals.Of(costs.EmbeddingParameters - less.EmbeddingParameters)},
            SharedParametersPerChannel = {Literals.Of(costs.SharedParameters - less.SharedParameters)},
            SharedFlopsPerChannel = {Literals.Of(costs.SharedFlops - less.SharedFlops)},
            """;
    }

    private static IEnumerable<string> BlockRuns(ModelSpec spec, Costs costs)
    {
        var layer = 0;
        var atGrids = spec.Lookup?.Grids.Select(grid => Costs.Of(spec.AtGrid(grid))).ToList() ?? [];
        foreach (var (count, block) in Pattern.Runs(spec.Blocks))
        {
            var cost = costs[layer];
            var less = spec.ElasticWidth ? costs.WithoutAChannel[layer] : null;
            var flops = atGrids.Select(its => CostOf(its[layer].Flops)).ToList();
            var grids = flops.Count == 0 ? null : $"\n    FlopsAtGrids = [{string.Join(", ", flops)}],";
            layer += count;
            yield return $$"""
                ({{Literals.Of(count)}}, new()
                {
                    HiddenWidth = {{Literals.Of(block.HiddenWidth)}},
                    Activation = global::MatFormer.Activation.{{block.Activation}},{{(block.Bias ? "\n    Bias = true," : null)}}
                    Heads = {{Literals.Of(block.Heads)}},
                    KeyValueHeads = {{Literals.Of(block.KeyValueHeads)}},{{Window(block)}}
                    Parameters = {{CostOf(cost.Parameters)}},
                    Flops = {{CostOf(cost.Flops)}},{{grids}}
                    KeyValueCacheBytesPerToken = {{CostOf(cost.KeyValueCacheBytesPerToken)}},{{PerChannel(cost, less)}}
                })
                """;
        }

        static string? PerChannel(BlockCosts cost, BlockCosts? less) => less is null ? null
            : $"\n    ParametersPerChannel = {CostOf(cost.Parameters.Minus(less.Parameters))},"
                + $"\n    FlopsPerChannel = {CostOf(cost.Flops.Minus(less.Flops))},";

        static string? Window(BlockSpec block) => block.Window == 0 ? null : $"\n    Window = {Literals.Of(block.Window)},";

        static string CostOf(BlockCost cost) =>
            $"new({Literals.Of(cost.Shared)}, {Literals.Of(cost.PerHiddenUnit)}, {Literals.Of(cost.PerKeyValueHead)})";
    }

    private static void WriteProfiles(CodeFile f, ModelSpec spec, Costs costs)
    {
        var properties = spec.GranularityProfiles.Concat(spec.Profiles).Select(profile => $$"""
            /// <summary>{{Describe(spec, profile)}}.</summary>
            {{CostTable(spec, costs, profile)}}
            public static {{f.Profile}} {{profile.Name}} { get; } = new("{{profile.Name}}", {{RunsOf(spec.LayersOf(profile.Choices))}}){{Stored(profile)}};
            """);
        string? Stored(ProfileSpec profile) => profile.Bits == 0 ? null
            : $"\n{{\n    Bits = {Literals.Of(profile.Bits)},\n    WeightBytes = "
                + Literals.Of(costs.WeightBytes(spec.LayersOf(profile.Choices), profile.Bits)) + ",\n}";

        if (spec.Embedding is { } embedding)
        {
            var dimensions = embedding.Dimensions.Select(d => $$"""
                /// <summary>The first {{Literals.Text(d)}} of {{Literals.Text(embedding.Width)}} numbers.</summary>
                public static {{f.EmbeddingDimension}} D{{Literals.Digits(d)}} { get; } = new({{Literals.Of(d)}});
                """);
            f.Write($$"""
                /// <summary>The widths that the embeddings of {{spec.Type.Name}} are trained for.</summary>
                [Generated]
                public static class Dimension
                {
                    {{string.Join("\n\n", dimensions)}}
                }

                """);
        }

        f.Write($$"""
            /// <summary>The granularities and Mix'n'Match profiles of {{spec.Type.Name}}.</summary>
            [Generated]
            public static class Profile
            {
                {{string.Join("\n\n", properties)}}
            }

            // The lists are in a separate class, because Spec must be initialized before the profiles.
            [Generated]
            private static class Declared
            {
                public static readonly global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Granularities =
                    [{{Names(spec.Granularities.Select(g => g.Name))}}];

                public static readonly global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Profiles =
                    [{{Names(spec.Profiles.Select(p => p.Name))}}];

                // The beginning of the names of a layer's weights.
                public static string Prefix(int layer) => string.Create(
                    global::System.Globalization.CultureInfo.InvariantCulture, $"{{BlockNames.Of(spec.IsVision).Prefix}}{layer}.");
            }

            /// <summary>The granularities as profiles, narrowest first. The last is the whole model.</summary>
            public static global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Granularities => Declared.Granularities;

            /// <summary>The declared profiles, in the order of the declaration.</summary>
            public static global::System.Collections.Generic.IReadOnlyList<{{f.Profile}}> Profiles => Declared.Profiles;
            """);
    }

    private static string Names(IEnumerable<string> names) => string.Join(", ", names.Select(name => "Profile." + name));
}
