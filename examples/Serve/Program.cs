// Serves all sizes of a model from your own web application, beside its other endpoints, and shows what a client receives.
//   dotnet run --project examples/Serve -c Release -- [model.safetensors] [prompt]
// To run only the server, with a page to try the sizes: dotnet run --project examples/DocsLm -c Release -- serve
using System.Net.Http.Json;
using System.Text.Json;
using MatFormer;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

var file = args.ElementAtOrDefault(0) ?? "out/DocsLm/model.safetensors";
var prompt = args.ElementAtOrDefault(1) ?? "Returns the ";
DecodingEngine engine;
try
{
    engine = DecodingEngine.Open(file, DocsLm.Profile.XL, new DecodingOptions { Sequences = 8, HiddenStates = true });
}
catch (CheckpointException e)
{
    Console.Error.WriteLine(Path.Exists(file) ? e.Message : $"There is no '{file}'; run `bash examples/run.sh`, or give another file.");
    return 2;
}

await using var server = ModelServer.Create<DocsLm>(engine, new ModelServerOptions { MaxTokens = 500 });
var builder = WebApplication.CreateSlimBuilder();
builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");
await using var app = builder.Build();
app.MapMatFormer(server);
app.MapGet("/", (RequestDelegate)(context => context.Response.WriteAsync("Your own application.")));
await app.StartAsync();
using var client = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };

// All requests run at the same time on one copy of the weights. The last one gets the size that the load allows.
string[] models = ["DocsLm/S", "DocsLm/Phone", "DocsLm/2*M 6*XL", "DocsLm/auto"];
var answers = await Task.WhenAll(models.Select(model => Ask(
    "/v1/completions", new { model, prompt, max_tokens = 80, temperature = 0.5, seed = 1, stop = new[] { "\n\n" } })));
foreach (var answer in answers)
{
    Console.WriteLine($"--- {answer.GetProperty("model")}, {answer.GetProperty("usage").GetProperty("completion_tokens")} tokens");
    Console.WriteLine(prompt + answer.GetProperty("choices")[0].GetProperty("text").GetString());
}

// Embeds texts and prints the similarity of each to the first.
string[] texts = ["Returns the number of elements.", "Gets the count of items.", "Throws an exception if the stream is closed."];
var embedded = await Ask("/v1/embeddings", new { model = "DocsLm", input = texts });
var vectors = embedded.GetProperty("data").EnumerateArray()
    .Select(d => d.GetProperty("embedding").EnumerateArray().Select(x => x.GetSingle()).ToArray()).ToList();
foreach (var (text, vector) in texts.Zip(vectors)) Console.WriteLine($"{vector.Zip(vectors[0], (a, b) => a * b).Sum():0.000}  {text}");
await server.StopAsync(grace: TimeSpan.FromSeconds(5));
await app.StopAsync();
return 0;

async Task<JsonElement> Ask(string path, object body)
{
    using var response = await client.PostAsJsonAsync(path, body);
    return await response.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<JsonElement>();
}
