using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace MatFormer;

/// <summary>
/// The options of all commands, described for one command of one kind of model. The value of an option that is not given is null.
/// </summary>
internal sealed class CommandOptions(string command, ModelKind kind)
{
    public readonly Option<string?> Data = Text("--data", "PATH", command is "eval" or "plan" or "calibrate"
        ? "Text to measure on: a file, folder or glob; by default that of training"
        : "Text to learn from: a file, folder or glob; by default the .NET SDK's documentation");
    public readonly Option<string?> Tokenizer = Text("--tokenizer", "FILE", command switch
    {
        "train" or "demo" => "tokenizer.json, or 'bytes'; by default the file in --out or beside --init, or bytes",
        "import" => "tokenizer.json, or 'bytes'; by default the file beside --from",
        _ => "tokenizer.json, or 'bytes'; by default the file beside the weights, or bytes",
    });
    public readonly Option<int?> Vocabulary = Number<int>(
        "--vocabulary", 256, "256 or more", "The most tokens to learn; by default as many as the model declares");
    public readonly Option<int?> Steps = Number<int>("--steps", 1, "1 or more", command == "demo"
        ? "Training steps; by default as many as --minutes allows"
        : "Training steps; 1000 by default");
    public readonly Option<int?> Batch = Number<int>("--batch", 1, "1 or more", BatchHelp(command, kind));
    public readonly Option<string?> Objective = Choice(
        "--objective", $"The training objective (docs/objectives.md): {string.Join(", ", Objectives.Names)}; sampled by default",
        [.. Objectives.Names]);
    public readonly Option<double[]?> Probabilities = Numbers(
        "--probabilities", "Relative probabilities, narrowest granularity first; equal by default");
    public readonly Option<double[]?> LossWeights = Numbers(
        "--loss-weights", "Factor for the loss of each granularity, narrowest first; 1 by default");
    public readonly Option<int[]?> Bits = Widths("--bits", command switch
    {
        "eval" => "Also measure the weights rounded to these bits: 32, 8, 4, 2",
        "calibrate-weights" => "Bits at which the model shall be good; 8,4,2 by default",
        _ => "Bits that steps round weights to: 32 (none), 8, 4, 2; those of [Precision] by default",
    });
    public readonly Option<double[]?> BitWeights = Numbers("--bit-weights", command == "calibrate-weights"
        ? "Factor for the squared error at each of --bits; 1 by default, 0.1 for 2 bits"
        : "Factor for the loss at each of --bits; 1 by default");
    public readonly Option<string?> Reduction = Choice(
        "--reduction", "How to combine the losses on one batch; mean by default", "mean", "sum");
    public readonly Option<double?> Distillation = Number(
        "--distillation", double.Epsilon, "above 0, at most 1", "Share of the loss that distils the widest granularity; none by "
        + "default", 1);
    public readonly Option<double?> DistillationTemperature = Number(
        "--distillation-temperature", double.Epsilon, "more than 0", "Temperature of the distilled distributions; 1 by default");
    public readonly Option<long?> Seed = Number("--seed", long.MinValue, "a whole number", SeedHelp(command, kind));
    public readonly Option<string?> Device = Choice(
        "--device", "Where to compute; by default CUDA if available, else the CPU", "cpu", "cuda");
    public readonly Option<int?> Threads = Number<int>(
        "--threads", 1, "from 1 to 4096", "Threads on the CPU; by default OMP_NUM_THREADS, or one per physical core", most: 4096);
    public readonly Option<string?> Dtype = Choice(
        "--dtype", "Type of activations and matrix products; bf16 by default if supported", "f32", "bf16");
    public readonly Option<string?> Weights = Choice(
        "--weights", command == "eval" ? "Round the weights as decoding on the CPU would; by default they stay as they are"
            : "Weights for decoding on the CPU (int8: a scale a row; nested: a scale for 32 columns); by default "
                + (command == "generate" ? "those of the profile's Bits, or else as --dtype" : "as --dtype"),
        DecodingWeights.ShortNames);
    public readonly Option<string?> Draft = Text(
        "--draft", "NAME", "A smaller profile that drafts tokens for the model to verify: same text, faster");
    public readonly Option<string?> DraftWeights = Choice(
        "--draft-weights", "Weights that the draft runs with: fewer bits of the same bytes; those of --weights by default",
        DecodingWeights.NestedNames);
    public readonly Option<int?> DraftLength = Number(
        "--draft-length", 1, $"within 1 and {DraftLengths.Longest}", "Tokens to draft at once; by default adapted to speed and acceptance",
        DraftLengths.Longest);
    public readonly Option<string?> Cascade = Text("--cascade", command == "calibrate" ? "NAMES" : "NAME:N", command == "calibrate"
        ? "Smaller profiles that answer while they are sure, narrowest first, such as S or S,M; by default the narrowest granularity"
        : "Smaller profiles that answer while they are surer than N, such as S:0.8 (calibrate finds N)");
    public readonly Option<double?> Routing = Number<double>(
        "--routing", 0, "within 0 and 1", "A budget of [Routing]: each token reads only the hidden units that it chooses", 1);
    public readonly Option<double[]?> Thresholds = Numbers(
        "--thresholds", "Thresholds to measure, within 0 and 1; by default ten of them. 0 and 1 are always measured");
    public readonly Option<double?> CascadeTolerance = Number<double>(
        "--tolerance", 0, "0 or more", "Bits per byte that the cascade may lose against its widest profile; 0.005 by default");
    public readonly Option<string?> Out = Text("--out", "DIR", OutHelp(command, kind));
    public readonly Option<string?> Checkpoint = Text("--checkpoint", "FILE", (command, kind) switch
    {
        ("plan" or "extract" or "calibrate-weights", _) or ("eval", ModelKind.TextEncoder) =>
            "The universal model's weights; model.safetensors in --out by default",
        _ => "Weights, also those of a slice; model.safetensors in --out by default",
    });
    public readonly Option<string?> Init = Text("--init", "PATH", "Initial weights: a file or Hugging Face folder of a MatFormer or a "
        + "dense model");
    public readonly Option<string?> From = Text("--from", "PATH", "A dense Llama-family model: a Hugging Face folder, a .safetensors "
        + "file or index");
    public readonly Option<string?> OrderData = Text("--data", "PATH", "Text to order hidden units by importance: a file, folder or glob; "
        + "none by default");
    public readonly Option<string?> ImportOut = Text("--out", "PATH", "A .safetensors file, or a folder for model.safetensors; "
        + "out/<model> by default");
    public readonly Option<bool> Declare = new("--declare") { Description = "Only print the C# declaration that fits the model" };
    public readonly Option<string?> Images = Text("--data", "DIR", command is "eval" or "plan"
        ? "Images to measure on; by default those of training"
        : "Images: IDX files like MNIST's, CIFAR-10's binary files, or one folder per class");
    public readonly Option<string?> Image = Text("--image", "FILE", "The image to classify, of the model's size");
    public readonly Option<double?> StochasticDepth = Number<double>(
        "--stochastic-depth", 0, "within 0 and 1",
        "Probability of skipping the last layer (earlier ones: less); 0 by default", 1);
    public readonly Option<double?> RoutedShare = Number<double>(
        "--routed-share", 0, "within 0 and 1", "Share of the steps that train routed passes, with [Routing]; 0.5 by default", 1);
    public readonly Option<double?> RoutingBudget = Number<double>(
        "--budget", 0, "within 0 and 1", "Mean share of the hidden units that a token may use, with [Routing]", 1);
    public readonly Option<string?> Pairs = Text("--data", "PATH", command switch
    {
        "eval" or "plan" => "Pairs to measure on (.xml, .tsv or .jsonl); by default those of training",
        "index" => "Pairs whose documents to embed (.xml, .tsv, .jsonl); by default those of training",
        "eval-retrieval" => "Pairs whose queries to measure; by default those of the index",
        _ => "Query-document pairs: XML documentation, .tsv or .jsonl; by default the .NET SDK's",
    });
    public readonly Option<string?> EncoderTokenizer = Text("--tokenizer", "FILE", command is "train" or "demo"
        ? "tokenizer.json, or 'bytes'; by default the file in --out or beside --init, or learnt"
        : "tokenizer.json, or 'bytes'; by default the file beside the weights, or bytes");
    public readonly Option<string?> Index = Text("--index", "FILE", "The index file; index.safetensors in --out by default");
    public readonly Option<string?> Query = Text("--query", "TEXT", "What to search for; by default each line of standard input");
    public readonly Option<int?> Dimension = Number<int>(
        "--dimension", 1, "1 or more", "Leading numbers of embeddings to use, a declared dimension; all by default");
    public readonly Option<int?> Top = Number<int>("--top", 1, "1 or more", "Documents to show; 5 by default");
    public readonly Option<long?> MaxFlopsPerText = Number<long>(
        "--max-flops-per-text", 1, "1 or more", "The most FLOPs for embedding a text");
    public readonly Option<bool> CheapFirst = new("--cheap-first")
    {
        Description = "Try the smallest profile first, larger ones if hits are close; see eval-retrieval"
    };
    public readonly Option<double?> Tolerance = Number<double>(
        "--tolerance", 0, "within 0 and 1", "Recall@10 that cheap first may lose on calibration queries; "
        + Output.Invariant($"{RetrievalEvaluator.DefaultTolerance} by default"), 1);
    public readonly Option<string?> Alone = Text("--alone", "FILE", "Weights to compare with: trained by --probabilities 1,0,... (smallest "
        + "size only)");
    public readonly Option<double?> LabelSmoothing = Number<double>(
        "--label-smoothing", 0, "within 0 and 1", "Share of a target that is spread over all classes; 0 by default", 1);
    public readonly Option<double?> Mixup = Number<double>(
        "--mixup", 0, "0 or more", "Mix images in shares drawn from Beta(N, N); by default 0: no mixing");
    public readonly Option<int?> Grid = Number<int>(
        "--grid", 1, "1 or more", command == "eval" ? "Measure only this grid of compressed tokens, with [Lookup]; by default each declared"
            : "Side of the grid of compressed tokens, with [Lookup]; by default the largest declared");
    public readonly Option<int?> Shift = Number<int>("--shift", 0, "0 or more", "The most pixels to shift an image by; 0 by default");
    public readonly Option<string?> Profile = Text(
        "--profile", "NAME", command == "extract" ? "The size to save: a granularity, a profile, or a pattern such as '4*S 4*M'"
            : "A granularity, a profile, or a pattern such as '4*S 4*M'; by default the whole");
    public readonly Option<string?> Format = Choice(
        "--format", "The file format (docs/export.md); safetensors by default",
        kind switch
        {
            ModelKind.LanguageModel => ["safetensors", "huggingface", "gguf"],
            ModelKind.VisionTransformer => ["safetensors", "huggingface", "onnx"],
            _ => ["safetensors", "onnx"],
        });
    public readonly Option<string?> Type = Choice(
        "--type", "Type of the stored weights; f32 by default"
            + (kind == ModelKind.LanguageModel ? "; q8_0, nested8 (as Q8_0) and nested4 (as Q4_0) only in GGUF" : string.Empty),
        kind == ModelKind.LanguageModel ? ["f32", "f16", "bf16", "q8_0", "nested8", "nested4"] : ["f32", "f16", "bf16"]);
    public readonly Option<string?> Prompt = Text("--prompt", "TEXT", command == "demo"
        ? "Text to continue after training; by default the beginning of held-out text"
        : "Text to continue; empty by default");
    public readonly Option<int?> Tokens = Number<int>("--tokens", 1, "1 or more", command == "plan"
        ? "Tokens in the cache before the timed one; half the context by default"
        : "Tokens to generate; 200 by default");
    public readonly Option<double?> Temperature = Number<double>(
        "--temperature", 0, "0 or more", "Sampling temperature; 0 always takes the most likely token; 0.7 by default");
    public readonly Option<int?> TopK = Number<int>(
        "--top-k", 1, "1 or more", "Sample from the N most likely tokens; all by default");
    public readonly Option<double?> TopP = Number(
        "--top-p", double.Epsilon, "above 0, at most 1", "Sample from the most likely tokens that reach probability N; by "
        + "default 1: all", 1);
    public readonly Option<double?> MinP = Number<double>(
        "--min-p", 0, "within 0 and 1", "Sample from tokens at least N times as likely as the likeliest; by default 0: all", 1);
    public readonly Option<double?> RepetitionPenalty = Number(
        "--repetition-penalty", double.Epsilon, "more than 0", "Divide the logits of earlier tokens by N; by default 1: no penalty");
    public readonly Option<string[]?> Stop = Texts("--stop", "TEXT", "Stop before this text; can be given several times");
    public readonly Option<double?> Minutes = Number("--minutes", double.Epsilon, "more than 0", "Minutes to train for; 4 by default");
    public readonly Option<double?> LearningRate = Number(
        "--learning-rate", double.Epsilon, "more than 0", "Peak learning rate; " + kind switch
        {
            ModelKind.LanguageModel => "0.001 by default",
            ModelKind.VisionTransformer => "0.002 by default",
            _ => "0.003 by default",
        });
    public readonly Option<int?> CheckpointEvery = Number<int>(
        "--checkpoint-every", 1, "1 or more", "Steps between checkpoints; 100 by default");
    public readonly Option<int?> Accumulation = Number<int>(
        "--accumulation", 1, "1 or more", "Batches per step, whose gradients are averaged; 1 by default");
    public readonly Option<bool> RecomputeActivations = new("--recompute-activations")
    {
        Description = "Activation checkpointing: less memory, a quarter to two fifths more time"
    };
    public readonly Option<bool> TensorBoard = new("--tensorboard")
    {
        Description = "Also write the metrics as event files for TensorBoard, into tensorboard in --out"
    };
    public readonly Option<string?> Distributed = Choice(
        "--distributed", "Train on all processes that mpirun or torchrun started (docs/distributed.md)", "mpi", "nccl");
    public readonly Option<string?> Gradients = Choice(
        "--gradients", "Type of gradients between the processes of --distributed; f32 by default", "f32", "bf16");
    public readonly Option<bool> ShardMoments = new("--shard-moments")
    {
        Description = "Divide AdamW's moments among the processes of --distributed (ZeRO-1)"
    };
    public readonly Option<int?> EvaluateEvery = Number<int>(
        "--evaluate-every", 1, "1 or more", "Steps between evaluations on validation data; keeps best.safetensors");
    public readonly Option<int?> Patience = Number<int>(
        "--patience", 1, "1 or more", "Stop after N evaluations without improvement; never by default");
    public readonly Option<int?> Windows = Number<int>("--windows", 1, "1 or more", command switch
    {
        "calibrate-weights" => "Windows of training text to run over, each as long as the context, at most 512; 128 by default",
        "plan" or "calibrate" => "Validation windows, each as long as the context; 16 by default",
        _ => "Validation windows, each as long as the context; 256 by default",
    });
    public readonly Option<int?> Sweep = Number<int>("--sweep", 1, "1 or more", "Measure mixes of every shape at N points of compute "
        + "between the granularities");
    public readonly Option<double?> MaxMsPerToken = Number(
        "--max-ms-per-token", double.Epsilon, "more than 0", "The most milliseconds per decoded token on this machine");
    public readonly Option<long?> MaxMemory = Size(
        "--max-memory", "Memory for the weights (see --weights) and a full key/value cache, as 1.5GiB");
    public readonly Option<long?> MaxParameters = Number<long>(
        "--max-parameters", 1, "1 or more", "The most parameters");
    public readonly Option<long?> MaxFlopsPerToken = Number<long>(
        "--max-flops-per-token", 1, "1 or more", "The most FLOPs for a token's forward pass");
    public readonly Option<double?> MaxMsPerImage = Number(
        "--max-ms-per-image", double.Epsilon, "more than 0", "The most milliseconds per image on this machine");
    public readonly Option<double?> MaxMsPerText = Number(
        "--max-ms-per-text", double.Epsilon, "more than 0", "The most milliseconds per text on this machine");
    public readonly Option<long?> EncoderMemory = Size(
        "--max-memory", "The most memory for the weights, in float32, as 20MB or 1.5GiB");
    public readonly Option<long?> MaxFlopsPerImage = Number<long>(
        "--max-flops-per-image", 1, "1 or more", "The most FLOPs per image");
    public readonly Option<int?> PlanExamples = Number<int>(
        "--examples", 2, "2 or more",
        $"Held-out {(kind == ModelKind.VisionTransformer ? "images" : "pairs")} to measure on; 1024 by default");
    public readonly Option<int?> TextTokens = Number<int>(
        "--tokens", 1, "1 or more", "Tokens of the text that is timed; as many as the context by default");
    public readonly Option<string?> Search = Choice(
        "--search", "All increasing mixes (default), also evolved ones, or also one learned by gradients",
        "increasing", "evolutionary", "learned");
    public readonly Option<int?> Points = Number<int>(
        "--points", 1, "1 or more", "Mixes of the frontier to measure; 12 by default");
    public readonly Option<string?> Name = Text("--name", "NAME", "Name of the planned profile; Planned by default");
    public readonly Option<string?> Report = Text("--report", "FILE", "Write the measurements to an HTML page");
    public readonly Option<bool> Resume = new("--resume")
    {
        Description = "Resume from the checkpoint in --out, which remembers the other options"
    };
    public readonly Option<bool> Overwrite = new("--overwrite")
    {
        Description = command == "extract" ? "Replace a file that exists, such as that of an earlier extract"
            : "Replace the model that an earlier run left in --out"
    };
    public readonly Option<bool> Json = new("--json")
    {
        Description = "Write one JSON document to standard output, and everything else to "
        + "standard error"
    };

    private static string BatchHelp(string command, ModelKind kind) => (command, kind) switch
    {
        ("eval", ModelKind.LanguageModel) => "Windows of text per pass; 16 by default",
        ("eval", ModelKind.VisionTransformer) => "Images per pass; 100 by default",
        ("eval", _) => "Pairs per batch, whose documents are the choices; 64 by default",
        (_, ModelKind.LanguageModel) => "Texts per batch, each as long as the context; 4 by default",
        (_, ModelKind.VisionTransformer) => "Images per batch; 128 by default",
        _ => "Pairs per batch; 512 by default",
    };

    private static string SeedHelp(string command, ModelKind kind) => command switch
    {
        "eval" => "Seed of the mixes that --sweep draws; 1 by default",
        "plan" => "Seed of the evolutionary search; 1 by default",
        "generate" => "Seed of sampling; 1 by default",
        "demo" when kind == ModelKind.LanguageModel => "Seed of weights, data order and sampling; 1 by default",
        _ => "Seed of weights and data order; 1 by default",
    };

    private static string OutHelp(string command, ModelKind kind) => command switch
    {
        "train" or "demo" => "Folder to write the model and all other files to; out/<model> by default",
        "tokenizer" => "Folder to write tokenizer.json to; out/<model> by default",
        "calibrate-weights" => "Folder to write the rounded model.safetensors to, another than that of --checkpoint",
        "extract" => "Folder of the weights, and to write the slice to; out/<model> by default",
        "index" => "Folder of the weights, and to write the index to; out/<model> by default",
        "eval" or "plan" or "calibrate" when kind == ModelKind.LanguageModel =>
            "Folder of the weights and of prepared text; out/<model> by default",
        "search" or "eval-retrieval" => "Folder of the weights and of the index; out/<model> by default",
        _ => "Folder of the weights; out/<model> by default",
    };

    private static Option<string?> Text(string name, string help, string description) => Checked<string?>(name, help, description);

    private static Option<string[]?> Texts(string name, string help, string description)
    {
        var option = Checked<string[]?>(name, help, description);
        option.Arity = ArgumentArity.OneOrMore; // one value each time that the option is given
        return option;
    }

    private static Option<T> Checked<T>(string name, string help, string description)
    {
        var option = new Option<T>(name) { Description = description, HelpName = help };
        option.Validators.Add(result =>
        {
            foreach (var value in result.Tokens.Select(t => t.Value))
            {
                if (value.Length == 0 && name != "--prompt") result.AddError($"{name} is empty; give {help}, or leave it out.");
                if (value.StartsWith("--", StringComparison.Ordinal)) result.AddError($"{name} needs {help} after it, not '{value}'.");
                if (name == "--out" && help == "DIR" && File.Exists(value)) result.AddError($"--out '{value}' is a file; give a folder.");
                if (name == "--report" && Directory.Exists(value)) result.AddError($"--report '{value}' is a folder; give a file.");
            }
        });
        return option;
    }

    private static Option<string?> Choice(string name, string description, params string[] choices) => new(name)
    {
        Description = description,

        // More names would widen the column of all options, so the description lists them.
        HelpName = choices.Length > 4 ? "NAME" : string.Join('|', choices),
        CustomParser = result =>
        {
            var value = result.Tokens[^1].Value;
            if (!choices.Contains(value))
                result.AddError($"{name} must be {string.Join(", ", choices[..^1])} or {choices[^1]}, not '{value}'.");
            return value;
        },
    };

    private static Option<double[]?> Numbers(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "N,N,...",
        CustomParser = result =>
        {
            var value = result.Tokens[^1].Value;
            var numbers = value.Split(',')
                .Select(n => double.TryParse(n, CultureInfo.InvariantCulture, out var number) ? number : double.NaN);
            if (numbers.All(double.IsFinite)) return [.. numbers];
            result.AddError($"{name} must be numbers with commas between them, such as 1,1,1,2, not '{value}'.");
            return null;
        },
    };

    private static Option<int[]?> Widths(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "N,N,...",
        CustomParser = result =>
        {
            var value = result.Tokens[^1].Value;
            var widths = value.Split(',');
            if (widths.All(w => w is "32" or "8" or "4" or "2") && widths.Distinct().Count() == widths.Length)
                return [.. widths.Select(w => int.Parse(w, CultureInfo.InvariantCulture))];
            result.AddError($"{name} must be some of 32, 8, 4 and 2 with commas between them, such as 8,4,2, not '{value}'.");
            return null;
        },
    };

    private static Option<long?> Size(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "SIZE",
        CustomParser = result =>
        {
            var value = result.Tokens[^1].Value;
            var isNumber = double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out _);
            if (!isNumber && ByteSize.TryParse(value, out var bytes)) return bytes;
            result.AddError(isNumber ? $"{name} {value} has no unit; give one, such as {value}MB or {value}GiB."
                : $"{name} must be a size such as 20MB or 1.5GiB, not '{value}'.");
            return null;
        },
    };

    private static Option<T?> Number<T>(string name, T least, string wanted, string description, T? most = null)
        where T : struct, INumber<T>, IMinMaxValue<T> => new(name)
        {
            Description = description,
            HelpName = "N",
            CustomParser = result =>
            {
                var value = result.Tokens[^1].Value;

                // Without a style, 0,5 would be 5.
                var isNumber = double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out var real);
                var isOfType = T.TryParse(value, CultureInfo.InvariantCulture, out var number) && T.IsFinite(number);
                if (isNumber && isOfType && number >= least && !(number > most)) return number;
                var isWhole = typeof(T) != typeof(double);
                result.AddError(
                    !isNumber ? $"{name} must be a number such as {(isWhole ? "20" : "0.5")}, not '{value}'."
                    : !isOfType && real >= double.CreateChecked(T.MaxValue)
                        ? $"{name} {value} is too large; give at most {most ?? T.MaxValue}."
                    : !isOfType && isWhole && real >= double.CreateChecked(least)
                        ? $"{name} must be a whole number such as 20, not '{value}'."
                    : $"{name} must be {wanted}, not '{value}'.");
                return null;
            },
        };
}

/// <summary>The values of the options of a command.</summary>
internal sealed class CommandSettings(CommandOptions options, ParseResult parsed, string modelName)
{
    /// <summary>The file of an index, if <c>--index</c> names no other.</summary>
    public const string IndexName = "index.safetensors";

    private const string Prefix = "program.";

    /// <summary>
    /// The metadata of the checkpoint to resume from. Some options are remembered there, and apply unless they are given again.
    /// </summary>
    public IReadOnlyDictionary<string, string> Remembered { get; set; } = new Dictionary<string, string>();

    public string Command => parsed.CommandResult.Command.Name;

    /// <summary>The data that <c>--data</c> names by default: those that a file of weights or an index remembers.</summary>
    public RememberedData? DefaultData { get; set; }

    // Checkpoints of earlier versions remember the data among the options.
    public string? Data => GivenData ?? DefaultData?.Near ?? Recall("data");

    /// <summary>Whether the data are those that a file remembers, and no <c>--data</c> is given.</summary>
    public bool RecallsData => GivenData is null && Data is not null;

    private string? GivenData => parsed.GetValue(options.Data) ?? parsed.GetValue(options.OrderData) ?? parsed.GetValue(options.Images)
        ?? parsed.GetValue(options.Pairs);

    public string? Alone => parsed.GetValue(options.Alone);

    public string Index => parsed.GetValue(options.Index) ?? Path.Combine(Out, IndexName);

    public string? Query => parsed.GetValue(options.Query);

    public int? Dimension => parsed.GetValue(options.Dimension);

    public int Top => parsed.GetValue(options.Top) ?? 5;

    public long? MaxFlopsPerText => parsed.GetValue(options.MaxFlopsPerText);

    public bool CheapFirst => parsed.GetValue(options.CheapFirst);

    public double Tolerance => parsed.GetValue(options.Tolerance) ?? RetrievalEvaluator.DefaultTolerance;

    public string? Image => parsed.GetValue(options.Image);

    public double? StochasticDepth => parsed.GetValue(options.StochasticDepth);

    public double? RoutedShare => parsed.GetValue(options.RoutedShare);

    public double? RoutingBudget => parsed.GetValue(options.RoutingBudget);

    public double? LabelSmoothing => parsed.GetValue(options.LabelSmoothing);

    public double? Mixup => parsed.GetValue(options.Mixup);

    public int? Grid => parsed.GetValue(options.Grid);

    public int? Shift => parsed.GetValue(options.Shift);

    public string? Tokenizer => parsed.GetValue(options.Tokenizer) ?? parsed.GetValue(options.EncoderTokenizer);

    public int? Vocabulary => parsed.GetValue(options.Vocabulary);

    public int? Steps => parsed.GetValue(options.Steps);

    public int? Batch => parsed.GetValue(options.Batch);

    public Objective? Objective => Objectives.Parse(parsed.GetValue(options.Objective));

    public double[]? Probabilities => parsed.GetValue(options.Probabilities);

    public double[]? LossWeights => parsed.GetValue(options.LossWeights);

    // An option of numbers that is not given has an empty array.
    public int[]? Bits => parsed.GetValue(options.Bits) is { Length: > 0 } bits ? bits : null;

    public double[]? BitWeights => parsed.GetValue(options.BitWeights);

    public Reduction? Reduction => parsed.GetValue(options.Reduction) switch
    {
        "mean" => MatFormer.Reduction.Mean,
        "sum" => MatFormer.Reduction.Sum,
        _ => null,
    };

    public double? Distillation => parsed.GetValue(options.Distillation);

    public double? DistillationTemperature => parsed.GetValue(options.DistillationTemperature);

    public long? Seed => parsed.GetValue(options.Seed);

    public string? Device => parsed.GetValue(options.Device) ?? Recall("device");

    public int? Threads => parsed.GetValue(options.Threads) ?? Recall<int>("threads");

    public string? Dtype => parsed.GetValue(options.Dtype);

    public DecodingWeights? Weights => Named(parsed.GetValue(options.Weights));

    public DecodingWeights? DraftWeights => Named(parsed.GetValue(options.DraftWeights));

    private static DecodingWeights? Named(string? name) => name is null ? null : DecodingWeights.OfName(name);

    public string? Draft => parsed.GetValue(options.Draft);

    public int? DraftLength => parsed.GetValue(options.DraftLength);

    public string? Cascade => parsed.GetValue(options.Cascade);

    public double? Routing => parsed.GetValue(options.Routing);

    public double[]? Thresholds => parsed.GetValue(options.Thresholds);

    public double? CascadeTolerance => parsed.GetValue(options.CascadeTolerance);

    public string Out => parsed.GetValue(options.Out) ?? parsed.GetValue(options.ImportOut) ?? Path.Combine("out", modelName);

    public string Checkpoint => parsed.GetValue(options.Checkpoint) ?? Path.Combine(Out, "model.safetensors");

    /// <summary>Returns true if a path is that of the weights that a command takes by default, and there are none.</summary>
    public bool LacksModel(string path) =>
        parsed.GetValue(options.Checkpoint) is null && path == Checkpoint && !Path.Exists(path);

    public string? Init => parsed.GetValue(options.Init);

    public string? From => parsed.GetValue(options.From);

    public bool Declare => parsed.GetValue(options.Declare);

    public string? Profile => parsed.GetValue(options.Profile);

    public string Format => parsed.GetValue(options.Format) ?? "safetensors";

    public string Type => parsed.GetValue(options.Type) ?? "f32";

    public string? Prompt => parsed.GetValue(options.Prompt) ?? Recall("prompt");

    public int Tokens => GivenTokens ?? 200;

    private int? GivenTokens => parsed.GetValue(options.Tokens) ?? Recall<int>("tokens");

    public int? CacheTokens => parsed.GetValue(options.Tokens);

    public double Temperature => GivenTemperature ?? 0.7;

    private double? GivenTemperature => parsed.GetValue(options.Temperature) ?? Recall<double>("temperature");

    public int TopK => parsed.GetValue(options.TopK) ?? 0;

    public double TopP => parsed.GetValue(options.TopP) ?? 1;

    public double MinP => parsed.GetValue(options.MinP) ?? 0;

    public double RepetitionPenalty => parsed.GetValue(options.RepetitionPenalty) ?? 1;

    public IReadOnlyList<string> Stop => parsed.GetValue(options.Stop) ?? [];

    public double Minutes => parsed.GetValue(options.Minutes) ?? 4;

    public double? LearningRate => parsed.GetValue(options.LearningRate);

    public int? CheckpointEvery => parsed.GetValue(options.CheckpointEvery);

    public int? Accumulation => parsed.GetValue(options.Accumulation);

    public int? EvaluateEvery => parsed.GetValue(options.EvaluateEvery);

    public bool? RecomputeActivations => Given(options.RecomputeActivations);

    public bool? TensorBoard => Given(options.TensorBoard);

    public string? Distributed => parsed.GetValue(options.Distributed);

    public bool? GradientsInBFloat16 => parsed.GetValue(options.Gradients) is { } type ? type == "bf16" : null;

    public bool? ShardMoments => Given(options.ShardMoments);

    public int? Patience => parsed.GetValue(options.Patience);

    public int? Windows => parsed.GetValue(options.Windows);

    public int? Examples => parsed.GetValue(options.PlanExamples);

    public int? TextTokens => parsed.GetValue(options.TextTokens);

    public int? Sweep => parsed.GetValue(options.Sweep);

    public PlanBudget Budget => new()
    {
        MaxMilliseconds = parsed.GetValue(options.MaxMsPerToken) ?? parsed.GetValue(options.MaxMsPerImage)
            ?? parsed.GetValue(options.MaxMsPerText),
        MaxMemoryBytes = parsed.GetValue(options.MaxMemory) ?? parsed.GetValue(options.EncoderMemory),
        MaxParameters = parsed.GetValue(options.MaxParameters),
        MaxFlops = parsed.GetValue(options.MaxFlopsPerToken) ?? parsed.GetValue(options.MaxFlopsPerImage)
            ?? parsed.GetValue(options.MaxFlopsPerText),
    };

    public PlanSearch Search => parsed.GetValue(options.Search) switch
    {
        "evolutionary" => PlanSearch.Evolutionary,
        "learned" => PlanSearch.Learned,
        _ => PlanSearch.Increasing,
    };

    public int? Points => parsed.GetValue(options.Points);

    public string Name => parsed.GetValue(options.Name) ?? "Planned";

    public string? Report => parsed.GetValue(options.Report);

    public bool Resume => parsed.GetValue(options.Resume);

    public bool Overwrite => parsed.GetValue(options.Overwrite);

    public bool Json => parsed.GetValue(options.Json);

    /// <summary>
    /// Returns the options, other than the trainer's, that a resumed run takes from its checkpoint, as metadata. The data are not among
    /// them, because all weights remember their data.
    /// </summary>
    public Dictionary<string, string> ToMetadata()
    {
        var metadata = new Dictionary<string, string>();
        Add("device", Device);
        Add("threads", Threads?.ToString(CultureInfo.InvariantCulture));
        Add("prompt", Prompt);
        Add("tokens", GivenTokens?.ToString(CultureInfo.InvariantCulture));
        Add("temperature", GivenTemperature?.ToString(CultureInfo.InvariantCulture));
        return metadata;

        void Add(string name, string? value)
        {
            if (value is not null) metadata.Add(Prefix + name, value);
        }
    }

    // A flag that is not given has an implicit result.
    private bool? Given(Option<bool> flag) => parsed.GetResult(flag) is { Implicit: false } ? parsed.GetValue(flag) : null;

    private string? Recall(string name) => Remembered.GetValueOrDefault(Prefix + name);

    private T? Recall<T>(string name)
        where T : struct, IParsable<T> => T.TryParse(Recall(name), CultureInfo.InvariantCulture, out var value) ? value : null;

    /// <summary>The command line as the user typed it, for the report.</summary>
    public string Typed =>
        string.Join(' ', parsed.Tokens.Select(t => t.Value.Contains(' ', StringComparison.Ordinal) ? $"'{t.Value}'" : t.Value));
}
