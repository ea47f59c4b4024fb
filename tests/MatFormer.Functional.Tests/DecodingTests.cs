using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Attention over windows, with heads that share keys and values.</summary>
[MatLM(Layers = 3, Width = 16, Heads = 4, Context = 24, Vocabulary = 256)]
[FeedForward(32, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, Window = 7)]
[Granularity("S", 8), Granularity("XL", 32)]
[Profile("Mixed", "S XL S")]
public sealed partial class WindowedLm;

/// <summary>Learned positions.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 2, Context = 20, Vocabulary = 256)]
[FeedForward(32, Activation.Gelu, Bias = true)]
[Norm(NormKind.Layer), Position(PositionKind.Learned)]
[Granularity("S", 8), Granularity("XL", 32)]
[Profile("Mixed", "S XL")]
public sealed partial class PositionedLm;

public sealed class DecodingTests
{
    [Fact]
    public async Task TogetherAndStreamedIsAlone()
    {
        await Check<WindowedLm>();
        await Check<PositionedLm>();
    }

    private static async Task Check<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(3);
        using var model = TModel.Create();
        using var view = model.View(TModel.Profiles[0]);

        // Prompts shorter than the context, as long and longer; text that goes beyond it,
        // without draws (they differ by row), of different bytes.
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
                await foreach (var piece in TextGenerator.StreamAsync(its, prompts[row], options)) streamed.AddRange(piece.Tokens.Select(t => (byte)t));
                Assert.Equal(alone.Bytes, streamed);
            }
        }
    }
}
