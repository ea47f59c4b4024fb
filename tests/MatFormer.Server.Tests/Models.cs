using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

/// <summary>A TinyLm with drawn weights, and what it generates alone.</summary>
internal static class Models
{
    public static TinyLm New()
    {
        manual_seed(11);
        var model = new TinyLm();

        // As drawn, it is almost sure of nothing, and little would differ between its sizes.
        using var unrecorded = no_grad();
        foreach (var (_, parameter) in model.named_parameters()) parameter.mul_(2.5);
        return model;
    }

    /// <summary>Readers may take as long as they do: a test's may get no time for a while.</summary>
    public static SchedulerOptions Patient { get; } = new() { ReaderTimeout = TimeSpan.FromHours(1) };

    public static DecodingScheduler Scheduler(MatFormerModel model, int sequences, SchedulerOptions? options = null) =>
        new(DecodingEngine.Create(model, new DecodingOptions { Sequences = sequences, Threads = 2, HiddenStates = true }), options ?? Patient);

    public static string Alone(TinyLm model, Profile<TinyLm> profile, string prompt, GenerationOptions options)
    {
        using var view = model.View(profile);
        return TextGenerator.Generate(view, prompt, options).Text;
    }

    public static async Task<(string Text, int Tokens, FinishReason Reason)> Read(ScheduledGeneration? request)
    {
        Assert.NotNull(request);
        var (text, tokens, reason) = (string.Empty, 0, (FinishReason?)null);
        await foreach (var piece in request.ReadAsync())
        {
            Assert.Null(reason);
            text += piece.Text;
            tokens += piece.Tokens.Length;
            reason = piece.FinishReason;
        }

        return (text, tokens, reason!.Value);
    }

    /// <summary>Waits until something holds that another thread brings about.</summary>
    public static async Task Until(Func<bool> holds)
    {
        for (var tries = 0; !holds(); tries++)
        {
            Assert.True(tries < 3000, "it did not come about");
            await Task.Delay(10);
        }
    }
}
