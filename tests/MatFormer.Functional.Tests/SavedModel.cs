using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Writes checkpoints of models that look as if they were trained.</summary>
internal static class SavedModel
{
    /// <summary>
    /// Saves a model in a folder and returns the path of the file. Its matrices are as large as those of a trained model, and its norms and
    /// biases differ from ones and zeros, so that every part matters.
    /// </summary>
    public static string Write<TModel>(string folder, string? tokenizer = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(11);
        using var model = TModel.Create();
        using (no_grad())
        {
            foreach (var (_, parameter) in model.named_parameters())
            {
                if (parameter.dim() == 1) parameter.add_(randn(parameter.shape) * 0.3);
                else parameter.normal_(0, 0.15);
            }
        }

        model.TokenizerFingerprint = tokenizer;
        var path = Path.Combine(folder, TModel.Spec.Name + ".safetensors");
        model.Save(path);
        return path;
    }
}
