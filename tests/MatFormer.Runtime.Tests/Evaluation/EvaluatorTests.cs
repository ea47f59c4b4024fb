using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Evaluation;

public sealed class EvaluatorTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly TextCorpus _corpus;

    public EvaluatorTests() => _corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["data"]);

    public void Dispose()
    {
        _corpus.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void EveryGranularityAndProfileIsMeasured()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var live = Tensor.TotalCount;
        var evaluation = Evaluator.Run(model, _corpus, new EvaluationOptions { Windows = 10, Batch = 4 });
        Assert.Equal(live, Tensor.TotalCount);
        Assert.Equal(["S", "M", "XL", "Phone"], evaluation.Rows.Select(r => r.Costs.Name));
        Assert.Equal((10 * 16, 10 * 16), (evaluation.Tokens, evaluation.Bytes));
        Assert.All(evaluation.Rows, r => Assert.Equal(r.NatsPerToken / Math.Log(2), r.BitsPerByte, 12));
        Assert.Equal(1, evaluation.Rows[2].Agreement);
        Assert.All(evaluation.Rows, r => Assert.InRange(r.Agreement!.Value, 0, 1));
        Assert.True(evaluation.Rows[0].Agreement < 1);

        // By hand, one window after the other, from the extracted model.
        var windows = Windows.Fixed(_corpus.Validation, 16, 10).ToList();
        using var phone = model.Extract(TinyModel.Profiles[0]);
        var (bits, agreeing) = (0.0, 0);
        foreach (var window in windows)
        {
            using var scope = NewDisposeScope();
            var tokens = tensor([.. window[..16].Select(b => (long)b)], [1, 16]);
            var its = Floats(phone.call(tokens).log_softmax(-1));
            var whole = Floats(model.call(tokens));
            for (var t = 0; t < 16; t++)
            {
                bits -= its[(t * TinyModel.Vocabulary) + window[t + 1]] / Math.Log(2);
                if (Best(its, t) == Best(whole, t)) agreeing++;
            }
        }

        Assert.Equal(bits / 160, evaluation.Rows[3].BitsPerByte, 4);
        Assert.Equal(agreeing / 160.0, evaluation.Rows[3].Agreement!.Value, 12);
        var texts = windows.Select(w => Windows.Text(_corpus, w));
        Assert.Equal(BigramModel.Train(_corpus.Training).BitsPerByte(texts), evaluation.BigramBitsPerByte);

        var alone = Evaluator.RunSlice(
            phone, ProfileCosts.Of(TinyModel.Profiles[0], false), _corpus, new EvaluationOptions { Windows = 10 });
        Assert.Equal(evaluation.Rows[3].BitsPerByte, Assert.Single(alone.Rows).BitsPerByte, 5);
        Assert.Null(alone.Rows[0].Agreement);
    }

    private static float[] Floats(Tensor logits) => MemoryMarshal.Cast<byte, float>(logits.bytes).ToArray();

    private static int Best(float[] logits, int position)
    {
        var row = logits.AsSpan(position * TinyModel.Vocabulary, TinyModel.Vocabulary).ToArray();
        return Array.IndexOf(row, row.Max());
    }

    [Fact]
    public void ACancelledEvaluationStops()
    {
        using var model = TinyModel.Create();
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => Evaluator.Run(model, _corpus, cancellationToken: cancelled.Token));
    }
}
