namespace MatFormer.Runtime.Tests.Native;

public sealed class ElfVersionsTests
{
    private const string Symbol = "_ZSt21ios_base_library_initv";

    private static readonly (string, string[])[] s_needs =
        [("libm.so.6", ["GLIBC_2.29"]), ("libstdc++.so.6", ["GLIBCXX_3.4", "GLIBCXX_3.4.32"])];

    [Fact]
    public void SymbolVersionsAreRead()
    {
        var library = ElfVersions.Read(Library())!;
        Assert.Equal(
            [("libm.so.6", "GLIBC_2.29", 2), ("libstdc++.so.6", "GLIBCXX_3.4", 3), ("libstdc++.so.6", "GLIBCXX_3.4.32", 4)],
            library.Needed.Select(need => (need.Library, need.Version, (int)need.Index)));
        Assert.Empty(library.Defined);

        var standard = ElfVersions.Read(ElfImage.Defining("GLIBCXX_3.4", "GLIBCXX_3.4.30"))!;
        Assert.Empty(standard.Needed);
        Assert.Equal(["GLIBCXX_3.4", "GLIBCXX_3.4.30"], standard.Defined.Order());
    }

    [Fact]
    public void OnlyTheFlagOfTheVersionChanges()
    {
        var original = Library();
        var copy = Weaken(original)!;
        Assert.Equal(1, Differences(original, copy));
        Assert.Equal(["GLIBC_2.29", "GLIBCXX_3.4"], ElfVersions.Read(copy)!.Needed.Select(need => need.Version));
    }

    [Fact]
    public void AVersionThatIsUsedIsNotWeakened()
    {
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [("other", 4, false)])));
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [(Symbol, 4, false), ("other", 4, false)])));
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [(Symbol, 4, false), ("hidden", 0x8004, false)])));
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [(Symbol, 4, true)])));
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [("used", 3, false)])));
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [])));
        Assert.Null(Weaken(ElfImage.Needing(s_needs, [("used", 3, false), (Symbol, 4, false)], 1, 2)));
    }

    [Fact]
    public void ATruncatedFileIsRefused()
    {
        var whole = Library();
        for (var length = 0; length < whole.Length; length++) Assert.Null(Weaken(whole[..length]));
    }

    [Fact]
    public void NoDamagedByteThrows()
    {
        var file = Library();
        for (var at = 0; at < file.Length; at++)
        {
            var before = file[at];
            foreach (byte damaged in (byte[])[0, 1, 0x7f, 0x80, 0xff, (byte)(before ^ 1), (byte)(before ^ 0x10)])
            {
                file[at] = damaged;
                if (Weaken(file) is { } copy) Assert.Equal(1, Differences(file, copy));
            }

            file[at] = before;
        }
    }

    [Fact]
    public void NoDamagedOffsetThrows()
    {
        var file = Library();
        for (var at = 0; at + 8 <= file.Length; at += 4)
        {
            var before = file[at..(at + 8)];
            foreach (var damaged in (long[])[-1, -8, -64, long.MinValue, long.MaxValue, int.MaxValue, file.Length, file.Length - 8])
            {
                BitConverter.TryWriteBytes(file.AsSpan(at), damaged);
                Weaken(file);
            }

            before.CopyTo(file, at);
        }
    }

    [Fact]
    public void RelocationsOutsideOfTheFileAreRefused()
    {
        var file = Library();
        var relocations = (int)BitConverter.ToInt64(file, 0x28) + (4 * 64);
        BitConverter.TryWriteBytes(file.AsSpan(relocations + 32), (long)file.Length);
        Assert.NotNull(ElfVersions.Read(file));
        Assert.Null(Weaken(file));
    }

    [Fact]
    public void ReadingOverlappingRecordsEnds()
    {
        var file = Library();
        var first = (int)ElfVersions.Read(file)!.Needed.First().FlagsAt - 4;
        var random = new Random(1);
        for (var round = 0; round < 1000; round++)
        {
            // The damage makes steps of a few bytes, through records and lists of records that overlap.
            var damaged = (byte[])file.Clone();
            for (var at = first - 16; at < first + 64; at++) damaged[at] = (byte)random.Next(3);
            ElfVersions.Read(damaged);
        }
    }

    [Fact]
    public void TorchSharpsLibraryIsWeakenedAndDamageToItDoesNotThrow()
    {
        if (Find("libLibTorchSharp.so") is not { } path) return;
        var file = File.ReadAllBytes(path);
        Assert.Equal(1, Differences(file, Weaken(file)!));

        // Damage has the most effect where the file describes its sections, their names and the versions.
        var random = new Random(2);
        var (headers, versions) = ((int)BitConverter.ToInt64(file, 0x28), (int)ElfVersions.Read(file)!.Needed.First().FlagsAt);
        for (var round = 0; round < 200; round++)
        {
            var (start, length) = (round % 4) switch
            {
                0 => (0, 64),
                1 => (headers, file.Length - headers),
                2 => (versions - 64, 600),
                _ => (0, file.Length),
            };
            var damaged = (byte[])file.Clone();
            for (var count = random.Next(1, 8); count > 0; count--)
                damaged[start + random.Next(length)] = (byte)random.Next(256);
            if (Weaken(damaged) is { } copy) Assert.Equal(1, Differences(damaged, copy));
            Weaken(file[..random.Next(file.Length)]);
        }
    }

    internal static byte[] Library() => ElfImage.Needing(s_needs, [("used", 3, false), (Symbol, 4, false), ("own", 1, true)], 1, 3);

    // Returns the path of a native library of this program, or null if there is none.
    internal static string? Find(string file) =>
        ((string?)AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") ?? "").Split(Path.PathSeparator)
        .Select(folder => Path.Combine(folder, file)).FirstOrDefault(File.Exists);

    internal static int Differences(byte[] left, byte[] right)
    {
        Assert.Equal(left.Length, right.Length);
        var count = 0;
        for (var i = 0; i < left.Length; i++) count += left[i] == right[i] ? 0 : 1;
        return count;
    }

    private static byte[]? Weaken(byte[] file) =>
        ElfVersions.Read(file) is { } versions && versions.Needed.FirstOrDefault(need => need.Version == "GLIBCXX_3.4.32") is { } need
            ? versions.Weaken(need, Symbol) : null;
}
