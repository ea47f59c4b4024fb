using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>A query and the one document that answers it.</summary>
/// <param name="Query">The text that a user types.</param>
/// <param name="Document">The text that answers the query.</param>
public sealed record RetrievalPair(string Query, string Document)
{
    /// <summary>The name of the document for readers, such as <c>String.IndexOf(Char)</c>. The default is the query.</summary>
    public string Title { get; init; } = Query;

    /// <summary>The group that the document belongs to, such as the type of a member, or null if it is unknown.</summary>
    public string? Group { get; init; }
}

/// <summary>
/// Pairs of a query and its document, for training and for validation of retrieval. No two pairs of a corpus have the same query or the
/// same document, so all other documents of a batch are wrong answers.
/// </summary>
public sealed class PairCorpus : TrainingData
{
    /// <summary>The minimum number of pairs in a corpus.</summary>
    public const int MinimumPairs = 20;

    private const int OneOf = 20; // one in 20 pairs is held out for validation

    private PairCorpus(string source, int files, int skippedFiles, int leftOut, List<Found> pairs, Tokenizer tokenizer)
    {
        if (pairs.Count < MinimumPairs)
        {
            throw new DataException($"The data {source} holds {Counted.Of(pairs.Count, "pair")} of a query and a document"
                + (leftOut > 0 ? $" ({leftOut} left out as duplicates)" : string.Empty)
                + (skippedFiles > 0 ? $" ({Counted.Of(skippedFiles, "file")} left out, neither XML documentation nor .tsv, .jsonl or such)"
                    : string.Empty)
                + $", but at least {MinimumPairs} are needed; give more pairs.");
        }

        (Source, Files, SkippedFiles, LeftOut, Tokenizer) = (source, files, skippedFiles, leftOut, tokenizer);
        (Training, Validation) = Split(source, pairs);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var part in new[] { Training, Validation })
        {
            foreach (var pair in part) hash.AppendData(Encoding.UTF8.GetBytes($"{pair.Query}\0{pair.Document}\0"));
            hash.AppendData([0]);
        }

        Fingerprint = Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private PairCorpus(PairCorpus pairs, Tokenizer tokenizer)
    {
        (Source, Fingerprint, Files, SkippedFiles, LeftOut) =
            (pairs.Source, pairs.Fingerprint, pairs.Files, pairs.SkippedFiles, pairs.LeftOut);
        (Training, Validation, Tokenizer, Place) = (pairs.Training, pairs.Validation, tokenizer, pairs.Place);
    }

    /// <inheritdoc/>
    public override string Source { get; }

    /// <inheritdoc/>
    public override string Fingerprint { get; }

    /// <summary>The tokenizer of the texts.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>The number of files that were read.</summary>
    public int Files { get; }

    /// <summary>The number of files that were left out because they hold no pairs.</summary>
    public int SkippedFiles { get; }

    /// <summary>The number of pairs that were left out because others have the same query or the same document.</summary>
    public int LeftOut { get; }

    /// <summary>The pairs for training.</summary>
    public IReadOnlyList<RetrievalPair> Training { get; }

    /// <summary>The pairs for validation, about a twentieth of all pairs.</summary>
    public IReadOnlyList<RetrievalPair> Validation { get; }

    /// <summary>Opens the pairs of a file, a folder or a glob.</summary>
    /// <remarks>
    /// <list type="bullet">
    /// <item>XML documentation (.xml): the query is a member's name and the types of its parameters in lower-case words
    /// (<c>string index of char string comparison</c>; a constructor has the word <c>constructor</c>). The document is the member's summary
    /// and remarks as plain text. Members without a summary are left out, and so are members whose document has no word beyond those of the
    /// query. If members of different names share a document, all of them are left out, because such a text does not tell which one is
    /// meant. If overloads share a document, the first is taken. If members share a query (types of one name in several namespaces), the
    /// first is taken. A type is taken from its first file only. All members of a type are either for training or for validation: the types
    /// whose names have the smallest hashes are held out.</item>
    /// <item>.tsv: each line has a pair: the query, a tab, and the document.</item>
    /// <item>.jsonl and .jsonl.gz: each line has a pair: <c>{"query": ..., "document": ...}</c>. Files of other formats
    /// (<see cref="RecordFormats"/>) have columns of these names.</item>
    /// </list>
    /// Of pairs in files that are not XML with the same query or document, the first is taken. The pairs whose queries have the smallest
    /// hashes are held out. Other files of a folder are left out.
    /// </remarks>
    /// <param name="data">A file, folder or glob, or null for the XML documentation of the .NET SDK.</param>
    /// <param name="tokenizer">The tokenizer, or null for bytes.</param>
    /// <param name="cancellationToken">Cancels the reading.</param>
    /// <exception cref="DataException">The data is missing, damaged or too small.</exception>
    public static PairCorpus Open(string? data = null, Tokenizer? tokenizer = null, CancellationToken cancellationToken = default)
    {
        var source = data is null ? "the XML documentation of the .NET SDK" : $"'{data}'";
        try
        {
            var files = data is null ? DataSources.SdkDocumentation() : DataSources.Find(data, exclude: string.Empty);
            var pairs = new List<Found>();
            var members = new List<Found>();
            var types = new HashSet<string>(StringComparer.Ordinal);
            var skipped = 0;
            foreach (var path in files)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (XmlDocumentation.IsDocumentation(path)) members.AddRange(ReadDocumentation(path, types));
                else if (Path.GetExtension(path).Equals(".tsv", StringComparison.OrdinalIgnoreCase)) pairs.AddRange(ReadTabs(path));
                else if (RecordFormats.TryFind(path, out var reader)) pairs.AddRange(ReadRecords(reader, path, cancellationToken));
                else skipped++;
            }

            var all = members.Count + pairs.Count;
            var shared = members.GroupBy(member => member.Pair.Document, StringComparer.Ordinal)
                .Where(group => group.DistinctBy(member => member.Name).Skip(1).Any())
                .Select(group => group.Key)
                .ToHashSet(StringComparer.Ordinal);
            members.RemoveAll(member => shared.Contains(member.Pair.Document));
            var (queries, documents) = (new HashSet<string>(StringComparer.Ordinal), new HashSet<string>(StringComparer.Ordinal));
            List<Found> kept = [.. members.Concat(pairs).Where(found =>
                !queries.Contains(found.Pair.Query) && documents.Add(found.Pair.Document) && queries.Add(found.Pair.Query))];
            return new PairCorpus(source, files.Count - skipped, skipped, all - kept.Count, kept, tokenizer ?? Tokenizer.ByteLevel)
            {
                Place = PlaceOf(data),
            };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException && e is not DataException)
        {
            throw new DataException($"The data {source} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>
    /// Returns the same pairs with another tokenizer, such as one from <c>Tokenizer.Train</c>.
    /// </summary>
    public PairCorpus With(Tokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        return new PairCorpus(this, tokenizer);
    }

    /// <summary>Returns one line that says what the pairs are and how many there are.</summary>
    public string Describe() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Source}: {Counted.Of(Files, "file")}{(SkippedFiles > 0 ? $" ({SkippedFiles} left out, no pairs)" : string.Empty)}, "
        + $"{Counted.Of(Training.Count, "pair")} to train on, "
        + $"{Validation.Count} to validate on{(LeftOut > 0 ? $"; {LeftOut} left out as duplicates" : string.Empty)}; "
        + $"tokens: {Tokenizer.Describe()}");

    /// <inheritdoc/>
    internal override Tokenizer TextTokenizer => Tokenizer;

    /// <summary>
    /// Returns the words of a name as a user would type them, in lower case: <c>List&lt;T&gt;.CopyTo(T[], Int32)</c> becomes
    /// <c>list copy to t array int32</c>.
    /// </summary>
    internal static string Words(string name)
    {
        var words = new StringBuilder();
        for (var i = 0; i < name.Length; i++)
        {
            var c = name[i];
            if (c == '<' && name.AsSpan(i).StartsWith("<T>"))
            {
                i += 2; // <T> follows the name of every generic type, so it says nothing
                continue;
            }

            if (!char.IsLetterOrDigit(c))
            {
                if (name.AsSpan(i).StartsWith("[")) words.Append(" array");
                words.Append(' ');
                continue;
            }

            if (i > 0 && BeginsWord(name, i)) words.Append(' ');
            words.Append(char.ToLowerInvariant(c));
        }

        // Words that are numbers refer to type parameters, as in `0 or ``0.
        return string.Join(' ', words.ToString().Split(' ', StringSplitOptions.RemoveEmptyEntries)
            .Where(word => !word.All(char.IsAsciiDigit)));
    }

    // IndexOf is two words, and so are XmlReader and XMLReader, but IList and UInt32 are one.
    private static bool BeginsWord(string name, int i)
    {
        if (!char.IsUpper(name[i])) return false;
        if (!char.IsUpper(name[i - 1])) return char.IsLetterOrDigit(name[i - 1]);
        return i > 1 && char.IsUpper(name[i - 2]) && i + 1 < name.Length && char.IsLower(name[i + 1]);
    }

    // A pair, the group that is held out as a whole, and the member's name, which overloads share.
    private readonly record struct Found(RetrievalPair Pair, string Group, string Name);

    private static (List<RetrievalPair> Training, List<RetrievalPair> Validation) Split(string source, List<Found> pairs)
    {
        // The groups with the smallest hashes are for validation. So the order of files does not matter, and some are always held out.
        var held = new HashSet<string>(StringComparer.Ordinal);
        var count = 0;
        foreach (var group in pairs.GroupBy(found => found.Group, StringComparer.Ordinal)
            .OrderBy(group => Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(group.Key))), StringComparer.Ordinal))
        {
            if (count >= pairs.Count / OneOf) break;
            held.Add(group.Key);
            count += group.Count();
        }

        return count < pairs.Count
            ? ([.. pairs.Where(found => !held.Contains(found.Group)).Select(found => found.Pair)],
                [.. pairs.Where(found => held.Contains(found.Group)).Select(found => found.Pair)])
            : throw new DataException($"The data {source} documents only one type, so no other is left for validation; give more.");
    }

    private static IEnumerable<Found> ReadDocumentation(string path, HashSet<string> types)
    {
        var here = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (type, id, text) in XmlDocumentation.ReadSummaries(path))
        {
            if (!here.Contains(type) && !types.Add(type)) continue; // the same type may be in several packs
            here.Add(type);
            if (id[0] == 'N') continue;
            var query = Words(XmlDocumentation.DisplayName(id).Replace("(", id.Contains(".#ctor", StringComparison.Ordinal)
                ? " constructor(" : "(", StringComparison.Ordinal));
            if (!Words(text).Split(' ').Except(query.Split(' ')).Any()) continue;
            var pair = new RetrievalPair(query, text) { Title = XmlDocumentation.DisplayName(id), Group = type };
            yield return new Found(pair, type, id.Split('(')[0].Split("``")[0]);
        }
    }

    private static IEnumerable<Found> ReadTabs(string path) => File.ReadLines(path).Index()
        .Where(line => !string.IsNullOrWhiteSpace(line.Item))
        .Select(line => line.Item.Split('\t') is [var query, var document] ? Pair(path, "line", line.Index + 1, query, document)
            : throw new DataException($"'{path}': line {line.Index + 1} is not a pair; it needs a query, one tab and a document."));

    private static IEnumerable<Found> ReadRecords(RecordReader reader, string path, CancellationToken cancellationToken)
    {
        var file = new CountingStream(File.OpenRead(path), static _ => { }, cancellationToken);
        return RecordFormats.Read(reader, path, file, "query", "document").Index()
            .Select(record => Pair(path, "pair", record.Index + 1, record.Item[0], record.Item[1]));
    }

    private static Found Pair(string path, string what, int number, string query, string document)
    {
        (query, document) = (query.Trim(), document.Trim());
        return query.Length > 0 && document.Length > 0 ? new Found(new RetrievalPair(query, document), query, query)
            : throw new DataException(
                $"'{path}': the query or the document of {what} {number} is empty; write both, or remove the {what}.");
    }
}
