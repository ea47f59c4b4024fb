namespace MatFormer;

/// <summary>Describes what is wrong with an argument, for messages to users.</summary>
internal static class ArgumentProblem
{
    /// <summary>Returns the message of an exception without the name of the parameter, which .NET appends.</summary>
    public static string Of(ArgumentException exception) => exception.Message.Split(" (Parameter", 2)[0];
}
