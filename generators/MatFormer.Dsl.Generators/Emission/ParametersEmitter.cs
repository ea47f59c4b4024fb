using MatFormer.Generators.Model;

namespace MatFormer.Generators.Emission;

/// <summary>The weights: fields, drawing, slicing, and registration without reflection.</summary>
internal static class ParametersEmitter
{
    public static CodeFile Emit(ModelSpec spec, Costs costs)
    {
        var file = new CodeFile(spec.Type);
        file.Bases = $" : {file.MatFormerModel}, global::MatFormer.IMatFormer<{file.Model}>";
        WriteModel(file, spec, costs);
        WriteBlocks(file, spec);
        WriteNetwork(file, spec);
        return file;
    }

    /// <summary>The last argument of what makes a table of angles, if they are scaled.</summary>
    public static string? Scaling(CodeFile f, ModelSpec spec) => spec.RotaryScaling is null ? null : $", {f.Model}.Spec.RotaryScaling";

    private static string Scaling(RotaryScalingSpec scaling)
    {
        var made = $"new(global::MatFormer.RotaryScalingKind.{scaling.Kind}, {Literals.Of(scaling.Factor)})";
        return scaling.Kind == RotaryScalingKind.Linear ? made : made + $$"""

            {
                OriginalContext = {{Literals.Of(scaling.OriginalContext)}},
                LowFrequencyFactor = {{Literals.Of(scaling.LowFrequencyFactor)}},
                HighFrequencyFactor = {{Literals.Of(scaling.HighFrequencyFactor)}},
            }
            """;
    }

    private static void WriteModel(CodeFile f, ModelSpec spec, Costs costs)
    {
        var whole = spec.Blocks.Select(b => b.Whole).ToArray();
        var layers = spec.Layers;
        var granularities = spec.Granularities.Select(g => $"new(\"{g.Name}\", {RunsOf(g)}),");
        f.Write($$"""
            /// <summary>All parameters of the whole model.</summary>
            public const long ParameterCount = {{Literals.Of(costs.ParameterCount(whole))}};

            /// <summary>Parameters of the whole model without the embeddings and an untied head.</summary>
            public const long NonEmbeddingParameterCount = {{Literals.Of(costs.NonEmbeddingParameterCount(whole))}};

            {{FlopsConstant(spec, costs, whole)}}

            {{CacheConstant(spec, costs, whole)}}
            private readonly Network _network;

            /// <summary>The whole model with newly drawn weights, which <c>torch.manual_seed</c> decides.</summary>
            /// <param name="device">Where the weights are to be; the CPU if null.</param>
            [Generated]
            public {{f.Model}}({{f.Device}}? device = null)
                : base("{{spec.Type.Name}}")
            {
                _network = new Network(Profile.{{spec.Widest.Name}}.Layers.AsSpan(), device ?? global::TorchSharp.torch.CPU);
                _network.Register(this);
                Consolidate();
            }

            /// <summary>Sizes and costs.</summary>
            [Generated]
            public static {{f.ModelSpec}} Spec { get; } = new()
            {
                Name = "{{spec.Type.Name}}",
                Fingerprint = "{{Fingerprint.Of(spec)}}",
                Width = {{Literals.Of(spec.Width)}},
                HeadWidth = {{Literals.Of(spec.HeadWidth)}},
                Context = {{Literals.Of(spec.Context)}},
                {{KindOf(spec)}}
                Norm = global::MatFormer.NormKind.{{spec.Norm}},
                NormEpsilon = {{Literals.Of(spec.Epsilon)}},
                Position = global::MatFormer.PositionKind.{{spec.Position}},
                {{(spec.Rotary ? $"RotaryBase = {Literals.Of(spec.RotaryBase)}," : null)}}
                {{(spec.RotaryScaling is { } scaling ? $"RotaryScaling = {Scaling(scaling)}," : null)}}
                {{(spec.AttentionBias ? "AttentionBias = true," : null)}}
                {{(spec.QkNorm ? "QkNorm = true," : null)}}
                {{(spec.Tied ? "TiedHead = true," : null)}}
                Granularities =
                [
                    {{string.Join("\n", granularities)}}
                ],
                EmbeddingParameters = {{Literals.Of(costs.EmbeddingParameters)}},
                SharedParameters = {{Literals.Of(costs.SharedParameters)}},
                SharedFlops = {{Literals.Of(costs.SharedFlops)}},
                Blocks = global::MatFormer.BlockSpec.Stack(
                    {{string.Join(",\n", BlockRuns(spec, costs))}}),
                {{(spec.CanSkip ? "CanSkip = true," : null)}}
            };

            /// <inheritdoc/>
            [Generated]
            public override {{f.ModelSpec}} Architecture => Spec;

            /// <inheritdoc/>
            [Generated]
            public override string ProfileName => "{{spec.Widest.Name}}";

            /// <inheritdoc/>
            [Generated]
            public override global::System.Collections.Immutable.ImmutableArray<{{f.LayerSlice}}> Layers => Profile.{{spec.Widest.Name}}.Layers;

            /// <inheritdoc/>
            [Generated]
            public override bool IsUniversal => true;

            /// <inheritdoc/>
            [Generated]
            public override {{f.Device}} Device => _network.{{First(spec)}}.device;

            /// <inheritdoc/>
            [Generated]
            protected override void BindParameters() => _network.Bind(this);
            {{Dispose(spec)}}

            """);
    }

    // What a granularity keeps, as runs of layers.
    private static string RunsOf(GranularitySpec granularity) => string.Join(
        ", ",
        Pattern.Runs(granularity.Layers).Select(run =>
            $"({Literals.Of(run.Count)}, new({Literals.Of(run.Item.HiddenWidth)}, {Literals.Of(run.Item.Heads)}))"));

    private static IEnumerable<string> BlockRuns(ModelSpec spec, Costs costs)
    {
        var layer = 0;
        foreach (var (count, block) in Pattern.Runs(spec.Blocks))
        {
            var cost = costs[layer];
            layer += count;
            yield return $$"""
                ({{Literals.Of(count)}}, new()
                {
                    HiddenWidth = {{Literals.Of(block.HiddenWidth)}},
                    Activation = global::MatFormer.Activation.{{block.Activation}},{{(block.Bias ? "\n    Bias = true," : null)}}
                    Heads = {{Literals.Of(block.Heads)}},
                    KeyValueHeads = {{Literals.Of(block.KeyValueHeads)}},{{Window(block)}}
                    Parameters = {{CostOf(cost.Parameters)}},
                    Flops = {{CostOf(cost.Flops)}},
                    KeyValueCacheBytesPerToken = {{CostOf(cost.KeyValueCacheBytesPerToken)}},
                })
                """;
        }

        static string? Window(BlockSpec block) => block.Window == 0 ? null : $"\n    Window = {Literals.Of(block.Window)},";

        static string CostOf(BlockCost cost) =>
            $"new({Literals.Of(cost.Shared)}, {Literals.Of(cost.PerHiddenUnit)}, {Literals.Of(cost.PerKeyValueHead)})";
    }

    /// <summary>A weight that every model of the declaration has.</summary>
    public static string First(ModelSpec spec) => spec.IsVision ? "EmbedPatches" : "EmbedTokens";

    /// <summary>What a model or a submodel costs in FLOPs, as a member.</summary>
    public static string FlopsConstant(ModelSpec spec, Costs costs, LayerSlice[] layers)
    {
        var (of, name) = spec.Kind switch
        {
            ModelKind.VisionTransformer => ("of the forward pass over one image", "FlopsPerImage"),
            ModelKind.TextEncoder => ($"of the forward pass over one text of {Literals.Text(spec.Context)} tokens", "FlopsPerText"),
            _ => ("of one token's forward pass, attention averaged over a full context", "FlopsPerToken"),
        };
        return $"/// <summary>FLOPs (a multiply-add is two) {of}.</summary>\npublic const long {name} = {Literals.Of(costs.Flops(layers))};";
    }

    /// <summary>What a token takes in the cache of a decoder, as a member and the line behind it.</summary>
    public static string? CacheConstant(ModelSpec spec, Costs costs, LayerSlice[] layers) => !spec.IsDecoder ? null :
        "/// <summary>Bytes of float32 key/value cache that one token takes; half of it in bfloat16.</summary>\n"
        + $"public const long KeyValueCacheBytesPerToken = {Literals.Of(costs.KeyValueCacheBytesPerToken(layers))};\n";

    // What it takes and gives, in its spec.
    private static string KindOf(ModelSpec spec)
    {
        var lines = new List<string>();
        if (!spec.IsDecoder) lines.Add($"Kind = global::MatFormer.ModelKind.{spec.Kind},");
        if (!spec.IsVision) lines.Add($"Vocabulary = {Literals.Of(spec.Vocabulary)},");
        if (spec.Image is { } image)
        {
            var sizes = $"{Literals.Of(image.Size)}, {Literals.Of(image.Patch)}, {Literals.Of(image.Channels)}, {Literals.Of(image.Classes)}";
            lines.Add($"Image = new({sizes}),");
        }

        if (spec.Embedding is { } embedding)
        {
            lines.Add($"Pooling = global::MatFormer.Pooling.{spec.Pooling},");
            lines.Add($"EmbeddingWidth = {Literals.Of(embedding.Width)},");
            lines.Add($"EmbeddingDimensions = [{string.Join(", ", embedding.Dimensions.Select(d => Literals.Of(d)))}],");
        }

        return string.Join("\n", lines);
    }

    /// <summary>Releases what the network has beside the parameters, which the module itself releases.</summary>
    public static string? Dispose(ModelSpec spec) => !spec.HasTable ? null : """

        /// <inheritdoc/>
        [Generated]
        protected override void Dispose(bool disposing)
        {
            if (disposing) _network.Dispose();
            base.Dispose(disposing);
        }
        """;

    private static void WriteBlocks(CodeFile f, ModelSpec spec)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1) WriteAnyBlock(f, spec, kinds);
        foreach (var kind in kinds) WriteBlock(f, spec, kind, isAlone: kinds.Count == 1);
    }

    // What the kinds of blocks have in common.
    private static void WriteAnyBlock(CodeFile f, ModelSpec spec, IReadOnlyList<BlockKind> kinds)
    {
        var created = kinds.Select((kind, i) =>
            $"{(i == kinds.Count - 1 ? "_" : kind.LayerPattern)} => new {kind.Name}(slice, device),");
        f.Write($$"""
            // One transformer block.
            [Generated]
            private abstract partial class Block
            {
                // The block of a layer, newly drawn.
                public static Block Create(int layer, {{f.LayerSlice}} slice, {{f.Device}} device) => layer switch
                {
                    {{string.Join("\n", created)}}
                };

                // What a slice keeps of this block.
                public abstract Block Slice({{f.LayerSlice}} slice, bool copy);

                public abstract void Register({{f.Module}} module, string prefix);

                public abstract void Bind({{f.Module}} module, string prefix);
            }

            """);
    }

    private static void WriteBlock(CodeFile f, ModelSpec spec, BlockKind kind, bool isAlone)
    {
        var block = kind.Block;
        var weights = Weights.OfBlock(spec, block).ToList();
        var (bases, overrides) = isAlone ? (null, null) : (" : Block", "override ");
        var axes = spec.ElasticHeads
            ? "m, h and g are the numbers of its hidden units, heads and key/value heads."
            : "m is the number of its feed-forward's hidden units.";
        var slice = isAlone ? null : $"public override Block Slice({f.LayerSlice} slice, bool copy) => new {kind.Name}(this, slice, copy);\n";
        f.Write($$"""
            // {{(isAlone ? "One transformer block" : $"A transformer block of {kind.LayersText}")}}; {{axes}}
            [Generated]
            private sealed partial class {{kind.Name}}{{bases}}
            {
                {{Lines(weights, w => $"public {f.Parameter} {w.Field};  //| {Shape(spec, block, w)} {BlockNames.Of(spec).Prefix}*.{w.Name}")}}

                // Newly drawn.
                public {{kind.Name}}({{f.LayerSlice}} slice, {{f.Device}} device)
                {
                    {{Lines(weights, w => Drawn(f, spec, block, w))}}
                }

                // What a slice keeps of another block.
                public {{kind.Name}}({{kind.Name}} source, {{f.LayerSlice}} slice, bool copy)
                {
                    {{Lines(weights, w => Sliced(f, spec, block, w))}}
                }

                {{slice}}
                public {{overrides}}void Register({{f.Module}} module, string prefix)
                {
                    {{Lines(weights, w => $"module.register_parameter(prefix + \"{w.Name}\", {w.Field});")}}
                }

                public {{overrides}}void Bind({{f.Module}} module, string prefix)
                {
                    {{Lines(weights, w => $"{w.Field} = module.get_parameter(prefix + \"{w.Name}\")!;")}}
                }
            }

            """);
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec)
    {
        var before = Weights.BeforeBlocks(spec).ToList();
        var after = Weights.AfterBlocks(spec).ToList();
        var weights = before.Concat(after).ToList();
        var layers = Literals.Of(spec.Layers);
        var (table, tableShape, tableSizes) = spec.Rotary
            ? ("_rotary", $"({spec.Sequence}, {spec.HeadWidth / 2}) twice", $"{Literals.Of(spec.Sequence)}, {Literals.Of(spec.HeadWidth)}, {Literals.Of(spec.RotaryBase)}")
            : ("_positions", $"({spec.Sequence}, {spec.Width})", spec.Image is not { } image ? ""
                : $"{Literals.Of(image.Size / image.Patch)}, {Literals.Of(spec.Width)}, classToken: {(spec.HasClassToken ? "true" : "false")}");
        var tableClass = spec.Rotary ? f.RotaryTable : spec.Sinusoidal ? f.SinusoidalTable : null;
        var isAlone = spec.Kinds.Count() == 1;
        var (maybe, orNone) = spec.CanSkip ? ("?", "layers[layer].IsSkipped ? null : ") : (null, null);
        var create = isAlone ? "new Block(layers[layer], device)" : "Block.Create(layer, layers[layer], device)";
        var source = $"source.Blocks[layer]{(spec.CanSkip ? "!" : null)}";
        var slice = isAlone ? $"new Block({source}, layers[layer], copy)" : $"{source}.Slice(layers[layer], copy)";
        f.Write($$"""
            // The weights of one model, whole or sliced, and what it computes.
            [Generated]
            private sealed partial class Network{{(spec.HasTable ? " : global::System.IDisposable" : null)}}
            {
                public readonly Block{{maybe}}[] Blocks = new Block{{maybe}}[{{layers}}];{{(spec.CanSkip ? "  //| null where a layer is left out" : null)}}
                {{Lines(weights, w => $"public {f.Parameter} {w.Field};  //| {Shape(spec, null, w)} {w.Name}")}}
                {{(spec.HasTable ? $"private readonly {tableClass} {table};  //| {tableShape}" : null)}}

                // Newly drawn, with layers[i] of layer i.
                public Network(global::System.ReadOnlySpan<{{f.LayerSlice}}> layers, {{f.Device}} device)
                {
                    {{Lines(before, w => Drawn(f, spec, null, w))}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer] = {{orNone}}{{create}};
                    {{Lines(after, w => Drawn(f, spec, null, w))}}
                    {{(spec.HasTable ? $"{table} = new {tableClass}({tableSizes}, device{Scaling(f, spec)});" : null)}}
                }

                // layers[i] of another network's layer i, all else whole.
                public Network(Network source, global::System.ReadOnlySpan<{{f.LayerSlice}}> layers, bool copy)
                {
                    {{Lines(before, w => Sliced(f, spec, null, w))}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer] = {{orNone}}{{slice}};
                    {{Lines(after, w => Sliced(f, spec, null, w))}}
                    {{(spec.HasTable ? $"{table} = new {tableClass}({tableSizes}, {First(spec)}.device{Scaling(f, spec)});" : null)}}
                }

                public void Register({{f.Module}} module)
                {
                    {{Lines(before, w => $"module.register_parameter(\"{w.Name}\", {w.Field});")}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer]{{maybe}}.Register(module, Prefix(layer));
                    {{Lines(after, w => $"module.register_parameter(\"{w.Name}\", {w.Field});")}}
                }

                // Parameters are new objects once the module has moved.
                public void Bind({{f.Module}} module)
                {
                    {{Lines(before, w => $"{w.Field} = module.get_parameter(\"{w.Name}\")!;")}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer]{{maybe}}.Bind(module, Prefix(layer));
                    {{Lines(after, w => $"{w.Field} = module.get_parameter(\"{w.Name}\")!;")}}
                    {{(spec.HasTable ? $"{table}.To({First(spec)}.device);" : null)}}
                }
                {{(spec.HasTable ? $"\npublic void Dispose() => {table}.Dispose();" : null)}}

                public static string Prefix(int layer) => string.Create(
                    global::System.Globalization.CultureInfo.InvariantCulture, $"{{BlockNames.Of(spec).Prefix}}{layer}.");
            }
            """);
    }

    private static string Drawn(CodeFile f, ModelSpec spec, BlockSpec? block, WeightSpec weight)
    {
        var shape = string.Join(", ", weight.Shape.Select(d => Kept(spec, block, d)));
        return weight.Draw switch
        {
            Draw.Ones => $"{weight.Field} = {f.Weights}.Ones(device, {shape});",
            Draw.Zeros => $"{weight.Field} = {f.Weights}.Zeros(device, {shape});",
            Draw.Normal => $"{weight.Field} = {f.Weights}.Normal(0.02, device, {shape});",
            _ => $"{weight.Field} = {f.Weights}.Normal({Literals.Of(0.02 / Math.Sqrt(2.0 * spec.Layers))}, device, {shape});"
                + $"  //| 0.02 / sqrt(2 * {Literals.Of(spec.Layers)} layers)",
        };
    }

    private static string Sliced(CodeFile f, ModelSpec spec, BlockSpec? block, WeightSpec weight)
    {
        var dimension = weight.Shape.ToList().FindIndex(d => IsSliced(spec, d.Axis));
        if (dimension < 0) return $"{weight.Field} = {f.Weights}.Whole(source.{weight.Field}, copy);";
        var first = dimension == 0 ? "Rows" : "Columns";
        return $"{weight.Field} = {f.Weights}.{first}(source.{weight.Field}, {Kept(spec, block, weight.Shape[dimension])}, copy);";
    }

    // How many elements a slice keeps of a dimension.
    private static string Kept(ModelSpec spec, BlockSpec? block, Dimension dimension) => dimension.Axis switch
    {
        Axis.Hidden => "slice.HiddenWidth",
        Axis.Heads when spec.ElasticHeads => $"slice.Heads * {Literals.Of(dimension.Count)}",
        Axis.KeyValueHeads when spec.ElasticHeads && block!.Group > 1 =>
            $"slice.Heads / {Literals.Of(block.Group)} * {Literals.Of(dimension.Count)}",
        Axis.KeyValueHeads when spec.ElasticHeads => $"slice.Heads * {Literals.Of(dimension.Count)}",
        Axis.Heads => Literals.Of(block!.Heads * dimension.Count),
        Axis.KeyValueHeads => Literals.Of(block!.KeyValueHeads * dimension.Count),
        _ => Literals.Of(dimension.Count),
    };

    private static bool IsSliced(ModelSpec spec, Axis axis) => axis == Axis.Hidden || (axis != Axis.None && spec.ElasticHeads);

    private static string Shape(ModelSpec spec, BlockSpec? block, WeightSpec weight) =>
        "(" + string.Join(", ", weight.Shape.Select(d => d.Axis switch
        {
            Axis.Hidden => "m",
            Axis.Heads when spec.ElasticHeads => "h*" + Literals.Digits(d.Count),
            Axis.KeyValueHeads when spec.ElasticHeads => "g*" + Literals.Digits(d.Count),
            Axis.Heads => Literals.Digits(block!.Heads * d.Count),
            Axis.KeyValueHeads => Literals.Digits(block!.KeyValueHeads * d.Count),
            _ => Literals.Digits(d.Count),
        })) + ")";

    private static string Lines(IEnumerable<WeightSpec> weights, Func<WeightSpec, string> line) => string.Join("\n", weights.Select(line));
}
