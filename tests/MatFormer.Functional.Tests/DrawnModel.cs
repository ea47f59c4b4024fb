using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Creates models whose matrices are all random.</summary>
internal static class DrawnModel
{
    /// <summary>
    /// A new feed-forward writes zeros, which would hide mistakes in it. Here its last matrix is random, as those are that write to the
    /// residual stream.
    /// </summary>
    public static TModel New<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var model = TModel.Create();
        using var unrecorded = no_grad();
        foreach (var weight in model.parameters().Where(weight => weight.dim() == 2))
        {
            using var isDrawn = weight.any();
            if (!isDrawn.item<bool>()) weight.normal_(0, 1 / Math.Sqrt(2.0 * TModel.Spec.Layers * weight.shape[0]));
        }

        return model;
    }
}
