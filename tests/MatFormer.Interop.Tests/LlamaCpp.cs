using System.Text;
using LLama;
using LLama.Common;
using LLama.Native;

namespace MatFormer.Interop.Tests;

/// <summary>A GGUF file in llama.cpp.</summary>
internal sealed class LlamaCpp : IDisposable
{
    private readonly LLamaWeights _weights;
    private readonly LLamaContext _context;

    // llama.cpp would write pages about each file.
    static LlamaCpp() => NativeLibraryConfig.LLama.WithLogCallback((_, _) => { });

    /// <summary>Opens a file. Keys and values are float32 if they shall be exact, and llama.cpp's own choice otherwise.</summary>
    public LlamaCpp(string path, int threads = 1, bool isExact = true)
    {
        var options = new ModelParams(path) { GpuLayerCount = 0, Threads = threads, BatchThreads = threads };
        if (isExact)
        {
            (options.TypeK, options.TypeV) = (GGMLType.GGML_TYPE_F32, GGMLType.GGML_TYPE_F32);
            options.FlashAttention = false;
        }

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
        Clear();
        Decode(tokens, 0, allLogits: true);
        return [.. Enumerable.Range(0, tokens.Length).Select(index => Logits(index).ToArray())];
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
            Decode([continued[^1]], tokens.Length + continued.Count - 1, allLogits: true);
            logits = Logits(0).ToArray();
        }
    }

    /// <summary>Forgets all tokens.</summary>
    public void Clear() => _context.NativeHandle.MemoryClear();

    /// <summary>Reads tokens. The logits of all of them, or of the last, are computed.</summary>
    public void Decode(ReadOnlySpan<int> tokens, int position, bool allLogits)
    {
        var batch = new LLamaBatch();
        for (var i = 0; i < tokens.Length; i++)
            batch.Add((LLamaToken)tokens[i], position + i, LLamaSeqId.Zero, logits: allLogits || i == tokens.Length - 1);
        var result = _context.Decode(batch);
        if (result != DecodeResult.Ok) throw new InvalidOperationException($"llama.cpp did not read {tokens.Length} tokens: {result}");
    }

    /// <summary>Returns the logits of a token of the last batch.</summary>
    public ReadOnlySpan<float> Logits(int index) => _context.NativeHandle.GetLogitsIth(index);

    public void Dispose()
    {
        _context.Dispose();
        _weights.Dispose();
    }
}
