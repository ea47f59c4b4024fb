namespace MatFormer.Generators.Model;

/// <summary>
/// Finds the largest model within a budget, as MatFormer's Mix'n'Match does (arXiv 2310.07707, section 3.3): of two adjacent
/// granularities, the narrower in the first k layers.
/// </summary>
internal static class BudgetSolver
{
    /// <summary>The width of each layer, or null if even the narrowest model is above the budget.</summary>
    public static EquatableArray<int>? Solve(Costs costs, int layers, IReadOnlyList<GranularitySpec> granularities, long maxParameters)
    {
        for (var wider = granularities.Count - 1; wider > 0; wider--)
        {
            long narrow = granularities[wider - 1].Width, wide = granularities[wider].Width;
            for (var narrowLayers = 0; narrowLayers <= layers; narrowLayers++)
            {
                var hiddenUnits = (narrow * narrowLayers) + (wide * (layers - narrowLayers));
                if (costs.SharedParameters + (costs.ParametersPerHiddenUnit * hiddenUnits) > maxParameters) continue;
                return Enumerable.Repeat((int)narrow, narrowLayers)
                    .Concat(Enumerable.Repeat((int)wide, layers - narrowLayers))
                    .ToEquatableArray();
            }
        }

        return null;
    }
}
