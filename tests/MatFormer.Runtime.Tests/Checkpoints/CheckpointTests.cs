using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Checkpoints;

public sealed class CheckpointTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void AUniversalModelIsLoadedAsItWasSaved()
    {
        using var model = Model(1);
        model.Save(_folder["m.safetensors"]);
        using var loaded = Model(2);
        loaded.Load(_folder["m.safetensors"]);
        Assert.Equal(Weights(model), Weights(loaded));
        using var opened = Checkpoint.Open<TinyModel>(_folder["m.safetensors"]);
        Assert.True(opened.IsUniversal);
        Assert.Equal(Weights(model), Weights(opened));
        using var reader = SafetensorsReader.Open(_folder["m.safetensors"]);
        Assert.Equal("TinyModel", reader.Metadata["matformer.model"]);
        Assert.Equal("0123456789abcdef", reader.Metadata["matformer.fingerprint"]);
        Assert.Equal("32,32", reader.Metadata["matformer.widths"]);
        Assert.Equal("XL", reader.Metadata["matformer.profile"]);
        Assert.Equal("pt", reader.Metadata["format"]);
    }

    [Fact]
    public void ASliceIsOpenedAsItWasSaved()
    {
        using var model = Model(1);
        using var slice = model.Extract(TinyModel.Profiles[0]);
        slice.Save(_folder["phone.safetensors"]);
        using var opened = Checkpoint.Open<TinyModel>(_folder["phone.safetensors"]);
        Assert.Equal("Phone", opened.ProfileName);
        Assert.Equal([8, 32], opened.Layers.Select(l => l.HiddenWidth));
        Assert.Equal(Weights(slice), Weights(opened));

        // The columns of a view are not contiguous, but the view is saved as the same bytes.
        using var view = model.View(TinyModel.Profiles[0]);
        view.Save(_folder["view.safetensors"]);
        Assert.Equal(File.ReadAllBytes(_folder["phone.safetensors"]), File.ReadAllBytes(_folder["view.safetensors"]));
    }

    [Fact]
    public void BFloat16WeightsAreReadIntoFloat32()
    {
        using var model = Model(1);
        model.Save(_folder["m.safetensors"]);
        using (var reader = SafetensorsReader.Open(_folder["m.safetensors"]))
        {
            SafetensorsWriter.Write(
                _folder["bf16.safetensors"],
                [.. reader.Tensors.Select(t => t with { Type = SafetensorsType.BFloat16 })],
                reader.Metadata,
                (entry, stream) =>
                {
                    var data = new byte[reader.Find(entry.Name)!.Length];
                    reader.Read(reader.Find(entry.Name)!, 0, data);
                    for (var i = 0; i < data.Length; i += 4) stream.Write(data, i + 2, 2); // the upper half of a float32 is a bfloat16
                });
        }

        using var loaded = Model(2);
        loaded.Load(_folder["bf16.safetensors"]);
        var expected = MemoryMarshal.Cast<byte,
            uint>(Weights(model)).ToArray().Select(bits => BitConverter.UInt32BitsToSingle(bits & 0xFFFF0000));
        Assert.Equal(expected, MemoryMarshal.Cast<byte, float>(Weights(loaded)).ToArray());
    }

    [Fact]
    public void SlicesAndUniversalModelsDoNotLoadEachOthersFiles()
    {
        using var model = Model(1);
        model.Save(_folder["universal"]);
        using var phone = model.Extract(TinyModel.Profiles[0]);
        phone.Save(_folder["phone"]);
        using var small = model.Extract(TinyModel.Granularities[0]);
        Refused(model, "phone", "is the slice Phone of TinyModel");
        Refused(small, "phone", "is the slice Phone (1*S 1*XL) of TinyModel, not S");
        Refused(small, "universal", "holds the universal TinyModel");
        var e = Assert.Throws<CheckpointException>(() => Checkpoint.OpenUniversal<TinyModel>(_folder["phone"]));
        Assert.Contains("is the slice Phone of TinyModel", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void MetadataThatDoesNotFitIsRefused()
    {
        using var model = Model(1);
        model.Save(_folder["universal"]);
        Altered("foreign", metadata => metadata["matformer.model"] = "DocsLm");
        Altered("other", metadata => metadata["matformer.fingerprint"] = "ffff");
        Altered("plain", metadata => metadata.Remove("matformer.model"));
        Altered("version", metadata => metadata["matformer.version"] = "99");
        Altered("widths", metadata => metadata["matformer.widths"] = "32,x");
        Altered("layers", metadata => metadata["matformer.widths"] = "32,32,32");
        Altered("heads", metadata => metadata["matformer.heads"] = "2147483647,4"); // an engine would take memory for them
        Refused(model, "foreign", "holds the model DocsLm, not TinyModel");
        Refused(model, "other", "another declaration of TinyModel");
        Refused(model, "plain", "not written by MatFormer");
        Refused(model, "version", "format version '99'");
        Refused(model, "widths", "'32,x'");
        Refused(model, "layers", "3 numbers");
        Refused(model, "heads", "32 hidden units and 2147483647 heads of layer 0, but no granularity of TinyModel does");
    }

    [Fact]
    public void TensorsThatDoNotFitAreRefused()
    {
        using var model = Model(1);
        model.Save(_folder["universal"]);
        Altered("missing", tensors: t => t.Where(e => !e.Name.Contains("layers.1.mlp.up_proj", StringComparison.Ordinal)));
        Altered("more", tensors: t => t.Append(new SafetensorsEntry("lm_head.weight", SafetensorsType.Float32, [1])));
        Altered("shape", tensors: t => t.Select(e => e.Name == "model.layers.0.mlp.up_proj.weight" ? e with { Shape = [31, 16] } : e));
        Altered("whole", tensors: t => t.Select(e => e.Name == "model.embed_tokens.weight" ? e with { Type = SafetensorsType.Int64 } : e));
        Altered("bytes", tensors: t => t.Select(e => e.Name == "model.embed_tokens.weight" ? e with { Type = SafetensorsType.UInt8 } : e));
        Refused(model, "missing", "lacks the tensor 'model.layers.1.mlp.up_proj.weight'");
        Refused(model, "more", "'lm_head.weight'");
        Refused(model, "shape", "'model.layers.0.mlp.up_proj.weight' of shape (31, 16), but (32, 16)");
        Refused(model, "whole", "'model.embed_tokens.weight' as whole numbers");
        Refused(model, "bytes", "'model.embed_tokens.weight' as whole numbers (U8)");
    }

    [Fact]
    public void AMissingFileIsRefused()
    {
        using var model = Model(1);
        Refused(model, "nowhere", "does not exist");
    }

    internal static TinyModel Model(long seed)
    {
        manual_seed(seed);
        return TinyModel.Create();
    }

    internal static byte[] Weights(MatFormerModel model) => [.. model.named_parameters().SelectMany(p =>
    {
        using var detached = ((Tensor)p.Item2).detach();
        using var contiguous = detached.contiguous();
        return contiguous.bytes.ToArray();
    })];

    private void Altered(
        string name, Action<Dictionary<string, string>>? metadata = null, Func<IEnumerable<SafetensorsEntry>,
        IEnumerable<SafetensorsEntry>>? tensors = null)
    {
        using var reader = SafetensorsReader.Open(_folder["universal"]);
        var changed = reader.Metadata.ToDictionary();
        metadata?.Invoke(changed);
        SafetensorsWriter.Write(
            _folder[name], [.. (tensors ?? (t => t))(reader.Tensors)], changed, (entry, stream) => stream.Write(new byte[entry.Length]));
    }

    // Loading must fail and leave the model unchanged.
    private void Refused(MatFormerModel model, string file, string says)
    {
        var before = Weights(model);
        var e = Assert.Throws<CheckpointException>(() => model.Load(_folder[file]));
        Assert.Contains(_folder[file], e.Message, StringComparison.Ordinal);
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
        Assert.Equal(before, Weights(model));
    }
}
