// A proxy before several servers of one model: health, draining, conversations that stay at a replica, retries (docs/fleet.md).
//   bash examples/Fleet/run.sh                                 starts two servers of DocsLm and the proxy
//   dotnet run --project examples/Fleet -c Release -- --replica http://127.0.0.1:8081 --replica http://127.0.0.1:8082
using System.CommandLine;
using System.Net;
using System.Net.Sockets;
using Fleet;

var replicas = new Option<string[]>("--replica")
{
    Description = "Address of a server, such as http://127.0.0.1:8081; once for each. A name with several addresses is several replicas",
    HelpName = "URL",
    Required = true,
};
var host = new Option<string>("--host")
{
    Description = "Address to listen at; 127.0.0.1 is for this machine only. For any other one, give the servers a token",
    HelpName = "ADDRESS",
    DefaultValueFactory = _ => "127.0.0.1",
};
var port = new Option<int>("--port")
{
    Description = "Port to listen at, 0 for any free one",
    HelpName = "N",
    DefaultValueFactory = _ => 8080,
};
var slack = new Option<int>("--slack")
{
    Description = "How many more requests than the least busy replica the one of a conversation may have",
    HelpName = "N",
    DefaultValueFactory = _ => 8,
};
replicas.Validators.Add(result =>
{
    foreach (var token in result.Tokens)
    {
        if (!Uri.TryCreate(token.Value, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
            result.AddError($"--replica must be an address such as http://127.0.0.1:8081, not '{token.Value}'.");
    }
});
host.Validators.Add(result =>
{
    if (result.Tokens is [var token] && !IPAddress.TryParse(token.Value, out _))
        result.AddError($"--host must be an address such as 127.0.0.1 or 0.0.0.0, not '{token.Value}'.");
});
Between(port, 0, IPEndPoint.MaxPort);
Between(slack, 0, 1_000_000);

var root = new RootCommand("Distributes requests over servers of one model.") { replicas, host, port, slack };
root.SetAction(async (parsed, cancellationToken) =>
{
    await using var proxy = FleetProxy.Build(new FleetOptions
    {
        Replicas = [.. parsed.GetRequiredValue(replicas).Select(address => new Uri(address))],
        Address = IPAddress.Parse(parsed.GetRequiredValue(host)),
        Port = parsed.GetValue(port),
        Slack = parsed.GetValue(slack),
    });
    await proxy.StartAsync(cancellationToken);
    Console.WriteLine($"Distributing over {string.Join(", ", parsed.GetRequiredValue(replicas))} at {proxy.Urls.First()}");
    await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    Console.WriteLine("Stopping.");
    await proxy.StopAsync(CancellationToken.None); // running answers have half a minute to end
    return 0;
});

var line = root.Parse(args);
if (line.Errors is [var error, ..])
{
    Console.Error.WriteLine($"{error.Message} See '--help'.");
    return 2;
}

try
{
    return await line.InvokeAsync(new InvocationConfiguration
    {
        EnableDefaultExceptionHandler = false,
        ProcessTerminationTimeout = TimeSpan.FromMinutes(1),
    });
}
catch (Exception e) when (e is IOException or SocketException)
{
    Console.Error.WriteLine($"Cannot listen there: {e.Message.TrimEnd('.')}. Give another --host or --port."); // the port may be in use
    return 2;
}

static void Between(Option<int> option, int least, int most) => option.Validators.Add(result =>
{
    if (result.Tokens is [var token] && !(int.TryParse(token.Value, out var number) && number >= least && number <= most))
        result.AddError($"{option.Name} must be a whole number from {least} to {most}, not '{token.Value}'.");
});
