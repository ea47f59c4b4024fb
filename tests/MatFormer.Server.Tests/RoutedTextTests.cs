using System.Net;
using System.Text.Json;
using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

/// <summary>A small byte-level language model that routes tokens.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Routing(0.4, 0.7)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
public sealed partial class TinyRoutedText;

/// <summary>Requests at compute budgets, beside others of profiles.</summary>
public sealed class RoutedTextTests
{
    private const string Text = "/v1/completions";
    private static readonly double[] s_budgets = [0.4, 0.7];

    [Fact]
    public async Task BudgetsAndSizesTogetherGiveTheTextOfEachAlone()
    {
        using var model = New();

        // Prompts are cut, some are longer than the context of 32, and there are more requests than sequences.
        await using var scheduler = Models.Scheduler(
            model, 5, Models.Patient with { TokensPerPass = 9, PromptTokens = 3, PiecesAhead = 4 });
        string[] prompts = ["a", string.Empty, "a prompt that is longer than the context, of which the end counts"];
        var (wanted, requests) = (new List<string>(), new List<Task<(string Text, int Tokens, FinishReason Reason)>>());
        using var engine = DecodingEngine.Create(model);
        foreach (var (i, prompt) in prompts.Index())
        {
            var options = new GenerationOptions { Tokens = 20 + (15 * i), Temperature = 1, RepetitionPenalty = 1.3, Seed = i };
            foreach (var budget in s_budgets)
            {
                engine.Use(0, budget);
                wanted.Add(TextGenerator.Generate(engine, prompt, options).Text);
                requests.Add(Models.Read(scheduler.TryGenerate(prompt, budget, options)));
            }

            foreach (var profile in TinyRoutedText.Granularities)
            {
                engine.Use(0, profile);
                wanted.Add(TextGenerator.Generate(engine, prompt, options).Text);
                requests.Add(Models.Read(scheduler.TryGenerate(prompt, profile.Layers, options)));
            }
        }

        var got = await Task.WhenAll(requests);
        Assert.Equal(wanted, got.Select(g => g.Text));
        Assert.InRange(wanted.Distinct().Count(), wanted.Count - 2, wanted.Count); // different texts cannot be right by chance
    }

    [Fact]
    public async Task TokensOfAnotherBudgetAreNotReused()
    {
        using var model = New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 4 };
        Assert.Equal(Alone(model, 0.4, "a prompt", options), (await Models.Read(scheduler.TryGenerate("a prompt", 0.4, options))).Text);
        var same = scheduler.TryGenerate("a prompt, longer", 0.4, options)!;
        Assert.Equal(Alone(model, 0.4, "a prompt, longer", options), (await Models.Read(same)).Text);
        Assert.Equal(("a prompt".Length, 0.4), (same.CachedTokens, same.Budget));
        var other = scheduler.TryGenerate("a prompt, longer", 0.7, options)!;
        Assert.Equal(Alone(model, 0.7, "a prompt, longer", options), (await Models.Read(other)).Text);
        Assert.Equal(0, other.CachedTokens);
        var whole = scheduler.TryGenerate("a prompt, longer", TinyRoutedText.Spec.WholeLayers, options)!;
        await Models.Read(whole);
        Assert.Equal((0, null), (whole.CachedTokens, whole.Budget));
    }

    [Fact]
    public async Task WhatCannotGoTogetherWithABudgetIsNamed()
    {
        using var model = New();
        await using var scheduler = Models.Scheduler(model, 1);
        var s = TinyRoutedText.Granularities[0].Layers;
        Refused("leave GenerationOptions.Draft out", () => scheduler.TryGenerate("x", 0.4, new GenerationOptions { Draft = s }));
        Refused(
            "leave GenerationOptions.Cascade out",
            () => scheduler.TryGenerate("x", 0.4, new GenerationOptions { Cascade = [new CascadeLevel(s, 0.5)] }));
        Refused("only for those that it declares: 0.4, 0.7", () => scheduler.TryGenerate("x", 0.5, new GenerationOptions()));
        Refused("only for those that it declares: 0.4, 0.7", () => scheduler.TryEmbed([1], 0.5));
        using var slice = model.Extract<TinyRoutedText.XL>();
        await using var ofSlice = Models.Scheduler(slice, 1);
        Refused("the slice TinyRoutedText.XL, which has no routers", () => ofSlice.TryGenerate("x", 0.4, new GenerationOptions()));

        static void Refused(string says, Func<object?> submit) =>
            Assert.Contains(says, Assert.Throws<ArgumentException>(submit).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AServerOffersTheDeclaredBudgetsAsModels()
    {
        using var model = New();

        // A draft is left out at a budget, as for sizes of which it is no part.
        var defaults = new GenerationOptions { Draft = TinyRoutedText.Granularities[0].Layers, DraftLength = 4 };
        await using var its = await TestServer.StartText<TinyRoutedText>(
            model, new ModelServerOptions { Defaults = defaults, Scheduler = Models.Patient });
        var list = JsonElement.Parse(await its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        string[] ids = ["", "/auto", "/S", "/M", "/XL", "/routed-0.4", "/routed-0.7"];
        Assert.Equal(ids.Select(id => "TinyRoutedText" + id), list.Select(m => m.GetProperty("id").GetString()));
        var entry = list[^1].GetProperty("profile");
        var flops = entry.GetProperty("flops_per_token").GetInt64();
        Assert.Equal((0.7, RoutingBudget.Of(TinyRoutedText.Spec, 0.7).Flops), (entry.GetProperty("budget").GetDouble(), flops));
        Assert.True(entry.GetProperty("ms_per_token").GetDouble() > 0);

        var options = new GenerationOptions { Tokens = 40, Temperature = 1, Seed = 3 };
        foreach (var budget in s_budgets)
        {
            var wanted = Alone(model, budget, "x", options);
            var name = FormattableString.Invariant($"TinyRoutedText/routed-{budget}");
            var whole = await its.PostOk(Text, new { model = name, prompt = "x", max_tokens = 40, temperature = 1, seed = 3 });
            Assert.Equal(
                (name, wanted), (whole.GetProperty("model").GetString(), whole.GetProperty("choices")[0].GetProperty("text").GetString()));
            object[] messages = [new { role = "user", content = "x" }];
            var chat = await its.Stream(
                "/v1/chat/completions", new { model = name, messages, max_tokens = 40, temperature = 1, seed = 3, stream = true });
            Assert.Equal(wanted, TestServer.TextOf(chat));
        }

        Assert.Equal(0, its.Server.Scheduler.Statistics.DraftedTokens);
        var embedded = await Embeds("TinyRoutedText/routed-0.4");
        Assert.NotEqual(await Embeds("TinyRoutedText"), embedded);
        Assert.Equal(embedded, await Embeds("TinyRoutedText/routed-0.4"));

        // A budget of a request chooses among the sizes and the routing budgets.
        var chosen = await its.PostOk(Text, new { model = "TinyRoutedText", prompt = "x", max_tokens = 1, max_flops_per_token = flops });
        Assert.Equal("TinyRoutedText/routed-0.7", chosen.GetProperty("model").GetString());
        using var unknown = await its.Post(Text, """{"model": "TinyRoutedText/routed-0.5", "prompt": "x"}""");
        Assert.Equal(HttpStatusCode.NotFound, unknown.StatusCode);
        Assert.Contains("TinyRoutedText/routed-0.7", await unknown.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        Assert.Contains(
            "matformer_profile_requests_total{profile=\"routed-0.4\"}", await its.Client.GetStringAsync("/metrics"),
            StringComparison.Ordinal);

        async Task<float[]> Embeds(string name) =>
        [
            .. (await its.PostOk("/v1/embeddings", new { model = name, input = "a text" })).GetProperty("data")[0].GetProperty("embedding")
                .EnumerateArray().Select(x => x.GetSingle()),
        ];
    }

    [Fact]
    public async Task ASliceIsServedWithoutBudgets()
    {
        using var model = New();
        using var slice = model.Extract<TinyRoutedText.XL>();
        await using var its = await TestServer.StartText<TinyRoutedText>(slice);
        Assert.Equal(["S", "M", "XL"], its.Server.Profiles.Select(size => size.Name));
    }

    private static string Alone(TinyRoutedText model, double budget, string prompt, GenerationOptions options)
    {
        using var engine = DecodingEngine.Create(model);
        engine.Use(0, budget);
        return TextGenerator.Generate(engine, prompt, options).Text;
    }

    // A model whose sizes differ, and of whose tokens each granularity takes some.
    private static TinyRoutedText New()
    {
        manual_seed(11);
        var model = DrawnModel.New<TinyRoutedText>();
        using var unrecorded = no_grad();
        foreach (var (name, weight) in model.named_parameters())
        {
            if (name.EndsWith("router.alpha", StringComparison.Ordinal)) weight.fill_(0.5);
            else if (name.EndsWith("router.weight", StringComparison.Ordinal)) weight.normal_(0, 2);
            else if (!name.EndsWith("router.thresholds", StringComparison.Ordinal)) weight.mul_(2.5);
            else weight.copy_(tensor(new[,] { { 0.4f, 0.7f }, { 0.2f, 0.45f } }).logit());
        }

        return model;
    }
}
