namespace MatFormer;

/// <summary>The command line or what it names is wrong; the message is the one line that the user sees.</summary>
internal sealed class UsageException(string message, Exception? inner = null) : Exception(message, inner);
