namespace Elasticity;

/// <summary>The best that submodels reach at a cost.</summary>
internal static class Frontier
{
    /// <summary>
    /// Returns the least loss at a cost: that of a submodel of no more cost, or on the straight line between one of no more and one of
    /// more. Returns null if all cost more.
    /// </summary>
    public static double? Best(IReadOnlyCollection<(double Cost, double Loss)> submodels, double cost)
    {
        var best = double.PositiveInfinity;
        foreach (var left in submodels.Where(s => s.Cost <= cost))
        {
            best = Math.Min(best, left.Loss);
            foreach (var right in submodels.Where(s => s.Cost > cost))
                best = Math.Min(best, left.Loss + ((right.Loss - left.Loss) * (cost - left.Cost) / (right.Cost - left.Cost)));
        }

        return double.IsFinite(best) ? best : null;
    }
}
