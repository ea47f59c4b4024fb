using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace MatFormer;

/// <summary>The options of all commands. Null: not given.</summary>
internal sealed class CommandOptions
{
    public readonly Option<string?> Data = Text("--data", "PATH", "Text to learn: a file, folder or glob; by default the XML documentation "
        + "of the .NET SDK");
    public readonly Option<string?> Tokenizer = Text("--tokenizer", "FILE", "A tokenizer.json, or 'bytes'; by default the one beside the "
        + "weights, in train and demo beside --init or in --out, else bytes");
    public readonly Option<int?> Vocabulary = Number<int>(
        "--vocabulary", 256, "256 or more", "Tokens to learn at most; as many as the model declares by default");
    public readonly Option<int?> Steps = Number<int>("--steps", 1, "1 or more", "Training steps; 1000 by default, in demo as many as "
        + "--minutes allow");
    public readonly Option<int?> Batch = Number<int>("--batch", 1, "1 or more", "Examples at once; by default 4 texts (16 in eval), 128 images or 512 pairs");
    public readonly Option<string?> Objective = Choice(
        "--objective", "How a step treats the granularities (docs/objectives.md); sampled by default", [.. Objectives.Names]);
    public readonly Option<double[]?> Probabilities = Numbers(
        "--probabilities", "How likely each granularity is, narrowest first, as '1,1,1,2'; alike by default");
    public readonly Option<double[]?> LossWeights = Numbers(
        "--loss-weights", "What the loss of each granularity is multiplied with, narrowest first; 1 by default");
    public readonly Option<string?> Reduction = Choice(
        "--reduction", "How losses on the same batch become one; mean by default", "mean", "sum");
    public readonly Option<double?> Distillation = Number(
        "--distillation", double.Epsilon, "above 0, at most 1", "The share of the loss in which submodels learn from the largest; none by "
        + "default", 1);
    public readonly Option<double?> DistillationTemperature = Number(
        "--distillation-temperature", double.Epsilon, "more than 0", "Of the distributions that are compared; 1 by default");
    public readonly Option<long?> Seed = Number("--seed", long.MinValue, "a whole number", "Decides weights, order of text and what is "
        + "drawn; 1 by default");
    public readonly Option<string?> Device = Choice("--device", "Where to compute; CUDA by default where there is one", "cpu", "cuda");
    public readonly Option<int?> Threads = Number<int>("--threads", 1, "1 or more", "Threads on the CPU; by default one per physical core, "
        + "or OMP_NUM_THREADS");
    public readonly Option<string?> Dtype = Choice(
        "--dtype", "Of activations and matrix products; bf16 by default where the hardware has it", "f32", "bf16");
    public readonly Option<string?> Weights = Choice(
        "--weights", "What a decoder on the CPU keeps weights as, int8 with a scale for each row; as --dtype by default", "f32", "bf16",
        "int8");
    public readonly Option<string?> Draft = Text(
        "--draft", "NAME", "A smaller profile that drafts tokens for the model to verify: the same text, sooner");
    public readonly Option<int?> DraftLength = Number(
        "--draft-length", 1, $"within 1 and {DraftLengths.Longest}", "Tokens drafted at once; by default as many as pay off",
        DraftLengths.Longest);
    public readonly Option<string?> Out = Text("--out", "DIR", "Folder of what is written; out/<model> by default");
    public readonly Option<string?> Checkpoint = Text("--checkpoint", "FILE", "Weights to use; model.safetensors in --out by default");
    public readonly Option<string?> Init = Text("--init", "PATH", "Weights to begin with: a MatFormer's, or a dense model's of the same "
        + "shape, whose hidden units are then ordered by importance; a file, or a folder of Hugging Face's transformers");
    public readonly Option<string?> From = Text("--from", "PATH", "A dense model of Llama's family: a folder of Hugging Face's "
        + "transformers, a .safetensors file, or the index of several (docs/import.md)");
    public readonly Option<string?> OrderData = Text("--data", "PATH", "Text in which the importance of hidden units is measured, to order "
        + "them: a file, folder or glob; they keep their order by default");
    public readonly Option<string?> ImportOut = Text("--out", "PATH", "The .safetensors file to write, or a folder for model.safetensors; "
        + "out/<model> by default");
    public readonly Option<bool> Declare = new("--declare") { Description = "Only print the C# declaration that fits the model" };
    public readonly Option<string?> Images = Text("--data", "DIR", "Images: IDX files as MNIST's, CIFAR-10's binary files, or a folder for "
        + "each class");
    public readonly Option<string?> Image = Text("--image", "FILE", "The image: PNG, PGM or PPM, of the model's size");
    public readonly Option<double?> StochasticDepth = Number<double>(
        "--stochastic-depth", 0, "within 0 and 1",
        "How likely the last layer is left out of a step, those before it the less; 0 by default", 1);
    public readonly Option<string?> Pairs = Text("--data", "PATH", "Pairs of a query and a document: XML documentation, .tsv or .jsonl; a "
        + "file, folder or glob, by default the XML documentation of the .NET SDK");
    public readonly Option<string?> EncoderTokenizer = Text("--tokenizer", "FILE", "A tokenizer.json, or 'bytes'; by default the one "
        + "beside the weights, in train and demo beside --init or in --out, else learnt from the pairs");
    public readonly Option<string?> Index = Text("--index", "FILE", "The index; index.safetensors in --out by default");
    public readonly Option<string?> Query = Text("--query", "TEXT", "What to search for; without it, each line of standard input");
    public readonly Option<int?> Dimension = Number<int>(
        "--dimension", 1, "1 or more", "Numbers of an embedding that are compared, one of those declared; all by default");
    public readonly Option<int?> Top = Number<int>("--top", 1, "1 or more", "Documents to show; 5 by default");
    public readonly Option<long?> MaxFlopsPerText = Number<long>(
        "--max-flops-per-text", 1, "1 or more", "FLOPs that embedding a text may take; in search, the largest granularity or declared "
        + "profile within them answers");
    public readonly Option<bool> CheapFirst = new("--cheap-first")
    {
        Description = "Embed each query with the smallest profile, and again with a larger one where its best hits are close, as "
        + "eval-retrieval calibrated it"
    };
    public readonly Option<double?> Tolerance = Number<double>(
        "--tolerance", 0, "within 0 and 1", "The recall at 10 that cheap first may lose on the queries that it is calibrated on; "
        + Output.Invariant($"{RetrievalEvaluator.DefaultTolerance} by default"), 1);
    public readonly Option<string?> Alone = Text("--alone", "FILE", "Weights of the same model of which the smallest granularity was "
        + "trained alone (train --probabilities 1,0,...), to compare with");
    public readonly Option<double?> LabelSmoothing = Number<double>(
        "--label-smoothing", 0, "within 0 and 1", "The share of a target that is spread over all classes; 0 by default", 1);
    public readonly Option<double?> Mixup = Number<double>(
        "--mixup", 0, "0 or more", "Mix images in shares drawn from Beta(this, this); 0, not at all, by default");
    public readonly Option<int?> Shift = Number<int>("--shift", 0, "0 or more", "The most pixels by which images are moved; 0 by default");
    public readonly Option<string?> Profile = Text(
        "--profile", "NAME", "A granularity, a declared profile, or a pattern such as '4*S 4*M'");
    public readonly Option<string?> Format = Choice(
        "--format", "A file of this program, a folder for Hugging Face's transformers, or a file for llama.cpp (docs/export.md); "
        + "safetensors by default", "safetensors", "huggingface", "gguf");
    public readonly Option<string?> Type = Choice(
        "--type", "What to store weights as; f32 by default, q8_0 only in gguf", "f32", "f16", "bf16", "q8_0");
    public readonly Option<string?> Prompt = Text("--prompt", "TEXT", "Text to continue");
    public readonly Option<int?> Tokens = Number<int>("--tokens", 1, "1 or more", "Tokens to generate, 200 by default; in plan, "
        + "tokens before the one that is timed, half of the context by default");
    public readonly Option<double?> Temperature = Number<double>(
        "--temperature", 0, "0 or more", "0 always takes the likeliest token; 0.7 by default");
    public readonly Option<int?> TopK = Number<int>(
        "--top-k", 1, "1 or more", "Draw among so many likeliest tokens; all by default");
    public readonly Option<double?> TopP = Number(
        "--top-p", double.Epsilon, "above 0, at most 1", "Draw among the fewest likeliest tokens that have this probability together; 1, "
        + "all, by default", 1);
    public readonly Option<double?> MinP = Number<double>(
        "--min-p", 0, "within 0 and 1", "Draw among tokens at least this share as probable as the likeliest; 0, all, by default", 1);
    public readonly Option<double?> RepetitionPenalty = Number(
        "--repetition-penalty", double.Epsilon, "more than 0", "What logits of tokens that are there already are divided by; 1, nothing, "
        + "by default");
    public readonly Option<string[]?> Stop = Texts("--stop", "TEXT", "Stop before this text; may be given several times");
    public readonly Option<double?> Minutes = Number("--minutes", double.Epsilon, "more than 0", "Time to train for; 4 by default");
    public readonly Option<double?> LearningRate = Number(
        "--learning-rate", double.Epsilon, "more than 0", "The highest learning rate; by default 0.001, of vision transformers 0.002, of text encoders 0.003");
    public readonly Option<int?> CheckpointEvery = Number<int>(
        "--checkpoint-every", 1, "1 or more", "Steps between checkpoints; 100 by default");
    public readonly Option<int?> Accumulation = Number<int>(
        "--accumulation", 1, "1 or more", "Batches in a step, their gradients averaged; 1 by default");
    public readonly Option<bool> RecomputeActivations = new("--recompute-activations")
    {
        Description = "Keep only what goes into each layer and compute the rest once more for the gradients: less memory, a "
        + "quarter to two fifths more time"
    };
    public readonly Option<int?> EvaluateEvery = Number<int>(
        "--evaluate-every", 1, "1 or more", "Steps between looks at the validation text; the best weights are kept in best.safetensors");
    public readonly Option<int?> Patience = Number<int>(
        "--patience", 1, "1 or more", "Looks in a row that find nothing better, after which training ends; never by default");
    public readonly Option<int?> Windows = Number<int>("--windows", 1, "1 or more", "Windows of validation text, each as long as the "
        + "context, to measure on; 256 by default, 16 in plan");
    public readonly Option<int?> Sweep = Number<int>("--sweep", 1, "1 or more", "Points over the compute between the smallest and the "
        + "largest granularity at which to measure mixes: increasing, decreasing and others");
    public readonly Option<double?> MaxMsPerToken = Number(
        "--max-ms-per-token", double.Epsilon, "more than 0", "Milliseconds that decoding a token may take here");
    public readonly Option<long?> MaxMemory = Size(
        "--max-memory", "Memory that weights, as --weights keeps them, and keys and values of a whole context may take, such as 20MB or "
        + "1.5GiB");
    public readonly Option<long?> MaxParameters = Number<long>(
        "--max-parameters", 1, "1 or more", "Parameters that there may be");
    public readonly Option<long?> MaxFlopsPerToken = Number<long>(
        "--max-flops-per-token", 1, "1 or more", "FLOPs that a token's forward pass may take");
    public readonly Option<double?> MaxMsPerImage = Number(
        "--max-ms-per-image", double.Epsilon, "more than 0", "Milliseconds that one image may take here");
    public readonly Option<double?> MaxMsPerText = Number(
        "--max-ms-per-text", double.Epsilon, "more than 0", "Milliseconds that one text may take here");
    public readonly Option<long?> EncoderMemory = Size(
        "--max-memory", "Memory that the weights may take, in float32, such as 20MB or 1.5GiB");
    public readonly Option<long?> MaxFlopsPerImage = Number<long>(
        "--max-flops-per-image", 1, "1 or more", "FLOPs that an image may take");
    public readonly Option<int?> PlanExamples = Number<int>(
        "--examples", 2, "2 or more", "Images, or pairs, that are not trained on, to measure on; 1024 by default");
    public readonly Option<int?> TextTokens = Number<int>(
        "--tokens", 1, "1 or more", "Tokens of the text that is timed; the context by default");
    public readonly Option<string?> Search = Choice(
        "--search", "Mixes to search: all that only widen from layer to layer, or others too, by mutation and crossover; increasing by "
        + "default", "increasing", "evolutionary");
    public readonly Option<int?> Points = Number<int>(
        "--points", 1, "1 or more", "Mixes of the frontier to measure; 12 by default");
    public readonly Option<string?> Name = Text("--name", "NAME", "What to call the planned profile; Planned by default");
    public readonly Option<string?> Report = Text("--report", "FILE", "An HTML page of what was measured");
    public readonly Option<bool> Resume = new("--resume") { Description = "Go on where the checkpoint in --out left off" };
    public readonly Option<bool> Json = new("--json")
    {
        Description = "One JSON document on standard output, everything else on standard "
        + "error"
    };

    private static Option<string?> Text(string name, string help, string description) => Checked<string?>(name, help, description);

    private static Option<string[]?> Texts(string name, string help, string description)
    {
        var option = Checked<string[]?>(name, help, description);
        option.Arity = ArgumentArity.OneOrMore; // one each time that it is given
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
            }
        });
        return option;
    }

    private static Option<string?> Choice(string name, string description, params string[] choices) => new(name)
    {
        Description = description,
        HelpName = string.Join('|', choices),
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

    private static Option<long?> Size(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "SIZE",
        CustomParser = result =>
        {
            var value = result.Tokens[^1].Value;
            if (ByteSize.TryParse(value, out var bytes)) return bytes;
            result.AddError($"{name} must be a size such as 20MB, 1.5GiB or 4096, not '{value}'.");
            return null;
        },
    };

    private static Option<T?> Number<T>(string name, T least, string wanted, string description, T? most = null)
        where T : struct, IParsable<T>, IComparable<T> => new(name)
        {
            Description = description,
            HelpName = "N",
            CustomParser = result =>
            {
                var value = result.Tokens[^1].Value;
                if (T.TryParse(value, CultureInfo.InvariantCulture, out var number) && number.CompareTo(least) >= 0
                    && (most is not { } limit || number.CompareTo(limit) <= 0)
                    && !(number is double d && !double.IsFinite(d)))
                    return number;
                result.AddError($"{name} must be {wanted}, not '{value}'.");
                return null;
            },
        };
}

/// <summary>What a command was told.</summary>
internal sealed class CommandSettings(CommandOptions options, ParseResult parsed, string modelName)
{
    public string Command => parsed.CommandResult.Command.Name;

    public string? Data => parsed.GetValue(options.Data) ?? parsed.GetValue(options.OrderData) ?? parsed.GetValue(options.Images)
        ?? parsed.GetValue(options.Pairs);

    public string? Alone => parsed.GetValue(options.Alone);

    public string Index => parsed.GetValue(options.Index) ?? Path.Combine(Out, "index.safetensors");

    public string? Query => parsed.GetValue(options.Query);

    public int? Dimension => parsed.GetValue(options.Dimension);

    public int Top => parsed.GetValue(options.Top) ?? 5;

    public long? MaxFlopsPerText => parsed.GetValue(options.MaxFlopsPerText);

    public bool CheapFirst => parsed.GetValue(options.CheapFirst);

    public double Tolerance => parsed.GetValue(options.Tolerance) ?? RetrievalEvaluator.DefaultTolerance;

    public string? Image => parsed.GetValue(options.Image);

    public double? StochasticDepth => parsed.GetValue(options.StochasticDepth);

    public double? LabelSmoothing => parsed.GetValue(options.LabelSmoothing);

    public double? Mixup => parsed.GetValue(options.Mixup);

    public int? Shift => parsed.GetValue(options.Shift);

    public string? Tokenizer => parsed.GetValue(options.Tokenizer) ?? parsed.GetValue(options.EncoderTokenizer);

    public int? Vocabulary => parsed.GetValue(options.Vocabulary);

    public int? Steps => parsed.GetValue(options.Steps);

    public int? Batch => parsed.GetValue(options.Batch);

    public Objective? Objective => Objectives.Parse(parsed.GetValue(options.Objective));

    public double[]? Probabilities => parsed.GetValue(options.Probabilities);

    public double[]? LossWeights => parsed.GetValue(options.LossWeights);

    public Reduction? Reduction => parsed.GetValue(options.Reduction) switch
    {
        "mean" => MatFormer.Reduction.Mean,
        "sum" => MatFormer.Reduction.Sum,
        _ => null,
    };

    public double? Distillation => parsed.GetValue(options.Distillation);

    public double? DistillationTemperature => parsed.GetValue(options.DistillationTemperature);

    public long? Seed => parsed.GetValue(options.Seed);

    public string? Device => parsed.GetValue(options.Device);

    public int? Threads => parsed.GetValue(options.Threads);

    public string? Dtype => parsed.GetValue(options.Dtype);

    public DecodingWeights? Weights => parsed.GetValue(options.Weights) switch
    {
        "f32" => DecodingWeights.Float32,
        "bf16" => DecodingWeights.BFloat16,
        "int8" => DecodingWeights.Int8,
        _ => null,
    };

    public string? Draft => parsed.GetValue(options.Draft);

    public int? DraftLength => parsed.GetValue(options.DraftLength);

    public string Out => parsed.GetValue(options.Out) ?? parsed.GetValue(options.ImportOut) ?? Path.Combine("out", modelName);

    public string Checkpoint => parsed.GetValue(options.Checkpoint) ?? Path.Combine(Out, "model.safetensors");

    public string? Init => parsed.GetValue(options.Init);

    public string? From => parsed.GetValue(options.From);

    public bool Declare => parsed.GetValue(options.Declare);

    public string? Profile => parsed.GetValue(options.Profile);

    public string Format => parsed.GetValue(options.Format) ?? "safetensors";

    public string Type => parsed.GetValue(options.Type) ?? "f32";

    public string? Prompt => parsed.GetValue(options.Prompt);

    public int Tokens => parsed.GetValue(options.Tokens) ?? 200;

    public int? CacheTokens => parsed.GetValue(options.Tokens);

    public double Temperature => parsed.GetValue(options.Temperature) ?? 0.7;

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

    public bool RecomputeActivations => parsed.GetValue(options.RecomputeActivations);

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

    public PlanSearch Search => parsed.GetValue(options.Search) == "evolutionary" ? PlanSearch.Evolutionary : PlanSearch.Increasing;

    public int? Points => parsed.GetValue(options.Points);

    public string Name => parsed.GetValue(options.Name) ?? "Planned";

    public string? Report => parsed.GetValue(options.Report);

    public bool Resume => parsed.GetValue(options.Resume);

    public bool Json => parsed.GetValue(options.Json);

    /// <summary>The command as typed, for the report.</summary>
    public string Typed =>
        string.Join(' ', parsed.Tokens.Select(t => t.Value.Contains(' ', StringComparison.Ordinal) ? $"'{t.Value}'" : t.Value));
}
