namespace MatFormer.Generators.Validation;

/// <summary>Finds the name that a misspelled name probably means.</summary>
internal static class EditDistance
{
    /// <summary>Returns the first of the names with the smallest distance. A letter in another case counts less than other edits.</summary>
    public static string Nearest(string written, IEnumerable<string> names) => names.OrderBy(name => Between(written, name)).First();

    /// <summary>
    /// Returns the Levenshtein distance in half edits. A letter in another case counts one, and any other edit counts two.
    /// </summary>
    public static int Between(string from, string to)
    {
        var row = new int[to.Length + 1];
        for (var j = 0; j <= to.Length; j++) row[j] = 2 * j;
        for (var i = 1; i <= from.Length; i++)
        {
            var diagonal = row[0];
            row[0] = 2 * i;
            for (var j = 1; j <= to.Length; j++)
            {
                var (a, b) = (from[i - 1], to[j - 1]);
                var change = a == b ? 0 : char.ToUpperInvariant(a) == char.ToUpperInvariant(b) ? 1 : 2;
                (diagonal, row[j]) = (row[j], Math.Min(diagonal + change, Math.Min(row[j], row[j - 1]) + 2));
            }
        }

        return row[to.Length];
    }
}
