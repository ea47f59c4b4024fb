using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Compares with the values that Oracle/record.py recorded from PyTorch: float32, relative error at most 1e-4.</summary>
public sealed class OracleTests
{
    private const double Tolerance = 1e-4;

    [Fact]
    public void Llama() => Compare<OracleLlama>();

    [Fact]
    public void Classic() => Compare<OracleClassic>();

    [Fact]
    public void Gemma() => Compare<OracleGemma>();

    [Fact]
    public void Odd() => Compare<OracleOdd>();

    [Fact]
    public void Elastic() => Compare<OracleElastic>();

    [Fact]
    public void Uneven() => Compare<OracleUneven>();

    private static void Compare<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", TModel.Spec.Name + ".safetensors"));
        var (tokens, targets) = (recorded["tokens"], recorded["targets"]);

        foreach (var profile in TModel.Granularities)
        {
            using var model = Load<TModel>(recorded);
            AssertClose(recorded["logits." + profile.Name], model.Forward(profile, tokens), $"logits of {profile.Name}");
            Follow(model, profile.Streams, profile.Name);
        }

        using var joint = Load<TModel>(recorded);
        foreach (var profile in TModel.Profiles)
        {
            if (recorded.TryGetValue("logits." + profile.Name, out var logits))
                AssertClose(logits, joint.Forward(profile, tokens), $"logits of {profile.Name}");
        }

        Follow(joint, Streams.Of<TModel>([.. TModel.Granularities.Reverse()]), "joint");

        void Follow(TModel model, Streams streams, string objective)
        {
            var parameters = model.parameters().ToList();
            List<Tensor> first = [.. parameters.Select(p => zeros_like(p))], second = [.. parameters.Select(p => zeros_like(p))];
            List<double> decay = [.. parameters.Select(p => p.dim() > 1 ? 0.1 : 0)];
            var losses = new List<float>();
            for (var step = 1; step <= 10; step++)
            {
                using var inner = NewDisposeScope();
                foreach (var parameter in parameters) parameter.grad = null;
                var loss = model.Losses(streams, tokens, targets).mean();
                loss.backward();
                losses.Add(loss.item<float>());
                if (step == 1)
                {
                    foreach (var (name, parameter) in model.named_parameters())
                        AssertClose(recorded[$"gradient.{objective}.{name}"], parameter.grad!, $"gradient of {name} ({objective})");
                }

                Kernels.ClipGradientNorm(parameters, 1.0);
                Kernels.AdamW(parameters, first, second, decay, 3e-3, 0.9, 0.95, 1e-8, step);
            }

            AssertClose(recorded["losses." + objective], tensor(losses.ToArray()), $"losses ({objective})");
        }
    }

    private static TModel Load<TModel>(IReadOnlyDictionary<string, Tensor> recorded)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var model = TModel.Create();
        var names = model.named_parameters().Select(p => p.Item1).Order(StringComparer.Ordinal);
        Assert.Equal(recorded.Keys.Where(k => k.StartsWith("weight.", StringComparison.Ordinal)).Select(k => k[7..]).Order(StringComparer.Ordinal), names);
        using (no_grad())
        {
            foreach (var (name, parameter) in model.named_parameters()) parameter.copy_(recorded["weight." + name]);
        }

        return model;
    }

    private static void AssertClose(Tensor expected, Tensor actual, string what)
    {
        Assert.Equal(expected.shape, actual.shape);
        // Relative to the tensor's largest value: single elements near zero have no meaningful relative error in float32.
        var scale = expected.abs().max().item<float>();
        var error = (expected - actual.detach()).abs().max().item<float>();
        Assert.True(error <= Tolerance * scale, $"{what}: off by {error}, largest value {scale}");
    }

    private static Dictionary<string, Tensor> ReadAll(string path)
    {
        using var file = SafetensorsReader.Open(path);
        return file.Tensors.ToDictionary(entry => entry.Name, entry =>
        {
            var value = empty([.. entry.Shape], entry.Type == SafetensorsType.Int64 ? ScalarType.Int64 : ScalarType.Float32);
            file.Read(entry, 0, value.bytes);
            return value;
        });
    }
}
