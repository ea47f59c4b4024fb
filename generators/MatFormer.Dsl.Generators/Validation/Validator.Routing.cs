using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;

namespace MatFormer.Generators.Validation;

/// <content>The routing of tokens to granularities.</content>
internal sealed partial class Validator
{
    // Returns null without routing, and if it is wrong.
    private RoutingSpec? CheckRouting(List<GranularitySpec> granularities, EquatableArray<BlockSpec> blocks)
    {
        if (_declaration.Routing is not { } routing) return null;
        if (Assign([routing], "routing", isNeeded: false) is not { } routed) return null;
        var layers = Enumerable.Range(0, routed.Length).Where(layer => routed[layer] is not null).ToList();
        foreach (var layer in layers)
        {
            for (var i = 1; i < granularities.Count; i++)
            {
                var (narrow, wide) = (granularities[i - 1], granularities[i]);
                if (narrow.Layers[layer].HiddenWidth != wide.Layers[layer].HiddenWidth) continue;
                var at = routing.Layers?.At ?? routing.At;
                Report(Descriptors.RoutedWidthsAreEqual, at, Text(layer), narrow.Name, wide.Name, Text(wide.Layers[layer].HiddenWidth));
                return null;
            }
        }

        // In each routed layer some tokens must fit the budget.
        var least = layers.Max(layer => (double)granularities[0].Layers[layer].HiddenWidth / blocks[layer].HiddenWidth);
        var budgets = new List<double>();
        foreach (var budget in routing.Budgets)
        {
            if (!(budget.Value > least && budget.Value <= 1))
            {
                Report(
                    Descriptors.RoutingBudgetOutOfRange, budget.At, Text(budget.Value), Text(Math.Round(least, 4)), granularities[0].Name);
                return null;
            }

            if (budgets.Count > 0 && budget.Value <= budgets[budgets.Count - 1])
            {
                Report(Descriptors.RoutingBudgetsNotIncreasing, budget.At, Text(budget.Value), Text(budgets[budgets.Count - 1]));
                return null;
            }

            budgets.Add(budget.Value);
        }

        if (budgets.Count == 0) budgets.AddRange(new[] { 0.25, 0.5, 0.75 }.Select(way => Math.Round(least + (way * (1 - least)), 4)));
        return new RoutingSpec(budgets.ToEquatableArray(), layers.ToEquatableArray());
    }
}
