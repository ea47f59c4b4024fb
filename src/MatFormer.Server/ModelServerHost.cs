using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace MatFormer;

/// <summary>The options of a <see cref="ModelServerHost"/>: where it listens.</summary>
public sealed record ListenOptions
{
    /// <summary>The address to listen at. Only this machine can reach the default.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>The port; 0 for any free port.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>True if other machines may send requests without a token.</summary>
    public bool AllowAnonymous { get; init; }
}

/// <summary>
/// A web application for one <see cref="ModelServer"/>, with its endpoints and, for a language model, a page at the root that tries the
/// sizes.
/// </summary>
public sealed class ModelServerHost : IAsyncDisposable
{
    // How long clients may take to read the end of their answers when the server stops.
    private static readonly TimeSpan s_lastWords = TimeSpan.FromSeconds(0.5);

    private readonly ModelServer _server;
    private readonly WebApplication _application;

    private ModelServerHost(ModelServer server, WebApplication application) => (_server, _application) = (server, application);

    /// <summary>The address at which the host listens.</summary>
    public Uri Address => new(_application.Urls.First());

    /// <summary>Creates a host and starts to listen.</summary>
    /// <param name="server">The server. It is stopped together with the host.</param>
    /// <param name="options">Where to listen; null for the defaults.</param>
    /// <param name="cancellationToken">Cancels the start.</param>
    /// <exception cref="ArgumentException">The port is out of range, or other machines could reach the server without a token.</exception>
    /// <exception cref="IOException">The port is in use, or the address is not one of this machine.</exception>
    public static async Task<ModelServerHost> StartAsync(
        ModelServer server, ListenOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(server);
        options ??= new ListenOptions();
        Check(options, server.HasToken);

        // An empty builder reads no settings from files in the working folder or from the environment.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = Timeout.InfiniteTimeSpan); // StopAsync has a limit of its own
        builder.Logging.SetMinimumLevel(LogLevel.Warning).AddSimpleConsole(o => o.SingleLine = true);
        builder.Logging.AddFilter("Microsoft.Extensions.Hosting", LogLevel.None); // logs only exceptions that are thrown anyway
        builder.Services.Configure<ConsoleLoggerOptions>(o => o.LogToStandardErrorThreshold = LogLevel.Trace);
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = server.MaxBodyBytes;
            kestrel.Limits.MaxConcurrentConnections = 4096;
            kestrel.Listen(options.Address, options.Port);
        });
        var application = builder.Build();
        var isLocal = IPAddress.IsLoopback(options.Address) && !server.HasToken;
        application.Use(next => context => Answer(next, context, isLocal));
        application.MapMatFormer(server);
        if (server is LanguageModelServer) application.MapMatFormerPage();
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await application.DisposeAsync().ConfigureAwait(false);
            if (e is not SocketException) throw;
            throw new IOException(
                $"The server cannot listen at {new IPEndPoint(options.Address, options.Port)}: {e.Message}. Give an address of this "
                + "machine and a port that may be used.", e);
        }

        return new ModelServerHost(server, application);
    }

    /// <summary>
    /// Refuses new requests, waits for running ones, cancels the rest after the grace period, and stops listening. Clients have half a
    /// second more to read the end of their answers. Then their connections are closed.
    /// </summary>
    /// <param name="grace">How long running requests may take.</param>
    public async Task StopAsync(TimeSpan grace)
    {
        await _server.StopAsync(grace).ConfigureAwait(false);
        using var last = new CancellationTokenSource(s_lastWords);
        await _application.StopAsync(last.Token).ConfigureAwait(false);
    }

    /// <summary>Cancels all requests, and stops listening.</summary>
    public async ValueTask DisposeAsync()
    {
        await StopAsync(TimeSpan.Zero).ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
    }

    internal static void Check(ListenOptions options, bool hasToken)
    {
        if (options.Port is < 0 or > IPEndPoint.MaxPort)
            throw new ArgumentException($"The port is {options.Port}; it must be within 0 and {IPEndPoint.MaxPort}.");
        if (hasToken || options.AllowAnonymous || IPAddress.IsLoopback(options.Address)) return;
        throw new ArgumentException(
            $"Other machines can reach the server at {options.Address}, and it has no token; set a token, or set AllowAnonymous.");
    }

    private static async Task Answer(RequestDelegate next, HttpContext context, bool isLocal)
    {
        // The host name of another site's page could resolve to this machine (DNS rebinding). Browsers always name the host; a client
        // of HTTP/1.0 need not.
        if (isLocal && !IsLocalName(context.Request.Host.Host))
        {
            var refusal = new ApiException(
                StatusCodes.Status421MisdirectedRequest, "This server answers to localhost only, because it has no token.");
            await ModelServerEndpoints.WriteError(context, refusal).ConfigureAwait(false);
            return;
        }

        await next(context).ConfigureAwait(false);
        if (context.Response.HasStarted || context.Response.ContentType is not null) return;
        var error = context.Response.StatusCode switch
        {
            StatusCodes.Status404NotFound => $"There is nothing at {context.Request.Path}.",
            StatusCodes.Status405MethodNotAllowed => $"{context.Request.Path} does not support the method {context.Request.Method}.",
            _ => null,
        };
        if (error is null) return;
        await ModelServerEndpoints.WriteError(context, new ApiException(context.Response.StatusCode, error)).ConfigureAwait(false);
    }

    private static bool IsLocalName(string host) => host.Length == 0 || host.Equals("localhost", StringComparison.OrdinalIgnoreCase)
        || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));

    // The program handles signals, not the host.
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
