using Microsoft.Extensions.AI;

namespace MatFormer.Server.Tests;

public sealed class EmbeddingGeneratorTests : IDisposable
{
    private readonly TinyEncoder _model = Encoders.New();
    private readonly MatFormerEmbeddingGenerator _generator;

    public EmbeddingGeneratorTests() =>
        _generator = new MatFormerEmbeddingGenerator(TextEmbedder.Of(_model, TinyEncoder.Profiles[0], Tokenizer.ByteLevel));

    public void Dispose()
    {
        _generator.Dispose();
        _model.Dispose();
    }

    [Theory]
    [InlineData(null)]
    [InlineData(4)]
    [InlineData(16)]
    public async Task EmbeddingsEqualThoseOfTheEmbedder(int? dimensions)
    {
        var options = dimensions is null ? null : new EmbeddingGenerationOptions { Dimensions = dimensions, ModelId = "TinyEncoder/Mixed" };
        var got = await _generator.GenerateAsync(["read a file", "x"], options);
        Assert.Equal(2, got.Count);
        Encoders.Near(Encoders.Alone("Mixed", "read a file", dimensions), got[0].Vector.ToArray());
        Encoders.Near(Encoders.Alone("Mixed", "x", dimensions), got[1].Vector.ToArray());
        Assert.Equal((12, 12), (got.Usage!.InputTokenCount, got.Usage.TotalTokenCount));
        Assert.Equal("TinyEncoder/Mixed", got[0].ModelId);
    }

    [Fact]
    public async Task UndeclaredDimensionsAreRefusedWithTheDeclaredOnes()
    {
        var refused = await Assert.ThrowsAsync<ArgumentException>(
            () => _generator.GenerateAsync(["x"], new EmbeddingGenerationOptions { Dimensions = 5 }));
        Assert.Contains("4, 8, 16", refused.Message);
    }

    [Fact]
    public async Task AnotherModelIsRefused()
    {
        var refused = await Assert.ThrowsAsync<NotSupportedException>(
            () => _generator.GenerateAsync(["x"], new EmbeddingGenerationOptions { ModelId = "gpt" }));
        Assert.Contains("'gpt'", refused.Message);
    }

    [Fact]
    public async Task NoTextsGiveNoEmbeddings() => Assert.Empty(await _generator.GenerateAsync([]));

    [Fact]
    public void TheMetadataNameTheModelAndItsDimensions()
    {
        var metadata = Assert.IsType<EmbeddingGeneratorMetadata>(_generator.GetService(typeof(EmbeddingGeneratorMetadata)));
        Assert.Equal(("TinyEncoder/Mixed", 16), (metadata.DefaultModelId, metadata.DefaultModelDimensions));
    }

    [Fact]
    public async Task ADisposedGeneratorRefusesRequests()
    {
        _generator.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => _generator.GenerateAsync(["x"]));
    }

    [Fact]
    public void TokensThatDoNotFitAreRefused()
    {
        var embedder = TextEmbedder.Of(_model, TinyEncoder.Profiles[0], Tokenizer.ByteLevel);
        Assert.Contains("context", Assert.Throws<ArgumentException>(() => embedder.EmbedTokens([new int[25]])).Message);
        Assert.Contains("Token 1", Assert.Throws<ArgumentException>(() => embedder.EmbedTokens([[0, 256]])).Message);
    }
}
