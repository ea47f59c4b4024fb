using System.Globalization;

namespace MatFormer.Runtime.Tests.Data;

public sealed class PairCorpusTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("String.IndexOf(Char, StringComparison)", "string index of char string comparison")]
    [InlineData("List<T>.CopyTo(T[], Int32)", "list copy to t array int32")]
    [InlineData("Enumerable.Select<T>(IEnumerable<0>, Func<0, 1>)", "enumerable select ienumerable func")]
    [InlineData("Convert.ToUInt32(XmlReader)", "convert to uint32 xml reader")]
    [InlineData("XMLReader.IOError", "xml reader io error")]
    [InlineData("Convert.ToBase64String", "convert to base64 string")]
    [InlineData("Decimal.op_Addition", "decimal op addition")]
    public void NamesOfMembersBecomeWords(string name, string words) => Assert.Equal(words, PairCorpus.Words(name));

    [Fact]
    public void MembersArePairedWithSummaryAndRemarks()
    {
        WriteDocumentation("a.xml", """
            <member name="T:N.Thing"><summary>A <see cref="T:System.String" /> that is held.</summary>
              <remarks>Rarely used.</remarks></member>
            <member name="M:N.Thing.#ctor(System.Int32)"><remarks>Not empty.</remarks><summary>Makes one.</summary></member>
            <member name="M:N.Thing.DoIt(System.Char[])"><summary>Does what
              is told.<para>Twice.</para></summary><param name="x">Not this.</param><returns>Nor this.</returns></member>
            <member name="P:N.Thing.Remarked"><remarks>Without a summary.</remarks></member>
            <member name="P:N.Thing.Inherited"><summary><inheritdoc /></summary></member>
            <member name="F:N.Thing.LastName"><summary>The last name.</summary></member>
            <member name="F:N.Thing.FirstName"><summary>First name thing</summary></member>
            """);
        var pairs = Filled();
        Assert.Equal(
            [
                ("thing", "A String that is held.\nRarely used."), ("thing constructor int32", "Makes one.\nNot empty."),
                ("thing do it char array", "Does what is told.\nTwice."), ("thing last name", "The last name."),
            ],
            pairs.Select(pair => (pair.Query, pair.Document)));
    }

    [Fact]
    public void DuplicateDocumentsAndQueriesAreLeftOut()
    {
        WriteDocumentation("a.xml", """
            <member name="M:N.Thing.Put(System.Int32)"><summary>Puts a value.</summary></member>
            <member name="M:N.Thing.Put``1(System.Char)"><summary>Puts a value.</summary></member>
            <member name="M:N.Thing.ToString"><summary>Returns a text for this.</summary></member>
            <member name="M:N.Other.ToString"><summary>Returns a text for this.</summary></member>
            <member name="P:N.Thing.Size"><summary>Its size in bytes.</summary></member>
            <member name="P:M.Thing.Size"><summary>Its size in metres.</summary></member>
            """);
        WriteDocumentation("b.xml", """<member name="P:N.Other.Again"><summary>A type is read from one file.</summary></member>""");
        Assert.Equal(
            [("thing put int32", "Puts a value."), ("thing size", "Its size in bytes.")],
            Filled().Select(pair => (pair.Query, pair.Document)));
        Assert.Equal(4, PairCorpus.Open(_folder.Path).LeftOut);
    }

    [Fact]
    public void TypesAreHeldOutAsAWhole()
    {
        WriteDocumentation("a.xml", string.Concat(Enumerable.Range(0, 300).Select(i => string.Create(
            CultureInfo.InvariantCulture,
            $"<member name='P:N.Type{i / 3}.Part{i % 3}'><summary>The thing number {i}.</summary></member>"))));
        var corpus = PairCorpus.Open(_folder["a.xml"]);
        string TypeOf(RetrievalPair pair) => pair.Query.Split(' ')[0];
        Assert.Equal((285, 15), (corpus.Training.Count, corpus.Validation.Count));
        Assert.Empty(corpus.Training.Select(TypeOf).Intersect(corpus.Validation.Select(TypeOf)));
        Assert.Equal(corpus.Fingerprint, PairCorpus.Open(_folder["*.xml"]).Fingerprint);
        Assert.Equal($"'{_folder["a.xml"]}': 1 file, 285 pairs to train on, 15 to validate on; tokens: bytes", corpus.Describe());

        WriteDocumentation("a.xml", string.Concat(Enumerable.Range(0, 30).Select(i => string.Create(
            CultureInfo.InvariantCulture, $"<member name='P:N.Type.Part{i}'><summary>The thing number {i}.</summary></member>"))));
        Fails(_folder.Path, "one type");
    }

    [Fact]
    public void TsvAndJsonLinesArePairs()
    {
        File.WriteAllLines(_folder["a.tsv"], [.. Lines(30), "", "query 3\tanother answer", "another query\tanswer 4"]);
        var corpus = PairCorpus.Open(_folder["a.tsv"]);
        Assert.Equal((29, 1, 2), (corpus.Training.Count, corpus.Validation.Count, corpus.LeftOut));
        Assert.Contains("2 left out as duplicates", corpus.Describe(), StringComparison.Ordinal);
        Assert.Equal(Expected(30), All(corpus));

        File.WriteAllLines(_folder["b.jsonl"], Enumerable.Range(0, 30)
            .Select(i => $$"""{"document": "answer {{i}}", "id": {{i}}, "query": " query {{i}}\n"}"""));
        Assert.Equal(corpus.Fingerprint, PairCorpus.Open(_folder["b.jsonl"]).Fingerprint);

        // The same pairs are held out if the lines are in another order.
        File.WriteAllLines(_folder["c.tsv"], Lines(30).Reverse());
        Assert.Equal(corpus.Validation, PairCorpus.Open(_folder["c.tsv"]).Validation);
        File.WriteAllLines(_folder["c.tsv"], Lines(30).SkipLast(1).Append("query 29\tanother answer"));
        Assert.NotEqual(corpus.Fingerprint, PairCorpus.Open(_folder["c.tsv"]).Fingerprint);
    }

    [Theory]
    [InlineData("a.tsv", "no tab", "one tab")]
    [InlineData("a.tsv", "a\tb\tc", "one tab")]
    [InlineData("a.tsv", "a\t ", "empty")]
    [InlineData("a.jsonl", "{\"query\": \"a\"}", "\"document\"")]
    [InlineData("a.jsonl", "{\"query\": 1, \"document\": \"b\"}", "\"query\"")]
    [InlineData("a.jsonl", "[]", "\"query\"")]
    [InlineData("a.jsonl", "{\"query\"", "not valid JSON (byte 9: ")]
    public void LinesThatAreNotPairsAreRefused(string file, string line, string says)
    {
        File.WriteAllText(_folder[file], "\n" + line + "\n");
        Fails("line 2", file, says);
    }

    [Fact]
    public void TooFewPairsAndBrokenFilesAreRefused()
    {
        File.WriteAllLines(_folder["a.tsv"], Lines(19));
        File.WriteAllText(_folder["b.txt"], "text");
        Fails(_folder.Path, "19 pairs", "1 file left out, neither", "at least 20");
        File.WriteAllLines(_folder["a.tsv"], Lines(20));
        Assert.Equal((1, 1), (PairCorpus.Open(_folder.Path).Files, PairCorpus.Open(_folder.Path).SkippedFiles));
        var e = Assert.Throws<DataException>(() => PairCorpus.Open(_folder["nowhere"]));
        Assert.Contains("nowhere", e.Message, StringComparison.Ordinal);
        WriteDocumentation("c.xml", "<member name='T:A.B'><summary>x</member>");
        Fails("c.xml", "not valid XML");
    }

    [Theory]
    [InlineData("""{"query": "a \ud83d", "document": "b"}""")]
    [InlineData("""{"query": "a", "document": "\ude00 b"}""")]
    public void ACutSurrogateIsRefusedWithFileAndLine(string line)
    {
        File.WriteAllLines(_folder["a.jsonl"], ["""{"query": "\ud83d\ude00", "document": "\u00e4"}""", line]);
        Fails("line 2", _folder["a.jsonl"], "unpaired surrogate");
    }

    [Fact]
    public void TheSdkDocumentationGivesPairs()
    {
        var corpus = PairCorpus.Open();
        var pairs = All(corpus);
        Assert.InRange(pairs.Count, 20_000, 200_000);
        Assert.InRange(corpus.Validation.Count, pairs.Count / 20, pairs.Count / 10);
        Assert.Equal(pairs.Count, pairs.Select(pair => pair.Query).Distinct().Count());
        Assert.Equal(pairs.Count, pairs.Select(pair => pair.Document).Distinct().Count());
        Assert.Contains(pairs, pair => pair.Query == "string index of char string comparison"
            && pair.Document.StartsWith("Reports the zero-based index of the first occurrence", StringComparison.Ordinal));
    }

    private static IEnumerable<string> Lines(int count) => Enumerable.Range(0, count).Select(i => $"query {i}\tanswer {i}");

    private static IEnumerable<RetrievalPair> Expected(int count) =>
        Enumerable.Range(0, count).Select(i => new RetrievalPair($"query {i}", $"answer {i}"))
            .OrderBy(pair => pair.Query, StringComparer.Ordinal);

    private static List<RetrievalPair> All(PairCorpus corpus) =>
        [.. corpus.Training.Concat(corpus.Validation).OrderBy(pair => pair.Query, StringComparer.Ordinal)];

    // Returns the pairs of the documentation, which is opened together with other pairs so that there are enough.
    private List<RetrievalPair> Filled()
    {
        File.WriteAllLines(_folder["fill.tsv"], Lines(40));
        return [.. All(PairCorpus.Open(_folder.Path)).Where(pair => !pair.Query.StartsWith("query", StringComparison.Ordinal))];
    }

    private void Fails(params string[] says)
    {
        var e = Assert.Throws<DataException>(() => PairCorpus.Open(_folder.Path));
        Assert.All(says, text => Assert.Contains(text, e.Message, StringComparison.Ordinal));
    }

    private void WriteDocumentation(string name, string members) => File.WriteAllText(
        _folder[name], $"<?xml version='1.0'?><doc><assembly><name>A</name></assembly><members>{members}</members></doc>");
}
