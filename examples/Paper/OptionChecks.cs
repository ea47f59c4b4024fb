using System.CommandLine;
using System.Globalization;

namespace Paper;

/// <summary>Checks the numbers that are given to options.</summary>
internal static class OptionChecks
{
    /// <summary>Refuses what is not a number or not a good one, with a message such as "--seeds must be from 1 to 10".</summary>
    public static void Check<T>(this Option option, Func<T, bool> isGood, string message)
        where T : IParsable<T> =>
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !(T.TryParse(token.Value, CultureInfo.InvariantCulture, out var number) && isGood(number)))
                result.AddError($"{message}, not '{token.Value}'.");
        });
}
