using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using static System.FormattableString;

namespace MatFormer.Generators.Model;

/// <summary>A hash of the architecture. Models with the same hash can load each other's weights.</summary>
internal static class Fingerprint
{
    /// <summary>Returns the first 16 hexadecimal digits of the SHA-256 of <see cref="Canonical"/>.</summary>
    public static string Of(ModelSpec spec) => Hash(Canonical(spec));

    /// <summary>Returns the first 16 hexadecimal digits of the SHA-256 of a text in UTF-8.</summary>
    public static string Hash(string text)
    {
        using var sha = SHA256.Create();
        var hash = sha.ComputeHash(Encoding.UTF8.GetBytes(text));
        return string.Concat(hash.Take(8).Select(b => b.ToString("x2", CultureInfo.InvariantCulture)));
    }

    /// <summary>
    /// Returns the architecture as text, without the class's name and the profiles. Weight files depend on this text: never change what an
    /// existing declaration gives.
    /// </summary>
    public static string Canonical(ModelSpec spec)
    {
        var block = spec.Blocks[0];
        var granularities = string.Join(
            ",", spec.Granularities.Select(g => Invariant($"{g.Name}:{List(g.Layers.Select(l => l.HiddenWidth))}")));
        var parts = new List<string>
        {
            spec.Kind switch { ModelKind.VisionTransformer => "MatViT/1", ModelKind.TextEncoder => "MatEncoder/1", _ => "MatLM/1" },
            Invariant($"layers={spec.Layers}"),
            Invariant($"width={spec.Width}"),
            Invariant($"heads={block.Heads}"),
            "key_value_heads=" + List(spec.Blocks.Select(b => b.KeyValueHeads)),
            Invariant($"head_width={spec.HeadWidth}"),
            Invariant($"context={spec.Context}"),
            Invariant($"vocabulary={spec.Vocabulary}"),
            "hidden=" + List(spec.Blocks.Select(b => b.HiddenWidth)),
            "activation=" + List(spec.Blocks.Select(b => b.Activation)),
            "bias=" + List(spec.Blocks.Select(b => b.Bias)),
            Invariant($"norm={spec.Norm}({spec.Epsilon:R})"),
            spec.Rotary ? Invariant($"position=Rotary({spec.RotaryBase:R})") : Invariant($"position={spec.Position}"),
            Invariant($"qk_norm={spec.QkNorm}"),
            Invariant($"tied={spec.Tied}"),
            "granularities=" + granularities,
        };
        if (spec.AttentionBias) parts.Add(spec.OutputBias ? "attention_bias=True" : "attention_bias=QueryKeyValue");
        if (spec.RotaryScaling is { } scaling)
        {
            parts.Add(
                Invariant($"rotary_scaling={scaling.Kind}({scaling.Factor:R},{scaling.OriginalContext},")
                + Invariant($"{scaling.LowFrequencyFactor:R},{scaling.HighFrequencyFactor:R})"));
        }

        if (!spec.IsDecoder) parts.Add(Invariant($"pooling={spec.Pooling}"));
        if (spec.Image is { } image)
            parts.Add(Invariant($"image={image.Size}/{image.Patch}x{image.Channels};classes={image.Classes}"));
        if (spec.Embedding is { } embedding)
            parts.Add(Invariant($"embedding={embedding.Width};dimensions={string.Join(",", embedding.Dimensions)}"));
        if (spec.Blocks.Any(b => b.Window > 0)) parts.Add("window=" + List(spec.Blocks.Select(b => b.Window)));
        if (spec.ElasticHeads)
        {
            var heads = spec.Granularities.Select(g => Invariant($"{g.Name}:{List(g.Layers.Select(l => l.Heads))}"));
            parts.Add("granularity_heads=" + string.Join(",", heads));
        }

        // One set of weights serves all budgets, so they are not part of the architecture; but a language model has thresholds for each.
        if (spec.Routing is { } routing)
        {
            parts.Add("routing=" + string.Join(",", routing.Layers));
            if (spec.IsDecoder) parts.Add("budgets=" + string.Join(",", routing.Budgets.Select(budget => Invariant($"{budget:R}"))));
        }

        // The grids are not part of the architecture either.
        if (spec.Lookup is { } lookup) parts.Add(Invariant($"lookup={lookup.Hidden}"));

        if (spec.ElasticWidth)
        {
            var widths = spec.Granularities.Select(g => Invariant($"{g.Name}:{spec.WidthOf(g.Layers)}"));
            parts.Add("granularity_width=" + string.Join(",", widths));
        }

        return string.Join(";", parts);
    }

    // Writes the values of all layers as runs, or a single value if all layers have the same.
    private static string List<T>(IEnumerable<T> values)
    {
        var runs = Pattern.Runs(values.ToList()).ToList();
        return runs.Count == 1
            ? Invariant($"{runs[0].Item}")
            : string.Join("/", runs.Select(run => Invariant($"{run.Count}*{run.Item}")));
    }
}
