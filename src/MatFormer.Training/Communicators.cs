using System.Collections.Concurrent;

namespace MatFormer;

/// <summary>
/// The kinds of communicators that a program can use, by name. A program that trains on several processes registers them before its
/// commands run: <c>DistributedTraining.Register()</c> of the package MatFormer.Distributed.
/// </summary>
public static class Communicators
{
    private static readonly ConcurrentDictionary<string, Func<ICommunicator>> s_known = new(StringComparer.Ordinal);

    /// <summary>Adds a kind of communicator, or replaces it.</summary>
    /// <param name="name">The name that <c>--distributed</c> takes, such as <c>mpi</c>.</param>
    /// <param name="connect">Connects this process with the others.</param>
    public static void Add(string name, Func<ICommunicator> connect)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(connect);
        s_known[name] = connect;
    }

    /// <summary>Connects this process with the others of its run.</summary>
    /// <exception cref="DistributedException">The program has no such communicator, or the processes cannot be connected.</exception>
    public static ICommunicator Connect(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (s_known.TryGetValue(name, out var connect)) return connect();
        throw new DistributedException(
            $"This program cannot train over '{name}'; reference the package MatFormer.Distributed and call "
            + "DistributedTraining.Register() before the commands run.");
    }
}
