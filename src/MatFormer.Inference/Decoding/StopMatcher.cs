using System.Text;

namespace MatFormer;

/// <summary>
/// Finds the first of several strings in bytes as they come (Knuth, Morris, Pratt: Fast Pattern Matching in Strings, 1977, for each). So
/// how the bytes are cut into tokens does not matter.
/// </summary>
internal sealed class StopMatcher
{
    private readonly (byte[] Text, int[] Borders)[] _stops;
    private readonly int[] _matched; // of each string, the bytes that the text so far ends with

    public StopMatcher(IReadOnlyList<string> stops)
    {
        _stops = [.. stops.Select(stop => Encoding.UTF8.GetBytes(stop)).Select(text => (text, BordersOf(text)))];
        _matched = new int[_stops.Length];
    }

    /// <summary>
    /// How many of the last bytes may be the beginning of a string; once one is complete, those of it, the longest if there are several.
    /// </summary>
    public int Held { get; private set; }

    /// <summary>Takes the next byte; true if it completes a string, after which there are no more.</summary>
    public bool Add(byte value)
    {
        var (held, complete) = (0, 0);
        for (var i = 0; i < _stops.Length; i++)
        {
            var (text, borders) = _stops[i];
            var matched = _matched[i];
            while (matched > 0 && text[matched] != value) matched = borders[matched - 1];
            if (text[matched] == value) matched++;
            _matched[i] = matched;
            held = Math.Max(held, matched);
            if (matched == text.Length) complete = Math.Max(complete, matched);
        }

        Held = complete > 0 ? complete : held;
        return complete > 0;
    }

    // For each beginning of a text, its longest proper beginning that is its end too.
    private static int[] BordersOf(byte[] text)
    {
        var borders = new int[text.Length];
        for (var (end, border) = (1, 0); end < text.Length; end++)
        {
            while (border > 0 && text[end] != text[border]) border = borders[border - 1];
            if (text[end] == text[border]) border++;
            borders[end] = border;
        }

        return borders;
    }
}
