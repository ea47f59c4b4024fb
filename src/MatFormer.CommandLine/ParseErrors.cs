using System.CommandLine;
using System.CommandLine.Parsing;
using MatFormer.Generators.Validation;

namespace MatFormer;

/// <summary>Describes what is wrong with a command line.</summary>
internal static class ParseErrors
{
    /// <summary>Returns a message that says what is wrong, what was probably meant, and where the help is.</summary>
    public static string Describe(ParseResult parsed, ModelSpec spec)
    {
        var command = parsed.CommandResult.Command;
        var first = parsed.Tokens[0].Value;
        if (first.StartsWith('-')) return $"A command is missing before {first}; give one, such as train. See '--help'.";
        return parsed.CommandResult.Parent is null ? $"{DescribeCommand(first, command, spec)} See '--help'."
            : $"{DescribeOption(parsed, command)} See '{command.Name} --help'.";
    }

    private static string DescribeCommand(string word, Command root, ModelSpec spec)
    {
        if (word == "serve")
        {
            return "serve is in the package MatFormer.Server; run 'dotnet add package MatFormer.Server', and write in the program: return "
                + $"await ModelProgram.RunAsync<{spec.Name}>(args, ServeCommand.For<{spec.Name}>());";
        }

        var others = word switch
        {
            "import" or "calibrate" or "calibrate-weights" or "generate" => "language models",
            "classify" => "vision transformers",
            "index" or "search" or "eval-retrieval" => "text encoders",
            "tokenizer" => "language models and text encoders",
            _ => null,
        };
        if (others is not null) return $"{word} is a command of {others}, and {spec.Name} is none of them.";
        return $"There is no command '{word}'{Meant(word, root.Subcommands.Select(c => c.Name))}";
    }

    // The most specific error is shown: one about an option, else one about an unknown word, else any other.
    private static string DescribeOption(ParseResult parsed, Command command)
    {
        if (parsed.Errors.FirstOrDefault(e => e.SymbolResult is OptionResult or ArgumentResult) is { } ofOption)
        {
            return ofOption.SymbolResult is OptionResult { Tokens: [], Option: var option }
                ? $"{option.Name} needs {option.HelpName ?? "a value"} after it." : ofOption.Message;
        }

        var unknown = parsed.UnmatchedTokens.FirstOrDefault(t => t.StartsWith('-')) ?? parsed.UnmatchedTokens.FirstOrDefault();
        if (unknown is null) return parsed.Errors[0].Message;
        return unknown.StartsWith('-')
            ? $"{command.Name} has no option '{unknown}'{Meant(unknown, command.Options.Select(o => o.Name))}"
            : $"{command.Name} does not take '{unknown}'; the value of an option follows the option's name.";
    }

    // The distance is in half edits. A name that differs in more than half of the letters was hardly meant.
    private static string Meant(string word, IEnumerable<string> names)
    {
        var nearest = EditDistance.Nearest(word, names);
        return EditDistance.Between(word, nearest) <= word.TrimStart('-').Length ? $"; did you mean '{nearest}'?" : ".";
    }
}
