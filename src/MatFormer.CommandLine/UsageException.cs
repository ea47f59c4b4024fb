namespace MatFormer;

/// <summary>The command line, or a file that it names, is wrong. The user sees the message, which is one line.</summary>
internal sealed class UsageException(string message, Exception? inner = null) : Exception(message, inner);
