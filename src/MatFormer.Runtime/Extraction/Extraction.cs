using TorchSharp;

namespace MatFormer;

/// <summary>
/// Reads a profile's weights from the universal model's file and writes them in formats that other programs read. Weights are copied in
/// pieces, so memory does not grow with the model. Files are written atomically. They carry the model's fingerprint and the profile, so
/// that a slice is never sliced again.
/// </summary>
public static class Extraction
{
    /// <summary>
    /// Writes a safetensors file, which <see cref="Checkpoint.Open"/> loads. In float32 it is exactly what the extracted model would save.
    /// </summary>
    /// <param name="checkpoint">The universal model's file.</param>
    /// <param name="profile">The profile to extract.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="encoding">How weights are stored; not in blocks as <see cref="WeightEncoding.Q8"/>.</param>
    /// <exception cref="CheckpointException">The checkpoint is damaged, belongs to another model, or is a slice.</exception>
    /// <exception cref="ExtractionException">The format does not have this encoding, or a weight does not fit it.</exception>
    /// <exception cref="IOException">The file cannot be written. No partial file is left behind.</exception>
    public static void ToSafetensors<TModel>(
        string checkpoint, Profile<TModel> profile, string path, WeightEncoding encoding = WeightEncoding.Float32)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        using var weights = SlicedWeights.Open(checkpoint, profile);
        WriteSafetensors(path, weights, weights.RememberingMetadata, tensor => tensor.Name, encoding);
    }

    internal static void WriteSafetensors(
        string path, SlicedWeights weights, IReadOnlyDictionary<string, string> metadata, Func<SlicedTensor, string> nameOf,
        WeightEncoding encoding)
    {
        var type = CheckSafetensors(encoding);
        var byName = weights.Tensors.ToDictionary(nameOf, StringComparer.Ordinal);
        SafetensorsWriter.Write(
            path,
            [.. weights.Tensors.Select(tensor => new SafetensorsEntry(nameOf(tensor), type, tensor.Shape))],
            metadata,
            (entry, stream) => weights.Write(byName[entry.Name], encoding, stream));
    }

    internal static SafetensorsType CheckSafetensors(WeightEncoding encoding) => encoding switch
    {
        WeightEncoding.Float32 => SafetensorsType.Float32,
        WeightEncoding.Float16 => SafetensorsType.Float16,
        WeightEncoding.BFloat16 => SafetensorsType.BFloat16,
        _ => throw new ExtractionException(
            "Safetensors files cannot hold blocks of Q8_0 or Q4_0; write f32, f16 or bf16, or write a GGUF file."),
    };
}
