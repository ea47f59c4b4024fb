using System.Collections.Immutable;

namespace Paper;

/// <summary>The paper's results (MatFormer, NeurIPS 2024, arXiv 2310.07707). Losses are validation log-perplexities.</summary>
internal static class Published
{
    /// <summary>The losses of tables 9 to 13 for S, M, L and XL: trained alone and as MatLM.</summary>
    public static readonly ImmutableArray<(string Size, ImmutableArray<(double Alone, double MatLm)> Losses)> Losses =
    [
        ("78M, 10B tokens", [(4.011, 3.874), (3.966, 3.820), (3.905, 3.776), (3.830, 3.740)]),
        ("180M, 20B", [(3.548, 3.484), (3.513, 3.430), (3.456, 3.387), (3.354, 3.348)]),
        ("310M, 30B", [(3.316, 3.290), (3.299, 3.235), (3.225, 3.190), (3.160, 3.150)]),
        ("463M, 40B", [(3.205, 3.162), (3.160, 3.107), (3.096, 3.060), (3.023, 3.020)]),
        ("850M, 80B", [(3.017, 2.987), (2.971, 2.934), (2.910, 2.886), (2.840, 2.843)]),
    ];

    /// <summary>Sampling probabilities of S, M, L and XL, and the losses of the 850M model with them.</summary>
    public static readonly ImmutableArray<(ImmutableArray<double> Probabilities, ImmutableArray<double> Losses)> Sampling =
    [
        ([.25, .25, .25, .25], [2.970, 2.934, 2.886, 2.846]),
        ([.44, .31, .15, .10], [2.963, 2.925, 2.899, 2.877]),
        ([.17, .20, .22, .41], [3.010, 2.943, 2.884, 2.829]),
    ];
}
