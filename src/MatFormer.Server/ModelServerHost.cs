using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace MatFormer;

/// <summary>Where a <see cref="ModelServerHost"/> listens.</summary>
public sealed record ListenOptions
{
    /// <summary>The address: this machine alone sees the default.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>The port; 0 for any that is free.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>Allows other machines without a token.</summary>
    public bool AllowAnonymous { get; init; }
}

/// <summary>A web application of a <see cref="ModelServer"/> alone: its endpoints and, at the root, a page to try the sizes.</summary>
public sealed class ModelServerHost : IAsyncDisposable
{
    private readonly ModelServer _server;
    private readonly WebApplication _application;

    private ModelServerHost(ModelServer server, WebApplication application) => (_server, _application) = (server, application);

    /// <summary>Where it listens.</summary>
    public Uri Address => new(_application.Urls.First());

    /// <summary>Starts to listen.</summary>
    /// <param name="server">What is served; it is stopped with the host.</param>
    /// <param name="options">Where.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="ArgumentException">Other machines would reach it without a token.</exception>
    /// <exception cref="IOException">The port is taken.</exception>
    public static async Task<ModelServerHost> StartAsync(
        ModelServer server, ListenOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(server);
        options ??= new ListenOptions();
        Check(options, server.Options.Token is not null);

        // Empty: nothing comes from files in the working folder or from the environment.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(5)); // for clients that do not read
        builder.Logging.SetMinimumLevel(LogLevel.Warning).AddSimpleConsole(o => o.SingleLine = true);
        builder.Logging.AddFilter("Microsoft.Extensions.Hosting", LogLevel.None); // of what is thrown anyway
        builder.Services.Configure<ConsoleLoggerOptions>(o => o.LogToStandardErrorThreshold = LogLevel.Trace);
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = server.Options.MaxBodyBytes;
            kestrel.Limits.MaxConcurrentConnections = 4096;
            kestrel.Listen(options.Address, options.Port);
        });
        var application = builder.Build();
        var isLocal = IPAddress.IsLoopback(options.Address) && server.Options.Token is null;
        application.Use(next => context => Answer(next, context, isLocal));
        application.MapMatFormer(server);
        application.MapMatFormerPage();
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await application.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        return new ModelServerHost(server, application);
    }

    /// <summary>Refuses new requests, lets those that are there end, cancels what is left after a while, and ends.</summary>
    /// <param name="grace">How long they may take.</param>
    public async Task StopAsync(TimeSpan grace)
    {
        await _server.StopAsync(grace).ConfigureAwait(false);
        await _application.StopAsync().ConfigureAwait(false);
    }

    /// <summary>Cancels what is there, and ends.</summary>
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
            $"At {options.Address} other machines reach the server, and it has no token; give one, or allow anonymous requests expressly.");
    }

    private static async Task Answer(RequestDelegate next, HttpContext context, bool isLocal)
    {
        // A page of some other site could have its name resolve to this machine.
        if (isLocal && !IsLocalName(context.Request.Host.Host))
        {
            var refusal = new ApiException(
                StatusCodes.Status421MisdirectedRequest, "This server answers to localhost only, as it has no token.");
            await ModelServerEndpoints.WriteError(context, refusal).ConfigureAwait(false);
            return;
        }

        await next(context).ConfigureAwait(false);
        if (context.Response.HasStarted || context.Response.ContentType is not null) return;
        var error = context.Response.StatusCode switch
        {
            StatusCodes.Status404NotFound => $"There is nothing at {context.Request.Path}.",
            StatusCodes.Status405MethodNotAllowed => $"{context.Request.Path} does not take {context.Request.Method}.",
            _ => null,
        };
        if (error is null) return;
        await ModelServerEndpoints.WriteError(context, new ApiException(context.Response.StatusCode, error)).ConfigureAwait(false);
    }

    private static bool IsLocalName(string host) =>
        host == "localhost" || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));

    // Signals are the program's.
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
