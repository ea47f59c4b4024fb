using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How the tokens of one layer are routed in a pass.</summary>
/// <param name="Weight">The router: (granularities, Width) float32. Its rows score tokens, for the narrowest granularity first.</param>
/// <param name="Scale">How much the score of a token scales what is added to it: (1) float32.</param>
/// <param name="Layer">How many tokens of a sequence take each granularity.</param>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record Route(Tensor Weight, Tensor Scale, RoutedLayer Layer);
