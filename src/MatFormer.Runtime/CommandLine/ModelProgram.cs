using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>The command line of a program that is made of one declared model.</summary>
public static class ModelProgram
{
    private const int Done = 0;
    private const int Failed = 1;
    private const int WrongInput = 2;
    private const int Interrupted = 130;

    /// <summary>
    /// Runs <c>demo</c> (the default), <c>tokenizer</c>, <c>import</c>, <c>train</c>, <c>eval</c>, <c>plan</c>, <c>profiles</c>,
    /// <c>extract</c> or <c>generate</c>; <c>--help</c> tells of each.
    /// </summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="args">The arguments of the program.</param>
    /// <param name="commands">
    /// More commands, such as <c>serve</c> of the package MatFormer.Server. Their actions are told of Ctrl-C and SIGTERM by their cancellation
    /// token.
    /// </param>
    /// <returns>
    /// The exit code: 0 done; 1 training or generating failed; 2 wrong usage or input, after one line on standard error; 130 interrupted by Ctrl-C or
    /// SIGTERM.
    /// </returns>
    public static Task<int> RunAsync<TModel>(string[] args, params IEnumerable<Command> commands)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        RunAsync<TModel>(args, Console.Out, Console.Error, CancellationToken.None, commands);

    /// <summary>The same with its own output, for tests.</summary>
    internal static async Task<int> RunAsync<TModel>(
        string[] args, TextWriter output, TextWriter error, CancellationToken cancellationToken, params IEnumerable<Command> commands)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(args);

        // Numbers and messages read alike everywhere.
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        CultureInfo.CurrentUICulture = CultureInfo.InvariantCulture;
        using var signals = new StopSignals(cancellationToken);
        var root = Commands<TModel>(output, error);
        foreach (var command in commands) root.Add(command);
        if (args is [] || (args[0].StartsWith('-') && args[0] is not ("--help" or "-h" or "-?" or "--version"))) args = ["demo", .. args];
        var parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0)
        {
            // The most telling one: of an option, then a word that is unknown, then the rest.
            var first = parsed.Errors.OrderByDescending(e => e.SymbolResult is OptionResult or ArgumentResult)
                .ThenByDescending(e => parsed.UnmatchedTokens.Any(t => e.Message.Contains(t, StringComparison.Ordinal))).First();
            var command = parsed.CommandResult.Command;
            error.WriteLine(OneLine($"{first.Message} See '{(command == root ? string.Empty : command.Name + " ")}--help'."));
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
            or IOException or UnauthorizedAccessException)
        {
            error.WriteLine(OneLine(e.Message));
            return WrongInput;
        }
        catch (Exception e) when (e is TrainingException or DecodingException or ExternalException)
        {
            // What libtorch says may have several lines; all of it helps.
            error.WriteLine(e.Message);
            return Failed;
        }
    }

    private static RootCommand Commands<TModel>(TextWriter output, TextWriter error)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var name = TModel.Spec.Name;
        var options = new CommandOptions();
        var o = options;
        var root = new RootCommand($"{name}: one model, many sizes. Without a command, the demo runs.")
        {
            Make(
                "demo", "Train, evaluate, extract, generate, and write a report", c => c.Demo(),
                o.Minutes, o.Data, o.Tokenizer, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction,
                o.Distillation, o.DistillationTemperature, o.LearningRate, o.Seed, o.Device, o.Threads, o.Dtype,
                o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init, o.Resume,
                o.Prompt, o.Tokens, o.Temperature, o.Json),
            Make(
                "tokenizer", "Learn a vocabulary of byte pairs, for train --tokenizer", c => c.TrainTokenizer(),
                o.Data, o.Vocabulary, o.Out, o.Json),
            Make(
                "import", "Take in a dense model of the same shape, or print the declaration that fits one", c => c.Import(),
                o.From, o.Declare, o.OrderData, o.Tokenizer, o.Device, o.Threads, o.Dtype, o.ImportOut, o.Json),
            Make(
                "train", "Train all granularities at once", c => c.Train(),
                o.Data, o.Tokenizer, o.Steps, o.Batch, o.Objective, o.Probabilities, o.LossWeights, o.Reduction,
                o.Distillation, o.DistillationTemperature, o.LearningRate, o.Seed, o.Device, o.Threads, o.Dtype,
                o.Out, o.Accumulation, o.RecomputeActivations, o.EvaluateEvery, o.Patience, o.CheckpointEvery, o.Init, o.Resume,
                o.Json),
            Make(
                "eval", "Measure every granularity and profile", c => c.Evaluate(),
                o.Checkpoint, o.Data, o.Tokenizer, o.Windows, o.Sweep, o.Report, o.Seed, o.Batch, o.Device, o.Threads, o.Dtype,
                o.Weights, o.Out, o.Json),
            Make(
                "plan", "Find the mix that does best within budgets on this machine", c => c.Plan(),
                o.Checkpoint, o.MaxMsPerToken, o.MaxMemory, o.MaxParameters, o.MaxFlopsPerToken, o.Search, o.Points, o.Name, o.Data,
                o.Tokenizer, o.Windows, o.Tokens, o.Report, o.Seed, o.Device, o.Threads, o.Dtype, o.Weights, o.Out, o.Json),
            Make("profiles", "Show sizes and costs, without weights", c => c.Profiles(), o.Out, o.Json),
            Make(
                "extract", "Save one profile's weights as a model of its own", c => c.Extract(),
                o.Checkpoint, o.Profile, o.Format, o.Type, o.Out, o.Json),
            Make(
                "generate", "Continue a prompt", c => c.Generate(),
                o.Checkpoint, o.Tokenizer, o.Profile, o.Prompt, o.Tokens, o.Stop, o.Temperature, o.TopK, o.TopP, o.MinP, o.RepetitionPenalty,
                o.Draft, o.DraftLength, o.Seed, o.Device, o.Threads, o.Dtype, o.Weights, o.Out, o.Json),
        };
        return root;

        Command Make(string command, string description, Action<ModelCommands<TModel>> run, params Option[] its)
        {
            var made = new Command(command, description);
            foreach (var option in its) made.Add(option);

            // On this thread: scopes of tensors belong to one.
            made.SetAction((parsed, cancellationToken) =>
            {
                run(new ModelCommands<TModel>(new CommandSettings(options, parsed, name), output, error, cancellationToken));
                return Task.FromResult(Done);
            });
            return made;
        }
    }

    private static string OneLine(string message) =>
        string.Join(' ', message.Split((char[])['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
}

/// <summary>A run was interrupted; the message says how to go on.</summary>
internal sealed class StoppedException(string message) : OperationCanceledException(message);
