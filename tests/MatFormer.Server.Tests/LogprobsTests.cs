using System.Text;
using System.Text.Json;

namespace MatFormer.Server.Tests;

public sealed class LogprobsTests(SharedServer shared) : IClassFixture<SharedServer>
{
    private const string Chat = "/v1/chat/completions";
    private const string Text = "/v1/completions";

    [Fact]
    public async Task AChatReturnsTheLogProbabilitiesOfItsTokens()
    {
        var answer = await shared.Its.PostOk(Chat, Body(("logprobs", true), ("top_logprobs", 3)));
        var content = answer.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content").EnumerateArray().ToList();
        Assert.Equal(12, content.Count);
        CheckAgainstLogits("Say", content);
    }

    [Fact]
    public async Task AStreamReturnsTheLogProbabilitiesOfTheWholeAnswer()
    {
        var whole = await shared.Its.PostOk(Chat, Body(("logprobs", true), ("top_logprobs", 3)));
        var events = await shared.Its.Stream(Chat, Body(("logprobs", true), ("top_logprobs", 3), ("stream", true)));
        var parts = events.Select(e => e.GetProperty("choices")[0].GetProperty("logprobs")).Where(l => l.ValueKind == JsonValueKind.Object)
            .SelectMany(l => l.GetProperty("content").EnumerateArray()).Select(e => e.ToString());
        var wanted = whole.GetProperty("choices")[0].GetProperty("logprobs")
            .GetProperty("content").EnumerateArray().Select(e => e.ToString());
        Assert.Equal(wanted, parts);
    }

    [Fact]
    public async Task PenaltiesBiasesAndTemperatureDoNotChangeLogProbabilities()
    {
        var answer = await shared.Its.PostOk(
            Chat, Body(
                ("logprobs", true), ("top_logprobs", 2), ("temperature", 1.5), ("frequency_penalty", 1), ("presence_penalty", 1),
                ("logit_bias", new Dictionary<string, int> { ["65"] = 3 })));
        CheckAgainstLogits(
            "Say", [.. answer.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content").EnumerateArray()], top: 2);
    }

    [Fact]
    public async Task WithoutTheFieldThereAreNoLogProbabilities()
    {
        var answer = await shared.Its.PostOk(Chat, Body());
        Assert.Equal(JsonValueKind.Null, answer.GetProperty("choices")[0].GetProperty("logprobs").ValueKind);
    }

    [Fact]
    public async Task LogProbabilitiesWithoutTopHaveOnlyTheChosenTokens()
    {
        var answer = await shared.Its.PostOk(Chat, Body(("logprobs", true)));
        var content = answer.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content").EnumerateArray().ToList();
        Assert.Equal(12, content.Count);
        Assert.All(content, e => Assert.Equal(0, e.GetProperty("top_logprobs").GetArrayLength()));
    }

    [Fact]
    public async Task TokensOfAStopStringHaveNoLogProbabilities()
    {
        // The bias makes the model write one letter, so that the text is known.
        var body = Body(("logprobs", true), ("logit_bias", new Dictionary<string, int> { ["65"] = 100 }), ("stop", "AAA"));
        var whole = await shared.Its.PostOk(Chat, body);
        Assert.Equal(string.Empty, whole.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString());
        Assert.Equal(0, whole.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("content").GetArrayLength());
        body["stream"] = true;
        Assert.All(
            await shared.Its.Stream(Chat, body),
            e => Assert.Equal(JsonValueKind.Null, e.GetProperty("choices")[0].GetProperty("logprobs").ValueKind));
    }

    [Fact]
    public async Task ACompletionReturnsTheFourListsOfLogProbabilities()
    {
        var body = new Dictionary<string, object>
        {
            ["model"] = "TinyLm",
            ["prompt"] = "Say",
            ["max_tokens"] = 12,
            ["temperature"] = 0,
            ["logprobs"] = 2,
        };
        var choice = (await shared.Its.PostOk(Text, body)).GetProperty("choices")[0];
        var logprobs = choice.GetProperty("logprobs");
        var tokens = logprobs.GetProperty("tokens").EnumerateArray().Select(t => BytesOf(t.GetString()!)).ToList();
        var values = logprobs.GetProperty("token_logprobs").EnumerateArray().Select(v => v.GetDouble()).ToList();
        Assert.Equal(12, tokens.Count);
        var generated = tokens.SelectMany(t => t).ToArray();
        Assert.Equal(choice.GetProperty("text").GetString(), Encoding.UTF8.GetString(generated));
        var wanted = LogProbabilities("Say", generated);
        for (var i = 0; i < 12; i++)
        {
            Assert.Equal(wanted[i][generated[i]], values[i], 1e-9);
            var top = logprobs.GetProperty("top_logprobs")[i].EnumerateObject()
                .ToDictionary(p => (int)BytesOf(p.Name).Single(), p => p.Value.GetDouble());
            var best = wanted[i].Index().OrderByDescending(p => p.Item).Take(2).Select(p => p.Index);
            Assert.Equal(best.Append(generated[i]).Distinct().Order(), top.Keys.Order());
        }

        // A stream counts its offsets on.
        body["stream"] = true;
        var events = await shared.Its.Stream(Text, body);
        var offsets = events.SelectMany(
            e => e.GetProperty("choices")[0].GetProperty("logprobs").GetProperty("text_offset").EnumerateArray()).Select(o => o.GetInt32());
        Assert.Equal(logprobs.GetProperty("text_offset").EnumerateArray().Select(o => o.GetInt32()), offsets);
    }

    [Fact]
    public async Task OffsetsCountTheCharactersOfTheText()
    {
        var bias = new Dictionary<string, int> { ["65"] = 100 };
        var answer = await shared.Its.PostOk(
            Text, new { model = "TinyLm", prompt = "x", max_tokens = 4, temperature = 0, logprobs = 0, logit_bias = bias });
        var logprobs = answer.GetProperty("choices")[0].GetProperty("logprobs");
        Assert.Equal("[0,1,2,3]", logprobs.GetProperty("text_offset").ToString());
        Assert.Equal("""["A","A","A","A"]""", logprobs.GetProperty("tokens").ToString());
    }

    private static Dictionary<string, object> Body(params (string Name, object Value)[] more)
    {
        var body = new Dictionary<string, object>
        {
            ["model"] = "TinyLm",
            ["messages"] = new[] { new { role = "user", content = "Say" } },
            ["max_tokens"] = 12,
            ["temperature"] = 0,
        };
        foreach (var (name, value) in more) body[name] = value;
        return body;
    }

    // The tokens are bytes, so each entry has one byte.
    private void CheckAgainstLogits(string prompt, List<JsonElement> content, int top = 3)
    {
        var generated = content.Select(e => (byte)e.GetProperty("bytes").EnumerateArray().Single().GetInt32()).ToArray();
        var wanted = LogProbabilities(prompt, generated);
        foreach (var (i, entry) in content.Index())
        {
            Assert.Equal(wanted[i][generated[i]], entry.GetProperty("logprob").GetDouble(), 1e-9);
            var best = wanted[i].Index().OrderByDescending(p => p.Item).Take(top).ToList();
            var tops = entry.GetProperty("top_logprobs").EnumerateArray().ToList();
            Assert.Equal(best.Select(p => p.Index), tops.Select(t => t.GetProperty("bytes")[0].GetInt32()));
            Assert.Equal(
                best.Select(p => p.Item), tops.Select(t => t.GetProperty("logprob").GetDouble()), (a, b) => Math.Abs(a - b) < 1e-9);
            Assert.All(tops, t => Assert.False(t.TryGetProperty("top_logprobs", out _)));
        }
    }

    // Returns the log probability of each token at each generated place.
    private double[][] LogProbabilities(string prompt, byte[] generated)
    {
        using var engine = DecodingEngine.Create(shared.Its.Model, new DecodingOptions { Threads = 2 });
        var start = Encoding.UTF8.GetByteCount(prompt) - 1;
        engine.Append(0, [.. Encoding.UTF8.GetBytes(prompt).Concat(generated).Select(b => (int)b)], allLogits: true);
        engine.Run();
        return [.. generated.Select((_, i) =>
        {
            var logits = engine.Logits(start + i).ToArray();
            var sum = Math.Log(logits.Sum(l => Math.Exp(l)));
            return logits.Select(l => l - sum).ToArray();
        })];
    }

    private static byte[] BytesOf(string token) => !token.StartsWith("bytes:", StringComparison.Ordinal) ? Encoding.UTF8.GetBytes(token)
        : [.. token["bytes:".Length..].Split("\\x", StringSplitOptions.RemoveEmptyEntries).Select(x => Convert.ToByte(x, 16))];
}
