using System.Diagnostics;
using System.Globalization;

namespace MatFormer.Server.Tests;

/// <summary>A process that runs <c>serve</c> with the weights of <see cref="Models.New"/> at a free port of this machine.</summary>
internal sealed class ServedReplica : IAsyncDisposable
{
    private readonly Process _process;

    private ServedReplica(Process process, Uri address) =>
        (_process, Client) = (process, new HttpClient { BaseAddress = address, Timeout = TimeSpan.FromMinutes(20) });

    /// <summary>A client of this replica alone.</summary>
    public HttpClient Client { get; }

    public Uri Address => Client.BaseAddress!;

    /// <summary>Starts replicas at the same time.</summary>
    public static Task<ServedReplica[]> Start(int count, string checkpoint, params string[] options) =>
        Task.WhenAll(Enumerable.Range(0, count).Select(_ => Start(checkpoint, options)));

    /// <summary>Kills the process, as a machine that fails does.</summary>
    public void Kill() => _process.Kill();

    /// <summary>Asks the process to stop, and returns its exit code.</summary>
    public async Task<int> Stop()
    {
        Process.Start("kill", ["-TERM", _process.Id.ToString(CultureInfo.InvariantCulture)])!.WaitForExit();
        await _process.WaitForExitAsync();
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private static async Task<ServedReplica> Start(string checkpoint, string[] options)
    {
        var process = ServeCommandTests.Start(["serve", "--checkpoint", checkpoint, "--port", "0", "--threads", "1", .. options]);
        var errors = process.StandardError.ReadToEndAsync();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (line.Split(' ').FirstOrDefault(word => word.StartsWith("http://", StringComparison.Ordinal)) is not { } address) continue;
            _ = process.StandardOutput.ReadToEndAsync(); // so that the process is never blocked
            return new ServedReplica(process, new Uri(address));
        }

        throw new InvalidOperationException(await errors);
    }
}
