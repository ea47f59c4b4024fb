using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using TorchSharp;

namespace MatFormer.Runtime.Tests.Native;

/// <summary>Loads a made-up library for a made-up system. None of its code runs. Only Linux has such libraries.</summary>
[SupportedOSPlatform("linux")]
public sealed class TorchLibraryTests : IDisposable
{
    private static readonly string[] s_dependencies = ["libc10.so", "libtorch_cpu.so", "libtorch.so"];

    private readonly TemporaryFolder _folder = new();
    private readonly List<string> _loaded = [];
    private readonly List<string> _mapped = [];
    private byte[] _copy = [];

    public TorchLibraryTests()
    {
        Directory.CreateDirectory(Natives);
        Write("libLibTorchSharp.so", ElfVersionsTests.Library());
        foreach (var dependency in s_dependencies) Write(dependency, []);
        Write("libstdc++.so.6.0.30", ElfImage.Defining("GLIBCXX_3.4", "GLIBCXX_3.4.30"));
        _mapped.Add(Path.Combine(Natives, "libstdc++.so.6.0.30"));
    }

    private string Natives => _folder["natives"];

    private string Cache => _folder["cache"];

    public void Dispose() => _folder.Dispose();

    [LinuxFact]
    public void ACorrectedCopyIsLoadedAfterItsDependencies()
    {
        Assert.Equal((4, null), Load());
        Assert.Equal(s_dependencies.Select(file => Path.Combine(Natives, file)), _loaded[..3]);
        Assert.Equal(Cache, Path.GetDirectoryName(_loaded[3]));
        Assert.Equal(1, ElfVersionsTests.Differences(ElfVersionsTests.Library(), _copy));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Cache));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_loaded[3]));
    }

    [LinuxFact]
    public void TheNextStartUsesTheSameCopy()
    {
        Load();
        File.SetLastWriteTimeUtc(_loaded[3], DateTime.UnixEpoch);
        Assert.Equal((8, null), Load());
        Assert.Equal(_loaded[3], _loaded[7]);
        Assert.Equal(DateTime.UnixEpoch, File.GetLastWriteTimeUtc(_loaded[3]));
    }

    [LinuxFact]
    public void CudaIsLoadedBeforeTorch()
    {
        Write("libtorch_cuda.so", []);
        Write("libc10_cuda.so", []);
        Assert.Equal((6, null), Load());
        string[] order = ["libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so", "libtorch.so"];
        Assert.Equal(order, _loaded[..5].Select(Path.GetFileName));
    }

    [LinuxFact]
    public void LoadedLibrariesAreNotLoadedAgain()
    {
        File.Delete(Path.Combine(Natives, "libtorch.so"));
        _mapped.AddRange(["/elsewhere/libc10.so", "/elsewhere/libtorch_cpu.so", "/elsewhere/libtorch.so"]);
        Assert.Equal((1, null), Load());
        Assert.Equal(Cache, Path.GetDirectoryName(Assert.Single(_loaded)));
    }

    [LinuxFact]
    public void ALibraryThatLacksNothingIsLeftAlone()
    {
        Write("libstdc++.so.6.0.30", ElfImage.Defining("GLIBCXX_3.4", "GLIBCXX_3.4.32"));
        Refused("something else keeps it from loading");
    }

    [LinuxFact]
    public void ALibraryThatLacksSeveralVersionsIsLeftAlone()
    {
        Write("libstdc++.so.6.0.30", ElfImage.Defining("GLIBCXX_3.4.30"));
        Refused("needs GLIBCXX_3.4, GLIBCXX_3.4.32, which");
    }

    [LinuxFact]
    public void ALibraryThatUsesTheVersionIsLeftAlone()
    {
        Write("libLibTorchSharp.so", ElfImage.Needing([("libstdc++.so.6", ["GLIBCXX_3.4.32"])], [("other", 2, false)], 1));
        Refused("needs GLIBCXX_3.4.32, which");
    }

    [LinuxFact]
    public void MissingAndForeignFilesAreLeftAlone()
    {
        Write("libLibTorchSharp.so", "not a library"u8.ToArray());
        Refused("libLibTorchSharp.so' is not a whole 64-bit ELF library.");
        File.Delete(Path.Combine(Natives, "libLibTorchSharp.so"));
        Refused($"libLibTorchSharp.so was not found in {Natives}.");
    }

    [LinuxFact]
    public void WithoutLibtorchNothingIsLoaded()
    {
        File.Delete(Path.Combine(Natives, "libtorch.so"));
        var (handle, problem) = Load();
        Assert.Equal(0, handle);
        Assert.Equal($"libtorch.so was not found in {Natives}.", problem);
        Assert.False(Directory.Exists(Cache));
    }

    [LinuxTheory]
    [InlineData("file", "already exists")]
    [InlineData("open", "is open to other users")]
    [InlineData("link", "is not a folder")]
    public void WithoutAUsableCacheTheCopyIsTemporary(string cache, string reason)
    {
        if (cache == "file") File.WriteAllText(Cache, "");
        if (cache == "open")
        {
            Directory.CreateDirectory(Cache);
            File.SetUnixFileMode(Cache, File.GetUnixFileMode(Cache) | UnixFileMode.OtherWrite);
        }

        if (cache == "link")
        {
            Directory.CreateDirectory(_folder["target"], UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            File.CreateSymbolicLink(Cache, _folder["target"]);
        }

        var (handle, problem) = Load();
        Assert.Equal(4, handle);
        Assert.Contains(reason, problem);
        Assert.Equal(1, ElfVersionsTests.Differences(ElfVersionsTests.Library(), _copy));
        Assert.False(Directory.Exists(Path.GetDirectoryName(_loaded[3])));
    }

    [LinuxFact]
    public void ACacheWhoseFilesCannotBeRunIsNotUsed()
    {
        var (handle, problem) = Load(path => path.StartsWith(Cache) ? throw new DllNotFoundException("Advice.\nno running here\n") : 1);
        Assert.Equal(1, handle);
        Assert.Equal($"The copy of libLibTorchSharp.so in '{Cache}' cannot be used: no running here.", problem);
    }

    [LinuxFact]
    public void ALibraryThatCannotBeLoadedIsReported()
    {
        var (handle, problem) = Load(path => path.Contains("LibTorchSharp") ? throw new DllNotFoundException(path + ": broken") : 1);
        Assert.Equal(0, handle);
        Assert.Contains($"in '{Cache}' cannot be used: ", problem);
        Assert.Contains($"A copy in '{Path.GetTempPath()}' failed too: ", problem);
    }

    [LinuxTheory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(-1)]
    public void AWrongCopyIsReplaced(int longer)
    {
        Load();
        var content = _copy;
        File.WriteAllBytes(_loaded[3], new byte[content.Length + longer]);
        Assert.Equal((8, null), Load());
        Assert.Equal(content, _copy);
        Assert.Equal([Path.GetFileName(_loaded[3])], Directory.GetFiles(Cache).Select(Path.GetFileName));
    }

    [LinuxFact]
    public void SeveralThreadsMayWriteTheCopyAtOnce()
    {
        Load();
        var content = _copy;
        for (var round = 0; round < 20; round++)
        {
            Directory.Delete(Cache, recursive: true);
            using var start = new Barrier(8);
            var results = new (nint Handle, string? Problem)[8];
            var threads = Enumerable.Range(0, 8).Select(i => new Thread(() =>
            {
                start.SignalAndWait();
                results[i] = Load(path => path.StartsWith(Cache) ? File.ReadAllBytes(path).SequenceEqual(content) ? 1 : 2 : 3);
            })).ToArray();
            foreach (var thread in threads) thread.Start();
            foreach (var thread in threads) thread.Join();
            Assert.All(results, result => Assert.Equal((1, null), result));
            Assert.Single(Directory.GetFiles(Cache));
        }
    }

    [Fact]
    public void TorchSharpAndThisAssemblyLoadTheSameLibrary()
    {
        Parallel.For(0, 4, _ => TorchLibrary.Install());
        using var ones = torch.ones(3);
        Assert.Equal(3, ones.sum().item<float>());
        Assert.Equal(
            NativeLibrary.Load("LibTorchSharp", typeof(torch).Assembly, null),
            NativeLibrary.Load("LibTorchSharp", typeof(TorchLibraryTests).Assembly, null));
    }

    private void Write(string name, byte[] content) => File.WriteAllBytes(Path.Combine(Natives, name), content);

    // The handle is the number of libraries that were loaded so far.
    private (nint Handle, string? Problem) Load() => Load(path =>
    {
        _loaded.Add(path);
        _copy = File.ReadAllBytes(path);
        return _loaded.Count;
    });

    private (nint Handle, string? Problem) Load(Func<string, nint> load) => TorchLibrary.Load([Natives], () => _mapped, Cache, load);

    private void Refused(string reason)
    {
        var (handle, problem) = Load();
        Assert.Equal(0, handle);
        Assert.Contains(reason, problem);
        Assert.Empty(_loaded);
        Assert.False(Directory.Exists(Cache));
    }

    private sealed class LinuxFactAttribute : FactAttribute
    {
        public LinuxFactAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
            : base(file, line) => Skip = OperatingSystem.IsLinux() ? null : "This test runs only on Linux.";
    }

    private sealed class LinuxTheoryAttribute : TheoryAttribute
    {
        public LinuxTheoryAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
            : base(file, line) => Skip = OperatingSystem.IsLinux() ? null : "This test runs only on Linux.";
    }
}
