using System.Runtime.InteropServices;

namespace MatFormer.Runtime.Tests.Retrieval;

/// <summary>Tests that an index file gives back what was written, and that a malformed file is refused.</summary>
public sealed class VectorIndexFileTests : IDisposable
{
    private const int Width = 5;
    private readonly TemporaryFolder _folder = new();

    private string FilePath => _folder["a.safetensors"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(100)]
    public void AWrittenIndexIsReadBack(int rows)
    {
        var vectors = Vectors.Draw(new Random(1), rows, Width);
        Vectors.Write(FilePath, vectors, Width, [4, 2, 5, 2]);
        using var index = VectorIndex.Open(FilePath);
        Assert.Equal((rows, Width, FilePath), (index.Count, index.Width, index.Path));
        Assert.Equal([2, 4], index.Prefixes.AsEnumerable());
        Assert.Equal(Vectors.Identity, index.Identity);
        var vector = new float[Width];
        for (var row = 0; row < rows; row++)
        {
            index.CopyVector(row, vector);
            Assert.Equal(vectors[(row * Width)..((row + 1) * Width)], vector);
            Assert.Equal(Vectors.Entry(row), index.EntryOf(row));
        }

        Assert.Equal(["a.safetensors"], _folder.Files);
    }

    [Fact]
    public void RowsOutsideTheIndexAreRefused()
    {
        Vectors.Write(FilePath, new float[3 * Width], Width, []);
        using var index = VectorIndex.Open(FilePath);
        Assert.Throws<ArgumentOutOfRangeException>(() => index.EntryOf(3));
        Assert.Throws<ArgumentOutOfRangeException>(() => index.CopyVector(-1, new float[Width]));
        Assert.Throws<ArgumentException>(() => index.CopyVector(0, new float[Width + 1]));
    }

    [Fact]
    public void PrefixesTokenizerAndTextsAreOptional()
    {
        var identity = Vectors.Identity with { Tokenizer = null };
        using (var writer = new VectorIndexWriter(FilePath, 1, [], identity))
        {
            writer.Add([2f], [default]);
            writer.Complete();
        }

        using var index = VectorIndex.Open(FilePath);
        Assert.Empty(index.Prefixes);
        Assert.Equal(identity, index.Identity);
        Assert.Equal(new IndexEntry(string.Empty), index.EntryOf(0));
        Assert.Equal([new SearchHit(0, 6)], index.Search([3f]));
    }

    [Fact]
    public void AnUnfinishedIndexLeavesTheOldFile()
    {
        Vectors.Write(FilePath, [1, 2, 3, 4, 5], Width, []);
        var before = File.ReadAllBytes(FilePath);
        using (var writer = new VectorIndexWriter(FilePath, Width, [], Vectors.Identity))
        {
            Assert.Contains("add some", Assert.Throws<InvalidOperationException>(writer.Complete).Message);
            writer.Add(new float[Width], [Vectors.Entry(0)]);
            Assert.Equal(before, File.ReadAllBytes(FilePath));
        }

        Assert.Equal(before, File.ReadAllBytes(FilePath));
        Assert.Equal(["a.safetensors"], _folder.Files);
    }

    [Fact]
    public void ACompleteIndexTakesNoMoreEntries()
    {
        using var writer = new VectorIndexWriter(FilePath, Width, [], Vectors.Identity);
        writer.Add(new float[Width], [Vectors.Entry(0)]);
        writer.Complete();
        Assert.Throws<InvalidOperationException>(() => writer.Add(new float[Width], [Vectors.Entry(0)]));
        Assert.Throws<InvalidOperationException>(writer.Complete);
        writer.Dispose();
        Assert.Throws<ObjectDisposedException>(writer.Complete);
        Assert.Throws<ObjectDisposedException>(() => writer.Add([], []));
    }

    [Fact]
    public void InvalidEntriesAreNotAdded()
    {
        using var writer = new VectorIndexWriter(FilePath, Width, [2], Vectors.Identity);
        writer.Add(new float[Width], [Vectors.Entry(0)]);
        Refused("There are 9 numbers for 2 entries, but 2 vectors of width 5 have 10", new float[9], Vectors.Entry(1), Vectors.Entry(2));
        foreach (var value in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity])
        {
            var vectors = new float[10];
            vectors[8] = value;
            Refused($"The vector of 'entry 2' (row 2) is {value} in dimension 3; vectors must be finite",
                vectors, Vectors.Entry(1), Vectors.Entry(2));
        }

        Refused(
            "The title or text of entry 1 (row 2) is not valid Unicode", new float[10], Vectors.Entry(1), new IndexEntry("a", "\ud800"));
        writer.Add([1, 2, 3, 4, 5], [Vectors.Entry(1)]);
        writer.Complete();

        using var index = VectorIndex.Open(FilePath);
        Assert.Equal(2, index.Count);
        Assert.Equal(Vectors.Entry(1), index.EntryOf(1));
        var vector = new float[Width];
        index.CopyVector(1, vector);
        Assert.Equal([1f, 2f, 3f, 4f, 5f], vector);

        void Refused(string says, float[] vectors, params IndexEntry[] entries) =>
            Assert.Contains(says, Assert.Throws<ArgumentException>(() => writer.Add(vectors, entries)).Message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(6)]
    [InlineData(-1)]
    public void APrefixOutsideTheWidthIsRefused(int prefix)
    {
        var error = Assert.Throws<ArgumentException>(() => new VectorIndexWriter(FilePath, Width, [prefix], Vectors.Identity));
        Assert.Contains("between 1 and the width, 5", error.Message);
        Assert.Empty(_folder.Files);
    }

    public static TheoryData<string, string> Damages => new()
    {
        { "no version", "is not an index of vectors" },
        { "version", "is an index of version 9, but 1 is supported" },
        { "no weights", "lacks the metadata 'matformer.weights'" },
        { "prefix 0", "'matformer.prefixes' of '0'" },
        { "prefix 5", "'matformer.prefixes' of '5'" },
        { "prefix 3,2", "'matformer.prefixes' of '3,2'" },
        { "prefix x", "'matformer.prefixes' of 'x'" },
        { "vectors gone", "has no tensor 'vectors' of dtype F32" },
        { "vectors int", "has no tensor 'vectors' of dtype F32" },
        { "vectors flat", "tensor 'vectors' of the shape (15)" },
        { "vectors none", "tensor 'vectors' of the shape (0, 5)" },
        { "ends short", "tensor 'text_ends' of the shape (2, 2)" },
        { "texts deep", "tensor 'texts' of the shape (1, 6)" },
        { "odd place", "has vectors at byte" },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public void AMalformedIndexIsRefused(string damage, string says)
    {
        var metadata = VectorIndexFile.Metadata([2, 3], Vectors.Identity);
        switch (damage)
        {
            case "no version": metadata.Remove("matformer.index"); break;
            case "version": metadata["matformer.index"] = "9"; break;
            case "no weights": metadata.Remove("matformer.weights"); break;
            case var prefix when prefix.StartsWith("prefix ", StringComparison.Ordinal):
                metadata["matformer.prefixes"] = prefix[7..];
                break;
        }

        SafetensorsEntry ends = new("text_ends", SafetensorsType.Int64, damage == "ends short" ? [2, 2] : [3, 2]);
        SafetensorsEntry texts = new("texts", SafetensorsType.UInt8, damage == "texts deep" ? [1, 6] : [6]);
        SafetensorsEntry vectors = damage switch
        {
            "vectors gone" => new("vector", SafetensorsType.Float32, [3, 5]),
            "vectors int" => new("vectors", SafetensorsType.Int64, [3, 5]),
            "vectors flat" => new("vectors", SafetensorsType.Float32, [15]),
            "vectors none" => new("vectors", SafetensorsType.Float32, [0, 5]),
            _ => new("vectors", SafetensorsType.Float32, [3, 5]),
        };
        SafetensorsWriter.Write(
            FilePath, damage == "odd place" ? [ends, texts, vectors] : [ends, vectors, texts], metadata,
            (tensor, stream) => stream.Write(new byte[tensor.Length]));
        var error = Assert.Throws<CheckpointException>(() => VectorIndex.Open(FilePath));
        Assert.Contains(says, error.Message);
        Assert.Contains(FilePath, error.Message);
    }

    [Fact]
    public void AMissingForeignOrTruncatedFileIsRefused()
    {
        Assert.Contains("does not exist", Assert.Throws<CheckpointException>(() => VectorIndex.Open(FilePath)).Message);
        File.WriteAllText(FilePath, "These are no vectors but words.");
        Assert.Throws<CheckpointException>(() => VectorIndex.Open(FilePath));
        Vectors.Write(FilePath, new float[50], Width, []);
        var bytes = File.ReadAllBytes(FilePath);
        File.WriteAllBytes(FilePath, bytes[..^1]);
        Assert.Contains("cut off", Assert.Throws<CheckpointException>(() => VectorIndex.Open(FilePath)).Message);
    }

    [Theory]
    [InlineData(0, -1L)]
    [InlineData(1, 1L << 40)]
    [InlineData(2, 1L)]
    [InlineData(5, long.MinValue)]
    public void DamagedEndsOfTextsAreRefusedWhenTheTextIsRead(int position, long value)
    {
        long[] ends = [2, 3, 5, 6, 8, 9];
        ends[position] = value;
        WriteTexts(ends, "abcdefghi"u8);
        using var index = VectorIndex.Open(FilePath);
        Assert.Contains("names bytes", Assert.Throws<CheckpointException>(() => index.EntryOf(position / 2)).Message);
    }

    [Fact]
    public void TextsThatAreNotUtf8AreRefusedWhenTheyAreRead()
    {
        WriteTexts([2, 3, 5, 6, 8, 9], [.. "abcdef"u8, 0xC3, 0x28, 0x61]);
        using var index = VectorIndex.Open(FilePath);
        Assert.Equal(new IndexEntry("de", "f"), index.EntryOf(1));
        Assert.Contains("row 2 that are not UTF-8", Assert.Throws<CheckpointException>(() => index.EntryOf(2)).Message);
    }

    [Fact]
    public void VectorsThatAreNotFiniteAreNamedBySearches()
    {
        foreach (var value in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity])
        {
            foreach (var row in (int[])[0, 11, 18])
            {
                var vectors = Vectors.Draw(new Random(2), 19, Width);
                Vectors.Write(FilePath, vectors, Width, [2]);
                var bytes = File.ReadAllBytes(FilePath);
                var offset = SafetensorsReader.Open(FilePath).Find("vectors")!.Offset + (((row * Width) + 1) * 4);
                MemoryMarshal.Write(bytes.AsSpan((int)offset), value);
                File.WriteAllBytes(FilePath, bytes);
                using var index = VectorIndex.Open(FilePath);
                float[] query = [1, float.IsNegative(value) ? -1 : 1, 1, 1, 1];
                foreach (var options in (SearchOptions[])
                    [new(), new() { Threads = 3 }, new() { Prefix = 2 }, new() { Prefix = 2, Shortlist = 0 }])
                    Assert.Contains($"row {row},", Assert.Throws<CheckpointException>(() => index.Search(query, options)).Message);
            }
        }
    }

    [Fact]
    public void QueriesOfAnotherModelAreRefused()
    {
        Vectors.Write(FilePath, new float[Width], Width, []);
        using var index = VectorIndex.Open(FilePath);
        index.CheckFits(Vectors.Identity);
        index.CheckFits(Vectors.Identity with { Profile = "S" });
        foreach (var (other, says) in ((VectorIndexIdentity, string)[])
            [
                (Vectors.Identity with { Model = "Other" }, "the model 'Finder'"),
                (Vectors.Identity with { Fingerprint = "4567" }, "the architecture '0123abcd'"),
                (Vectors.Identity with { Weights = "weights-2" }, "the weights 'weights-1', but the queries with 'weights-2'"),
                (Vectors.Identity with { Tokenizer = null }, "the tokenizer 'tokens-1'"),
            ])
        {
            Assert.Contains(says, Assert.Throws<CheckpointException>(() => index.CheckFits(other)).Message);
        }
    }

    [Fact]
    public void ADisposedIndexIsRefused()
    {
        Vectors.Write(FilePath, new float[Width], Width, [2]);
        var index = VectorIndex.Open(FilePath);
        index.Dispose();
        Assert.Throws<ObjectDisposedException>(() => index.Search([1, 1, 1, 1, 1]));
        Assert.Throws<ObjectDisposedException>(() => index.EntryOf(0));
    }

    private void WriteTexts(long[] ends, ReadOnlySpan<byte> texts)
    {
        var bytes = texts.ToArray();
        SafetensorsWriter.Write(
            FilePath,
            [
                new("text_ends", SafetensorsType.Int64, [ends.Length / 2, 2]),
                new("vectors", SafetensorsType.Float32, [ends.Length / 2, 1]),
                new("texts", SafetensorsType.UInt8, [bytes.Length]),
            ],
            VectorIndexFile.Metadata([], Vectors.Identity),
            (tensor, stream) => stream.Write(tensor.Name switch
            {
                "text_ends" => MemoryMarshal.AsBytes(ends.AsSpan()),
                "texts" => bytes,
                _ => new byte[tensor.Length],
            }));
    }
}
