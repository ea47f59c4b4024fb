using System.Net.Sockets;
using System.Text;

namespace MatFormer.Server.Tests;

/// <summary>Sends requests that no HTTP client of .NET would send.</summary>
public sealed class ConnectionTests(SharedServer shared) : IClassFixture<SharedServer>
{
    private const string Body = """{"model": "TinyLm", "prompt": "x", "max_tokens": 1}""";

    [Theory]
    [InlineData("GET /healthz HTTP/1.1\r\nHost: LOCALHOST\r\nConnection: close\r\n\r\n")]
    [InlineData("GET /healthz HTTP/1.1\r\nHost: LocalHost:8080\r\nConnection: close\r\n\r\n")]
    [InlineData("GET /healthz HTTP/1.0\r\n\r\n")]
    [InlineData("GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")]
    public async Task EveryLocalClientIsAnswered(string request) => Assert.StartsWith("HTTP/1.1 200 OK\r\n", await Answer(request));

    [Theory]
    [InlineData("GET /healthz HTTP/1.1\r\nHost: localhost.example.com\r\nConnection: close\r\n\r\n")]
    [InlineData("GET /healthz HTTP/1.0\r\nHost: example.com\r\n\r\n")]
    public async Task AForeignNameOfTheHostIsRefused(string request) => Assert.StartsWith("HTTP/1.1 421 ", await Answer(request));

    [Fact]
    public async Task AChunkedRequestIsAnswered() =>
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", await Answer(Chunked($"{Body.Length:x}\r\n{Body}\r\n0\r\n\r\n")));

    [Theory]
    [InlineData("ZZ\r\n")]
    [InlineData("-1\r\n")]
    [InlineData("\r\n")]
    [InlineData("80000000\r\n")]
    [InlineData("FFFFFFFF\r\n")]
    [InlineData("FFFFFFFFFFFFFFFFFFFF\r\n")]
    [InlineData("1\r\n{XX0\r\n\r\n")]
    public async Task BrokenChunksAreRefused(string chunks)
    {
        var answer = await Answer(Chunked(chunks));
        Assert.StartsWith("HTTP/1.1 400 Bad Request\r\n", answer);
        Assert.Contains("Bad chunk", answer);
    }

    [Fact]
    public async Task StringsThatAreNotUtf8AreRefused()
    {
        var request = Chunked("1b\r\n{\"model\": \"TinyLm\", \"\u00FF\": 1}\r\n0\r\n\r\n");
        var answer = await Answer(request, Encoding.Latin1);
        Assert.StartsWith("HTTP/1.1 400 Bad Request\r\n", answer);
        Assert.Contains("not UTF-8", answer);
    }

    [Fact]
    public async Task StoppingEndsAlthoughAClientDoesNotRead()
    {
        await using var its = await TestServer.Start(new ModelServerOptions { MaxTokens = int.MaxValue, Scheduler = Models.Patient });
        using var client = new TcpClient { ReceiveBufferSize = 4096 };
        await client.ConnectAsync(its.Host.Address.Host, its.Host.Address.Port);
        const string Endless = """{"model": "TinyLm/S", "prompt": "x", "max_tokens": 2000000000, "stream": true}""";
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + $"Content-Length: {Endless.Length}\r\n\r\n{Endless}"));

        // When the buffers are full, the request waits for its reader.
        long before, now = 0;
        do
        {
            (before, now) = (now, its.Server.Scheduler.Statistics.GeneratedTokens);
            await Task.Delay(100);
        }
        while (now == 0 || now != before);
        Assert.Equal(1, its.Server.Scheduler.Statistics.Running);
        await its.Host.StopAsync(TimeSpan.Zero).WaitAsync(TimeSpan.FromMinutes(5));
        Assert.Equal(1, its.Server.Scheduler.Statistics.Cancelled);
    }

    private static string Chunked(string chunks) =>
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        + $"Transfer-Encoding: chunked\r\n\r\n{chunks}";

    private async Task<string> Answer(string request, Encoding? encoding = null)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(shared.Its.Host.Address.Host, shared.Its.Host.Address.Port);
        var stream = client.GetStream();
        await stream.WriteAsync((encoding ?? Encoding.ASCII).GetBytes(request));
        using var reader = new StreamReader(stream);
        return await reader.ReadToEndAsync();
    }
}
