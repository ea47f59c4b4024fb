namespace MatFormer.Server.Tests;

public sealed class PenaltyTests(SharedServer shared) : IClassFixture<SharedServer>
{
    private const string Text = "/v1/completions";

    private static readonly GenerationOptions s_greedy = new() { Tokens = 40 };

    [Theory]
    [InlineData(1.5, 0)]
    [InlineData(0, 1.5)]
    [InlineData(-0.5, 1)]
    public async Task ThePenaltiesAreThoseOfTheGenerator(double frequency, double presence)
    {
        var options = s_greedy with { FrequencyPenalty = frequency, PresencePenalty = presence };
        var body = new Dictionary<string, object>
        {
            ["model"] = "TinyLm/M",
            ["prompt"] = "x",
            ["max_tokens"] = 40,
            ["temperature"] = 0,
            ["frequency_penalty"] = frequency,
            ["presence_penalty"] = presence,
        };
        var wanted = Models.Alone(shared.Its.Model, TinyLm.Granularities[1], "x", options);
        Assert.NotEqual(Models.Alone(shared.Its.Model, TinyLm.Granularities[1], "x", s_greedy), wanted);
        Assert.Equal(wanted, (await shared.Its.PostOk(Text, body)).GetProperty("choices")[0].GetProperty("text").GetString());
        body["stream"] = true;
        Assert.Equal(wanted, TestServer.TextOf(await shared.Its.Stream(Text, body)));
    }

    [Fact]
    public async Task ABiasMakesATokenTheOnlyChoice() => Assert.Equal("AAAAAAAA", await Biased(65, 100, 1));

    [Fact]
    public async Task ABiasExcludesAToken()
    {
        Assert.Contains('A', (await Biased(65, 100, 0))!);
        Assert.DoesNotContain('A', (await Biased(65, -100, 0))!);
    }

    private async Task<string?> Biased(int token, int bias, double temperature) => (await shared.Its.PostOk(Text, new
    {
        model = "TinyLm",
        prompt = "AAAA",
        max_tokens = 8,
        temperature,
        logit_bias = new Dictionary<string, int> { [$"{token}"] = bias },
    })).GetProperty("choices")[0].GetProperty("text").GetString();
}
