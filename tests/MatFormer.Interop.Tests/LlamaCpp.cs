using System.Text;
using LLama;
using LLama.Common;
using LLama.Native;

namespace MatFormer.Interop.Tests;

/// <summary>A GGUF file in llama.cpp. All of its numbers that can be float32 are.</summary>
internal sealed class LlamaCpp : IDisposable
{
    private readonly LLamaWeights _weights;
    private readonly LLamaContext _context;

    // llama.cpp would write pages about each file.
    static LlamaCpp() => NativeLibraryConfig.LLama.WithLogCallback((_, _) => { });

    public LlamaCpp(string path)
    {
        var options = new ModelParams(path)
        {
            GpuLayerCount = 0,
            Threads = 1,
            BatchThreads = 1,
            TypeK = GGMLType.GGML_TYPE_F32,
            TypeV = GGMLType.GGML_TYPE_F32,
            FlashAttention = false,
        };
        _weights = LLamaWeights.LoadFromFile(options);
        _context = _weights.CreateContext(options);
    }

    public IReadOnlyDictionary<string, string> Metadata => _weights.Metadata;

    public int[] Tokenize(string text) => [.. _context.Tokenize(text, addBos: false, special: true).Select(token => (int)token)];

    public string TextOf(IEnumerable<int> tokens)
    {
        var (bytes, piece) = (new List<byte>(), new byte[64]);
        foreach (var token in tokens)
            bytes.AddRange(piece.AsSpan(0, (int)_weights.NativeHandle.TokenToSpan((LLamaToken)token, piece, 0, special: true)));
        return Encoding.UTF8.GetString([.. bytes]);
    }

    /// <summary>Returns the logits after each token of a text.</summary>
    public float[][] Logits(ReadOnlySpan<int> tokens)
    {
        _context.NativeHandle.MemoryClear();
        Decode(tokens, 0);
        return [.. Enumerable.Range(0, tokens.Length).Select(At)];
    }

    /// <summary>Returns the most likely tokens after a text.</summary>
    public int[] Continue(ReadOnlySpan<int> tokens, int count)
    {
        var logits = Logits(tokens)[^1];
        var continued = new List<int>();
        while (true)
        {
            continued.Add(logits.IndexOf(logits.Max()));
            if (continued.Count == count) return [.. continued];
            Decode([continued[^1]], tokens.Length + continued.Count - 1);
            logits = At(0);
        }
    }

    public void Dispose()
    {
        _context.Dispose();
        _weights.Dispose();
    }

    private void Decode(ReadOnlySpan<int> tokens, int position)
    {
        var batch = new LLamaBatch();
        foreach (var token in tokens) batch.Add((LLamaToken)token, position++, LLamaSeqId.Zero, logits: true);
        Assert.Equal(DecodeResult.Ok, _context.Decode(batch));
    }

    private float[] At(int index) => _context.NativeHandle.GetLogitsIth(index).ToArray();
}
