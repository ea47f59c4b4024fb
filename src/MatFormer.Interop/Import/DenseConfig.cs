using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// The contents of a <c>config.json</c> of Hugging Face's transformers, in the terms of declarations. Missing values have transformers'
/// defaults.
/// </summary>
internal sealed record DenseConfig
{
    public const string FileName = "config.json";

    private const string Qwen2 = "qwen2";

    // The default of transformers' Mistral, and of its Qwen if that uses a window.
    private const int UsualWindow = 4096;

    public required string Path { get; init; }

    public required string ModelType { get; init; }

    public required int Vocabulary { get; init; }

    public required int Width { get; init; }

    public required int Context { get; init; }

    public required int Heads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int HeadWidth { get; init; }

    /// <summary>The number of hidden units of each layer.</summary>
    public required ImmutableArray<int> HiddenWidths { get; init; }

    /// <summary>The number of tokens that each layer attends to, or 0 for all.</summary>
    public required ImmutableArray<int> Windows { get; init; }

    public required Activation Activation { get; init; }

    public required bool Bias { get; init; }

    /// <summary>Whether queries, keys and values have biases.</summary>
    public required bool AttentionBias { get; init; }

    /// <summary>Whether the output of attention has a bias. In Qwen 2 it has none, and everywhere else if the others have one.</summary>
    public bool OutputBias => AttentionBias && ModelType != Qwen2;

    public required bool QkNorm { get; init; }

    public required double RotaryBase { get; init; }

    /// <summary>The scaling of rotary positions, or null if they are not scaled.</summary>
    public required RotaryScaling? RotaryScaling { get; init; }

    public required double NormEpsilon { get; init; }

    public required bool TiedHead { get; init; }

    public int Layers => HiddenWidths.Length;

    /// <summary>Returns the path of <c>config.json</c> in a folder, or beside a file.</summary>
    public static string PathFor(string weights)
    {
        ArgumentException.ThrowIfNullOrEmpty(weights);
        if (Directory.Exists(weights)) return System.IO.Path.Combine(weights, FileName);
        var folder = System.IO.Path.GetDirectoryName(weights);
        return string.IsNullOrEmpty(folder) ? FileName : System.IO.Path.Combine(folder, FileName);
    }

    /// <summary>Reads a file.</summary>
    /// <exception cref="CheckpointException">
    /// The file is damaged, or describes parts that no declaration can express. The message lists all such parts.
    /// </exception>
    public static DenseConfig Read(string path) =>
        JsonFile.Read(path, "give a folder that has one", root => Read(path, new ConfigReader(path, root)));

    private static DenseConfig Read(string path, ConfigReader config)
    {
        var type = config.Text("model_type");
        var undeclarable = UndeclarableParts.Of(config).ToList();
        if (undeclarable.Count > 0)
        {
            throw new CheckpointException(path, $"describes a model that cannot be declared, because declarations have no word for: "
                + $"{string.Join("; ", undeclarable)}. See docs/import.md for what can be imported.");
        }

        var width = config.Size("hidden_size");
        var heads = config.Size("num_attention_heads");
        if (!config.Has("head_dim") && (type == "qwen3" || width % heads != 0)) throw config.Lacks("head_dim");
        return Checked(config, new DenseConfig
        {
            Path = path,
            ModelType = type,
            Vocabulary = config.Size("vocab_size"),
            Width = width,
            Context = config.Size("max_position_embeddings"),
            Heads = heads,
            KeyValueHeads = config.Has("num_key_value_heads") ? config.Size("num_key_value_heads") : heads,
            HeadWidth = config.Has("head_dim") ? config.Size("head_dim") : width / heads,
            HiddenWidths = config.Sizes("intermediate_size", config.Layers),
            Windows = WindowsOf(type, config),
            Activation = UndeclarableParts.ActivationOf(type, config.Text("hidden_act"))!.Value,
            Bias = !IsQwen(type) && config.Flag("mlp_bias"),
            AttentionBias = type == Qwen2 || config.Flag("attention_bias"),
            QkNorm = type == "qwen3",
            RotaryBase = config.Number("rope_theta", 10000),
            RotaryScaling = ScalingOf(config.Rotary),
            NormEpsilon = config.Has("rms_norm_eps") ? config.Number("rms_norm_eps", 0) : throw config.Lacks("rms_norm_eps"),
            TiedHead = config.Flag("tie_word_embeddings"),
        });
    }

    private static DenseConfig Checked(ConfigReader config, DenseConfig read)
    {
        if (read.Heads % read.KeyValueHeads != 0) throw config.Wrong("num_key_value_heads", "a number that divides num_attention_heads");
        if (read.HeadWidth % 2 != 0) throw config.Wrong("head_dim", "an even number, because rotary positions rotate pairs");
        if (!(read.RotaryBase > 1) || !double.IsFinite(read.RotaryBase)) throw config.Wrong("rope_theta", "a number above 1");
        if (!(read.NormEpsilon > 0) || !double.IsFinite(read.NormEpsilon)) throw config.Wrong("rms_norm_eps", "a number above 0");
        return read;
    }

    private static RotaryScaling? ScalingOf(ConfigReader? config)
    {
        if (config?.ScalingType is not { } type || UndeclarableParts.ScalingOf(type) is not { } kind) return null;
        var factor = Number("factor");
        if (factor < 1) throw config.Wrong("factor", "a number of 1 or more");
        var scaling = new RotaryScaling(kind, factor);
        if (kind == RotaryScalingKind.Llama3)
        {
            scaling = scaling with
            {
                OriginalContext = config.Size("original_max_position_embeddings"),
                LowFrequencyFactor = Number("low_freq_factor"),
                HighFrequencyFactor = Number("high_freq_factor"),
            };
            if (scaling.HighFrequencyFactor <= scaling.LowFrequencyFactor)
                throw config.Wrong("high_freq_factor", $"a number above low_freq_factor, which is {Text(scaling.LowFrequencyFactor)}");
        }

        return factor == 1 ? null : scaling;

        double Number(string key)
        {
            var number = config.Has(key) ? config.Number(key, 0) : throw config.Lacks(key);
            return number > 0 && double.IsFinite(number) ? number : throw config.Wrong(key, "a number above 0");
        }
    }

    private static bool IsQwen(string type) => type is Qwen2 or "qwen3";

    // In transformers, Llama has no windows, Mistral has one in all layers, and Qwen has one where the file says so.
    private static ImmutableArray<int> WindowsOf(string type, ConfigReader config)
    {
        var layers = config.Layers;
        var hasWindows = type == "mistral" || (IsQwen(type) && config.Flag("use_sliding_window"));
        var window = !hasWindows ? 0
            : !config.IsSaid("sliding_window") ? UsualWindow
            : config.Has("sliding_window") ? config.Size("sliding_window") : 0;
        if (IsQwen(type) && window > 0)
        {
            var first = config.Has("max_window_layers") ? config.Number("max_window_layers", 0) : 28;
            var types = config.Has("layer_types") ? config.Texts("layer_types", layers) : default;
            return [.. Enumerable.Range(0, layers).Select(layer =>
                (types.IsDefault ? layer >= first : types[layer] == UndeclarableParts.SlidingAttention) ? window : 0)];
        }

        return [.. Enumerable.Repeat(window, layers)];
    }

    /// <summary>Checks that a declaration computes the same and has the same shapes.</summary>
    /// <exception cref="CheckpointException">The declaration differs. The message names all differences and what to declare.</exception>
    public void CheckFits(ModelSpec spec)
    {
        var differences = Differences(spec).ToList();
        if (differences.Count == 0) return;
        throw new CheckpointException(Path, $"describes another model than {spec.Name}: {string.Join("; ", differences)}. To print the "
            + "whole declaration, run import --declare.");
    }

    private IEnumerable<string> Differences(ModelSpec spec)
    {
        if (Layers != spec.Layers) yield return Differs("num_hidden_layers", Layers, $"[MatLM(Layers = {Layers})]", spec.Layers);
        if (Width != spec.Width) yield return Differs("hidden_size", Width, $"[MatLM(Width = {Width})]", spec.Width);
        if (Heads != spec.Blocks[0].Heads)
            yield return Differs("num_attention_heads", Heads, $"[MatLM(Heads = {Heads})]", spec.Blocks[0].Heads);
        if (HeadWidth != spec.HeadWidth)
            yield return Differs("head_dim", HeadWidth, $"[Attention(HeadWidth = {HeadWidth})]", spec.HeadWidth);
        if (Vocabulary != spec.Vocabulary)
            yield return Differs("vocab_size", Vocabulary, $"[MatLM(Vocabulary = {Vocabulary})]", spec.Vocabulary);
        if (Context < spec.Context)
            yield return Differs("max_position_embeddings", Context, $"[MatLM(Context = {Context})] or less", spec.Context);
        if (spec.Position != PositionKind.Rotary)
            yield return $"{ModelType} has rotary positions, so leave [Position(PositionKind.{spec.Position})] out";
        else if ((float)RotaryBase != (float)spec.RotaryBase)
            yield return Differs("rope_theta", RotaryBase, $"[Attention(RotaryBase = {Text(RotaryBase)})]", spec.RotaryBase);
        if (spec.Position == PositionKind.Rotary && RotaryScaling != spec.RotaryScaling)
        {
            yield return RotaryScaling is null ? "its rotary positions are not scaled, so leave [RotaryScaling] out"
                : $"its rotary positions are scaled, so declare {RotaryScaling.ToDeclaration()}"
                    + (spec.RotaryScaling is { } declared ? $", not {declared.ToDeclaration()}" : string.Empty);
        }

        if (spec.Norm != NormKind.Rms || (float)NormEpsilon != (float)spec.NormEpsilon)
        {
            yield return Differs(
                "rms_norm_eps", NormEpsilon, $"[Norm(NormKind.Rms, Epsilon = {Text(NormEpsilon)})]", spec.NormEpsilon,
                spec.Norm == NormKind.Rms ? string.Empty : $" of NormKind.{spec.Norm}");
        }

        if (QkNorm != spec.QkNorm) yield return $"{ModelType} {(QkNorm ? "norms" : "does not norm")} queries and keys, so declare "
            + $"[Attention(QkNorm = {Text(QkNorm)})]";
        if ((AttentionBias, OutputBias) != (spec.AttentionBias, spec.OutputBias))
        {
            var isUsual = OutputBias == AttentionBias && spec.OutputBias == spec.AttentionBias;
            var output = isUsual ? string.Empty : $", OutputBias = {Text(OutputBias)}";
            yield return (ModelType == Qwen2 ? "qwen2 has biases of queries, keys and values" : $"attention_bias is {Text(AttentionBias)}")
                + $", so declare [Attention(Bias = {Text(AttentionBias)}{output})]";
        }

        if (TiedHead != spec.TiedHead)
            yield return $"tie_word_embeddings is {Text(TiedHead)}, so declare [Embedding(Tied = {Text(TiedHead)})]";

        // Of each property that may differ between layers, only the first layer that does not fit is reported.
        foreach (var difference in (Func<int, BlockSpec, string?>[])[OfKeyValueHeads, OfHidden, OfActivation, OfBias, OfWindow])
        {
            var first = spec.Blocks.Take(Layers).Select((block, layer) => difference(layer, block)).FirstOrDefault(text => text != null);
            if (first is not null) yield return first;
        }

        string? OfKeyValueHeads(int layer, BlockSpec block) => block.KeyValueHeads == KeyValueHeads ? null
            : Differs(
                "num_key_value_heads", KeyValueHeads, $"[Attention(KeyValueHeads = {KeyValueHeads})]", block.KeyValueHeads, In(layer));
        string? OfHidden(int layer, BlockSpec block) => block.HiddenWidth == HiddenWidths[layer] ? null
            : Differs("intermediate_size", HiddenWidths[layer], $"[FeedForward({HiddenWidths[layer]}, ...)]", block.HiddenWidth, In(layer));
        string? OfActivation(int layer, BlockSpec block) => block.Activation == Activation ? null
            : $"hidden_act gives Activation.{Activation}, so declare [FeedForward(..., Activation.{Activation})], "
                + $"not {block.Activation}{In(layer)}";
        string? OfBias(int layer, BlockSpec block) => block.Bias == Bias ? null
            : $"mlp_bias is {Text(Bias)}, so declare [FeedForward(..., Bias = {Text(Bias)})]{In(layer)}";
        string? OfWindow(int layer, BlockSpec block)
        {
            var (its, declared) = (Effective(Windows[layer]), Effective(block.Window));
            if (its == declared) return null;
            return its == 0 ? $"it attends to all earlier tokens, so declare no [Attention(Window = {declared})]{In(layer)}"
                : $"it attends to {its} tokens, so declare [Attention(Window = {its})]{In(layer)}";
        }

        int Effective(int window) => window < spec.Context ? window : 0;
    }

    /// <summary>Returns a number as C# source text.</summary>
    public static string Text(double number) => number.ToString("R", CultureInfo.InvariantCulture).ToLowerInvariant();

    /// <summary>Returns a boolean as C# source text.</summary>
    public static string Text(bool flag) => flag ? "true" : "false";

    private static string Differs(string key, double value, string declare, double declared, string where = "") =>
        $"{key} is {Text(value)}, so declare {declare}, not {Text(declared)}{where}";

    private static string In(int layer) => string.Create(CultureInfo.InvariantCulture, $" in layer {layer}");
}
