using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text;
using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Checkpoints;

public sealed class SafetensorsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string FilePath => _folder["x.safetensors"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void WrittenTensorsAreReadBack()
    {
        SafetensorsEntry[] tensors =
        [
            new("a", SafetensorsType.Float32, [2, 3]),
            new("scalar", SafetensorsType.Int64, []),
            new("empty", SafetensorsType.BFloat16, [0, 5]),
            new("ünï \"code\" \\ \u0001", SafetensorsType.Float16, [1]),
            new("bytes", SafetensorsType.UInt8, [3]),
        ];
        var metadata = new Dictionary<string, string> { ["format"] = "pt", ["naïve"] = "line\nend" };
        SafetensorsWriter.Write(FilePath, tensors, metadata, (t, s) => s.Write(Data(t)));

        using var reader = SafetensorsReader.Open(FilePath);
        Assert.Equal(metadata, reader.Metadata);
        Assert.Equal(tensors.Select(t => t.Name).Order(), reader.Tensors.Select(t => t.Name).Order());
        foreach (var tensor in tensors)
        {
            var entry = reader.Find(tensor.Name)!;
            Assert.Equal(tensor.Type, entry.Type);
            Assert.Equal(tensor.Shape.AsEnumerable(), entry.Shape);
            Assert.Equal(0, entry.Offset % SafetensorsFormat.ElementSize(entry.Type));
            var data = new byte[entry.Length];
            reader.Read(entry, 0, data);
            Assert.Equal(Data(tensor), data);
            Assert.Throws<ArgumentOutOfRangeException>(() => reader.Read(entry, 1, new byte[entry.Length]));
        }

        Assert.Null(reader.Find("b"));
        Assert.Equal(["x.safetensors"], _folder.Files);
    }

    [Fact]
    public void TheExampleOfTheFormatsPageIsRead()
    {
        // This is the example of the page that describes the format, written by hand.
        const string Header = """{"test":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}  """;
        WriteFile(Header, [0, 0, 128, 63, 0, 0, 0, 64]);
        using var reader = SafetensorsReader.Open(FilePath);
        var data = new byte[8];
        reader.Read(Assert.Single(reader.Tensors), 0, data);
        Assert.Equal(1f, BinaryPrimitives.ReadSingleLittleEndian(data));
        Assert.Equal(2f, BinaryPrimitives.ReadSingleLittleEndian(data.AsSpan(4)));
    }

    public static TheoryData<string, string, int> DamagedHeaders => new()
    {
        { "", "not a JSON object", 0 },
        { "[]", "not a JSON object", 0 },
        { " {}", "not a JSON object", 0 },
        { "{", "not valid JSON", 0 },
        { "{}x", "not valid JSON", 0 },
        { "{,}", "not valid JSON", 0 },
        { """{"a":1}""", "'a' is not a JSON object", 0 },
        { """{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}""", "dtype F64", 8 },
        { """{"a":{"dtype":7,"shape":[],"data_offsets":[0,4]}}""", "malformed 'dtype'", 4 },
        { """{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"more":1}}""", "'more'", 4 },
        { """{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}""", "repeated or malformed 'dtype'", 4 },
        { """{"a":{"shape":[],"data_offsets":[0,4]}}""", "lacks dtype", 4 },
        { """{"a":{"dtype":"F32","data_offsets":[0,4]}}""", "lacks dtype, shape", 4 },
        { """{"a":{"dtype":"F32","shape":[1]}}""", "two data_offsets", 4 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}""", "two data_offsets", 4 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}""", "'data_offsets' of the tensor 'a'", 4 },
        { """{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", "'shape' of the tensor 'a'", 4 },
        { """{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}""", "'shape' of the tensor 'a'", 4 },
        { """{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}""", "'shape' of the tensor 'a'", 4 },
        { """{"a":{"dtype":"F32","shape":"1","data_offsets":[0,4]}}""", "'shape' of the tensor 'a'", 4 },
        { """{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}""", "impossible shape", 4 },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", "takes 8 bytes", 4 },
        { """{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}}""", "takes 4 bytes", 8 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", "data_offsets 4 to 0", 4 },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", "there are only 4", 4 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}""", "overlap", 8 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}""", "holes", 12 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "holes", 8 },
        { """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "4 bytes after the last tensor", 8 },
        {
            """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""",
            "the tensor 'a' twice", 8
        },
        { """{"__metadata__":{"a":"1"},"__metadata__":{"b":"2"}}""", "'__metadata__' twice", 0 },
        { """{"__metadata__":{"a":"1","a":"2"}}""", "the metadata 'a' twice", 0 },
        { """{"__metadata__":{"a":1}}""", "metadata 'a' that is not a string", 0 },
        { """{"a\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "not valid JSON", 4 },
    };

    [Theory]
    [MemberData(nameof(DamagedHeaders))]
    public void ADamagedHeaderIsRefused(string header, string says, int dataLength)
    {
        WriteFile(header, new byte[dataLength]);
        Refused(says);
    }

    [Fact]
    public void AHeaderThatIsNotUtf8IsRefused()
    {
        WriteFile([(byte)'{', (byte)'"', 0xC3, 0x28, (byte)'"', (byte)':', (byte)'{', (byte)'}', (byte)'}'], []);
        Refused("not UTF-8");
    }

    [Theory]
    [InlineData(0, "0 bytes")]
    [InlineData(7, "7 bytes")]
    public void AFileWithoutAHeaderLengthIsRefused(int length, string says)
    {
        File.WriteAllBytes(FilePath, new byte[length]);
        Refused(says);
    }

    [Theory]
    [InlineData(100_000_001UL, "at most 100000000")]
    [InlineData(ulong.MaxValue, "at most 100000000")]
    [InlineData(3UL, "has only 10")]
    public void AHeaderThatIsTooLongIsRefused(ulong length, string says)
    {
        var bytes = new byte[10];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, length);
        File.WriteAllBytes(FilePath, bytes);
        Refused(says);
    }

    [Fact]
    public void MissingFilesAndFoldersAreRefused()
    {
        Refused("does not exist");
        Directory.CreateDirectory(FilePath);
        Refused("is a folder");
    }

    [Fact]
    public void ATruncatedFileIsRefused()
    {
        SafetensorsEntry[] tensors = [new("a", SafetensorsType.Float32, [3]), new("b", SafetensorsType.Int64, [2])];
        SafetensorsWriter.Write(FilePath, tensors, new Dictionary<string, string> { ["k"] = "v" }, (t, s) => s.Write(Data(t)));
        var whole = File.ReadAllBytes(FilePath);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(FilePath, whole[..length]);
            var e = Assert.Throws<CheckpointException>(() => SafetensorsReader.Open(FilePath).Dispose());
            Assert.Contains(FilePath, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void AFailedWriteLeavesTheOldFileAndNothingElse()
    {
        SafetensorsEntry[] tensors = [new("a", SafetensorsType.Float32, [3])];
        var none = new Dictionary<string, string>();
        SafetensorsWriter.Write(FilePath, tensors, none, (t, s) => s.Write(Data(t)));
        var before = File.ReadAllBytes(FilePath);
        Assert.Throws<InvalidOperationException>(() => SafetensorsWriter.Write(FilePath, tensors, none, (_, s) => s.Write(new byte[11])));
        Assert.Throws<OperationCanceledException>(
            () => SafetensorsWriter.Write(FilePath, tensors, none, (_, _) => throw new OperationCanceledException()));
        Assert.Throws<ArgumentException>(
            () => SafetensorsWriter.Write(FilePath, [tensors[0], tensors[0]], none, (t, s) => s.Write(Data(t))));
        Assert.Throws<ArgumentException>(
            () => SafetensorsWriter.Write(FilePath, [tensors[0] with { Name = "\ud800" }], none, (t, s) => s.Write(Data(t))));
        Assert.Equal(before, File.ReadAllBytes(FilePath));
        Assert.Equal(["x.safetensors"], _folder.Files);
    }

    [Fact]
    public void RandomTensorsAreReadBack() => Check.One(Config.QuickThrowOnFailure, Prop.ForAll(
        ArbMap.Default.ArbFor<Tuple<NonNull<string>, byte, byte[]>[]>(),
        items =>
        {
            var tensors = items
                .Where(i => Sound(i.Item1.Get) && i.Item1.Get != "__metadata__")
                .DistinctBy(i => i.Item1.Get)
                .Select(i => new SafetensorsEntry(
                    i.Item1.Get, (SafetensorsType)(i.Item2 % 5), [.. (i.Item3 ?? []).Take(3).Select(d => (long)(d % 5))]))
                .ToArray();
            var metadata = tensors.ToDictionary(t => t.Name, t => t.Name + "!");
            SafetensorsWriter.Write(FilePath, tensors, metadata, (t, s) => s.Write(Data(t)));
            using var reader = SafetensorsReader.Open(FilePath);
            Assert.Equal(metadata, reader.Metadata);
            Assert.Equal(tensors.Length, reader.Tensors.Length);
            foreach (var tensor in tensors)
            {
                var entry = reader.Find(tensor.Name)!;
                Assert.Equal((tensor.Type, tensor.Length), (entry.Type, entry.Length));
                Assert.Equal(tensor.Shape.AsEnumerable(), entry.Shape);
                var data = new byte[entry.Length];
                reader.Read(entry, 0, data);
                Assert.Equal(Data(tensor), data);
            }
        }));

    [Fact]
    public void RandomDamageIsRefusedOrHarmless()
    {
        SafetensorsEntry[] tensors = [new("alpha", SafetensorsType.Float32, [3, 2]), new("beta", SafetensorsType.Int64, [2])];
        SafetensorsWriter.Write(FilePath, tensors, new Dictionary<string, string> { ["format"] = "pt" }, (t, s) => s.Write(Data(t)));
        var whole = File.ReadAllBytes(FilePath);
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(500), Prop.ForAll(
            ArbMap.Default.ArbFor<Tuple<ushort, byte>[]>(),
            changes =>
            {
                var bytes = whole.ToArray();
                foreach (var (position, value) in changes) bytes[position % bytes.Length] = value;
                File.WriteAllBytes(FilePath, bytes);
                try
                {
                    using var reader = SafetensorsReader.Open(FilePath);
                    foreach (var entry in reader.Tensors) reader.Read(entry, 0, new byte[entry.Length]);
                }
                catch (CheckpointException e)
                {
                    Assert.Contains(FilePath, e.Message, StringComparison.Ordinal);
                }
            }));
    }

    [Fact]
    public void RandomHeadersAreRefused() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(500), Prop.ForAll(
        ArbMap.Default.ArbFor<NonNull<string>>(),
        text =>
        {
            WriteFile("{" + text.Get, new byte[8]);
            Assert.Throws<CheckpointException>(() => SafetensorsReader.Open(FilePath).Dispose());
        }));

    private static bool Sound(string text) => text.EnumerateRunes().All(r => r.Value != 0xFFFD);

    private static byte[] Data(SafetensorsEntry tensor) =>
        [.. Enumerable.Range(0, (int)tensor.Length).Select(i => (byte)((i * 7) + tensor.Name.Length))];

    private void Refused(string says)
    {
        var e = Assert.Throws<CheckpointException>(() => SafetensorsReader.Open(FilePath).Dispose());
        Assert.Contains(FilePath, e.Message, StringComparison.Ordinal);
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
        Assert.Equal(FilePath, e.Path);
    }

    private void WriteFile(string header, byte[] data) => WriteFile(Encoding.UTF8.GetBytes(header), data);

    private void WriteFile(byte[] header, byte[] data)
    {
        var length = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.Length);
        File.WriteAllBytes(FilePath, [.. length, .. header, .. data]);
    }
}
