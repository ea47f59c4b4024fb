using System.Buffers.Binary;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using MatFormer.Runtime.Tests.Chat;
using MatFormer.Runtime.Tests.Data;
using MatFormer.Runtime.Tests.Retrieval;
using MatFormer.Tests;
using Microsoft.Extensions.AI;
using SkiaSharp;

namespace MatFormer.Runtime.Tests.Fuzzing;

/// <summary>Tests that a damaged file of any kind is either read or refused with the exception that its reader documents.</summary>
public sealed class ReaderFuzzTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("train-images-idx3-ubyte")]
    [InlineData("train-labels-idx1-ubyte")]
    public void DamagedIdxFilesAreReadOrRefused(string damaged)
    {
        var (images, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
        byte[] imageFile = [0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 3, .. Enumerable.Range(0, 30).Select(value => (byte)value)];
        byte[] labelFile = [0, 0, 8, 1, 0, 0, 0, 5, 0, 1, 2, 1, 0];
        foreach (var (name, file) in new[] { (images, imageFile), (labels, labelFile) })
        {
            File.WriteAllBytes(_folder[name], file);
            File.WriteAllBytes(_folder[name.Replace("train", "t10k", StringComparison.Ordinal)], file);
        }

        var seed = File.ReadAllBytes(_folder[damaged]);
        using var zipped = new MemoryStream();
        using (var stream = new GZipStream(zipped, CompressionLevel.Fastest, leaveOpen: true)) stream.Write(seed);
        Mutator.Run(
            [seed, zipped.ToArray()],
            file =>
            {
                File.WriteAllBytes(_folder[damaged], file);
                var set = ImageCorpus.Open(_folder.Path).Training;
                for (var i = 0; i < Math.Min(set.Count, 10); i++) Assert.True(set.Pixels(i).Length > 0 && set.Label(i) >= 0);
                Assert.NotEmpty(set.Mean);
            },
            e => e is DataException);
    }

    [Fact]
    public void DamagedPngFilesAreReadOrRefused()
    {
        var pixels = new byte[3 * 6 * 7];
        new Random(1).NextBytes(pixels);
        ImageFiles.Register();
        Mutator.Run(
            [Png.Encode(pixels, 3, 6, 7), Png.Encode(pixels.AsSpan(0, 42), 1, 6, 7)], ReadImage, e => e is DataException, RepairPng);
    }

    [Theory]
    [InlineData(SKEncodedImageFormat.Jpeg)]
    [InlineData(SKEncodedImageFormat.Webp)]
    public void DamagedJpegAndWebpFilesAreReadOrRefused(SKEncodedImageFormat format)
    {
        using var bitmap = new SKBitmap(24, 17);
        for (var i = 0; i < 24 * 17; i++) bitmap.SetPixel(i % 24, i / 24, new SKColor((uint)(i * 2654435761)).WithAlpha(255));
        using var data = bitmap.Encode(format, 80);
        ImageFiles.Register();
        Mutator.Run([data.ToArray()], ReadImage, e => e is DataException);
    }

    [Fact]
    public async Task DamagedParquetFilesAreReadOrRefused()
    {
        ParquetData.Register();
        var path = _folder["a.parquet"];
        await ParquetTests.WriteAsync(
            path, 7, ["text"], Enumerable.Range(0, 20).Select(i => new[] { $"It is {i} {string.Concat(Enumerable.Range(0, 1300))}" }));
        Mutator.Run(
            [await File.ReadAllBytesAsync(path)],
            bytes =>
            {
                File.WriteAllBytes(path, bytes);
                using var corpus = TextCorpus.Open(path, _folder["out"]);
                Assert.True(corpus.Training.Documents > 0);
            },
            e => e is DataException);
    }

    [Fact]
    public void DamagedNetpbmFilesAreReadOrRefused() => Mutator.Run(
        [[.. "P5\n# a comment 1 2\n3 2 # another\n255\n"u8, 10, 32, 3, 4, 5, 6], [.. "P6 2 1 255 "u8, 1, 2, 3, 4, 5, 6]],
        ReadImage,
        e => e is DataException);

    [Theory]
    [InlineData("jsonl")]
    [InlineData("tsv")]
    [InlineData("xml")]
    public void DamagedPairsAreReadOrRefused(string kind)
    {
        var pairs = string.Concat(Enumerable.Range(0, PairCorpus.MinimumPairs + 10).Select(i => kind switch
        {
            "jsonl" => $"{{\"query\": \"what is {i} \\ud83d\\ude00\", \"document\": \"It is {i}.\"}}\n",
            "tsv" => $"what is {i}\tIt is {i} ä.\n",
            _ => $"<member name=\"M:N.Type{i}.Do``1(System.Int32[])\"><summary>It is <see cref=\"T:A.B{i}\"/>.</summary></member>\n",
        }));
        var text = kind == "xml" ? $"<?xml version='1.0' encoding='utf-8'?><doc><members>{pairs}</members></doc>" : pairs;
        Mutator.Run(
            [Encoding.UTF8.GetBytes(text)],
            file =>
            {
                File.WriteAllBytes(_folder["pairs." + kind], file);
                using var corpus = PairCorpus.Open(_folder.Path);
                Assert.NotEmpty(corpus.Training);
            },
            e => e is DataException);
    }

    [Theory]
    [InlineData(".jsonl")]
    [InlineData(".jsonl.gz")]
    public void DamagedJsonLinesAreReadOrRefused(string kind)
    {
        var file = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 20).Select(
            i => $"{{\"id\": [{i}], \"text\": \"It is {i} \\ud83d\\ude00 {new string('ä', 2000)}.\"}}\n")));
        using var zipped = new MemoryStream();
        using (var stream = new GZipStream(zipped, CompressionLevel.Fastest, leaveOpen: true)) stream.Write(file);
        Mutator.Run(
            [kind == ".jsonl" ? file : zipped.ToArray()],
            bytes =>
            {
                File.WriteAllBytes(_folder["a" + kind], bytes);
                using var corpus = TextCorpus.Open(_folder["a" + kind], _folder["out"]);
                Assert.True(corpus.Training.Documents > 0);
            },
            e => e is DataException);
    }

    [Fact]
    public void DamagedPreparedTextsAreReadOrRefused()
    {
        var path = _folder["out/corpus.bin"];
        using (TextCorpus.Open(_folder.WriteTexts(documents: 40), _folder["out"])) { }
        Mutator.Run(
            [File.ReadAllBytes(path)],
            bytes =>
            {
                File.WriteAllBytes(path, bytes);
                Require(bytes.Length > 0);
                using var file = new MappedFile(path);
                var footer = Require(CorpusFile.ReadFooter(file));
                ReadAll(file, 1, Require(CorpusFile.ReadRecords(file, footer, CancellationToken.None)));
            },
            e => e is RefusedException,
            RepairCorpus);
    }

    [Fact]
    public void DamagedPreparedTokensAreReadOrRefused()
    {
        var (texts, path) = (_folder.WriteTexts(documents: 40), _folder["out/tokens.bin"]);
        var tokenizer = NewTokenizer(texts);
        using var corpus = TextCorpus.Open(texts, _folder["out"], tokenizer);
        var (hash, count) = (Convert.FromHexString(corpus.Fingerprint), corpus.Training.Documents + corpus.Validation.Documents);
        var whole = File.ReadAllBytes(path);
        path = _folder["damaged"];
        Mutator.Run(
            [whole],
            bytes =>
            {
                File.WriteAllBytes(path, bytes);
                Require(bytes.Length > 0);
                using var file = new MappedFile(path);
                var (width, offsets, lengths) = Require(TokenFile.Read(file, tokenizer, hash, count, CancellationToken.None));
                ReadAll(file, width, (offsets, lengths));
            },
            e => e is RefusedException,
            RepairTokens);
    }

    [Fact]
    public void DamagedTokenizersAreReadOrRefused()
    {
        var path = _folder["tokenizer.json"];
        NewTokenizer(_folder.WriteTexts()).Save(path);
        Mutator.Run(
            [File.ReadAllBytes(path)],
            file =>
            {
                File.WriteAllBytes(path, file);
                var tokenizer = Tokenizer.Load(path);
                var text = tokenizer.Decode(tokenizer.Encode("the model returns <|endoftext|> äöü 12345"));
                Assert.Equal("the model returns <|endoftext|> äöü 12345", text);
                Assert.NotNull(tokenizer.SpecialTokens);
            },
            e => e is TokenizerException);
    }

    [Theory]
    [InlineData("llama2")]
    [InlineData("mistral")]
    [InlineData("metaspace")]
    public void DamagedTokenizersOfPiecesAreReadOrRefused(string name)
    {
        var path = _folder["tokenizer.json"];
        Mutator.Run(
            [File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", name + ".json"))],
            file =>
            {
                File.WriteAllBytes(path, file);
                var tokenizer = Tokenizer.Load(path);
                var tokens = tokenizer.Encode("the  model returns </s> <tool> \u00E4\u00F6\u00FC e\u0301x 12345");
                Assert.NotEmpty(tokens);
                var stream = new TokenStream(tokenizer);
                Assert.Equal(tokenizer.Decode(tokens), string.Concat(tokens.Select(stream.Add)) + stream.Finish());
                Assert.NotNull(tokenizer.SpecialTokens);
            },
            e => e is TokenizerException);
    }

    [Fact]
    public void DamagedChatTemplatesAreReadOrRefused()
    {
        var path = _folder["chat_template.jinja"];
        File.WriteAllText(_folder["tokenizer_config.json"], "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
        Mutator.Run(
            [.. Directory.GetFiles(ChatTemplateOracleTests.At("templates")).Order(StringComparer.Ordinal).Select(File.ReadAllBytes)],
            file =>
            {
                File.WriteAllBytes(path, file);
                Chat(path);
            },
            e => e is TokenizerException or ArgumentException);
    }

    [Fact]
    public void DamagedConfigurationsOfTokenizersAreReadOrRefused()
    {
        var path = _folder["tokenizer_config.json"];
        var template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content|trim }}{{ eos_token }}{% endfor %}";
        Mutator.Run(
            [
                Encoding.UTF8.GetBytes(
                    $"{{\"bos_token\": {{\"content\": \"<s>\"}}, \"eos_token\": \"</s>\", \"chat_template\": \"{template}\", "
                    + "\"added_tokens_decoder\": {\"0\": {\"content\": \"<s>\", \"special\": true}}, "
                    + "\"additional_special_tokens\": [\"<x>\"]}"),
                Encoding.UTF8.GetBytes($"{{\"chat_template\": [{{\"name\": \"default\", \"template\": \"{template}\"}}]}}"),
            ],
            file =>
            {
                File.WriteAllBytes(path, file);
                Chat(path);
            },
            e => e is TokenizerException or ArgumentException);
    }

    [Fact]
    public void DamagedSafetensorsAreReadOrRefused()
    {
        var path = _folder["a.safetensors"];
        using (var model = TinyModel.Create()) model.Save(path);
        Mutator.Run(
            [File.ReadAllBytes(path)],
            file =>
            {
                File.WriteAllBytes(path, file);
                using (var reader = SafetensorsReader.Open(path))
                {
                    foreach (var tensor in reader.Tensors) reader.Read(tensor, 0, new byte[tensor.Length]);
                }

                using var scope = TorchSharp.torch.NewDisposeScope();
                using var model = Checkpoint.Open<TinyModel>(path);
            },
            e => e is CheckpointException);
    }

    [Fact]
    public void DamagedIndexesOfSafetensorsAreReadOrRefused()
    {
        var path = _folder["model.safetensors.index.json"];
        using (var model = TinyModel.Create()) model.Save(_folder["a.safetensors"]);
        string[] names;
        using (var reader = SafetensorsReader.Open(_folder["a.safetensors"])) names = [.. reader.Tensors.Select(t => t.Name)];
        var map = string.Join(", ", names.Select(name => $"\"{name}\": \"a.safetensors\""));
        Mutator.Run(
            [Encoding.UTF8.GetBytes($"{{\"metadata\": {{\"total_size\": 100}}, \"weight_map\": {{{map}}}}}")],
            file =>
            {
                File.WriteAllBytes(path, file);
                using var reader = SafetensorsReader.Open(path);
            },
            e => e is CheckpointException);
    }

    [Fact]
    public void DamagedVectorIndexesAreReadOrRefused()
    {
        const int Width = 5;
        var path = _folder["index.safetensors"];
        Vectors.Write(path, Vectors.Draw(new Random(1), 20, Width), Width, [2, 4]);
        Mutator.Run(
            [File.ReadAllBytes(path)],
            file =>
            {
                File.WriteAllBytes(path, file);
                using var index = VectorIndex.Open(path);
                for (var row = 0; row < Math.Min(index.Count, 30); row++) Assert.NotNull(index.EntryOf(row).Title);
                var query = new float[index.Width];
                query[0] = 1;
                Assert.NotEmpty(index.Search(query));
                foreach (var prefix in index.Prefixes) Assert.NotEmpty(index.Search(query, new SearchOptions { Prefix = prefix }));
            },
            e => e is CheckpointException);
    }

    // The readers of prepared files return null for a damaged file, and the file is made again.
    private sealed class RefusedException : Exception;

    private static T Require<T>(T? value)
        where T : class => value ?? throw new RefusedException();

    private static T Require<T>(T? value)
        where T : struct => value ?? throw new RefusedException();

    private static void Require(bool holds) => Require(holds ? holds : (bool?)null);

    private static void ReadAll(MappedFile file, int width, (long[] Offsets, int[] Lengths) records)
    {
        var documents = new Documents(file, width, records.Offsets, records.Lengths);
        for (var i = 0; i < documents.Count; i++) documents.Read(i, 0, new int[documents.Lengths[i]]);
    }

    private static void Chat(string path)
    {
        var template = ChatTemplate.Load(path);
        Assert.NotNull(template.Prompt(
            [new(ChatRole.User, "Hello 😀"), new(ChatRole.Assistant, "<think>\nx\n</think>\n\ny"), new(ChatRole.User, "?")]));
        Assert.False(template.StopStrings.IsDefault);
    }

    private void ReadImage(byte[] file)
    {
        File.WriteAllBytes(_folder["image"], file);
        var image = RasterImage.Read(_folder["image"]);
        Assert.Equal((long)image.Channels * image.Height * image.Width, image.Pixels.Length);
    }

    private Tokenizer NewTokenizer(string texts)
    {
        using var corpus = TextCorpus.Open(texts, _folder["learn"]);
        return Tokenizer.Train(corpus, new TokenizerOptions { Vocabulary = 300 });
    }

    // Computes the checksums of all chunks.
    private static void RepairPng(byte[] file)
    {
        for (var at = 8; at + 12 <= file.Length;)
        {
            var length = BinaryPrimitives.ReadUInt32BigEndian(file.AsSpan(at));
            if (length > file.Length - at - 12) return;
            var end = at + 8 + (int)length;
            var crc = uint.MaxValue;
            foreach (var value in file.AsSpan((at + 4)..end))
            {
                crc ^= value;
                for (var bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320);
            }

            BinaryPrimitives.WriteUInt32BigEndian(file.AsSpan(end), ~crc);
            at = end + 4;
        }
    }

    // Computes the hash of all that follows the header.
    private static void RepairTokens(byte[] file)
    {
        const int Source = 104, Header = Source + 32;
        if (file.Length >= Header) SHA256.HashData(file.AsSpan(Header)).CopyTo(file.AsSpan(Source));
    }

    // Computes the hash of the records and the footer.
    private static void RepairCorpus(byte[] file)
    {
        const int Checked = 88, Footer = Checked + 32 + 8;
        if (file.Length < Footer) return;
        var footer = file.Length - Footer;
        var data = BinaryPrimitives.ReadInt64LittleEndian(file.AsSpan(footer));
        if (data >= 0 && data <= footer)
            SHA256.HashData(file.AsSpan((int)data, footer - (int)data + Checked)).CopyTo(file.AsSpan(footer + Checked));
    }
}
