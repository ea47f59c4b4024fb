using System.Globalization;

namespace MatFormer.Runtime.Tests.Training;

public sealed class RunFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ALockedFolderNamesTheProcessThatWritesThere()
    {
        using var held = RunFolder.Lock(_folder["out"]);
        var e = Assert.Throws<IOException>(() => RunFolder.Lock(_folder["out"]));
        Assert.Equal(string.Create(CultureInfo.InvariantCulture, $"Another run, process {Environment.ProcessId}, is writing in "
            + $"'{_folder["out"]}'; wait until it has ended, or give another folder."), e.Message);
    }

    [Fact]
    public void AnUnknownProcessIsNotNamed()
    {
        using var held = RunFolder.Lock(_folder["out"]);
        File.Delete(_folder["out/run.pid"]);
        var e = Assert.Throws<IOException>(() => RunFolder.Lock(_folder["out"]));
        Assert.StartsWith($"Another run is writing in '{_folder["out"]}'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnUnlockedFolderCanBeLockedAgain()
    {
        RunFolder.Lock(_folder["out"]).Dispose();
        using var again = RunFolder.Lock(_folder["out"]);
        Assert.True(Directory.Exists(_folder["out"]));
    }

    [Fact]
    public void TheLockOfAKilledRunKeepsNobodyOut()
    {
        Directory.CreateDirectory(_folder["out"]);
        File.WriteAllText(_folder["out/run.lock"], string.Empty);
        File.WriteAllText(_folder["out/run.pid"], "1");
        RunFolder.Lock(_folder["out"]).Dispose();
        Assert.Empty(_folder.Files);
    }

    [Fact]
    public void AFolderWithoutFilesIsDeletedWithItsLock()
    {
        RunFolder.Lock(_folder["out"]).Dispose();
        Assert.False(Directory.Exists(_folder["out"]));
    }

    [Fact]
    public void AFileIsNoFolder()
    {
        File.WriteAllText(_folder["out"], "text");
        var e = Assert.Throws<IOException>(() => RunFolder.Lock(_folder["out"]));
        Assert.StartsWith($"'{_folder["out"]}' is a file", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderThatWasThereStays()
    {
        Directory.CreateDirectory(_folder["out"]);
        RunFolder.Lock(_folder["out"]).Dispose();
        Assert.True(Directory.Exists(_folder["out"]));
    }
}
