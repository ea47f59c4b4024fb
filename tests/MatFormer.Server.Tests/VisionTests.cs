using System.Net;
using System.Text;
using System.Text.Json;
using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

public sealed class VisionTests(SharedVision shared) : IClassFixture<SharedVision>
{
    private const string Embeddings = "/v1/embeddings";

    [Theory]
    [InlineData("TinyViT", "XL", null)]
    [InlineData("TinyViT/S", "S", 8)]
    [InlineData("TinyViT/Mixed", "Mixed", 32)]
    [InlineData("TinyViT/1*XL 1*S", "1*XL 1*S", 8)]
    public async Task EachImageGetsTheEmbeddingOfTheSizeAndDimension(string model, string profile, int? dimensions)
    {
        byte[][] images = [Images.Random(1), Images.Random(2), Images.Random(3)];
        var answer = await shared.Its.PostOk(Embeddings, new { model, input = images.Select(i => Images.Pgm(i)), dimensions });
        Assert.Equal($"TinyViT/{profile}", answer.GetProperty("model").GetString());
        var vectors = Vectors(answer);
        Assert.Equal(images.Length, vectors.Count);
        foreach (var (image, vector) in images.Zip(vectors)) Encoders.Near(Images.Alone(profile, image, dimensions), vector);
        Assert.Equal(3 * TinyViT.Spec.Context, answer.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
    }

    [Fact]
    public async Task OneImageInEachFormGetsTheSameEmbedding()
    {
        ImageFiles.Register();
        var pixels = Images.OfPng.Select(pixel => (int)pixel).ToArray();
        object[] forms =
        [
            Images.Png, "data:image/png;base64," + Images.Png, "DATA:image/png;charset=x;BASE64," + Images.Png, new[] { Images.Png },
            Images.Pgm(Images.OfPng), pixels, new[] { pixels },
        ];
        var expected = Images.Alone("XL", Images.OfPng);
        foreach (var input in forms)
            Encoders.Near(expected, Assert.Single(Vectors(await shared.Its.PostOk(Embeddings, new { model = "TinyViT", input }))));
    }

    [Fact]
    public async Task ALargeBatchIsEmbeddedInParts()
    {
        var images = Enumerable.Range(0, 300).Select(i => Images.Random(i)).ToList();
        var answer = await shared.Its.PostOk(Embeddings, new { model = "TinyViT/S", input = images.Select(i => Images.Pgm(i)) });
        var vectors = Vectors(answer);
        foreach (var i in (int[])[0, 150, 299]) Encoders.Near(Images.Alone("S", images[i]), vectors[i]);
    }

    [Fact]
    public async Task Base64HasLittleEndianFloats()
    {
        var input = Images.Pgm(Images.Random(1));
        var floats = await shared.Its.PostOk(Embeddings, new { model = "TinyViT", input });
        var base64 = await shared.Its.PostOk(Embeddings, new { model = "TinyViT", input, encoding_format = "base64" });
        var bytes = base64.GetProperty("data")[0].GetProperty("embedding").GetBytesFromBase64();
        Assert.Equal(Vectors(floats)[0], Enumerable.Range(0, 32).Select(i => BitConverter.ToSingle(bytes.AsSpan(4 * i))));
    }

    [Fact]
    public async Task AnImageOfAnotherSizeIsResized()
    {
        byte[] grey = [.. Enumerable.Repeat((byte)77, 30 * 20)];
        var answer = await shared.Its.PostOk(Embeddings, new { model = "TinyViT", input = Images.Pgm(grey, 30, 20) });
        Encoders.Near(Images.Alone("XL", [.. Enumerable.Repeat((byte)77, 64)]), Vectors(answer)[0]);
    }

    [Fact]
    public async Task BudgetsPerImageChooseTheSize()
    {
        var sizes = shared.Its.EncoderServer.Profiles.ToDictionary(p => p.Name);
        var input = Images.Pgm(Images.Random(1));
        Assert.Equal("TinyViT/Mixed", await Chosen(new { model = "TinyViT", input, max_flops_per_image = sizes["Mixed"].Flops }));
        Assert.Equal("TinyViT/S", await Chosen(new { model = "TinyViT/auto", input, max_flops_per_image = sizes["Mixed"].Flops - 1 }));
        Assert.Equal("TinyViT/XL", await Chosen(new { model = "TinyViT", input, max_ms_per_image = 1e6 }));

        async Task<string?> Chosen(object body) => (await shared.Its.PostOk(Embeddings, body)).GetProperty("model").GetString();
    }

    [Fact]
    public async Task SizesAreListedWithTheirCostsPerImage()
    {
        var list = JsonElement.Parse(await shared.Its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        var mixed = list.Single(m => m.GetProperty("id").GetString() == "TinyViT/Mixed").GetProperty("profile");
        Assert.Equal(TinyViT.Profiles[0].Flops, mixed.GetProperty("flops_per_image").GetInt64());
        Assert.True(mixed.GetProperty("ms_per_image").GetDouble() > 0);
        Assert.False(mixed.TryGetProperty("flops_per_text", out _));
    }

    [Fact]
    public async Task DeclaredBudgetsAreServedBesideTheSizes()
    {
        await using var its = await TestServer.StartVision<TinyRoutedViT>(Images.NewRouted());
        var list = JsonElement.Parse(await its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        var entry = list.Single(m => m.GetProperty("id").GetString() == "TinyRoutedViT/routed-0.7").GetProperty("profile");
        Assert.Equal(0.7, entry.GetProperty("budget").GetDouble());
        var flops = entry.GetProperty("flops_per_image").GetInt64();
        Assert.Equal(RoutingBudget.Of(TinyRoutedViT.Spec, 0.7).Flops, flops);
        Assert.True(entry.GetProperty("ms_per_image").GetDouble() > 0);
        var narrow = list.Single(m => m.GetProperty("id").GetString() == "TinyRoutedViT/S").GetProperty("profile");
        Assert.False(narrow.TryGetProperty("budget", out _));

        using var model = Images.NewRouted();
        var image = Images.Random(4);
        var input = Images.Pgm(image);
        await Embeds(new { model = "TinyRoutedViT/routed-0.7", input }, "routed-0.7", pixels => model.Embed(0.7, pixels));
        await Embeds(new { model = "TinyRoutedViT", input, max_flops_per_image = flops }, "routed-0.7", pixels => model.Embed(0.7, pixels));

        // The whole model is the largest size, although routing all tokens to it takes a little more.
        await Embeds(new { model = "TinyRoutedViT", input }, "XL", pixels => model.Embed(TinyRoutedViT.Profile.XL, pixels));
        using var unknown = await its.Post(Embeddings, JsonSerializer.Serialize(new { model = "TinyRoutedViT/routed-0.8", input }));
        Assert.Equal(HttpStatusCode.NotFound, unknown.StatusCode);

        async Task Embeds(object body, string profile, Func<Tensor, Tensor> embed)
        {
            var answer = await its.PostOk(Embeddings, body);
            Assert.Equal($"TinyRoutedViT/{profile}", answer.GetProperty("model").GetString());
            Encoders.Near(Images.Alone(model, embed, image), Vectors(answer)[0]);
        }
    }

    [Fact]
    public async Task DeclaredGridsAreServedBesideTheSizes()
    {
        using var model = Images.NewLookup();
        await using var its = await TestServer.StartVision<TinyLookupViT>(Images.NewLookup());
        string[] sizes = ["S", "XL", "Mixed", "S-2x2", "XL-2x2", "Mixed-2x2", "S-1x1", "XL-1x1", "Mixed-1x1"];
        Assert.Equal(sizes, its.EncoderServer.Profiles.Select(size => size.Name));
        var list = JsonElement.Parse(await its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        var entry = list.Single(m => m.GetProperty("id").GetString() == "TinyLookupViT/Mixed-2x2").GetProperty("profile");
        Assert.Equal(("1*S 1*XL", 2), (entry.GetProperty("pattern").GetString(), entry.GetProperty("grid").GetInt32()));
        var mixed = TinyLookupViT.Profile.Mixed.At(2);
        Assert.Equal(mixed.Flops, entry.GetProperty("flops_per_image").GetInt64());
        Assert.True(entry.GetProperty("ms_per_image").GetDouble() > 0);
        var largest = list.Single(m => m.GetProperty("id").GetString() == "TinyLookupViT/S").GetProperty("profile");
        Assert.Equal(3, largest.GetProperty("grid").GetInt32());

        var image = Images.Random(4);
        await Embeds(its, "TinyLookupViT/Mixed-2x2", "Mixed-2x2", mixed);
        await Embeds(its, "TinyLookupViT", "XL", TinyLookupViT.Profile.XL);
        await Embeds(its, "TinyLookupViT/XL S-1x1", "1*XL 1*S-1x1", Profile<TinyLookupViT>.Parse("XL S").At(1));
        await Embeds(its, "TinyLookupViT/XL S", "1*XL 1*S", Profile<TinyLookupViT>.Parse("XL S"));
        var flops = TinyLookupViT.Profile.S.At(1).Flops;
        var cheapest = await its.PostOk(
            Embeddings, new { model = "TinyLookupViT", input = Images.Pgm(image), max_flops_per_image = flops });
        Assert.Equal("TinyLookupViT/S-1x1", cheapest.GetProperty("model").GetString());
        foreach (var unknown in (string[])["S-4x4", "S-3x3", "XL S-4x4"])
        {
            var body = JsonSerializer.Serialize(new { model = "TinyLookupViT/" + unknown, input = "x" });
            using var refused = await its.Post(Embeddings, body);
            Assert.Equal(HttpStatusCode.NotFound, refused.StatusCode);
        }

        // A slice keeps all grids.
        await using var ofSlice = await TestServer.StartVision<TinyLookupViT>(model.Extract(TinyLookupViT.Profile.Mixed));
        Assert.Equal(["Mixed", "Mixed-2x2", "Mixed-1x1"], ofSlice.EncoderServer.Profiles.Select(size => size.Name));
        await Embeds(ofSlice, "TinyLookupViT/Mixed-2x2", "Mixed-2x2", mixed);
        await Embeds(ofSlice, "TinyLookupViT", "Mixed", TinyLookupViT.Profile.Mixed);

        async Task Embeds(TestServer server, string name, string size, Profile<TinyLookupViT> profile)
        {
            var answer = await server.PostOk(Embeddings, new { model = name, input = Images.Pgm(image) });
            Assert.Equal($"TinyLookupViT/{size}", answer.GetProperty("model").GetString());
            Encoders.Near(Images.Alone(model, profile, image), Vectors(answer)[0]);
        }
    }

    [Theory]
    [InlineData("input", "missing", """{"model": "TinyViT"}""")]
    [InlineData("input", "not an image", """{"model": "TinyViT", "input": 5}""")]
    [InlineData("input", "not an image", """{"model": "TinyViT", "input": {"type": "image_url"}}""")]
    [InlineData("input[1]", "not an image", """{"model": "TinyViT", "input": ["UDUgMSAxIDI1NQow", true]}""")]
    [InlineData("input", "has 0 numbers", """{"model": "TinyViT", "input": []}""")]
    [InlineData("input", "has 1 number, but", """{"model": "TinyViT", "input": [1]}""")]
    [InlineData("input", "has 3 numbers", """{"model": "TinyViT", "input": [1, 2, 3]}""")]
    [InlineData("input", "not base64", """{"model": "TinyViT", "input": "a digit"}""")]
    [InlineData("input", "not base64", """{"model": "TinyViT", "input": ""}""")]
    [InlineData("input", "not base64", """{"model": "TinyViT", "input": "data:image/png;base64,"}""")]
    [InlineData("input", ";base64,", """{"model": "TinyViT", "input": "data:image/png,abc"}""")]
    [InlineData("input", ";base64,", """{"model": "TinyViT", "input": "data:"}""")]
    [InlineData("input", "fetches nothing", """{"model": "TinyViT", "input": "https://example.com/a.png"}""")]
    [InlineData("input", "not a file of an image", """{"model": "TinyViT", "input": "AAAA"}""")]
    [InlineData("input", "take 9 bytes", """{"model": "TinyViT", "input": "UDUgMyAzIDI1NQow"}""")]
    [InlineData("input", "take 4611686014132420609 bytes", """{"model": "TinyViT", "input": "UDUgMjE0NzQ4MzY0NyAyMTQ3NDgzNjQ3IDI1NSAw"}""")]
    [InlineData("dimensions", "8 or 32", """{"model": "TinyViT", "input": "UDUgMSAxIDI1NQow", "dimensions": 16}""")]
    [InlineData("max_flops_per_text", "unknown", """{"model": "TinyViT", "input": "UDUgMSAxIDI1NQow", "max_flops_per_text": 5}""")]
    public async Task HostileInputGets400WithTheNameOfTheField(string field, string says, string body) => Refused(
        await shared.Its.Post(Embeddings, body), field, says);

    [Fact]
    public async Task APixelThatIsNoByteIsNamed()
    {
        foreach (var wrong in (string[])["256", "-1", "1.5", "\"1\"", "null", "[1]"])
        {
            var numbers = string.Join(", ", Enumerable.Repeat("1", 63).Append(wrong));
            Refused(await shared.Its.Post(Embeddings, $$"""{"model": "TinyViT", "input": [[{{numbers}}]]}"""), "input[63]", "not a pixel");
        }
    }

    [Fact]
    public async Task DamagedFilesGet400()
    {
        ImageFiles.Register();
        var file = Convert.FromBase64String(Images.Png);
        foreach (var length in (int[])[8, 20, 45, 80])
            Refused(await shared.Its.Post(Embeddings, Body(file[..length])), "input", "cannot be read");
        var random = new Random(1);
        for (var i = 0; i < 200; i++)
        {
            byte[] mutant = [.. file];
            for (var changes = random.Next(1, 6); changes > 0; changes--) mutant[random.Next(8, mutant.Length)] = (byte)random.Next(256);
            using var response = await shared.Its.Post(Embeddings, Body(mutant));
            Assert.Contains(response.StatusCode, (HttpStatusCode[])[HttpStatusCode.OK, HttpStatusCode.BadRequest]);
        }
    }

    [Fact]
    public async Task MorePixelsThanAllowedAreRefusedBeforeTheyAreDecoded()
    {
        ImageFiles.Register();
        await using var its = await TestServer.StartVision<TinyViT>(Images.New(), new EncoderServerOptions { MaxPixels = 100 });
        var ordinary = Images.Png;
        await its.PostOk(Embeddings, new { model = "TinyViT", input = ordinary });

        // The limit is that of all images of a request.
        var two = JsonSerializer.Serialize(new { model = "TinyViT", input = new[] { ordinary, ordinary } });
        Refused(await its.Post(Embeddings, two), "input[1]", "at most 36");
        var large = JsonSerializer.Serialize(new { model = "TinyViT", input = Images.Pgm(new byte[110], 11, 10) });
        Refused(await its.Post(Embeddings, large), "input", "at most 100");

        // A bomb: the header says 60,000 x 60,000, and the checksum is right.
        var bomb = Convert.FromBase64String(ordinary);
        byte[] size = [0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60];
        size.CopyTo(bomb, 16);
        BitConverter.GetBytes(System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(Crc(bomb.AsSpan(12, 17)))).CopyTo(bomb, 29);
        Refused(await shared.Its.Post(Embeddings, Body(bomb)), "input", "60000 x 60000 pixels");
    }

    [Fact]
    public async Task ABodyThatIsTooLargeIsRefused()
    {
        await using var its = await TestServer.StartVision<TinyViT>(Images.New(), new EncoderServerOptions { MaxBodyBytes = 1000 });
        using var response = await its.Post(Embeddings, Body(new byte[1000]));
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, response.StatusCode);
    }

    [Fact]
    public async Task WithoutAFormatTheErrorNamesThePackage()
    {
        // The tests of a class run one after the other, and no other class of this project reads PNG.
        ImageFormats.Clear();
        Refused(await shared.Its.Post(Embeddings, Body(Convert.FromBase64String(Images.Png))), "input", "ImageFiles.Register();");
        await shared.Its.PostOk(Embeddings, new { model = "TinyViT", input = Images.Pgm(Images.Random(1)) });
    }

    [Fact]
    public async Task ColourAndGreyBecomeWhatTheModelTakes()
    {
        using var reference = Images.NewColour();
        await using var its = await TestServer.StartVision<TinyColourViT>(Images.NewColour());
        var grey = Images.Random(1);
        byte[] same = [.. grey, .. grey, .. grey];
        var answer = await its.PostOk(Embeddings, new { model = "TinyColourViT", input = Images.Pgm(grey) });
        Encoders.Near(Images.Alone(reference, TinyColourViT.Granularities[^1], same), Vectors(answer)[0]);

        // A PPM file has the three samples of a pixel together.
        var colour = Images.Random(2, channels: 3);
        var samples = Enumerable.Range(0, 64).Select(i => (byte[])[colour[i], colour[64 + i], colour[128 + i]]).ToList();
        byte[] ppm = [.. "P6 8 8 255\n"u8, .. samples.SelectMany(three => three)];
        answer = await its.PostOk(Embeddings, new { model = "TinyColourViT/S", input = Convert.ToBase64String(ppm), dimensions = 16 });
        Encoders.Near(Images.Alone(reference, TinyColourViT.Granularities[0], colour), Vectors(answer)[0]);
        using var undeclared = await its.Post(Embeddings, """{"model": "TinyColourViT", "input": "UDUgMSAxIDI1NQow", "dimensions": 8}""");
        Refused(undeclared, "dimensions", "16 numbers");

        // Grey of colour, by the luma weights.
        byte[] luma = [.. samples.Select(three => (byte)(((299 * three[0]) + (587 * three[1]) + (114 * three[2]) + 500) / 1000))];
        answer = await shared.Its.PostOk(Embeddings, new { model = "TinyViT", input = Convert.ToBase64String(ppm) });
        Encoders.Near(Images.Alone("XL", luma), Vectors(answer)[0]);
    }

    [Fact]
    public async Task ASliceIsServedAsItsOnlySize()
    {
        TestServer its;
        using (var whole = Images.New()) its = await TestServer.StartVision<TinyViT>(whole.Extract(TinyViT.Granularities[0]));
        await using (its)
        {
            var image = Images.Random(4);
            var answer = await its.PostOk(Embeddings, new { model = "TinyViT", input = Images.Pgm(image), dimensions = 8 });
            Assert.Equal("TinyViT/S", answer.GetProperty("model").GetString());
            Encoders.Near(Images.Alone("S", image, 8), Vectors(answer)[0]);
            using var response = await its.Post(Embeddings, """{"model": "TinyViT/XL", "input": "UDUgMSAxIDI1NQow"}""");
            Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        }
    }

    [Fact]
    public async Task AVisionTransformerWritesNoText()
    {
        using var response = await shared.Its.Post("/v1/completions", """{"model": "TinyViT", "prompt": "x"}""");
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        Assert.Contains("TinyViT is a vision transformer", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task MetricsCountImages()
    {
        await using var its = await TestServer.StartVision<TinyViT>(Images.New());
        string[] input = [Images.Pgm(Images.Random(1)), Images.Pgm(Images.Random(2))];
        await its.PostOk(Embeddings, new { model = "TinyViT/S", input });
        var metrics = await its.Client.GetStringAsync("/metrics");
        Assert.Contains("# HELP matformer_images_total Images that were embedded.\n", metrics);
        Assert.Contains("matformer_images_total 2\n", metrics);
        Assert.Contains($"matformer_prompt_tokens_total {2 * TinyViT.Spec.Context}\n", metrics);
    }

    private static string Body(byte[] file) => JsonSerializer.Serialize(new { model = "TinyViT", input = Convert.ToBase64String(file) });

    private static void Refused(HttpResponseMessage response, string field, string says)
    {
        using (response)
        {
            var text = response.Content.ReadAsStringAsync().GetAwaiter().GetResult();
            Assert.True(response.StatusCode == HttpStatusCode.BadRequest, text);
            var error = JsonElement.Parse(text).GetProperty("error");
            Assert.Equal(field, error.GetProperty("param").GetString());
            Assert.Contains(says, error.GetProperty("message").GetString());
        }
    }

    // The checksum of a chunk of a PNG file.
    private static uint Crc(ReadOnlySpan<byte> chunk)
    {
        var crc = ~0u;
        foreach (var value in chunk)
        {
            crc ^= value;
            for (var bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320);
        }

        return ~crc;
    }

    private static List<float[]> Vectors(JsonElement answer) =>
    [
        .. answer.GetProperty("data").EnumerateArray()
            .Select(entry => entry.GetProperty("embedding").EnumerateArray().Select(x => x.GetSingle()).ToArray()),
    ];
}
