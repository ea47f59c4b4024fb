using System.Text;

namespace MatFormer;

/// <summary>
/// Finds the first of several strings in a stream of bytes (with the algorithm of Knuth, Morris and Pratt: Fast Pattern Matching in
/// Strings, 1977, for each string). It does not matter how the bytes are divided into tokens.
/// </summary>
internal sealed class StopMatcher
{
    private readonly (byte[] Text, int[] Borders)[] _stops;
    private readonly int[] _matched; // for each string, how many of its first bytes the text so far ends with

    public StopMatcher(IReadOnlyList<string> stops)
    {
        _stops = [.. stops.Select(stop => Encoding.UTF8.GetBytes(stop)).Select(text => (text, BordersOf(text)))];
        _matched = new int[_stops.Length];
    }

    /// <summary>
    /// The number of last bytes that may begin a string. Once a string is complete, its length, or that of the longest complete string.
    /// </summary>
    public int Held { get; private set; }

    /// <summary>Adds the next byte. Returns true if it completes a string. No more bytes may follow then.</summary>
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

    // Returns, for each prefix of a text, the length of its longest proper prefix that is also its suffix.
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
