using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

/// <summary>Creates a TinyLm with random weights, and generates texts without a scheduler.</summary>
internal static class Models
{
    public static TinyLm New()
    {
        manual_seed(11);
        var model = DrawnModel.New<TinyLm>();

        // With the initial weights, the distributions are nearly uniform, and the sizes would hardly differ.
        using var unrecorded = no_grad();
        foreach (var (_, parameter) in model.named_parameters()) parameter.mul_(2.5);
        return model;
    }

    /// <summary>Options with a long time-out for readers, because the readers of a test may get no processor time for a while.</summary>
    public static SchedulerOptions Patient { get; } = new() { ReaderTimeout = TimeSpan.FromHours(1) };

    public static DecodingScheduler Scheduler(MatFormerModel model, int sequences, SchedulerOptions? options = null) =>
        new(DecodingEngine.Create(model, new DecodingOptions { Sequences = sequences, Threads = 2, HiddenStates = true }),
            options ?? Patient);

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

    /// <summary>Waits until a condition holds that another thread brings about.</summary>
    public static async Task Until(Func<bool> holds)
    {
        for (var tries = 0; !holds(); tries++)
        {
            Assert.True(tries < 3000, "the condition did not hold within 30 seconds");
            await Task.Delay(10);
        }
    }
}
