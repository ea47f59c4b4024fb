namespace MatFormer.Runtime.Tests.CommandLine;

public sealed class ByteSizeTests
{
    [Theory]
    [InlineData("20MB", 20_000_000)]
    [InlineData("1.5GiB", 1_610_612_736)]
    [InlineData("1.5 gib", 1_610_612_736)]
    [InlineData("4096", 4096)]
    [InlineData("4096B", 4096)]
    [InlineData("1kb", 1000)]
    [InlineData("1KiB", 1024)]
    [InlineData("0.0005MB", 500)]
    [InlineData("3TB", 3_000_000_000_000)]
    public void SizesAreParsed(string text, long bytes)
    {
        Assert.True(ByteSize.TryParse(text, out var read));
        Assert.Equal(bytes, read);
    }

    [Theory]
    [InlineData("")]
    [InlineData("MB")]
    [InlineData("0")]
    [InlineData("0.1B")]
    [InlineData("-1MB")]
    [InlineData("20XB")]
    [InlineData("20 M B")]
    [InlineData("1,5MB")]
    [InlineData("1e3MB")]
    [InlineData("NaN")]
    [InlineData("99999999999TB")]
    public void TextThatIsNoSizeIsRefused(string text) => Assert.False(ByteSize.TryParse(text, out _));

    [Theory]
    [InlineData(999, "999 B")]
    [InlineData(1000, "1 kB")]
    [InlineData(12_345_678, "12.35 MB")]
    [InlineData(2_000_000_000, "2 GB")]
    public void SizesAreFormatted(long bytes, string text) => Assert.Equal(text, ByteSize.Format(bytes));
}
