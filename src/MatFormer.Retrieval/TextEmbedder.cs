using System.Security.Cryptography;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Embeds texts with one profile of a text encoder, at one of its dimensions.</summary>
/// <remarks>Texts are cut to the context, and run in batches of about the same length, so that little is padded.</remarks>
public sealed class TextEmbedder
{
    private const int TokensAtOnce = 4096;
    private const int EntriesAtOnce = 2048;

    private readonly MatFormerModel _model;
    private readonly Tokenizer _tokenizer;
    private readonly Func<Tensor, Tensor> _embed;
    private VectorIndexIdentity? _identity;

    private TextEmbedder(MatFormerModel model, string profile, long flops, Tokenizer tokenizer, int? width, Func<Tensor, int, Tensor> embed)
    {
        var spec = model.Architecture;
        if (spec.Kind != ModelKind.TextEncoder)
            throw new ArgumentException($"{spec.Name} is no text encoder, and embeds no texts.", nameof(model));
        ArgumentNullException.ThrowIfNull(tokenizer);
        tokenizer.CheckFits(model);
        Width = spec.CheckEmbeddingWidth(width);
        (_model, _tokenizer, _embed, ProfileName, FlopsPerText) = (model, tokenizer, tokens => embed(tokens, Width), profile, flops);
    }

    /// <summary>Embeds with a profile of a universal model.</summary>
    /// <param name="model">The model, which must live as long.</param>
    /// <param name="profile">What of it embeds.</param>
    /// <param name="tokenizer">What it was trained with.</param>
    /// <param name="dimension">What embeddings are cut to; null for all of it.</param>
    /// <exception cref="ArgumentException">It is no text encoder.</exception>
    /// <exception cref="TokenizerException">The model was trained with another tokenizer.</exception>
    public static TextEmbedder Of<TModel>(
        TModel model, Profile<TModel> profile, Tokenizer tokenizer, EmbeddingDimension<TModel>? dimension = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(profile);
        return new(
            model, profile.Name, profile.Flops, tokenizer, dimension?.Width, (tokens, width) => model.Embed(profile, tokens, width));
    }

    /// <summary>Embeds with a slice.</summary>
    /// <param name="slice">The model, which must live as long.</param>
    /// <param name="tokenizer">What it was trained with.</param>
    /// <param name="width">What embeddings are cut to, one of the declared dimensions; null for all of it.</param>
    /// <inheritdoc cref="Of{TModel}" path="/exception"/>
    public static TextEmbedder OfSlice(MatFormerModel slice, Tokenizer tokenizer, int? width = null)
    {
        ArgumentNullException.ThrowIfNull(slice);
        return new(
            slice, slice.ProfileName, slice.Architecture.Flops(slice.Layers.AsSpan()), tokenizer, width,
            (tokens, to) => slice.Embed(tokens, to));
    }

    /// <summary>The profile's name.</summary>
    public string ProfileName { get; }

    /// <summary>Numbers of an embedding.</summary>
    public int Width { get; }

    /// <summary>FLOPs (a multiply-add is two) of a text as long as the context.</summary>
    public long FlopsPerText { get; }

    /// <summary>
    /// Where its embeddings come from. The weights are told apart by a hash of those around the blocks, which all profiles have whole:
    /// extracted slices fit their model's index, unless their weights were rounded.
    /// </summary>
    public VectorIndexIdentity Identity => _identity ??= new VectorIndexIdentity(
        _model.Architecture.Name, _model.Architecture.Fingerprint, ProfileName, WeightsHash(), _tokenizer.Fingerprint);

    /// <summary>The embeddings of texts, of length 1: float32 (texts, <see cref="Width"/>), row by row.</summary>
    public float[] Embed(IReadOnlyList<string> texts, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(texts);
        var context = _model.Architecture.Context;
        var buffer = new List<int>();
        var tokens = texts.Select(text => TokenRows.Encode(text, _tokenizer, context, buffer)).ToArray();
        int[] longestFirst = [.. Enumerable.Range(0, tokens.Length).OrderByDescending(i => tokens[i].Length)];
        var result = new float[(long)texts.Count * Width];
        using var unrecorded = no_grad();
        for (var first = 0; first < longestFirst.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var time = TokenRows.PaddedLength(tokens[longestFirst[first]].Length, context);
            var rows = Math.Min(Math.Max(1, TokensAtOnce / time), longestFirst.Length - first);
            var batch = new long[rows * time];
            for (var row = 0; row < rows; row++) TokenRows.Pad(tokens[longestFirst[first + row]], batch.AsSpan(row * time, time));
            using (NewDisposeScope())
            {
                long[] shape = [rows, time];
                var embedded = _embed(tensor(batch, shape, device: _model.Device)).cpu().contiguous().data<float>().ToArray();
                for (var row = 0; row < rows; row++)
                    embedded.AsSpan(row * Width, Width).CopyTo(result.AsSpan(longestFirst[first + row] * Width, Width));
            }

            first += rows;
        }

        return result;
    }

    /// <summary>Embeds the texts of entries into an index, which has the declared dimensions as prefixes.</summary>
    /// <param name="path">The file to write.</param>
    /// <param name="entries">What is embedded; documents as long as the context, longer ones cut.</param>
    /// <param name="progress">Told how many are embedded.</param>
    /// <param name="cancellationToken">Stops it; then there is no file.</param>
    /// <exception cref="InvalidOperationException">There are no entries.</exception>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public void WriteIndex(
        string path, IEnumerable<IndexEntry> entries, Action<int>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(entries);
        var prefixes = _model.Architecture.EmbeddingDimensions.Where(dimension => dimension <= Width);
        using var writer = new VectorIndexWriter(path, Width, prefixes, Identity);
        foreach (var some in entries.Chunk(EntriesAtOnce))
        {
            writer.Add(Embed([.. some.Select(entry => entry.Text)], cancellationToken), some);
            progress?.Invoke(writer.Count);
        }

        writer.Complete();
    }

    /// <summary>Refuses an index whose vectors are not of these weights, this tokenizer and this width; any profile is welcome.</summary>
    /// <exception cref="CheckpointException">It was embedded by another model.</exception>
    public void CheckFits(VectorIndex index)
    {
        ArgumentNullException.ThrowIfNull(index);
        index.CheckFits(Identity);
        if (index.Width == Width) return;
        throw new CheckpointException(
            index.Path, $"has vectors of {index.Width} numbers, but queries are embedded as {Width}; embed them at {index.Width}, and "
                + "search by a prefix.");
    }

    private string WeightsHash()
    {
        using var hash = SHA256.Create();
        using (var stream = new CryptoStream(Stream.Null, hash, CryptoStreamMode.Write))
        {
            foreach (var (name, parameter) in _model.named_parameters().OrderBy(p => p.Item1, StringComparer.Ordinal))
            {
                if (name.Contains(".layers.", StringComparison.Ordinal) || name.Contains(".layer.", StringComparison.Ordinal)) continue;
                stream.Write(System.Text.Encoding.UTF8.GetBytes(name));
                TensorData.Write(parameter, stream);
            }
        }

        return Convert.ToHexStringLower(hash.Hash!);
    }
}
