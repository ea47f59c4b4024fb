using System.Globalization;

namespace MatFormer;

/// <summary>Sizes in bytes as people write them: <c>20MB</c> (decimal), <c>1.5GiB</c> (binary), <c>4096</c>.</summary>
internal static class ByteSize
{
    private static readonly (string Unit, double Bytes)[] s_units =
    [
        ("KiB", 1L << 10), ("MiB", 1L << 20), ("GiB", 1L << 30), ("TiB", 1L << 40),
        ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("B", 1),
    ];

    /// <summary>Parses a size of at least one byte. Case does not matter.</summary>
    public static bool TryParse(string text, out long bytes)
    {
        var number = text.AsSpan().Trim();
        var factor = 1.0;
        foreach (var (unit, itsBytes) in s_units)
        {
            if (!number.EndsWith(unit, StringComparison.OrdinalIgnoreCase)) continue;
            number = number[..^unit.Length].TrimEnd();
            factor = itsBytes;
            break;
        }

        bytes = 0;
        if (!double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var count)) return false;
        var size = Math.Floor(count * factor);
        if (!(size >= 1 && size < long.MaxValue)) return false;
        bytes = (long)size;
        return true;
    }

    /// <summary>Formats a size in decimal units, such as 12.3 MB.</summary>
    public static string Format(long bytes)
    {
        var (unit, factor) = s_units[4..8].LastOrDefault(u => bytes >= u.Bytes);
        return unit is null ? FormattableString.Invariant($"{bytes} B") : FormattableString.Invariant($"{bytes / factor:0.##} {unit}");
    }
}
