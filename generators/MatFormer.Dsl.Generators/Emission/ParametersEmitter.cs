using MatFormer.Generators.Model;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Emission;

/// <summary>Writes the fields of weights, their initialization, slicing, and registration without reflection.</summary>
internal static class ParametersEmitter
{
    public static CodeFile Emit(ModelSpec spec, Architecture model)
    {
        var file = new CodeFile(spec.Type);
        file.Bases = $" : {file.MatFormerModel}, global::MatFormer.IMatFormer<{file.Model}>";
        WriteModel(file, spec, model);
        WriteBlocks(file, spec, model);
        WriteNetwork(file, spec, model);
        return file;
    }

    private static void WriteModel(CodeFile f, ModelSpec spec, Architecture model)
    {
        var slices = $"global::System.Collections.Immutable.ImmutableArray<{f.LayerSlice}>";
        f.Write($$"""
            private readonly Network _network;

            /// <summary>Creates the whole model with random weights. <c>torch.manual_seed</c> makes them reproducible.</summary>
            /// <param name="device">The device of the weights, or null for the CPU.</param>
            public {{f.Model}}({{f.Device}}? device = null)
                : base("{{spec.Type.Name}}")
            {
                _network = new Network(Profile.{{spec.Widest.Name}}.Layers.AsSpan(), device ?? global::TorchSharp.torch.CPU);
                {{(spec.Routing is null ? null : $"_network.Routers = new {f.Routers}(Spec, _network.{model.Input.Field}.device);")}}
                _network.Register(this);
                Consolidate();
            }

            /// <inheritdoc/>
            public override {{f.ModelSpec}} Architecture => Spec;

            /// <inheritdoc/>
            public override string ProfileName => "{{spec.Widest.Name}}";

            /// <inheritdoc/>
            public override {{slices}} Layers => Profile.{{spec.Widest.Name}}.Layers;

            /// <inheritdoc/>
            public override bool IsUniversal => true;

            /// <inheritdoc/>
            public override {{f.Device}} Device => _network.{{model.Input.Field}}.device;

            /// <inheritdoc/>
            protected override void BindParameters() => _network.Bind(this);

            /// <inheritdoc/>
            protected override global::System.Collections.Generic.IEnumerable<{{f.Parameter}}> DecayingParameters => _network.Decaying;
            {{(spec.IsDecoder ? $"""

                /// <inheritdoc/>
                protected override bool CanDecode => true;

                /// <inheritdoc/>
                protected override {f.DecodingNetwork} NewDecodingNetwork({f.WeightPacker} packer) => new Decoding(Layers, packer);
                """ : null)}}
            {{Dispose(model, "_network")}}

            """);
    }

    /// <summary>Returns the method that releases the network's table. The module itself releases the parameters.</summary>
    /// <param name="model">The parts of the model.</param>
    /// <param name="network">The member that holds the network.</param>
    public static string? Dispose(Architecture model, string network) => !model.Positions.HasTable ? null : $$"""

        /// <inheritdoc/>
        protected override void Dispose(bool disposing)
        {
            if (disposing) {{network}}.Dispose();
            base.Dispose(disposing);
        }
        """;

    private static void WriteBlocks(CodeFile f, ModelSpec spec, Architecture model)
    {
        var kinds = BlockKind.Of(spec);
        if (kinds.Count > 1) WriteAnyBlock(f, spec, kinds);
        foreach (var kind in kinds) WriteBlock(f, spec, model, kind, isAlone: kinds.Count == 1);
    }

    // Writes the base class of the kinds of blocks.
    private static void WriteAnyBlock(CodeFile f, ModelSpec spec, IReadOnlyList<BlockKind> kinds)
    {
        var created = kinds.Select((kind, i) =>
            $"{(i == kinds.Count - 1 ? "_" : kind.LayerPattern)} => new {kind.Name}(slice, device),");
        f.Write($$"""
            // One transformer block.
            [Generated]
            internal abstract partial class Block
            {
                // Creates the block of a layer with random weights.
                public static Block Create(int layer, {{f.LayerSlice}} slice, {{f.Device}} device) => layer switch
                {
                    {{string.Join("\n", created)}}
                };

                // Returns the part of this block that a slice keeps.
                public abstract Block Slice({{f.LayerSlice}} slice, bool copy);

                public abstract void Register({{f.Module}} module, string prefix);

                public abstract void Bind({{f.Module}} module, string prefix);

                // The matrices, which weight decay applies to.
                public abstract {{f.Parameter}}[] Decaying { get; }
            }

            """);
    }

    private static void WriteBlock(CodeFile f, ModelSpec spec, Architecture model, BlockKind kind, bool isAlone)
    {
        var block = kind.Block;
        var weights = model.WeightsOf(block).ToList();
        var (bases, overrides) = isAlone ? (null, null) : (" : Block", "override ");
        var axes = (spec.ElasticHeads, spec.ElasticWidth) switch
        {
            (true, true) => "m, h, g and w are the numbers of hidden units, heads, key/value heads and channels.",
            (true, false) => "m, h and g are the numbers of hidden units, heads and key/value heads.",
            (false, true) => "m and w are the numbers of hidden units and channels.",
            _ => "m is the number of hidden units.",
        };
        var width = spec.ElasticWidth ? $"var width = {f.Model}.Spec.WidthOf(slice);\n" : null;
        var slice = isAlone
            ? null
            : $"public override Block Slice({f.LayerSlice} slice, bool copy) => new {kind.Name}(this, slice, copy);\n";
        var prefix = BlockNames.Of(spec.IsVision).Prefix;
        var decaying = OnLines(weights.Where(w => w.Shape.Count >= 2).Select(w => w.Field).ToList());
        f.Write($$"""
            // {{(isAlone ? "One transformer block" : $"A transformer block of {kind.LayersText}")}}; {{axes}}
            [Generated]
            internal sealed partial class {{kind.Name}}{{bases}}
            {
                {{Lines(weights, w => $"public {f.Parameter} {w.Field};  //| {Shape(spec, block, w)} {prefix}*.{w.Name}")}}

                // Creates random weights.
                public {{kind.Name}}({{f.LayerSlice}} slice, {{f.Device}} device)
                {
                    {{width}}{{Lines(weights, w => Drawn(f, spec, block, w))}}
                }

                // Takes the part of another block that a slice keeps.
                public {{kind.Name}}({{kind.Name}} source, {{f.LayerSlice}} slice, bool copy)
                {
                    {{width}}{{Lines(weights, w => Sliced(f, spec, block, w))}}
                }

                {{slice}}
                // The matrices, which weight decay applies to.
                public {{overrides}}{{f.Parameter}}[] Decaying =>{{decaying}};

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

    // Returns a list of names as the body of a property. A long one has several lines.
    private static string OnLines(List<string> names)
    {
        const int onLine = 6;
        if (names.Count <= onLine + 1) return $" [{string.Join(", ", names)}]";
        var lines = names.Select((name, i) => (Name: name, Line: i / onLine)).GroupBy(n => n.Line, n => n.Name);
        return "\n[\n    " + string.Join(",\n    ", lines.Select(line => string.Join(", ", line))) + ",\n]";
    }

    private static void WriteNetwork(CodeFile f, ModelSpec spec, Architecture model)
    {
        var before = model.WeightsBefore.ToList();
        var after = model.WeightsAfter.ToList();
        var weights = before.Concat(after).ToList();
        var table = model.Positions.Table(f);
        var layers = Literals.Of(spec.Layers);
        var isAlone = spec.Kinds.Count() == 1;
        var (maybe, orNone) = spec.CanSkip ? ("?", "layers[layer].IsSkipped ? null : ") : (null, null);
        var create = isAlone ? "new Block(layers[layer], device)" : "Block.Create(layer, layers[layer], device)";
        var source = $"source.Blocks[layer]{(spec.CanSkip ? "!" : null)}";
        var slice = isAlone ? $"new Block({source}, layers[layer], copy)" : $"{source}.Slice(layers[layer], copy)";
        var width = spec.ElasticWidth ? $"var width = {f.Model}.Spec.WidthOf(layers);\n" : null;
        var rest = spec.ElasticWidth ? "the beginning of everything else" : "everything else whole";
        var leftOut = spec.CanSkip ? "  //| null for a layer that is left out" : null;
        f.Write($$"""
            // The weights of one model, whole or sliced, and its computations.
            [Generated]
            internal sealed partial class Network{{(table is not null ? " : global::System.IDisposable" : null)}}
            {
                public readonly Block{{maybe}}[] Blocks = new Block{{maybe}}[{{layers}}];{{leftOut}}
                {{Lines(weights, w => $"public {f.Parameter} {w.Field};  //| {Shape(spec, null, w)} {w.Name}")}}
                {{(table is null ? null : $"public readonly {table.Class} {table.Field};  //| {table.Shape}")}}

                // Creates random weights. Layer i has the size layers[i].
                public Network(global::System.ReadOnlySpan<{{f.LayerSlice}}> layers, {{f.Device}} device)
                {
                    {{width}}{{Lines(before, w => Drawn(f, spec, null, w))}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer] = {{orNone}}{{create}};
                    {{Lines(after, w => Drawn(f, spec, null, w))}}
                    {{MakeTable("device")}}
                }

                // Takes layers[i] of layer i of another network, and {{rest}}.
                public Network(Network source, global::System.ReadOnlySpan<{{f.LayerSlice}}> layers, bool copy)
                {
                    {{width}}{{Lines(before, w => Sliced(f, spec, null, w))}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer] = {{orNone}}{{slice}};
                    {{Lines(after, w => Sliced(f, spec, null, w))}}
                    {{MakeTable(model.Input.Field + ".device")}}
                }

                public global::System.Collections.Generic.IEnumerable<{{f.Parameter}}> Decaying =>
                    global::System.Linq.Enumerable.SelectMany(Blocks, block => block{{(spec.CanSkip ? "!" : null)}}.Decaying);

                public void Register({{f.Module}} module)
                {
                    {{Lines(before, w => $"module.register_parameter(\"{w.Name}\", {w.Field});")}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer]{{maybe}}.Register(module, Declared.Prefix(layer));
                    {{Lines(after, w => $"module.register_parameter(\"{w.Name}\", {w.Field});")}}
                    {{(spec.Routing is null ? null : "Routers?.Register(module, Declared.Prefix);")}}
                }

                // After the module has moved, its parameters are new objects.
                public void Bind({{f.Module}} module)
                {
                    {{Lines(before, w => $"{w.Field} = module.get_parameter(\"{w.Name}\")!;")}}
                    for (var layer = 0; layer < {{layers}}; layer++) Blocks[layer]{{maybe}}.Bind(module, Declared.Prefix(layer));
                    {{Lines(after, w => $"{w.Field} = module.get_parameter(\"{w.Name}\")!;")}}
                    {{(spec.Routing is null ? null : "Routers?.Bind(module, Declared.Prefix);")}}
                    {{(table is null ? null : $"{table.Field}.To({model.Input.Field}.device);")}}
                }
                {{(table is null ? null : $"\npublic void Dispose() => {table.Field}.Dispose();")}}
            }
            """);

        string? MakeTable(string device) =>
            table is null ? null : $"{table.Field} = new {table.Class}({table.Sizes}{device}{table.Options});";
    }

    private static string Drawn(CodeFile f, ModelSpec spec, BlockSpec? block, WeightSpec weight)
    {
        var shape = string.Join(", ", weight.Shape.Select(d => Kept(spec, block, d)));
        var (normal, why) = spec.Kind == ModelKind.TextEncoder ? (0.02, null)
            : (1 / Math.Sqrt(spec.Width), $"  //| 1 / sqrt({Literals.Of(spec.Width)} channels)");
        return weight.Draw switch
        {
            Draw.Ones => $"{weight.Field} = {f.Weights}.Ones(device, {shape});",
            Draw.Zeros => $"{weight.Field} = {f.Weights}.Zeros(device, {shape});",
            Draw.Normal => Random(normal) + why,
            _ => Random(normal / Math.Sqrt(2.0 * spec.Layers))
                + $"  //| {Rounded(normal)} / sqrt(2 * {Literals.Of(spec.Layers)} layers)",
        };

        string Random(double deviation) => $"{weight.Field} = {f.Weights}.Normal({Rounded(deviation)}, device, {shape});";

        static string Rounded(double deviation) => Literals.Of(Math.Round(deviation, 5));
    }

    private static string Sliced(CodeFile f, ModelSpec spec, BlockSpec? block, WeightSpec weight)
    {
        var dimensions = Enumerable.Range(0, weight.Shape.Count).Where(i => IsSliced(spec, weight.Shape[i].Axis)).ToList();
        if (dimensions.Count == 0) return $"{weight.Field} = {f.Weights}.Whole(source.{weight.Field}, copy);";
        if (dimensions.Count > 1 || dimensions[0] > 1)
        {
            var shape = string.Join(", ", weight.Shape.Select(d => Kept(spec, block, d)));
            return $"{weight.Field} = {f.Weights}.First(source.{weight.Field}, copy, {shape});";
        }

        var first = dimensions[0] == 0 ? "Rows" : "Columns";
        return $"{weight.Field} = {f.Weights}.{first}(source.{weight.Field}, {Kept(spec, block, weight.Shape[dimensions[0]])}, copy);";
    }

    // Returns the number of elements of a dimension that a slice keeps.
    private static string Kept(ModelSpec spec, BlockSpec? block, Dimension dimension) => dimension.Axis switch
    {
        Axis.Hidden => "slice.HiddenWidth",
        Axis.Heads when spec.ElasticHeads => $"slice.Heads * {Literals.Of(dimension.Count)}",
        Axis.KeyValueHeads when spec.ElasticHeads && block!.Group > 1 =>
            $"slice.Heads / {Literals.Of(block.Group)} * {Literals.Of(dimension.Count)}",
        Axis.KeyValueHeads when spec.ElasticHeads => $"slice.Heads * {Literals.Of(dimension.Count)}",
        Axis.Heads => Literals.Of(block!.Heads * dimension.Count),
        Axis.KeyValueHeads => Literals.Of(block!.KeyValueHeads * dimension.Count),
        Axis.Channels => Parts.Shape.WidthExpression(spec),
        _ => Literals.Of(dimension.Count),
    };

    private static bool IsSliced(ModelSpec spec, Axis axis) => axis switch
    {
        Axis.None => false,
        Axis.Hidden => true,
        Axis.Channels => spec.ElasticWidth,
        _ => spec.ElasticHeads,
    };

    private static string Shape(ModelSpec spec, BlockSpec? block, WeightSpec weight) =>
        "(" + string.Join(", ", weight.Shape.Select(d => d.Axis switch
        {
            Axis.Hidden => "m",
            Axis.Heads when spec.ElasticHeads => "h*" + Literals.Digits(d.Count),
            Axis.KeyValueHeads when spec.ElasticHeads => "g*" + Literals.Digits(d.Count),
            Axis.Heads => Literals.Digits(block!.Heads * d.Count),
            Axis.KeyValueHeads => Literals.Digits(block!.KeyValueHeads * d.Count),
            Axis.Channels when spec.ElasticWidth => "w",
            _ => Literals.Digits(d.Count),
        })) + ")";

    private static string Lines(IEnumerable<WeightSpec> weights, Func<WeightSpec, string> line) => string.Join("\n", weights.Select(line));
}
