namespace MatFormer.Runtime.Tests.Data;

public sealed class XmlDocumentationTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("T:System.String", "String")]
    [InlineData("T:System.Collections.Generic.List`1", "List<T>")]
    [InlineData("N:System.Text", "System.Text")]
    [InlineData("P:System.String.Length", "String.Length")]
    [InlineData("M:System.String.IndexOf(System.Char,System.Int32)", "String.IndexOf(Char, Int32)")]
    [InlineData("M:System.Collections.BitArray.#ctor(System.Boolean[])", "BitArray(Boolean[])")]
    [InlineData("M:System.Object.#ctor", "Object()")]
    [InlineData("M:System.Linq.Enumerable.Select``2(System.Collections.Generic.IEnumerable{``0},System.Func{``0,``1})",
        "Enumerable.Select<T>(IEnumerable<0>, Func<0, 1>)")]
    [InlineData("M:A.B.System#IDisposable#Dispose", "B.Dispose")]
    public void MemberIdsBecomeReadableNames(string id, string expected) => Assert.Equal(expected, XmlDocumentation.DisplayName(id));

    [Fact]
    public void TagsAreStripped()
    {
        File.WriteAllText(_folder["a.xml"], """
            <?xml version="1.0"?>
            <doc><assembly><name>A</name></assembly><members>
              <member name="T:N.Thing"><summary>
                A <b>thing</b> &lt;3, see <see cref="T:System.String" />
                or <see langword="null"/>.</summary></member>
              <member name="M:N.Thing.Do(System.Int32)">
                <summary>Does it.<para>Twice.</para></summary>
                <param name="count">How often, unlike <paramref name="other"/>.</param>
                <returns />
                <exception cref="T:System.ArgumentException"><paramref name="count"/> is 0.</exception>
              </member>
              <member name="M:N.Thing.Undocumented" />
              <member name="T:N.Other"><summary>Another.</summary></member>
            </members></doc>
            """);
        Assert.True(XmlDocumentation.IsDocumentation(_folder["a.xml"]));
        var types = XmlDocumentation.Read(_folder["a.xml"]).ToList();
        Assert.Equal(
            [
                ("N.Thing", "Thing\nA thing <3, see String or null.\n\nThing.Do(Int32)\nDoes it.\nTwice.\ncount: How often, unlike "
                    + "other.\nArgumentException: count is 0.\n"),
                ("N.Other", "Other\nAnother.\n"),
            ],
            types);
    }

    [Theory]
    [InlineData("M(A.B)")]
    [InlineData("M:(")]
    [InlineData("(((")]
    [InlineData("N::.(")]
    public void MembersWithOddIdsAreRead(string id)
    {
        File.WriteAllText(_folder["a.xml"], $"<doc><members><member name='{id}'><summary>It is odd.</summary></member></members></doc>");
        Assert.Contains("It is odd.", Assert.Single(XmlDocumentation.Read(_folder["a.xml"])).Text);
        var (_, read, text) = Assert.Single(XmlDocumentation.ReadSummaries(_folder["a.xml"]));
        Assert.Equal((id, "It is odd."), (read, text));
        Assert.NotNull(XmlDocumentation.DisplayName(id));
    }

    [Theory]
    [InlineData("utf-7")]
    [InlineData("utf-99")]
    [InlineData("utf-16")]
    public void AnEncodingThatXmlCannotHaveIsPlainText(string encoding)
    {
        File.WriteAllText(_folder["a.xml"], $"<?xml version='1.0' encoding='{encoding}'?><doc><members/></doc>");
        Assert.False(XmlDocumentation.IsDocumentation(_folder["a.xml"]));
    }

    [Fact]
    public void OtherXmlIsPlainTextAndBrokenDocumentationIsRefused()
    {
        File.WriteAllText(_folder["b.xml"], "<project/>");
        File.WriteAllText(_folder["c.xml"], "no xml");
        File.WriteAllText(_folder["d.xml"], "<doc><members><member name='T:A.B'><summary>x</member></members></doc>");
        Assert.False(XmlDocumentation.IsDocumentation(_folder["b.xml"]));
        Assert.False(XmlDocumentation.IsDocumentation(_folder["c.xml"]));
        Assert.True(XmlDocumentation.IsDocumentation(_folder["d.xml"]));
        var e = Assert.Throws<DataException>(() => XmlDocumentation.Read(_folder["d.xml"]).ToList());
        Assert.Contains("d.xml", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATypeIsTakenFromItsFirstFileOnly()
    {
        string Doc(string summary) => "<doc><members>" + string.Concat(Enumerable.Range(0, 900).Select(i =>
            $"<member name='T:A.Type{i}'><summary>{summary} number {i}, with some words so that there is enough text to open a corpus of "
                + "it.</summary></member>")) + "</members></doc>";
        Directory.CreateDirectory(_folder["docs"]);
        File.WriteAllText(_folder["docs/1.xml"], Doc("First"));
        File.WriteAllText(_folder["docs/2.xml"], Doc("Second"));
        using var corpus = TextCorpus.Open(_folder["docs"], _folder["out"]);
        var documents = TextCorpusTests.Documents(corpus.Training).Concat(TextCorpusTests.Documents(corpus.Validation)).ToList();
        Assert.Equal(900, documents.Count);
        Assert.DoesNotContain(documents, d => d.Contains("Second", StringComparison.Ordinal));
    }
}
