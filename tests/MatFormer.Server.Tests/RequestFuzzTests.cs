using System.Text;
using System.Text.Json;
using MatFormer.Tests;
using Microsoft.AspNetCore.Http;

namespace MatFormer.Server.Tests;

/// <summary>Tests that a damaged request is either understood or refused with a status of the client's error.</summary>
public sealed class RequestFuzzTests(SharedServer shared) : IClassFixture<SharedServer>
{
    [Fact]
    public void DamagedChatsAreUnderstoodOrRefused() => Run(
        fields => Assert.NotNull(ApiRequests.Chat(shared.Its.Server, fields)),
        """{"model": "TinyLm", "messages": [{"role": "system", "content": "\ud83d\ude00"}, """
        + """{"role": "user", "content": [{"type": "text", "text": "x"}]}]}""",
        """
        {"model": "TinyLm/M", "messages": [{"role": "user", "content": "x"}], "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
         "modalities": ["text"], "logprobs": false, "top_logprobs": 0, "max_completion_tokens": 5, "metadata": {"a": {"b": ["c", 1]}}}
        """);

    [Fact]
    public void DamagedCompletionsAreUnderstoodOrRefused() => Run(
        fields => Assert.NotNull(ApiRequests.Completion(shared.Its.Server, fields)),
        """
        {"model": "TinyLm/1*S 1*XL", "prompt": ["x"], "stream": true, "stream_options": {"include_usage": true}, "stop": ["a", "\u00e4"], "n": 1,
         "seed": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "logit_bias": {}, "user": "me"}
        """,
        """{"model": "TinyLm/auto", "prompt": "x", "max_flops_per_token": 100000000, "max_ms_per_token": 1e6,"""
        + """ "max_tokens": 3, "echo": false}""");

    [Fact]
    public void DamagedEmbeddingsAreUnderstoodOrRefused() => Run(
        fields => Assert.NotNull(ApiRequests.Embedding(shared.Its.Server, fields)),
        """{"model": "TinyLm", "input": ["one text", [1, 2, 3]], "encoding_format": "base64", "dimensions": 32, "user": "me"}""",
        """{"model": "TinyLm/S", "input": [104, 105], "encoding_format": "float"}""");

    private static void Run(Action<RequestFields> read, params string[] seeds) => Mutator.Run(
        [.. seeds.Select(Encoding.UTF8.GetBytes)],
        body =>
        {
            var context = new DefaultHttpContext();
            context.Request.ContentType = "application/json";
            context.Request.Body = new MemoryStream(body);
            using var fields = RequestFields.ReadAsync(context.Request, CancellationToken.None).GetAwaiter().GetResult();
            read(fields);
        },
        e => e is ApiException { Status: >= 400 and < 500 } error
            && JsonSerializer.Serialize(error.Response, ApiJson.Default.ErrorResponse).Length > 0);
}
