using System.Globalization;

namespace MatFormer.Runtime.Tests.Retrieval;

public sealed class PostgresCopyTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("")]
    [InlineData("fi-FI")]
    public void EachEntryBecomesOneEscapedLine(string culture)
    {
        var before = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo.CurrentCulture = new CultureInfo(culture);
            Assert.Equal(
                "0\tplain\t\t[0.25,-1,1E-10]\n"
                + "1\ttab\\tback\\\\slash\t\\\\N \\\\. two\\nlines\\r äö😀\t[3,0.1,-0]\n",
                Copy(("plain", string.Empty), ("tab\tback\\slash", "\\N \\. two\nlines\r äö😀")));
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void ANullCharacterIsRefused() =>
        Assert.Contains("row 1 with the character U+00", Assert.Throws<CheckpointException>(() => Copy(("a", "b"), ("a", "b\0"))).Message);

    private string Copy(params (string Title, string Text)[] entries)
    {
        using (var writer = new VectorIndexWriter(_folder["a"], 3, [], Vectors.Identity))
        {
            writer.Add([0.25f, -1, 1e-10f, 3, 0.1f, -0f], [.. entries.Select(e => new IndexEntry(e.Title, e.Text))]);
            writer.Complete();
        }

        using var index = VectorIndex.Open(_folder["a"]);
        var text = new StringWriter { NewLine = "\r\n" };
        PostgresCopy.Write(index, text);
        return text.ToString();
    }
}
