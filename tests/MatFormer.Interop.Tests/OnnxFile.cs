using Microsoft.ML.OnnxRuntime;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Interop.Tests;

/// <summary>An ONNX file in ONNX Runtime.</summary>
internal sealed class OnnxFile : IDisposable
{
    private readonly InferenceSession _session;

    public OnnxFile(string path)
    {
        using var options = new SessionOptions { IntraOpNumThreads = 1, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_WARNING };
        options.AddSessionConfigEntry("session.strict_shape_type_inference", "1"); // as onnx.checker does
        _session = new InferenceSession(path, options);
    }

    public IReadOnlyDictionary<string, string> Metadata => _session.ModelMetadata.CustomMetadataMap;

    public IReadOnlyList<string> Outputs => _session.OutputNames;

    /// <summary>The dimensions of an input or an output: numbers, and names of those that the caller chooses.</summary>
    public string ShapeOf(string name)
    {
        var its = _session.InputMetadata.TryGetValue(name, out var input) ? input : _session.OutputMetadata[name];
        return string.Join(", ", its.SymbolicDimensions.Zip(its.Dimensions, (symbol, size) => size < 0 ? symbol : $"{size}"));
    }

    /// <summary>Runs a batch of images, or of texts, where -1 stands behind the end of a text.</summary>
    /// <param name="input">Pixels (B, C, S, S), or tokens (B, T).</param>
    /// <param name="output">The output to return.</param>
    /// <param name="padding">The token that stands for -1; the file must not look at it.</param>
    public Tensor Run(Tensor input, string output, long padding = 0)
    {
        using var scope = NewDisposeScope();
        using var run = new RunOptions();
        var shape = input.shape;
        if (input.dtype == ScalarType.Float32)
        {
            using var pixels = OrtValue.CreateTensorValueFromMemory(input.contiguous().data<float>().ToArray(), shape);
            return Result([("pixel_values", pixels)]);
        }

        var ids = input.masked_fill(input.lt(0), padding).contiguous().data<long>().ToArray();
        using var tokens = OrtValue.CreateTensorValueFromMemory(ids, shape);
        using var mask = OrtValue.CreateTensorValueFromMemory(input.ge(0).to(ScalarType.Int64).contiguous().data<long>().ToArray(), shape);
        return Result([("input_ids", tokens), ("attention_mask", mask)]);

        Tensor Result((string Name, OrtValue Value)[] inputs)
        {
            using var results = _session.Run(run, inputs.ToDictionary(i => i.Name, i => i.Value), [output]);
            var numbers = results[0].GetTensorDataAsSpan<float>().ToArray();
            return tensor(numbers, results[0].GetTensorTypeAndShape().Shape).MoveToOuterDisposeScope();
        }
    }

    public void Dispose() => _session.Dispose();
}
