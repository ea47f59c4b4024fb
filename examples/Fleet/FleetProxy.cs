using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;
using Yarp.ReverseProxy.Configuration;
using Yarp.ReverseProxy.Forwarder;
using Yarp.ReverseProxy.Health;
using Yarp.ReverseProxy.Model;
using Yarp.ReverseProxy.Transforms;

namespace Fleet;

/// <summary>
/// A reverse proxy (YARP) before several servers of one model. It keeps a conversation at one replica, leaves out replicas that are not
/// ready, and repeats a request at another replica as long as no answer has begun.
/// </summary>
public static class FleetProxy
{
    /// <summary>The header of an answer with the address of the replica that gave it.</summary>
    public const string ReplicaHeader = "X-Replica";

    private const string Cluster = "replicas";

    /// <summary>Builds the web application, which is yet to be started.</summary>
    public static WebApplication Build(FleetOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddRoutingCore();
        builder.Logging.SetMinimumLevel(LogLevel.Warning).AddSimpleConsole(o => o.SingleLine = true);
        builder.Logging.AddFilter("Microsoft.Extensions.Hosting", LogLevel.None); // logs only exceptions that are thrown anyway
        builder.Logging.AddFilter("Yarp", LogLevel.Error); // a replica that cannot be reached is no surprise here
        builder.Services.Configure<ConsoleLoggerOptions>(o => o.LogToStandardErrorThreshold = LogLevel.Trace);
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = options.MaxBodyBytes;
            kestrel.Listen(options.Address, options.Port);
        });
        builder.Services.Configure<ConsecutiveFailuresHealthPolicyOptions>(o => o.DefaultThreshold = 1);
        builder.Services.AddReverseProxy()
            .LoadFromMemory(
                [new RouteConfig { RouteId = "all", ClusterId = Cluster, Match = new RouteMatch { Path = "{**path}" } }],
                [ClusterOf(options)])
            .AddDnsDestinationResolver(dns => dns.RefreshPeriod = TimeSpan.FromSeconds(5))
            .ConfigureHttpClient((_, handler) => handler.ConnectTimeout = options.ConnectTimeout)
            .AddTransforms(transforms => transforms.AddResponseTransform(transform =>
            {
                // Another replica may have room, or is not stopping. What the last one says is passed on.
                if (transform.ProxyResponse?.StatusCode is HttpStatusCode.ServiceUnavailable or HttpStatusCode.TooManyRequests
                    && transform.HttpContext.Items.ContainsKey(typeof(Attempt)))
                {
                    transform.SuppressResponseBody = true;
                }

                return ValueTask.CompletedTask;
            }));
        var application = builder.Build();
        if (IPAddress.IsLoopback(options.Address)) application.Use(OnlyLocalNames);
        application.MapGet("/livez", (RequestDelegate)(context => context.Response.WriteAsync("ok")));
        application.MapGet("/readyz", (RequestDelegate)(context =>
        {
            var states = context.RequestServices.GetRequiredService<Yarp.ReverseProxy.IProxyStateLookup>();
            var ready = states.TryGetCluster(Cluster, out var cluster)
                ? cluster.Destinations.Values.Count(replica => replica.Health.Active == DestinationHealth.Healthy) : 0;
            context.Response.StatusCode = ready > 0 ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable;
            return context.Response.WriteAsync(ready == 1 ? "1 replica is ready" : $"{ready} replicas are ready");
        }));
        application.MapReverseProxy(pipeline => pipeline.Use((context, next) => Forward(context, next, options)));
        return application;
    }

    private static ClusterConfig ClusterOf(FleetOptions options) => new()
    {
        ClusterId = Cluster,
        Destinations = options.Replicas.Index().ToDictionary(
            replica => $"replica-{replica.Index + 1}", replica => new DestinationConfig { Address = replica.Item.AbsoluteUri }),
        HealthCheck = new HealthCheckConfig
        {
            // If no replica seems ready, all are tried.
            AvailableDestinationsPolicy = HealthCheckConstants.AvailableDestinations.HealthyOrPanic,
            Active = new ActiveHealthCheckConfig
            {
                Enabled = true,
                Interval = options.ProbeEvery,
                Timeout = options.ProbeTimeout,
                Policy = HealthCheckConstants.ActivePolicy.ConsecutiveFailures,
                Path = "/readyz",
            },
        },

        // The first token of a long queue may take a while. A client that waits no longer cancels its request.
        HttpRequest = new ForwarderRequestConfig { ActivityTimeout = TimeSpan.FromMinutes(10) },
    };

    // Sends a request to replicas, the best one first, until one of them begins an answer.
    private static async Task Forward(HttpContext context, RequestDelegate next, FleetOptions options)
    {
        var body = await ReadBody(context, options).ConfigureAwait(false);
        if (body is null) return;
        var proxy = context.GetReverseProxyFeature();
        var replicas = InOrder(ConversationKey.Of(context.Request.Headers, body), proxy.AvailableDestinations, options.Slack);
        foreach (var (tries, replica) in replicas.Index())
        {
            context.Response.Clear();
            context.Features.Set<IForwarderErrorFeature>(null);
            context.Request.Body = new MemoryStream(body, writable: false);
            context.Response.Headers[ReplicaHeader] = NameOf(replica);
            proxy.AvailableDestinations = [replica];
            if (tries < replicas.Count - 1) context.Items[typeof(Attempt)] = null;
            else context.Items.Remove(typeof(Attempt));
            await next(context).ConfigureAwait(false);
            if (context.Response.HasStarted || context.RequestAborted.IsCancellationRequested) return;
            var isRefused = context.Response.StatusCode is StatusCodes.Status503ServiceUnavailable or StatusCodes.Status429TooManyRequests;
            if (context.GetForwarderErrorFeature() is null && !(isRefused && tries < replicas.Count - 1)) return;
        }

        context.Response.Clear();
        context.Response.Headers.RetryAfter = "5";
        await Fail(context, StatusCodes.Status503ServiceUnavailable, "No replica answered; try again.").ConfigureAwait(false);
    }

    // Returns the body, which is sent again if a replica fails; null if it was refused.
    private static async Task<byte[]?> ReadBody(HttpContext context, FleetOptions options)
    {
        using var body = new MemoryStream();
        try
        {
            await context.Request.Body.CopyToAsync(body, context.RequestAborted).ConfigureAwait(false);
            return body.ToArray();
        }
        catch (BadHttpRequestException e)
        {
            var message = e.StatusCode == StatusCodes.Status413PayloadTooLarge
                ? $"The body is larger than {options.MaxBodyBytes} bytes; shorten it." : e.Message;
            await Fail(context, e.StatusCode, message).ConfigureAwait(false);
            return null;
        }
        catch (Exception e) when (e is IOException or OperationCanceledException && context.RequestAborted.IsCancellationRequested)
        {
            return null; // the client has left
        }
    }

    private static List<DestinationState> InOrder(string? key, IReadOnlyList<DestinationState> replicas, int slack)
    {
        if (key is null) return [.. replicas.OrderBy(replica => replica.ConcurrentRequestCount).ThenBy(_ => Random.Shared.Next())];
        var most = slack + replicas.Select(replica => replica.ConcurrentRequestCount).DefaultIfEmpty().Min();
        var all = ConversationKey.Order(key, replicas, NameOf).ToList();
        return [.. all.Where(HasRoom), .. all.Where(replica => !HasRoom(replica))];

        bool HasRoom(DestinationState replica) => replica.ConcurrentRequestCount <= most;
    }

    private static string NameOf(DestinationState replica) => new Uri(replica.Model.Config.Address).Authority;

    // Without a token, a page of another site could reach the replicas by a name that stands for this machine (DNS rebinding).
    private static Task OnlyLocalNames(HttpContext context, RequestDelegate next)
    {
        var host = context.Request.Host.Host;
        return host.Length == 0 || host.Equals("localhost", StringComparison.OrdinalIgnoreCase)
            || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address))
            ? next(context)
            : Fail(context, StatusCodes.Status421MisdirectedRequest, "This proxy answers to localhost only.");
    }

    private static Task Fail(HttpContext context, int status, string message)
    {
        context.Response.StatusCode = status;
        var type = status >= 500 ? "server_error" : "invalid_request_error";
        return context.Response.WriteAsJsonAsync(new { error = new { message, type, param = (string?)null, code = (string?)null } });
    }

    // The key of an item that is there while further replicas could be tried.
    private sealed class Attempt;
}
