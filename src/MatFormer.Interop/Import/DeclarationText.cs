using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>Prints declarations as C# source text.</summary>
internal static class DeclarationText
{
    private const int Eighths = 8;
    private const int LongContext = 4096;
    private static readonly (string Name, int Eighths)[] Sizes = [("S", 1), ("M", 2), ("L", 4), ("XL", Eighths)];

    /// <summary>Returns the declaration that fits a dense model.</summary>
    /// <exception cref="CheckpointException">The model has too few hidden units for more than one size.</exception>
    public static string Of(DenseConfig config, string name)
    {
        var text = new StringBuilder("using MatFormer;\n\n");
        text.Append(CultureInfo.InvariantCulture, $"/// <summary>The shape of a dense model of the type {config.ModelType}.</summary>\n");
        text.Append(CultureInfo.InvariantCulture, $"[MatLM(Layers = {config.Layers}, Width = {config.Width}, Heads = {config.Heads}, ");
        var remark = config.Context > LongContext ? " // Context may be less: training reads windows of that length" : string.Empty;
        text.Append(CultureInfo.InvariantCulture, $"Context = {config.Context}, Vocabulary = {config.Vocabulary})]{remark}\n");
        var bias = config.Bias ? ", Bias = true" : string.Empty;
        foreach (var (width, where) in Shared(config.HiddenWidths))
            text.Append(CultureInfo.InvariantCulture, $"[FeedForward({width}, Activation.{config.Activation}{bias}{where})]\n");
        WriteAttentions(text, config);
        if (config.RotaryScaling is { } scaling) text.Append(CultureInfo.InvariantCulture, $"{scaling.ToDeclaration()}\n");
        if (config.NormEpsilon != 1e-5)
            text.Append(CultureInfo.InvariantCulture, $"[Norm(NormKind.Rms, Epsilon = {DenseConfig.Text(config.NormEpsilon)})]\n");
        if (!config.TiedHead) text.Append("[Embedding(Tied = false)]\n");
        WriteGranularities(text, config);
        return text.Append(CultureInfo.InvariantCulture, $"public sealed partial class {name};\n").ToString();
    }

    private static void WriteAttentions(StringBuilder text, DenseConfig config)
    {
        var arguments = new List<string>();
        if (config.KeyValueHeads != config.Heads) arguments.Add(Argument("KeyValueHeads", config.KeyValueHeads));
        if ((long)config.HeadWidth * config.Heads != config.Width) arguments.Add(Argument("HeadWidth", config.HeadWidth));
        if (config.RotaryBase != 10000) arguments.Add("RotaryBase = " + DenseConfig.Text(config.RotaryBase));
        if (config.QkNorm) arguments.Add("QkNorm = true");
        if (config.AttentionBias) arguments.Add(config.OutputBias ? "Bias = true" : "Bias = true, OutputBias = false");

        // A window as long as the context has no effect.
        var windows = Groups([.. config.Windows.Select(window => window < config.Context ? window : 0)]);
        if (windows is [( > 0 and var everywhere, _)]) arguments.Add(Argument("Window", everywhere));
        if (arguments.Count > 0) text.Append(CultureInfo.InvariantCulture, $"[Attention({string.Join(", ", arguments)})]\n");
        if (windows.Count == 1) return;
        foreach (var (window, layers) in windows.Where(group => group.Value > 0))
            text.Append(CultureInfo.InvariantCulture, $"[Attention(Window = {window}, Layers = \"{Ranges(layers)}\")]\n");
    }

    // Writes shares if they give whole numbers in all layers, and otherwise the widths of each layer.
    private static void WriteGranularities(StringBuilder text, DenseConfig config)
    {
        if (config.HiddenWidths.All(width => width % Eighths == 0))
        {
            var shares = Sizes.Select(size =>
                FormattableString.Invariant($"Granularity(\"{size.Name}\", {size.Eighths / (double)Eighths:0.0##})"));
            text.Append(CultureInfo.InvariantCulture, $"[{string.Join(", ", shares)}]\n");
            return;
        }

        var sizes = Sizes
            .Select(size => (size.Name, Widths: config.HiddenWidths.Select(all => Share(all, size.Eighths)).ToImmutableArray()))
            .DistinctBy(size => string.Join(',', size.Widths)).ToList();
        if (sizes.Count < 2)
            throw new CheckpointException(config.Path, "describes layers with one hidden unit, so no smaller size can be nested in them.");
        foreach (var (name, widths) in sizes)
        {
            var ofLayers = Shared(widths).Select(group =>
                FormattableString.Invariant($"Granularity(\"{name}\", {group.Value}{group.Where})"));
            text.Append(CultureInfo.InvariantCulture, $"[{string.Join(", ", ofLayers)}]\n");
        }

        static int Share(int all, int eighths) => (int)Math.Max(1, (long)all * eighths / Eighths);
    }

    // The value that most layers have, then the other values with their layers.
    private static IEnumerable<(int Value, string Where)> Shared(ImmutableArray<int> ofLayers) =>
        Groups(ofLayers).Select((group, i) => (group.Value, i == 0 ? string.Empty : $", Layers = \"{Ranges(group.Layers)}\""));

    // The layers of each value, with the most frequent value first.
    private static List<(int Value, List<int> Layers)> Groups(ImmutableArray<int> ofLayers) =>
        [.. ofLayers.Select((value, layer) => (value, layer)).GroupBy(pair => pair.value, pair => pair.layer)
            .OrderByDescending(group => group.Count()).Select(group => (group.Key, group.ToList()))];

    // Writes 0, 1, 2, 5 as 0-2, 5.
    private static string Ranges(List<int> layers)
    {
        var ranges = new List<(int First, int Last)>();
        foreach (var layer in layers)
        {
            if (ranges is [.., var (first, last)] && last + 1 == layer) ranges[^1] = (first, layer);
            else ranges.Add((layer, layer));
        }

        return string.Join(", ", ranges.Select(range =>
            range.First == range.Last ? Text(range.First) : Text(range.First) + "-" + Text(range.Last)));
    }

    private static string Argument(string name, int value) => $"{name} = {Text(value)}";

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>Returns the attribute that declares a scaling.</summary>
    public static string ToDeclaration(this RotaryScaling scaling)
    {
        var text = string.Create(
            CultureInfo.InvariantCulture, $"[RotaryScaling(RotaryScalingKind.{scaling.Kind}, {DenseConfig.Text(scaling.Factor)}");
        if (scaling.Kind == RotaryScalingKind.Linear) return text + ")]";
        text += string.Create(CultureInfo.InvariantCulture, $", OriginalContext = {scaling.OriginalContext}");
        if (scaling.LowFrequencyFactor != RotaryScaling.UsualLow)
            text += $", LowFrequencyFactor = {DenseConfig.Text(scaling.LowFrequencyFactor)}";
        if (scaling.HighFrequencyFactor != RotaryScaling.UsualHigh)
            text += $", HighFrequencyFactor = {DenseConfig.Text(scaling.HighFrequencyFactor)}";
        return text + ")]";
    }
}
