namespace MatFormer.Runtime.Tests.Data;

public sealed class CountedTests
{
    [Theory]
    [InlineData(0, "0 files")]
    [InlineData(1, "1 file")]
    [InlineData(2, "2 files")]
    [InlineData(12_345, "12,345 files")]
    public void OnlyOneIsSingular(long number, string text) => Assert.Equal(text, Counted.Of(number, "file"));

    [Fact]
    public void APluralMayBeIrregular() =>
        Assert.Equal(("1 class", "3 classes"), (Counted.Of(1, "class", "classes"), Counted.Of(3, "class", "classes")));
}
