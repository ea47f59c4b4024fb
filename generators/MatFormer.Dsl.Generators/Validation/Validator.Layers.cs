using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;

namespace MatFormer.Generators.Validation;

/// <content>The sizes of attentions and feed-forwards, and the layers that they are for.</content>
internal sealed partial class Validator
{
    private AttentionDeclaration? GeneralAttention => _declaration.Attentions.FirstOrDefault(a => a.Layers is null);

    // Returns the width of a head, or null if anything about the heads is wrong.
    private int? CheckAttentions()
    {
        var general = GeneralAttention;
        var isGood = true;
        foreach (var attention in _declaration.Attentions)
        {
            if (attention.KeyValueHeads is { } given) isGood &= CheckSize(nameof(AttentionAttribute.KeyValueHeads), given, MaxWidth);
            if (attention.Window is { } window)
            {
                if (!IsDecoder)
                {
                    Report(Descriptors.NotOfThisModel, window.At, nameof(AttentionAttribute.Window), "[MatLM]", Attribute, "remove it");
                    isGood = false;
                    continue;
                }

                var most = _declaration.Model.Context?.Value is { } context and >= 1 and <= MaxTokens ? context : MaxTokens;
                isGood &= CheckSize(nameof(AttentionAttribute.Window), window, most);
            }

            if (attention.Layers is null) continue;
            isGood &= IsForAll(nameof(AttentionAttribute.HeadWidth), attention.HeadWidth?.At)
                & IsForAll(nameof(AttentionAttribute.RotaryBase), attention.RotaryBase?.At)
                & IsForAll(nameof(AttentionAttribute.QkNorm), attention.QkNorm?.At)
                & IsForAll(nameof(AttentionAttribute.Bias), attention.Bias?.At)
                & IsForAll(nameof(AttentionAttribute.OutputBias), attention.OutputBias?.At);
        }

        if (general?.HeadWidth is { } wide) isGood &= CheckSize(nameof(AttentionAttribute.HeadWidth), wide, MaxWidth);
        CheckPositive(nameof(AttentionAttribute.RotaryBase), general?.RotaryBase, 1);
        if (general is { OutputBias: { Value: true } output, Bias: not { Value: true } })
            Report(Descriptors.OutputBiasAlone, output.At);
        if (!isGood || _declaration.Model is not
            {
                Heads: { Value: >= 1 and <= MaxWidth } heads,
                Width: { Value: >= 1 and <= MaxWidth } width,
            })
        {
            return null;
        }

        if (general?.HeadWidth is null && width.Value % heads.Value != 0)
        {
            var nearest = NearestDivisor(width.Value, heads.Value);
            var at = heads.At.ReplacedBy(Text(nearest));
            Report(Descriptors.HeadsDoNotDivideWidth, at, Text(heads.Value), Text(width.Value), Text(nearest));
            isGood = false;
        }

        foreach (var given in _declaration.Attentions.Select(a => a.KeyValueHeads))
        {
            if (given is null || heads.Value % given.Value == 0) continue;
            var nearest = NearestDivisor(heads.Value, given.Value);
            var at = given.At.ReplacedBy(Text(nearest));
            Report(Descriptors.KeyValueHeadsDoNotDivideHeads, at, Text(given.Value), Text(heads.Value), Text(nearest));
            isGood = false;
        }

        if (!isGood) return null;
        var headWidth = general?.HeadWidth?.Value ?? width.Value / heads.Value;
        if ((long)headWidth * heads.Value > MaxWidth)
        {
            var most = Text(MaxWidth / heads.Value);
            var at = general!.HeadWidth!.At.ReplacedBy(most);
            Report(Descriptors.SizeOutOfRange, at, nameof(AttentionAttribute.HeadWidth), Text(headWidth), most);
            return null;
        }

        if (Position == PositionKind.Rotary && headWidth % 2 != 0)
        {
            var at = general?.HeadWidth?.At.ReplacedBy(Text(headWidth + 1))
                ?? heads.At.ReplacedBy(width.Value % 2 == 0 ? Text(NearestDivisor(width.Value / 2, heads.Value)) : null);
            Report(Descriptors.OddHeadWidth, at, Text(headWidth));
            return null;
        }

        return headWidth;
    }

    private bool IsForAll(string name, LocationInfo? at)
    {
        if (at is not null) Report(Descriptors.SameInAllLayers, at, name);
        return at is null;
    }

    private bool CheckFeedForwards()
    {
        if (_declaration.FeedForwards.Count == 0)
        {
            var usual = _declaration.Model.Width?.Value is { } width and >= 1 and <= MaxWidth / 4 ? 4 * width : 1024;
            Report(Descriptors.NoFeedForward, _declaration.NameAt, ModelName, Text(usual));
            return false;
        }

        var isGood = true;
        foreach (var feedForward in _declaration.FeedForwards)
        {
            CheckDefined(feedForward.Activation);
            isGood &= CheckSize("The feed-forward's width", feedForward.Width, MaxWidth);
        }

        return isGood;
    }

    private BlockSpec BlockOf(FeedForwardDeclaration feedForward, AttentionDeclaration? attention, int headWidth)
    {
        var heads = _declaration.Model.Heads!.Value;
        var window = (attention?.Window ?? GeneralAttention?.Window)?.Value ?? 0;
        return new BlockSpec(
            feedForward.Width.Value,
            feedForward.Activation.Value,
            feedForward.Bias,
            heads,
            (attention?.KeyValueHeads ?? GeneralAttention?.KeyValueHeads)?.Value ?? heads,
            headWidth,
            window == _declaration.Model.Context?.Value ? 0 : window);
    }

    // Returns the attribute of each layer: the attribute that names the layer, or else the attribute that names no layers. Returns null if
    // the attributes are wrong.
    private T?[]? Assign<T>(IReadOnlyList<T> attributes, string what, bool isNeeded)
        where T : class, IOfLayers
    {
        var layers = new T?[_declaration.Model.Layers!.Value];
        T? general = null;
        var isGood = true;
        foreach (var attribute in attributes)
        {
            if (attribute.Layers is null)
            {
                if (general is not null) Report(Descriptors.DeclaredTwice, attribute.At, ModelName, what);
                isGood &= general is null;
                general ??= attribute;
                continue;
            }

            if (ParseLayers(attribute.Layers, layers.Length) is not { } ranges)
            {
                isGood = false;
                continue;
            }

            foreach (var (first, last, at) in ranges)
            {
                for (var layer = first; layer <= last; layer++)
                {
                    if (layers[layer] is not null)
                    {
                        Report(Descriptors.LayerDeclaredTwice, at, Text(layer), what);
                        isGood = false;
                        break;
                    }

                    layers[layer] = attribute;
                }
            }
        }

        if (!isGood) return null;
        var missing = Array.FindIndex(layers, layer => layer is null);
        if (missing >= 0 && general is null && isNeeded)
        {
            Report(Descriptors.LayerNotDeclared, attributes[0].Layers!.At, Text(missing), ModelName, what);
            return null;
        }

        for (var layer = 0; layer < layers.Length; layer++) layers[layer] ??= general;
        return layers;
    }

    // Parses ranges such as 0-3, separated by commas. Returns each range with its place, or null if the text cannot be parsed.
    private List<(int First, int Last, LocationInfo At)>? ParseLayers(LocatedText text, int layers)
    {
        var ranges = new List<(int, int, LocationInfo)>();
        var start = 0;
        foreach (var part in text.Value.Split(','))
        {
            var range = part.Trim();
            var at = range.Length == 0 ? text.At : text.Slice(start + part.IndexOf(range, StringComparison.Ordinal), range.Length);
            var dash = range.IndexOf('-');
            var first = ParseNumber(dash < 0 ? range : range.Substring(0, dash).TrimEnd());
            var last = dash < 0 ? first : ParseNumber(range.Substring(dash + 1).TrimStart());
            if (first is null || last is null || last < first || last >= layers)
            {
                Report(Descriptors.NoLayers, at, range, Text(layers - 1), layers == 1 ? "\"0\"" : "\"0-" + Text(layers - 1) + "\"");
                return null;
            }

            ranges.Add((first.Value, last.Value, at));
            start += part.Length + 1;
        }

        return ranges;
    }
}
