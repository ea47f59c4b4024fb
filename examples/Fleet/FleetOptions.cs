using System.Net;

namespace Fleet;

/// <summary>The options of the proxy.</summary>
public sealed record FleetOptions
{
    /// <summary>The addresses of the replicas. A name that stands for several addresses is several replicas.</summary>
    public required IReadOnlyList<Uri> Replicas { get; init; }

    /// <summary>The address to listen at. Only this machine can reach the default.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>The port; 0 for any free port.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>
    /// A conversation leaves its replica if that runs so many more requests than the one with the fewest. It then waits less, but its
    /// beginning is computed again.
    /// </summary>
    public int Slack { get; init; } = 8;

    /// <summary>The time between two questions to a replica whether it is ready.</summary>
    public TimeSpan ProbeEvery { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>The time that a replica has to answer whether it is ready.</summary>
    public TimeSpan ProbeTimeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>The time within which a replica must be reached.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>The most bytes in the body of a request, which is kept until the answer begins.</summary>
    public int MaxBodyBytes { get; init; } = 32 << 20;
}
