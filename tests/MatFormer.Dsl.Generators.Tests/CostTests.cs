using System.Collections;
using System.Collections.Immutable;
using System.Reflection;
using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>The constants of generated code equal what is counted in the models themselves.</summary>
public sealed class CostTests
{
    public static TheoryData<string> CaseNames => Cases.ValidNames;

    [Theory]
    [MemberData(nameof(CaseNames))]
    public void ConstantsEqualTheCountsOfTheModels(string name)
    {
        var type = LoadModel(name);
        var spec = (MatFormer.ModelSpec)type.GetProperty("Spec")!.GetValue(null)!;
        using (var whole = (MatFormerModel)Activator.CreateInstance(type, [null])!) Check(whole, type, spec);
        foreach (var profile in Profiles(type))
        {
            var nested = type.GetNestedType((string)profile.GetType().GetProperty("Name")!.GetValue(profile)!)!;
            using var slice = (MatFormerModel)Activator.CreateInstance(nested, [null])!;
            Check(slice, nested, spec);
        }
    }

    [Theory]
    [MemberData(nameof(CaseNames))]
    public void ASliceHasTheShapesOfAModelMadeForItsProfile(string name)
    {
        var type = LoadModel(name);
        using var whole = (MatFormerModel)Activator.CreateInstance(type, [null])!;
        foreach (var profile in Profiles(type))
        {
            using var slice = (MatFormerModel)type.GetMethod("Extract", 0, [profile.GetType()])!.Invoke(whole, [profile])!;
            using var view = (MatFormerModel)type.GetMethod("View", 0, [profile.GetType()])!.Invoke(whole, [profile])!;
            using var made = (MatFormerModel)type.GetMethod("CreateSubmodel")!.Invoke(null, [profile, null])!;
            Assert.Equal(Shapes(made), Shapes(slice));
            Assert.Equal(Shapes(made), Shapes(view));
            Assert.All(slice.parameters(), parameter => Assert.True(parameter.requires_grad));
            Assert.All(view.parameters(), parameter => Assert.False(parameter.requires_grad));
        }
    }

    // The matrices that also the lookup tokens are multiplied by.
    private static readonly string[] s_ofLookupTokens =
        [".lookup.key.weight", ".lookup.value.weight", ".lookup.up.weight", ".lookup.down.weight"];

    // Counts by the paper's definitions, from the names and shapes of the parameters alone.
    private static void Check(MatFormerModel model, Type type, MatFormer.ModelSpec spec)
    {
        var isDecoder = spec.Kind == MatFormer.ModelKind.LanguageModel;
        long all = 0, embeddings = 0, matrices = 0, head = 0, patches = 0, routers = 0, ofAllTokens = 0;
        foreach (var (name, parameter) in model.named_parameters())
        {
            var elements = parameter.shape.Aggregate(1L, (product, size) => product * size);
            if (name.Contains(".router.", StringComparison.Ordinal))
            {
                routers += elements;
                continue;
            }

            all += elements;
            var isEmbedding = name is "model.embed_tokens.weight" or "model.embed_positions.weight" or "model.class_token"
                or "lm_head.weight"
                || name.StartsWith("vit.embeddings.", StringComparison.Ordinal)
                || name.StartsWith("classifier.", StringComparison.Ordinal);
            if (isEmbedding) embeddings += elements;
            else if (s_ofLookupTokens.Any(part => name.EndsWith(part, StringComparison.Ordinal))) ofAllTokens += elements;
            else if (parameter.shape.Length == 2 && name != "projection.weight") matrices += elements;
            if (name is "lm_head.weight" or "classifier.weight" or "projection.weight") head = elements;
            else if (name is "model.embed_tokens.weight" && isDecoder && head == 0) head = elements;
            else if (name is "vit.embeddings.patch_embeddings.projection.weight") patches = elements;
        }

        // A class token is one more position.
        long attention = 0, cache = 0, cross = 0;
        var tokens = spec.Image is { } pixels ? pixels.Size / pixels.Patch * (pixels.Size / pixels.Patch) : spec.Context;
        if (!isDecoder && spec.Pooling.ToString() == nameof(MatFormer.Pooling.ClassToken)) tokens++;
        var lookupTokens = tokens;
        if (spec.Lookup is { } lookup) tokens = lookup.Grids[^1] * lookup.Grids[^1];
        for (var layer = 0; layer < spec.Layers; layer++)
        {
            // Each position of a full context needs one multiply-add per key, head and component, for scores and for values.
            var (block, slice) = (spec.Blocks[layer], model.Layers[layer]);
            if (slice.IsSkipped) continue;
            var groups = slice.Heads / (block.Heads / block.KeyValueHeads);
            long total = 0;
            for (var position = 0; position < tokens; position++)
            {
                var keys = !isDecoder ? tokens : block.Window == 0 ? position + 1 : Math.Min(position + 1, block.Window);
                total += 2L * 2 * (block.Heads / block.KeyValueHeads) * spec.HeadWidth * keys;
            }

            attention += groups * (isDecoder ? total / tokens : total);
            if (isDecoder) cache += 2L * groups * spec.HeadWidth * 4;

            // Compressed tokens gather by scores and values, and all layers but the last give values back.
            if (spec.Lookup is not null) cross += 2L * (layer < spec.Layers - 1 ? 3 : 2) * tokens * lookupTokens * spec.Width;
        }

        // A decoder computes one token; an encoder computes a whole image or text, and one vector in the end.
        var places = spec.Image is { } image ? image.Size / image.Patch * (image.Size / image.Patch) : 0;
        var flops = (2 * matrices * (isDecoder ? 1 : tokens)) + (2 * places * patches) + (2 * head) + attention
            + (2 * ofAllTokens * lookupTokens) + cross;
        var counted = isDecoder ? "FlopsPerToken" : spec.Image is null ? "FlopsPerText" : "FlopsPerImage";

        // The costs are those of slices, which have no routers. Each routed layer has a row for each granularity, and a scale. A language
        // model has thresholds for each budget too.
        var routed = model.IsUniversal ? spec.Routing?.Layers.Length ?? 0 : 0;
        var thresholds = isDecoder && spec.Routing is { } routing ? routing.Budgets.Length * (spec.Granularities.Length - 1) : 0;
        Assert.Equal(routed * ((spec.Granularities.Length * (long)spec.Width) + 1 + thresholds), routers);
        Assert.Equal(all, Constant(type, "ParameterCount"));
        Assert.Equal(all - embeddings, Constant(type, "NonEmbeddingParameterCount"));
        Assert.Equal(flops, Constant(type, counted));
        if (isDecoder) Assert.Equal(cache, Constant(type, "KeyValueCacheBytesPerToken"));

        if (type.GetField("WeightBytes") is not null) CheckBits(model, type);

        var layers = model.Layers.AsSpan();
        Assert.Equal(Constant(type, "ParameterCount"), spec.ParameterCount(layers));
        Assert.Equal(Constant(type, "NonEmbeddingParameterCount"), spec.NonEmbeddingParameterCount(layers));
        Assert.Equal(flops, spec.Flops(layers));
        Assert.Equal(cache, spec.KeyValueCacheBytesPerToken(layers));
        Assert.Equal(
            layers.ToArray().Where(l => !l.IsSkipped).Select(l => (long)l.HiddenWidth),
            Kept(model).Select(layer => Rows(layer, "mlp.up_proj", "intermediate.dense")));
        Assert.Equal(
            layers.ToArray().Where(l => !l.IsSkipped).Select(l => (long)l.Heads * spec.HeadWidth),
            Kept(model).Select(layer => Rows(layer, "self_attn.q_proj", "attention.attention.query")));

        long Rows(int layer, string llama, string vit) => model.get_parameter(
            spec.Image is null ? $"model.layers.{layer}.{llama}.weight" : $"vit.encoder.layer.{layer}.{vit}.weight")!.shape[0];
    }

    // A matrix has its bits and two bytes for each 32 columns of a row. Everything else is float32.
    private static void CheckBits(MatFormerModel model, Type type)
    {
        var bits = (int)type.GetField("Bits")!.GetRawConstantValue()!;
        long bytes = 0;
        foreach (var (name, parameter) in model.named_parameters())
        {
            var isMatrix = parameter.shape.Length == 2 && name != "model.embed_positions.weight";
            bytes += !isMatrix ? 4 * parameter.numel()
                : (parameter.numel() * bits / 8) + (2 * parameter.shape[0] * (long)Math.Ceiling(parameter.shape[1] / 32.0));
        }

        Assert.Equal(bytes, Constant(type, "WeightBytes"));
        Assert.Equal(bits, model.ProfileBits);
    }

    private static IEnumerable<int> Kept(MatFormerModel model) =>
        Enumerable.Range(0, model.Layers.Length).Where(layer => !model.Layers[layer].IsSkipped);

    private static Type LoadModel(string name) => GeneratorRun.Of(Cases.All[name]).Load().GetTypes().Single(t => t.Name == name);

    private static IEnumerable<object> Profiles(Type type) => new[] { "Granularities", "Profiles" }
        .SelectMany(list => ((IEnumerable)type.GetProperty(list)!.GetValue(null)!).Cast<object>());

    private static long Constant(Type type, string name) =>
        (long)type.GetField(name, BindingFlags.Public | BindingFlags.Static)!.GetRawConstantValue()!;

    private static List<string> Shapes(MatFormerModel model) =>
        [.. model.named_parameters().Select(p => $"{p.name} {string.Join('x', p.parameter.shape)}")];
}
