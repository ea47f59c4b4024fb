using System.CommandLine;
using System.CommandLine.Help;
using System.Globalization;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>The command line of a program for one declared model.</summary>
/// <example>
/// A whole program: <code>return await MatFormer.ModelProgram.RunAsync&lt;DocsLm&gt;(args);</code>
/// </example>
public static class ModelProgram
{
    // Longer lines are hard to read, and output that is not a terminal has no width of its own.
    private const int HelpColumns = 100;
    private const int Done = 0;
    private const int Failed = 1;
    private const int WrongInput = 2;
    private const int Interrupted = 130;

    /// <summary>
    /// Runs the command that the arguments name. Every program has <c>demo</c>, <c>train</c>, <c>eval</c>, <c>plan</c>,
    /// <c>profiles</c> and <c>extract</c>. Without arguments, the program prints its help. Language models also have <c>import</c>,
    /// <c>calibrate</c>, <c>calibrate-weights</c> and <c>generate</c>, text encoders <c>index</c>, <c>search</c> and
    /// <c>eval-retrieval</c>, both of them <c>tokenizer</c>, and vision transformers <c>classify</c>. <c>--help</c> describes each command.
    /// </summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="args">The arguments of the program.</param>
    /// <param name="commands">
    /// Further commands, such as <c>serve</c> of the package MatFormer.Server. Ctrl-C and SIGTERM cancel the cancellation token of their
    /// actions.
    /// </param>
    /// <returns>
    /// The exit code: 0 for success; 1 if training or generating failed; 2 for wrong usage or input, after one line on standard error; 130
    /// if Ctrl-C or SIGTERM interrupted the command.
    /// </returns>
    public static Task<int> RunAsync<TModel>(string[] args, params IEnumerable<Command> commands)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        RunAsync<TModel>(args, Console.Out, Console.Error, CancellationToken.None, commands);

    /// <summary>Runs a command that writes to the given writers, for tests.</summary>
    internal static async Task<int> RunAsync<TModel>(
        string[] args, TextWriter output, TextWriter error, CancellationToken cancellationToken, params IEnumerable<Command> commands)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(args);

        // Numbers and messages are the same in every culture.
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        CultureInfo.CurrentUICulture = CultureInfo.InvariantCulture;
        error = new ProgressWriter(error);
        using var signals = new StopSignals(cancellationToken);
        var root = Commands<TModel>(output, error);
        foreach (var command in commands) root.Add(command);
        foreach (var help in root.Options.Select(option => option.Action).OfType<HelpAction>())
            help.MaxWidth = help.MaxWidth is > 0 and < HelpColumns ? help.MaxWidth : HelpColumns; // mpirun gives a terminal of width 0
        var parsed = root.Parse(args is [] ? ["--help"] : args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0)
        {
            error.WriteLine(OneLine(ParseErrors.Describe(parsed, TModel.Spec)));
            return WrongInput;
        }

        try
        {
            var configuration = new InvocationConfiguration
            {
                Output = output,
                Error = error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null
            };
            return await parsed.InvokeAsync(configuration, signals.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e)
        {
            error.WriteLine(OneLine(e is StoppedException ? e.Message : "Interrupted."));
            return Interrupted;
        }
        catch (Exception e) when (e is UsageException or ExtractionException or CheckpointException or DataException or PlanException
            or DistributedException or IOException or UnauthorizedAccessException)
        {
            error.WriteLine(OneLine(e.Message));
            return WrongInput;
        }
        catch (Exception e) when (e is TrainingException or DecodingException or ExternalException)
        {
            error.WriteLine(WithoutFrames(e.Message));
            return Failed;
        }
    }

    private static RootCommand Commands<TModel>(TextWriter output, TextWriter error)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var name = TModel.Spec.Name;
        var root = new RootCommand($"{name}: one model, many sizes");
        var commands = TModel.Spec.Kind switch
        {
            ModelKind.LanguageModel => OfLanguageModel(Maker((s, token) => new LanguageCommands<TModel>(s, output, error, token))),
            ModelKind.VisionTransformer => OfVisionTransformer(Maker((s, token) => new ImageCommands<TModel>(s, output, error, token))),
            _ => OfTextEncoder(Maker((s, token) => new EncoderCommands<TModel>(s, output, error, token))),
        };
        foreach (var command in commands) root.Add(command);
        return root;

        Make<TCommands> Maker<TCommands>(Func<CommandSettings, CancellationToken, TCommands> create) => (command, description, run, its) =>
        {
            var made = new Command(command, description);
            var options = new CommandOptions(command, TModel.Spec.Kind);
            foreach (var option in its(options)) made.Add(option);

            // The command runs on this thread, because a dispose scope of tensors belongs to one thread.
            made.SetAction((parsed, cancellationToken) =>
            {
                var settings = new CommandSettings(options, parsed, name);
                try
                {
                    run(create(settings, cancellationToken));
                }
                catch (CheckpointException e) when (settings.LacksModel(e.Path))
                {
                    throw new UsageException($"There is no '{e.Path}'; train a model first, or give --checkpoint or --out.", e);
                }

                return Task.FromResult(Done);
            });
            return made;
        };
    }

    private delegate Command Make<TCommands>(
        string command, string description, Action<TCommands> run, Func<CommandOptions, Option[]> options);

    private static IEnumerable<Command> OfLanguageModel<TModel>(Make<LanguageCommands<TModel>> make)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
    [
        make(
            "demo", "Train, evaluate, extract, generate, and write a report", c => c.Demo(), o => [
            o.Minutes, o.Data, o.Tokenizer, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction, o.Bits,
            o.BitWeights, o.Distillation, o.DistillationTemperature, o.StochasticDepth, o.RoutedShare, o.LearningRate, o.Seed, o.Device,
            o.Threads, o.Dtype, o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init,
            o.Resume, o.Overwrite, o.Prompt, o.Tokens, o.Temperature, o.Json]),
        make(
            "tokenizer", "Learn a byte-pair vocabulary, for train --tokenizer", c => c.TrainTokenizer(), o => [
            o.Data, o.Vocabulary, o.Out, o.Json]),
        make(
            "import", "Import a dense model of the same shape, or print the declaration that fits it", c => c.Import(), o => [
            o.From, o.Declare, o.OrderData, o.Tokenizer, o.Device, o.Threads, o.Dtype, o.ImportOut, o.Json]),
        make(
            "train", "Train all granularities at once", c => c.Train(), o => [
            o.Data, o.Tokenizer, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction, o.Bits, o.BitWeights,
            o.Distillation, o.DistillationTemperature, o.StochasticDepth, o.RoutedShare, o.LearningRate, o.Seed, o.Device, o.Threads,
            o.Dtype, o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init, o.Resume,
            o.Overwrite, o.TensorBoard, o.Distributed, o.Gradients, o.ShardMoments, o.Json]),
        make(
            "eval", "Measure every granularity and profile", c => c.Evaluate(), o => [
            o.Checkpoint, o.Data, o.Tokenizer, o.Windows, o.Sweep, o.Report, o.Seed, o.Batch, o.Device, o.Threads, o.Dtype,
            o.Weights, o.Bits, o.Out, o.Json]),
        make(
            "plan", "Find the best mix within budgets on this machine", c => c.Plan(), o => [
            o.Checkpoint, o.MaxMsPerToken, o.MaxMemory, o.MaxParameters, o.MaxFlopsPerToken, o.Search, o.Points, o.Name, o.Data,
            o.Tokenizer, o.Windows, o.Tokens, o.Report, o.Seed, o.Device, o.Threads, o.Dtype, o.Weights, o.Out, o.Json]),
        make("profiles", "Show the sizes and costs of all profiles, without weights", c => c.Profiles(), o => [o.Json]),
        make(
            "extract", "Save the weights of one profile as a separate model", c => c.Extract(), o => [
            o.Checkpoint, o.Profile, o.Format, o.Type, o.Out, o.Overwrite, o.Json]),
        make(
            "calibrate", "Measure a cascade of sizes, for generate --cascade", c => c.Calibrate(), o => [
            o.Checkpoint, o.Profile, o.Cascade, o.Thresholds, o.CascadeTolerance, o.Data, o.Tokenizer, o.Windows, o.Threads, o.Dtype,
            o.Weights, o.Out, o.Json]),
        make(
            "calibrate-weights", "Round trained weights so that their 8, 4 and 2 bits are good models", c => c.CalibrateWeights(), o => [
            o.Checkpoint, o.Bits, o.BitWeights, o.Data, o.Tokenizer, o.Windows, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make(
            "generate", "Continue a prompt", c => c.Generate(), o => [
            o.Checkpoint, o.Tokenizer, o.Profile, o.Prompt, o.Tokens, o.Stop, o.Temperature, o.TopK, o.TopP, o.MinP, o.RepetitionPenalty,
            o.Draft, o.DraftWeights, o.DraftLength, o.Cascade, o.Routing, o.Seed, o.Device, o.Threads, o.Dtype, o.Weights, o.Out, o.Json]),
    ];

    private static IEnumerable<Command> OfVisionTransformer<TModel>(Make<ImageCommands<TModel>> make)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
    [
        make(
            "demo", "Train, evaluate, extract, and write a report", c => c.Demo(), o => [
            o.Minutes, o.Images, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction, o.Distillation,
            o.DistillationTemperature, o.Bits, o.BitWeights, o.StochasticDepth, o.LabelSmoothing, o.Mixup, o.Shift, o.RoutedShare,
            o.LearningRate, o.Seed, o.Device, o.Threads, o.Dtype, o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery,
            o.Patience, o.CheckpointEvery, o.Init, o.Resume, o.Overwrite, o.Json]),
        make(
            "train", "Train all granularities at once", c => c.Train(), o => [
            o.Images, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction, o.Distillation, o.DistillationTemperature,
            o.Bits, o.BitWeights, o.StochasticDepth, o.LabelSmoothing, o.Mixup, o.Shift, o.RoutedShare, o.LearningRate, o.Seed, o.Device,
            o.Threads, o.Dtype, o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init,
            o.Resume, o.Overwrite, o.TensorBoard, o.Distributed, o.Gradients, o.ShardMoments, o.Json]),
        make(
            "eval", "Measure every granularity and profile", c => c.Evaluate(), o => [
            o.Checkpoint, o.Images, o.Batch, o.Grid, o.Sweep, o.Seed, o.Report, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make(
            "plan", "Find the best mix within budgets on this machine", c => c.Plan(), o => [
            o.Checkpoint, o.MaxMsPerImage, o.EncoderMemory, o.MaxParameters, o.MaxFlopsPerImage, o.Grid, o.Search, o.Points, o.Name,
            o.Images, o.PlanExamples, o.Report, o.Seed, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make("profiles", "Show the sizes and costs of all profiles, without weights", c => c.Profiles(), o => [o.Json]),
        make(
            "extract", "Save the weights of one profile as a separate model", c => c.Extract(), o => [
            o.Checkpoint, o.Profile, o.Format, o.Type, o.Dimension, o.Out, o.Overwrite, o.Json]),
        make(
            "classify", "Classify an image", c => c.Classify(), o => [
            o.Checkpoint, o.Image, o.Profile, o.RoutingBudget, o.Grid, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
    ];

    private static IEnumerable<Command> OfTextEncoder<TModel>(Make<EncoderCommands<TModel>> make)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
    [
        make(
            "demo", "Train, index, measure, extract, and write a report", c => c.Demo(), o => [
            o.Minutes, o.Pairs, o.EncoderTokenizer, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction, o.Bits,
            o.BitWeights, o.Distillation, o.DistillationTemperature, o.StochasticDepth, o.RoutedShare, o.LearningRate, o.Seed, o.Device,
            o.Threads, o.Dtype, o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init,
            o.Resume, o.Overwrite, o.Json]),
        make(
            "tokenizer", "Learn a byte-pair vocabulary, for train --tokenizer", c => c.TrainTokenizer(), o => [
            o.Pairs, o.Vocabulary, o.Out, o.Json]),
        make(
            "train", "Train all granularities at once", c => c.Train(), o => [
            o.Pairs, o.EncoderTokenizer, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction, o.Distillation,
            o.DistillationTemperature, o.Bits, o.BitWeights, o.StochasticDepth, o.RoutedShare, o.LearningRate, o.Seed, o.Device, o.Threads,
            o.Dtype, o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init, o.Resume,
            o.Overwrite, o.TensorBoard, o.Distributed, o.Gradients, o.ShardMoments, o.Json]),
        make(
            "eval", "Show the loss of every granularity", c => c.Evaluate(), o => [
            o.Checkpoint, o.Pairs, o.EncoderTokenizer, o.Batch, o.Sweep, o.Seed, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make(
            "plan", "Find the best mix within budgets on this machine", c => c.Plan(), o => [
            o.Checkpoint, o.MaxMsPerText, o.EncoderMemory, o.MaxParameters, o.MaxFlopsPerText, o.Search, o.Points, o.Name, o.Pairs,
            o.EncoderTokenizer, o.PlanExamples, o.TextTokens, o.Report, o.Seed, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make("profiles", "Show the sizes and costs of all profiles, without weights", c => c.Profiles(), o => [o.Json]),
        make(
            "extract", "Save the weights of one profile as a separate model", c => c.Extract(), o => [
            o.Checkpoint, o.Profile, o.Format, o.Type, o.Dimension, o.Out, o.Overwrite, o.Json]),
        make(
            "index", "Embed all documents and write the index", c => c.MakeIndex(), o => [
            o.Checkpoint, o.Pairs, o.EncoderTokenizer, o.Profile, o.Index, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make(
            "search", "Find the documents that match a query", c => c.Search(), o => [
            o.Checkpoint, o.EncoderTokenizer, o.Index, o.Query, o.Profile, o.MaxFlopsPerText, o.RoutingBudget, o.CheapFirst, o.Dimension,
            o.Top, o.Device, o.Threads, o.Dtype, o.Out, o.Json]),
        make(
            "eval-retrieval", "Measure retrieval with every profile, and calibrate search --cheap-first",
            c => c.EvaluateRetrieval(), o => [
            o.Checkpoint, o.Pairs, o.EncoderTokenizer, o.Index, o.Tolerance, o.Alone, o.Report, o.Device, o.Threads, o.Dtype, o.Out,
            o.Json]),
    ];

    // Messages of libtorch may have several lines. All of them help but those that list the functions of its stack.
    internal static string WithoutFrames(string message) => string.Join(
        '\n', message.Split('\n').Where(line => !line.StartsWith("frame #", StringComparison.Ordinal)
            && !line.StartsWith("Exception raised from ", StringComparison.Ordinal))).TrimEnd();

    private static string OneLine(string message) =>
        string.Join(' ', message.Split((char[])['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
}

/// <summary>A run was interrupted; the message says how to resume it.</summary>
internal sealed class StoppedException(string message) : OperationCanceledException(message);
