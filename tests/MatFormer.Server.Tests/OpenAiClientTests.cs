using System.ClientModel;
using System.ClientModel.Primitives;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Embeddings;

namespace MatFormer.Server.Tests;

/// <summary>Asks the servers with OpenAI's own client.</summary>
public sealed class OpenAiClientTests(SharedServer shared, SharedEncoder encoder)
    : IClassFixture<SharedServer>, IClassFixture<SharedEncoder>
{
    private static readonly UserChatMessage[] s_messages = [new("Say")];

    [Fact]
    public async Task ModelsAreListed()
    {
        var models = (await Client(shared.Its).GetOpenAIModelClient().GetModelsAsync()).Value;
        Assert.Contains("TinyLm/Mixed", models.Select(m => m.Id));
        Assert.All(models, m => Assert.Equal("matformer", m.OwnedBy));
    }

    [Fact]
    public async Task AChatAnswersWithTextUsageAndLogProbabilities()
    {
        var options = new ChatCompletionOptions
        {
            MaxOutputTokenCount = 20,
            Temperature = 0,
            TopP = 1,
            FrequencyPenalty = 0.5f,
            PresencePenalty = 0.25f,
            IncludeLogProbabilities = true,
            TopLogProbabilityCount = 2,
        };
        options.LogitBiases[65] = -100;
        var answer = (await Client(shared.Its).GetChatClient("TinyLm/M").CompleteChatAsync(s_messages, options)).Value;
        var wanted = Models.Alone(
            shared.Its.Model, TinyLm.Granularities[1], "Say",
            new GenerationOptions
            {
                Tokens = 20,
                FrequencyPenalty = 0.5,
                PresencePenalty = 0.25,
                LogitBias = System.Collections.Immutable.ImmutableDictionary<int, double>.Empty.Add(65, -100),
            });
        Assert.Equal((wanted, "TinyLm/M", ChatFinishReason.Length), (answer.Content[0].Text, answer.Model, answer.FinishReason));
        Assert.Equal((3, 20, 23), (answer.Usage.InputTokenCount, answer.Usage.OutputTokenCount, answer.Usage.TotalTokenCount));
        Assert.Equal(20, answer.ContentTokenLogProbabilities.Count);
        Assert.All(
            answer.ContentTokenLogProbabilities, l => Assert.Equal((1, 2), (l.Utf8Bytes!.Value.Length, l.TopLogProbabilities.Count)));
    }

    [Fact]
    public async Task AStreamGivesTheTextInPieces()
    {
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 30, Temperature = 0 };
        var (text, pieces, usage, reason) = (string.Empty, 0, (ChatTokenUsage?)null, (ChatFinishReason?)null);
        await foreach (var update in Client(shared.Its).GetChatClient("TinyLm").CompleteChatStreamingAsync(s_messages, options))
        {
            text += string.Concat(update.ContentUpdate.Select(c => c.Text));
            pieces += update.ContentUpdate.Count;
            usage ??= update.Usage;
            reason ??= update.FinishReason;
        }

        Assert.Equal(Models.Alone(shared.Its.Model, TinyLm.Granularities[^1], "Say", new GenerationOptions { Tokens = 30 }), text);
        Assert.InRange(pieces, 2, 31);
        Assert.Equal((30, ChatFinishReason.Length), (usage!.OutputTokenCount, reason));
    }

    [Theory]
    [InlineData("TinyEncoder/S", "S", 4)]
    [InlineData("TinyEncoder", "XL", null)]
    public async Task AnEncoderEmbedsTexts(string model, string profile, int? dimensions)
    {
        var client = Client(encoder.Its).GetEmbeddingClient(model);
        var answer =
            (await client.GenerateEmbeddingsAsync(["read a file", "x"], new EmbeddingGenerationOptions { Dimensions = dimensions })).Value;
        Encoders.Near(Encoders.Alone(profile, "read a file", dimensions), answer[0].ToFloats().ToArray());
        Encoders.Near(Encoders.Alone(profile, "x", dimensions), answer[1].ToFloats().ToArray());
        Assert.Equal((12, 12), (answer.Usage.InputTokenCount, answer.Usage.TotalTokenCount));
    }

    [Fact]
    public async Task ALanguageModelEmbedsTexts()
    {
        var answer = (await Client(shared.Its).GetEmbeddingClient("TinyLm/M").GenerateEmbeddingAsync("some text")).Value;
        Assert.Equal(TinyLm.Spec.Width, answer.ToFloats().Length);
    }

    [Fact]
    public async Task AnUnknownModelIsAnError()
    {
        var error = await Assert.ThrowsAsync<ClientResultException>(
            () => Client(shared.Its).GetChatClient("gpt-4o").CompleteChatAsync(s_messages));
        Assert.Equal(404, error.Status);
        Assert.Contains("There is no model 'gpt-4o'", error.Message);
    }

    [Fact]
    public async Task AnUndeclaredDimensionIsAnError()
    {
        var client = Client(encoder.Its).GetEmbeddingClient("TinyEncoder");
        var error = await Assert.ThrowsAsync<ClientResultException>(
            () => client.GenerateEmbeddingAsync("x", new EmbeddingGenerationOptions { Dimensions = 5 }));
        Assert.Equal(400, error.Status);
        Assert.Contains("4 or 8 or 16", error.Message);
    }

    [Fact]
    public async Task ToolsAreRefusedByName()
    {
        var options = new ChatCompletionOptions();
        options.Tools.Add(ChatTool.CreateFunctionTool("one"));
        var error = await Assert.ThrowsAsync<ClientResultException>(
            () => Client(shared.Its).GetChatClient("TinyLm").CompleteChatAsync(s_messages, options));
        Assert.Equal(422, error.Status);
        Assert.Contains("'tools' is not supported", error.Message);
    }

    [Fact]
    public async Task AWrongKeyIsAnError()
    {
        await using var its = await TestServer.Start(new ModelServerOptions { Token = "sesame" });
        var error = await Assert.ThrowsAsync<ClientResultException>(() => Client(its, "wrong").GetOpenAIModelClient().GetModelsAsync());
        Assert.Equal(401, error.Status);
        Assert.NotEmpty((await Client(its, "sesame").GetOpenAIModelClient().GetModelsAsync()).Value);
    }

    private static OpenAIClient Client(TestServer server, string key = "any") => new(
        new ApiKeyCredential(key),
        new OpenAIClientOptions { Endpoint = new Uri(server.Host.Address, "v1"), RetryPolicy = new ClientRetryPolicy(0) });
}
