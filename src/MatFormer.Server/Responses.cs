using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace MatFormer;

// The answers of the endpoints, in OpenAI's form. The names of properties become snake_case.
internal sealed record ErrorDetail(string Message, string Type, string? Param, string? Code);

internal sealed record ErrorResponse(ErrorDetail Error);

internal sealed record ModelList(ImmutableArray<ModelEntry> Data)
{
    public string Object => "list";
}

// The costs are those of a token, or of a text or an image if an encoder is served.
internal sealed record SizeEntry(string Name, string Pattern, long Parameters)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Budget { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Grid { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? FlopsPerToken { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MsPerToken { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MsPerFurtherToken { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? FlopsPerText { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MsPerText { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MsPerFurtherText { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? FlopsPerImage { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MsPerImage { get; private init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? MsPerFurtherImage { get; private init; }

    public static SizeEntry Of(ModelSpec spec, ServedProfile p)
    {
        var entry = new SizeEntry(p.Name, p.Pattern, p.Parameters) { Budget = p.Budget, Grid = p.Grid };
        return spec.Kind switch
        {
            ModelKind.LanguageModel => entry with { FlopsPerToken = p.Flops, MsPerToken = p.Ms, MsPerFurtherToken = p.MsPerFurther },
            ModelKind.VisionTransformer => entry with { FlopsPerImage = p.Flops, MsPerImage = p.Ms, MsPerFurtherImage = p.MsPerFurther },
            _ => entry with { FlopsPerText = p.Flops, MsPerText = p.Ms, MsPerFurtherText = p.MsPerFurther },
        };
    }
}

internal sealed record ModelEntry(string Id, long Created, string Description, SizeEntry? Profile)
{
    public string Object => "model";

    public string OwnedBy => "matformer";
}

internal sealed record Usage(int PromptTokens, int CompletionTokens, PromptTokensDetails PromptTokensDetails)
{
    public int TotalTokens => PromptTokens + CompletionTokens;

    public static Usage Of(ScheduledGeneration generation, int tokens) =>
        new(generation.PromptTokens, tokens, new(generation.CachedTokens));
}

internal sealed record PromptTokensDetails(int CachedTokens);

internal sealed record ChatMessageBody(
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Role,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Content);

internal sealed record ChatChoice(
    int Index,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ChatMessageBody? Message,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ChatMessageBody? Delta,
    ChatLogprobs? Logprobs,
    string? FinishReason);

internal sealed record TextChoice(int Index, string Text, TextLogprobs? Logprobs, string? FinishReason);

internal sealed record ChatLogprobs(ImmutableArray<ChatLogprob> Content)
{
    public string? Refusal => null;
}

internal sealed record ChatLogprob(
    string Token, double Logprob, ImmutableArray<int> Bytes,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ImmutableArray<ChatLogprob>? TopLogprobs);

internal sealed record TextLogprobs(
    ImmutableArray<string> Tokens, ImmutableArray<double> TokenLogprobs, ImmutableArray<Dictionary<string, double>> TopLogprobs,
    ImmutableArray<int> TextOffset);

internal sealed record ChatResponseBody(
    string Id, string Object, long Created, string Model, ImmutableArray<ChatChoice> Choices,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] Usage? Usage);

internal sealed record TextResponseBody(
    string Id, string Object, long Created, string Model, ImmutableArray<TextChoice> Choices,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] Usage? Usage);

internal sealed record EmbeddingUsage(int PromptTokens)
{
    public int TotalTokens => PromptTokens;
}

// Embedding is an array of numbers, or their bytes in base64.
internal sealed record EmbeddingEntry(int Index, JsonElement Embedding)
{
    public string Object => "embedding";
}

internal sealed record EmbeddingResponse(string Model, ImmutableArray<EmbeddingEntry> Data, EmbeddingUsage Usage)
{
    public string Object => "list";
}

internal sealed record Health(string Status, string Model, int Running, int Waiting);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ErrorResponse))]
[JsonSerializable(typeof(ModelList))]
[JsonSerializable(typeof(ChatResponseBody))]
[JsonSerializable(typeof(TextResponseBody))]
[JsonSerializable(typeof(EmbeddingResponse))]
[JsonSerializable(typeof(float[]))]
[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(Health))]
internal sealed partial class ApiJson : JsonSerializerContext;
