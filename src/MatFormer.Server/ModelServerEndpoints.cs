using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace MatFormer;

/// <summary>Adds a <see cref="ModelServer"/> to a web application.</summary>
public static class ModelServerEndpoints
{
    private const string Json = "application/json; charset=utf-8";

    /// <summary>
    /// Adds <c>/v1/models</c>, <c>/v1/chat/completions</c>, <c>/v1/completions</c>, <c>/v1/embeddings</c>, <c>/metrics</c>, and for load
    /// balancers <c>/livez</c> (the process answers), <c>/readyz</c> (it takes requests) and <c>/healthz</c> (the same). All but the last
    /// three require the server's token, if it has one. An encoder answers requests for completions with an error.
    /// </summary>
    public static void MapMatFormer(this IEndpointRouteBuilder endpoints, ModelServer server)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(server);
        endpoints.MapGet("/v1/models", Guarded(server, context =>
            Write(context, 200, new ModelList(server.Catalog.List(server.Started.ToUnixTimeSeconds())), ApiJson.Default.ModelList)));
        endpoints.MapPost("/v1/chat/completions", Measured(
            server, "chat", (context, telemetry) => Complete(LanguageModel(server), context, telemetry, isChat: true)));
        endpoints.MapPost("/v1/completions", Measured(
            server, "text_completion", (context, telemetry) => Complete(LanguageModel(server), context, telemetry, isChat: false)));
        endpoints.MapPost("/v1/embeddings", Measured(server, "embeddings", (context, telemetry) => Embed(server, context, telemetry)));
        endpoints.MapGet("/metrics", Guarded(server, context =>
        {
            context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
            return context.Response.WriteAsync(MetricsText.Of(server), context.RequestAborted);
        }));
        endpoints.MapGet("/livez", Guarded(server, context => WriteHealth(server, context, isReady: true), isOpen: true));
        foreach (var path in (string[])["/readyz", "/healthz"])
        {
            endpoints.MapGet(path, Guarded(
                server, context => WriteHealth(server, context, isReady: !server.IsStopping && !server.IsDraining), isOpen: true));
        }
    }

    /// <summary>Adds a page at the root that tries the sizes side by side. The page itself needs no token, and asks for one.</summary>
    public static void MapMatFormerPage(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        using var stream = typeof(ModelServer).Assembly.GetManifestResourceStream("index.html")!;
        var page = new byte[stream.Length];
        stream.ReadExactly(page);
        endpoints.MapGet("/", context =>
        {
            var headers = context.Response.Headers;
            headers.ContentType = "text/html; charset=utf-8";
            headers.ContentSecurityPolicy =
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
                + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
            headers.XContentTypeOptions = "nosniff";
            headers["Referrer-Policy"] = "no-referrer";
            return context.Response.Body.WriteAsync(page, context.RequestAborted).AsTask();
        });
    }

    internal static Task WriteError(HttpContext context, ApiException error)
    {
        if (error.RetryAfterSeconds is { } seconds) context.Response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        if (error.Status == StatusCodes.Status401Unauthorized) context.Response.Headers.WWWAuthenticate = "Bearer";
        return Write(context, error.Status, error.Response, ApiJson.Default.ErrorResponse);
    }

    // Answers refused and failed requests with errors in OpenAI's form.
    private static RequestDelegate Guarded(ModelServer server, Func<HttpContext, Task> handle, bool isOpen = false) => async context =>
    {
        try
        {
            if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } body)
                body.MaxRequestBodySize = server.MaxBodyBytes;
            if (!isOpen) server.Authorize(context.Request);
            await handle(context).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The client disconnected, so nobody reads an answer.
            if (!context.Response.HasStarted) context.Response.StatusCode = StatusCodes.Status499ClientClosedRequest;
        }
        catch (Exception e)
        {
            var error = e switch
            {
                ApiException api => api,
                BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge } => new ApiException(
                    StatusCodes.Status413PayloadTooLarge, $"The body is larger than {server.MaxBodyBytes} bytes; shorten it.",
                    code: "body_too_large"),
                BadHttpRequestException bad => new ApiException(bad.StatusCode, bad.Message),
                _ => new ApiException(StatusCodes.Status500InternalServerError, "The server failed; its log says why."),
            };
            if (e is not (ApiException or BadHttpRequestException))
            {
                var log = context.RequestServices.GetService<ILoggerFactory>()?.CreateLogger(typeof(ModelServer));
                log?.Log(LogLevel.Error, default, e, e, static (_, its) => $"A request failed: {its}");
            }

            if (context.Response.HasStarted) context.Abort();
            else await WriteError(context, error).ConfigureAwait(false);
        }
        finally
        {
            server.CountAnswer(context.Response.StatusCode);
        }
    };

    // Measures requests to the model, also those that are refused, except for the lack of a token.
    private static RequestDelegate Measured(ModelServer server, string operation, Func<HttpContext, RequestTelemetry?, Task> handle) =>
        Guarded(server, async context =>
        {
            using var telemetry = RequestTelemetry.Start(server, operation);
            try
            {
                await handle(context, telemetry).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                telemetry?.Fail(e);
                throw;
            }
        });

    private static Task Write<T>(HttpContext context, int status, T value, JsonTypeInfo<T> type)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = Json;
        return context.Response.Body.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(value, type), context.RequestAborted).AsTask();
    }

    private static Task WriteHealth(ModelServer server, HttpContext context, bool isReady)
    {
        var (running, waiting) = server.Load;
        var status = server.IsStopping ? "stopping" : server.IsDraining ? "draining" : "ok";
        return Write(context, isReady ? 200 : 503, new Health(status, server.Spec.Name, running, waiting), ApiJson.Default.Health);
    }

    private static LanguageModelServer LanguageModel(ModelServer server) => server as LanguageModelServer ?? throw new ApiException(
        StatusCodes.Status404NotFound,
        $"{server.Spec.Name} is a {(server.Spec.Image is null ? "text encoder" : "vision transformer")}, which writes no text; it has "
        + "/v1/embeddings.");

    private static async Task Complete(LanguageModelServer server, HttpContext context, RequestTelemetry? telemetry, bool isChat)
    {
        TextRequest request;
        using (var fields = await RequestFields.ReadAsync(context.Request, context.RequestAborted).ConfigureAwait(false))
            request = isChat ? ApiRequests.Chat(server, fields) : ApiRequests.Completion(server, fields);
        telemetry?.Choose(server, request.Profile);
        telemetry?.Choose(request.Options);
        var generation = server.TryGenerate(request) ?? throw server.Refused();
        try
        {
            server.CountRequest(request.Profile);
            var answer = new Answer(server.Catalog.IdOf(request.Profile), isChat, request.Options);
            if (request.Streams) await Stream(server, context, generation, request, answer, telemetry).ConfigureAwait(false);
            else await Collect(server, context, generation, answer, telemetry).ConfigureAwait(false);
        }
        finally
        {
            generation.Cancel();
        }
    }

    private static async Task Collect(
        LanguageModelServer server, HttpContext context, ScheduledGeneration generation, Answer answer, RequestTelemetry? telemetry)
    {
        var text = new StringBuilder();
        var logs = new List<TokenLogProbability>();
        var (tokens, reason) = (0, FinishReason.Cancelled);
        await foreach (var piece in generation.ReadAsync(context.RequestAborted).ConfigureAwait(false))
        {
            text.Append(piece.Text);
            logs.AddRange(piece.LogProbabilities);
            tokens += piece.Tokens.Length;
            telemetry?.Generated(piece.Tokens.Length);
            reason = piece.FinishReason ?? reason;
        }

        if (reason == FinishReason.Cancelled) throw Interrupted(server, context);
        telemetry?.Complete(generation.PromptTokens, reason);
        var usage = Usage.Of(generation, tokens);
        var written = answer.IsChat
            ? Write(context, 200, answer.WholeChat(text.ToString(), logs, reason, usage), ApiJson.Default.ChatResponseBody)
            : Write(context, 200, answer.Text(text.ToString(), logs, reason, usage), ApiJson.Default.TextResponseBody);
        await written.ConfigureAwait(false);
    }

    private static async Task Stream(
        LanguageModelServer server, HttpContext context, ScheduledGeneration generation, TextRequest request, Answer answer,
        RequestTelemetry? telemetry)
    {
        context.Response.ContentType = "text/event-stream; charset=utf-8";
        context.Response.Headers.CacheControl = "no-store";
        var tokens = 0;
        try
        {
            if (answer.IsChat) Event(answer.ChatPiece("assistant", string.Empty, [], null), ApiJson.Default.ChatResponseBody);
            await foreach (var piece in generation.ReadAsync(context.RequestAborted).ConfigureAwait(false))
            {
                if (piece.FinishReason == FinishReason.Cancelled) throw Interrupted(server, context);
                tokens += piece.Tokens.Length;
                telemetry?.Generated(piece.Tokens.Length);
                if (piece.FinishReason is { } ended) telemetry?.Complete(generation.PromptTokens, ended);
                if (!answer.IsChat)
                {
                    Event(answer.Text(piece.Text, piece.LogProbabilities, piece.FinishReason), ApiJson.Default.TextResponseBody);
                }
                else
                {
                    if (piece.Text.Length > 0 || piece.LogProbabilities.Length > 0)
                        Event(answer.ChatPiece(null, piece.Text, piece.LogProbabilities, null), ApiJson.Default.ChatResponseBody);
                    if (piece.FinishReason is { } reason)
                        Event(answer.ChatPiece(null, null, [], reason), ApiJson.Default.ChatResponseBody);
                }

                await context.Response.BodyWriter.FlushAsync(context.RequestAborted).ConfigureAwait(false);
            }

            if (request.WantsUsage)
            {
                var usage = Usage.Of(generation, tokens);
                if (answer.IsChat) Event(answer.ChatUsage(usage), ApiJson.Default.ChatResponseBody);
                else Event(answer.TextUsage(usage), ApiJson.Default.TextResponseBody);
            }

            context.Response.BodyWriter.Write("data: [DONE]\n\n"u8);
        }
        catch (Exception e) when (e is ApiException or DecodingException)
        {
            // The status was sent already, so the error goes into the stream, which then lacks its end mark.
            telemetry?.Fail(e);
            var error = e as ApiException ?? new ApiException(StatusCodes.Status500InternalServerError, e.Message);
            Event(error.Response, ApiJson.Default.ErrorResponse);
        }

        await context.Response.BodyWriter.FlushAsync(context.RequestAborted).ConfigureAwait(false);

        void Event<T>(T value, JsonTypeInfo<T> type)
        {
            var body = context.Response.BodyWriter;
            body.Write("data: "u8);
            body.Write(JsonSerializer.SerializeToUtf8Bytes(value, type));
            body.Write("\n\n"u8);
        }
    }

    // Returns why a request was cancelled that the client did not cancel.
    private static Exception Interrupted(ModelServer server, HttpContext context)
    {
        context.RequestAborted.ThrowIfCancellationRequested();
        return server.IsStopping ? ModelServer.Stopping()
            : new ApiException(StatusCodes.Status408RequestTimeout, "The client read the answer too slowly.", code: "reader_too_slow");
    }

    private static async Task Embed(ModelServer server, HttpContext context, RequestTelemetry? telemetry)
    {
        if (server is LanguageModelServer { EmbedsTexts: false })
        {
            throw new ApiException(
                StatusCodes.Status501NotImplemented,
                "This server gives no embeddings, because its engine was created without DecodingOptions.HiddenStates.");
        }

        EmbeddingRequest request;
        using (var fields = await RequestFields.ReadAsync(context.Request, context.RequestAborted).ConfigureAwait(false))
            request = await ReadEmbedding(server, fields, context.RequestAborted).ConfigureAwait(false);
        telemetry?.Choose(server, request.Profile);
        var vectors = server is EncoderServer encoder ? await EmbedByEncoder(encoder, context, request).ConfigureAwait(false)
            : await EmbedByHiddenStates((LanguageModelServer)server, context, request).ConfigureAwait(false);
        var entries = vectors.Select((numbers, index) => new EmbeddingEntry(index, request.AsBase64
            ? JsonSerializer.SerializeToElement(Convert.ToBase64String(MemoryMarshal.AsBytes<float>(numbers)), ApiJson.Default.String)
            : JsonSerializer.SerializeToElement(numbers, ApiJson.Default.SingleArray)));
        var tokens = request.TokensOf(server.Spec);
        telemetry?.Complete(tokens);
        var answer = new EmbeddingResponse(server.Catalog.IdOf(request.Profile), [.. entries], new EmbeddingUsage(tokens));
        await Write(context, 200, answer, ApiJson.Default.EmbeddingResponse).ConfigureAwait(false);
    }

    private static async Task<EmbeddingRequest> ReadEmbedding(ModelServer server, RequestFields fields, CancellationToken cancellationToken)
    {
        if (server is not EncoderServer { Spec.Image: not null } encoder) return ApiRequests.Embedding(server, fields);
        await encoder.Decoding.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return ApiRequests.Embedding(server, fields);
        }
        finally
        {
            encoder.Decoding.Release();
        }
    }

    private static Task<float[][]> EmbedByEncoder(EncoderServer server, HttpContext context, EmbeddingRequest request)
    {
        server.CountRequest(request.Profile);
        return server.EmbedAsync(request, context.RequestAborted);
    }

    private static async Task<float[][]> EmbedByHiddenStates(LanguageModelServer server, HttpContext context, EmbeddingRequest request)
    {
        var works = new List<ScheduledEmbedding>();
        using var leaving = context.RequestAborted.UnsafeRegister(static its => CancelAll((List<ScheduledEmbedding>)its!), works);
        try
        {
            foreach (var tokens in request.Texts)
            {
                var work = server.TryEmbed(tokens, request.Profile) ?? throw server.Refused();
                lock (works) works.Add(work);
            }

            server.CountRequest(request.Profile);
            return await Task.WhenAll(works.Select(work => work.Result)).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            throw Interrupted(server, context);
        }
        finally
        {
            CancelAll(works);
        }

        static void CancelAll(List<ScheduledEmbedding> works)
        {
            lock (works)
            {
                foreach (var work in works) work.Cancel();
            }
        }
    }

    // Makes one answer in OpenAI's form, whole or in pieces.
    private sealed class Answer(string model, bool isChat, GenerationOptions options)
    {
        private readonly LogprobsWriter? _logprobs = options.TopLogProbabilities is null ? null : new(options.Tokenizer);
        private readonly string _id = (isChat ? "chatcmpl-" : "cmpl-") + Guid.NewGuid().ToString("N");
        private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

        public bool IsChat => isChat;

        public ChatResponseBody WholeChat(string text, IReadOnlyList<TokenLogProbability> logs, FinishReason reason, Usage usage)
        {
            var choice = new ChatChoice(0, new ChatMessageBody("assistant", text), null, _logprobs?.Chat(logs), Word(reason));
            return new(_id, "chat.completion", _created, model, [choice], usage);
        }

        public ChatResponseBody ChatPiece(string? role, string? text, IReadOnlyList<TokenLogProbability> logs, FinishReason? reason)
        {
            var choice = new ChatChoice(
                0, null, new ChatMessageBody(role, text), logs.Count > 0 ? _logprobs?.Chat(logs) : null, Word(reason));
            return new(_id, "chat.completion.chunk", _created, model, [choice], null);
        }

        public ChatResponseBody ChatUsage(Usage usage) => new(_id, "chat.completion.chunk", _created, model, [], usage);

        public TextResponseBody Text(string text, IReadOnlyList<TokenLogProbability> logs, FinishReason? reason, Usage? usage = null) =>
            new(_id, "text_completion", _created, model, [new TextChoice(0, text, _logprobs?.Text(logs), Word(reason))], usage);

        public TextResponseBody TextUsage(Usage usage) => new(_id, "text_completion", _created, model, [], usage);

        private static string? Word(FinishReason? reason) => reason switch
        {
            FinishReason.Stop => "stop",
            FinishReason.Length => "length",
            _ => null,
        };
    }
}
