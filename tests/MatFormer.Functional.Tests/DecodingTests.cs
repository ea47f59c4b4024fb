using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A model with sliding windows and heads that share keys and values.</summary>
[MatLM(Layers = 3, Width = 16, Heads = 4, Context = 24, Vocabulary = 256)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, Window = 7)]
[Granularity("S", 8), Granularity("XL", 32)]
[Profile("Mixed", "S XL S")]
public sealed partial class WindowedLm;

/// <summary>A model with learned positions.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 2, Context = 20, Vocabulary = 256)]
[FeedForward(32, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned)]
[Granularity("S", 8), Granularity("XL", 32)]
[Profile("Mixed", "S XL")]
public sealed partial class PositionedLm;

/// <summary>A model whose smallest granularity keeps fewer heads.</summary>
[MatLM(Layers = 3, Width = 24, Heads = 6, Context = 18, Vocabulary = 256)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 3)]
[Granularity("S", 8, Heads = 2), Granularity("XL", 32)]
[Profile("Mixed", "S S XL")]
public sealed partial class HeadsLm;

/// <summary>A model with a profile that skips layers.</summary>
[MatLM(Layers = 4, Width = 16, Heads = 2, Context = 20, Vocabulary = 256)]
[FeedForward(32, Activation.GeGlu)]
[Granularity("S", 8), Granularity("XL", 32)]
[Profile("Shallow", "S Skip XL Skip")]
public sealed partial class ShallowLm;

public sealed class DecodingTests
{
    [Fact]
    public async Task BatchesAndStreamsGiveTheTextOfEachPromptAlone()
    {
        await Check<WindowedLm>();
        await Check<PositionedLm>();
        await Check<HeadsLm>();
        await Check<ShallowLm>();
    }

    [Fact]
    public void ADraftChangesNoToken()
    {
        CheckDraft<WindowedLm>();
        CheckDraft<PositionedLm>();
        CheckDraft<HeadsLm>();
        CheckDraft<ShallowLm>();
    }

    [Fact]
    public void InvalidDraftsAreRefused()
    {
        using var model = DrawnModel.New<WindowedLm>();
        using var small = model.Extract(WindowedLm.Profile.S);
        var error = Assert.Throws<ArgumentException>(
            () => TextGenerator.Generate(small, "a", new GenerationOptions { Draft = WindowedLm.Profile.Mixed.Layers }));
        Assert.Contains(
            "The draft keeps 1*S 1*XL 1*S, which is not part of the 3*S that it is to draft for", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(small, "a", new GenerationOptions { Draft = [] }));
        Assert.Contains("The draft keeps 0 layers", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(small, "a", new GenerationOptions { DraftLength = 9 }));
        Assert.Contains("DraftLength is 9; it must be within 1 and 8", error.Message, StringComparison.Ordinal);
    }

    private static void CheckDraft<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(5);
        using var model = DrawnModel.New<TModel>();
        string[] prompts = ["short", "", "a prompt that is longer than the context, whose end counts"];
        foreach (var temperature in (double[])[0, 0.7, 1.5])
        {
            var plain = new GenerationOptions
            {
                Tokens = 60,
                Temperature = temperature,
                RepetitionPenalty = 1.3,
                StopStrings = ["\u0007"],
                Seed = 11,
            };
            var wanted = prompts.Select(p => TextGenerator.Generate(model, p, plain)).ToList();
            Assert.All(wanted, w => Assert.Null(w.Drafts));
            foreach (var draft in TModel.Granularities.Concat(TModel.Profiles))
            {
                foreach (var length in (int?[])[null, 1, 3, 8])
                {
                    var options = plain with { Draft = draft.Layers, DraftLength = length };
                    for (var i = 0; i < prompts.Length; i++)
                    {
                        var drafted = TextGenerator.Generate(model, prompts[i], options);
                        Assert.Equal(wanted[i].Bytes, drafted.Bytes);
                        Assert.Equal(wanted[i].FinishReason, drafted.FinishReason);
                        var drafts = drafted.Drafts!;
                        Assert.InRange(drafts.Accepted, 0, drafts.Drafted);
                        if (length is not null && drafted.Tokens > 2) Assert.True(drafts.Passes > 0);
                        if (draft.Layers.AsSpan().SequenceEqual(TModel.Spec.WholeLayers.AsSpan())
                            && drafted.FinishReason == FinishReason.Length)
                            Assert.Equal(drafts.Drafted, drafts.Accepted); // the whole model drafts for itself
                    }

                    // Each row of a batch has its own random numbers, so texts equal those alone only without sampling.
                    if (temperature > 0) continue;
                    var together = TextGenerator.GenerateBatch(model, prompts, options);
                    for (var i = 0; i < prompts.Length; i++) Assert.Equal(wanted[i].Bytes, together[i].Bytes);
                }
            }
        }
    }

    private static async Task Check<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(3);
        using var model = DrawnModel.New<TModel>();
        using var view = model.View(TModel.Profiles[0]);

        // Prompts are shorter than the context, as long, or longer, and the texts go beyond it. There is no sampling, because its random
        // numbers differ by row. The penalty makes the texts consist of different bytes.
        string[] prompts = ["short", "", "as long as the context..", "a prompt that is longer than the context, whose end counts", "short"];
        var options = new GenerationOptions { Tokens = 40, RepetitionPenalty = 1e6, RepetitionWindow = 20 };
        foreach (var its in (MatFormerModel[])[model, view])
        {
            var together = TextGenerator.GenerateBatch(its, prompts, options);
            for (var row = 0; row < prompts.Length; row++)
            {
                var alone = TextGenerator.Generate(its, prompts[row], options);
                Assert.Equal(alone.Bytes, together[row].Bytes);
                Assert.True(alone.Bytes.Distinct().Count() > 5, alone.Text);
                var streamed = new List<byte>();
                await foreach (var piece in TextGenerator.StreamAsync(its, prompts[row], options))
                    streamed.AddRange(piece.Tokens.Select(t => (byte)t));
                Assert.Equal(alone.Bytes, streamed);
            }
        }
    }
}
