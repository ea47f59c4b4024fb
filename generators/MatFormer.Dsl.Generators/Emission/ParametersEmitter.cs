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
        WriteBlock(file, spec);
        WriteNetwork(file, spec);
        return file;
    }

    private static void WriteModel(CodeFile f, ModelSpec spec, Costs costs)
    {
        var whole = Enumerable.Repeat(spec.HiddenWidth, spec.Layers).ToList();
        var granularities = string.Join(", ", spec.Granularities.Select(g => $"new(\"{g.Name}\", {Literals.Of(g.Width)})"));
        f.Write($$"""
            /// <summary>All parameters of the whole model.</summary>
            public const long ParameterCount = {{Literals.Of(costs.ParameterCount(whole))}};

            /// <summary>Parameters of the whole model without the embeddings and an untied head.</summary>
            public const long NonEmbeddingParameterCount = {{Literals.Of(costs.NonEmbeddingParameterCount(whole))}};

            /// <summary>FLOPs (a multiply-add is two) of one token's forward pass, attention averaged over a full context.</summary>
            public const long FlopsPerToken = {{Literals.Of(costs.FlopsPerToken(whole))}};

            /// <summary>Bytes of float32 key/value cache that one token takes; half of it in bfloat16.</summary>
            public const long KeyValueCacheBytesPerToken = {{Literals.Of(costs.KeyValueCacheBytesPerToken)}};

            private readonly Network _network;

            /// <summary>The whole model with newly drawn weights, which <c>torch.manual_seed</c> decides.</summary>
            /// <param name="device">Where the weights are to be; the CPU if null.</param>
            [Generated]
            public {{f.Model}}({{f.Device}}? device = null)
                : base("{{spec.Type.Name}}")
            {
                _network = new Network({{Literals.List(whole)}}, device ?? global::TorchSharp.torch.CPU);
                _network.Register(this);
            }

            /// <summary>Sizes and costs.</summary>
            [Generated]
            public static {{f.ModelSpec}} Spec { get; } = new()
            {
                Name = "{{spec.Type.Name}}",
                Fingerprint = "{{Fingerprint.Of(spec)}}",
                Layers = {{Literals.Of(spec.Layers)}},
                Width = {{Literals.Of(spec.Width)}},
                Heads = {{Literals.Of(spec.Heads)}},
                KeyValueHeads = {{Literals.Of(spec.KeyValueHeads)}},
                HeadWidth = {{Literals.Of(spec.HeadWidth)}},
                HiddenWidth = {{Literals.Of(spec.HiddenWidth)}},
                Context = {{Literals.Of(spec.Context)}},
                Vocabulary = {{Literals.Of(spec.Vocabulary)}},
                Granularities = [{{granularities}}],
                EmbeddingParameters = {{Literals.Of(costs.EmbeddingParameters)}},
                SharedParameters = {{Literals.Of(costs.SharedParameters)}},
                ParametersPerHiddenUnit = {{Literals.Of(costs.ParametersPerHiddenUnit)}},
                SharedFlopsPerToken = {{Literals.Of(costs.SharedFlopsPerToken)}},
                FlopsPerHiddenUnit = {{Literals.Of(costs.FlopsPerHiddenUnit)}},
                KeyValueCacheBytesPerToken = KeyValueCacheBytesPerToken,
            };

            /// <inheritdoc/>
            [Generated]
            public override {{f.ModelSpec}} Architecture => Spec;

            /// <inheritdoc/>
            [Generated]
            public override string ProfileName => "{{spec.Widest.Name}}";

            /// <inheritdoc/>
            [Generated]
            public override global::System.Collections.Immutable.ImmutableArray<int> Widths => Profile.{{spec.Widest.Name}}.Widths;

            /// <inheritdoc/>
            [Generated]
            public override bool IsUniversal => true;

            /// <inheritdoc/>
            [Generated]
            public override {{f.Device}} Device => _network.EmbedTokens.device;

            /// <inheritdoc/>
            [Generated]
            protected override void BindParameters() => _network.Bind(this);
            {{Dispose(spec)}}

            """);
    }

    /// <summary>Releases what the network has beside the parameters, which the module itself releases.</summary>
    public static string? Dispose(ModelSpec spec) => !spec.Rotary ? null : """

        /// <inheritdoc/>
        [Generated]
        protected override void Dispose(bool disposing)
        {
            if (disposing) _network.Dispose();
            base.Dispose(disposing);
        }
        """;

    private static void WriteBlock(CodeFile f, ModelSpec spec)
    {
        var weights = Weights.OfBlock(spec).ToList();
        f.Write($$"""
            // One transformer block; m is the number of its feed-forward's hidden units.
            [Generated]
            private sealed partial class Block
            {
                {{Lines(weights, w => $"public {f.Parameter} {w.Field};  //| {Literals.Shape(w.Shape)} model.layers.*.{w.Name}")}}

                // Newly drawn.
                public Block(int hidden, {{f.Device}} device)
                {
                    {{Lines(weights, w => Drawn(f, spec, w))}}
                }

                // The first hidden units of another block.
                public Block(Block source, int hidden, bool copy)
                {
                    {{Lines(weights, w => Sliced(f, w))}}
                }

                public void Register({{f.Module}} module, string prefix)
                {
                    {{Lines(weights, w => $"module.register_parameter(prefix + \"{w.Name}\", {w.Field});")}}
                }

                public void Bind({{f.Module}} module, string prefix)
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
        var rotary = $"{Literals.Of(spec.Context)}, {Literals.Of(spec.HeadWidth)}, {Literals.Of(spec.RotaryBase)}";
        f.Write($$"""
            // The weights of one model, whole or sliced, and what it computes.
            [Generated]
            private sealed partial class Network{{(spec.Rotary ? " : global::System.IDisposable" : null)}}
            {
                public readonly Block[] Blocks = new Block[{{layers}}];
                {{Lines(weights, w => $"public {f.Parameter} {w.Field};  //| {Literals.Shape(w.Shape)} {w.Name}")}}
                {{(spec.Rotary ? $"private readonly {f.RotaryTable} _rotary;  //| ({spec.Context}, {spec.HeadWidth / 2}) twice" : null)}}

                // Newly drawn, with hidden[i] hidden units in layer i.
                public Network(global::System.ReadOnlySpan<int> hidden, {{f.Device}} device)
                {
                    {{Lines(before, w => Drawn(f, spec, w))}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer] = new Block(hidden[layer], device);
                    {{Lines(after, w => Drawn(f, spec, w))}}
                    {{(spec.Rotary ? $"_rotary = new {f.RotaryTable}({rotary}, device);" : null)}}
                }

                // The first hidden[i] hidden units of another network's layer i, all else whole.
                public Network(Network source, global::System.ReadOnlySpan<int> hidden, bool copy)
                {
                    {{Lines(before, w => Sliced(f, w))}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer] = new Block(source.Blocks[layer], hidden[layer], copy);
                    {{Lines(after, w => Sliced(f, w))}}
                    {{(spec.Rotary ? $"_rotary = new {f.RotaryTable}({rotary}, EmbedTokens.device);" : null)}}
                }

                public void Register({{f.Module}} module)
                {
                    {{Lines(before, w => $"module.register_parameter(\"{w.Name}\", {w.Field});")}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer].Register(module, Prefix(layer));
                    {{Lines(after, w => $"module.register_parameter(\"{w.Name}\", {w.Field});")}}
                }

                // Parameters are new objects once the module has moved.
                public void Bind({{f.Module}} module)
                {
                    {{Lines(before, w => $"{w.Field} = module.get_parameter(\"{w.Name}\")!;")}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer].Bind(module, Prefix(layer));
                    {{Lines(after, w => $"{w.Field} = module.get_parameter(\"{w.Name}\")!;")}}
                    {{(spec.Rotary ? "_rotary.To(EmbedTokens.device);" : null)}}
                }
                {{(spec.Rotary ? "\npublic void Dispose() => _rotary.Dispose();" : null)}}

                private static string Prefix(int layer) => string.Create(
                    global::System.Globalization.CultureInfo.InvariantCulture, $"model.layers.{layer}.");
            }
            """);
    }

    private static string Drawn(CodeFile f, ModelSpec spec, WeightSpec weight)
    {
        var shape = string.Join(", ", weight.Shape.Select(size => size == WeightSpec.Hidden ? "hidden" : Literals.Of(size)));
        return weight.Draw switch
        {
            Draw.Ones => $"{weight.Field} = {f.Weights}.Ones(device, {shape});",
            Draw.Zeros => $"{weight.Field} = {f.Weights}.Zeros(device, {shape});",
            Draw.Normal => $"{weight.Field} = {f.Weights}.Normal(0.02, device, {shape});",
            _ => $"{weight.Field} = {f.Weights}.Normal({Literals.Of(0.02 / Math.Sqrt(2.0 * spec.Layers))}, device, {shape});"
                + $"  //| 0.02 / sqrt(2 * {Literals.Of(spec.Layers)} layers)",
        };
    }

    private static string Sliced(CodeFile f, WeightSpec weight) => weight.Nesting switch
    {
        Nesting.Rows => $"{weight.Field} = {f.Weights}.Rows(source.{weight.Field}, hidden, copy);",
        Nesting.Columns => $"{weight.Field} = {f.Weights}.Columns(source.{weight.Field}, hidden, copy);",
        _ => $"{weight.Field} = {f.Weights}.Whole(source.{weight.Field}, copy);",
    };

    private static string Lines(IEnumerable<WeightSpec> weights, Func<WeightSpec, string> line) => string.Join("\n", weights.Select(line));
}
