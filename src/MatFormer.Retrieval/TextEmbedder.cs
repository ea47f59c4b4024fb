using System.Security.Cryptography;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Embeds texts with one profile of a text encoder, at one of its dimensions.</summary>
/// <remarks>
/// Texts are truncated to the context. Texts of about the same length run in the same batch, which keeps padding small.
/// </remarks>
public sealed class TextEmbedder
{
    private const int TokensAtOnce = 4096;
    private const int EntriesAtOnce = 2048;

    private readonly MatFormerModel _model;
    private readonly Tokenizer _tokenizer;
    private readonly Func<Tensor, int, Tensor> _embed;
    private VectorIndexIdentity? _identity;

    private TextEmbedder(MatFormerModel model, string profile, long flops, Tokenizer tokenizer, int? width, Func<Tensor, int, Tensor> embed)
    {
        var spec = model.Architecture;
        if (spec.Kind != ModelKind.TextEncoder)
            throw new ArgumentException($"{spec.Name} is not a text encoder, so it cannot embed texts.", nameof(model));
        ArgumentNullException.ThrowIfNull(tokenizer);
        tokenizer.CheckFits(model);
        Width = spec.CheckEmbeddingWidth(width);
        (_model, _tokenizer, _embed, ProfileName, FlopsPerText) = (model, tokenizer, embed, profile, flops);
    }

    private TextEmbedder(TextEmbedder other, int width)
    {
        (_model, _tokenizer, _embed, _identity) = (other._model, other._tokenizer, other._embed, other._identity);
        (ProfileName, FlopsPerText, Width) = (other.ProfileName, other.FlopsPerText, width);
    }

    /// <summary>Creates an embedder that uses a profile of a universal model.</summary>
    /// <param name="model">The model. It must not be disposed before the embedder is last used.</param>
    /// <param name="profile">The profile that embeds.</param>
    /// <param name="tokenizer">The tokenizer that the model was trained with.</param>
    /// <param name="dimension">The dimension that embeddings are truncated to; null for the full width.</param>
    /// <exception cref="ArgumentException">The model is not a text encoder.</exception>
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

    /// <summary>Creates an embedder that uses a universal model at a compute budget.</summary>
    /// <param name="model">
    /// The model, which declares <c>[Routing]</c>. It must not be disposed before the embedder is last used.
    /// </param>
    /// <param name="budget">The mean share of the hidden units that a token uses, at most.</param>
    /// <param name="tokenizer">The tokenizer that the model was trained with.</param>
    /// <exception cref="ArgumentException">
    /// The model is not a text encoder or has no routers, or the budget is out of range.
    /// </exception>
    /// <exception cref="TokenizerException">The model was trained with another tokenizer.</exception>
    public static TextEmbedder Of<TModel>(TModel model, double budget, Tokenizer tokenizer)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        return new(
            model, RoutingBudget.NameOf(budget), RoutingBudget.Of(TModel.Spec, budget).Flops, tokenizer, null,
            (tokens, width) => model.Embed(budget, tokens, width));
    }

    /// <summary>Creates an embedder that uses a slice.</summary>
    /// <param name="slice">The slice. It must not be disposed before the embedder is last used.</param>
    /// <param name="tokenizer">The tokenizer that the model was trained with.</param>
    /// <param name="width">The declared dimension that embeddings are truncated to; null for the full width.</param>
    /// <exception cref="ArgumentException">The model is not a text encoder.</exception>
    /// <exception cref="TokenizerException">The model was trained with another tokenizer.</exception>
    public static TextEmbedder OfSlice(MatFormerModel slice, Tokenizer tokenizer, int? width = null)
    {
        ArgumentNullException.ThrowIfNull(slice);
        return new(
            slice, slice.ProfileName, slice.Architecture.Flops(slice.Layers.AsSpan()), tokenizer, width,
            (tokens, to) => slice.Embed(tokens, to));
    }

    /// <summary>Returns an embedder of the same profile that truncates embeddings to another dimension.</summary>
    /// <param name="width">The declared dimension; null for the full width.</param>
    /// <exception cref="ArgumentException">The model declares no such dimension.</exception>
    public TextEmbedder WithWidth(int? width) => new(this, Architecture.CheckEmbeddingWidth(width));

    /// <summary>The declared model.</summary>
    public ModelSpec Architecture => _model.Architecture;

    /// <summary>The profile's name.</summary>
    public string ProfileName { get; }

    /// <summary>The number of dimensions of an embedding.</summary>
    public int Width { get; }

    /// <summary>The FLOPs (a multiply-add is two) to embed a text as long as the context.</summary>
    public long FlopsPerText { get; }

    /// <summary>
    /// The origin of the embeddings. Weights are identified by a hash of the weights outside the blocks, which every profile keeps whole.
    /// Extracted slices therefore fit their model's index, unless their weights were rounded.
    /// </summary>
    public VectorIndexIdentity Identity => _identity ??= new VectorIndexIdentity(
        _model.Architecture.Name, _model.Architecture.Fingerprint, ProfileName, WeightsHash(), _tokenizer.Fingerprint);

    /// <summary>Returns the tokens of a text that are embedded: at most as many as the context has.</summary>
    public int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return TokenRows.Encode(text, _tokenizer, Architecture.Context, []);
    }

    /// <summary>
    /// Returns the embeddings of texts, normalised to length 1: float32 (texts, <see cref="Width"/>), row-major.
    /// </summary>
    public float[] Embed(IReadOnlyList<string> texts, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return EmbedTokens([.. texts.Select(Encode)], cancellationToken);
    }

    /// <summary>
    /// Returns the embeddings of texts that are given as tokens, normalised to length 1: float32 (texts, <see cref="Width"/>), row-major.
    /// </summary>
    /// <param name="tokens">The tokens of each text, as <see cref="Encode"/> returns them.</param>
    /// <param name="cancellationToken">Cancels between batches.</param>
    /// <exception cref="ArgumentException">A text has more tokens than the context, or a token is not in the vocabulary.</exception>
    public float[] EmbedTokens(IReadOnlyList<int[]> tokens, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        var (context, vocabulary) = (Architecture.Context, Architecture.Vocabulary);
        foreach (var text in tokens)
        {
            if (text.Length > context)
            {
                throw new ArgumentException(
                    $"A text has {text.Length} tokens, but the context of {Architecture.Name} is {context}; shorten it.", nameof(tokens));
            }

            var stranger = text.AsSpan().IndexOfAnyExceptInRange(0, vocabulary - 1);
            if (stranger < 0) continue;
            throw new ArgumentException(
                $"Token {stranger} of a text is {text[stranger]}; {Architecture.Name} has a vocabulary of {vocabulary}.", nameof(tokens));
        }

        int[] longestFirst = [.. Enumerable.Range(0, tokens.Count).OrderByDescending(i => tokens[i].Length)];
        var result = new float[(long)tokens.Count * Width];
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
                var embedded = _embed(tensor(batch, shape, device: _model.Device), Width).cpu().contiguous().data<float>().ToArray();
                for (var row = 0; row < rows; row++)
                    embedded.AsSpan(row * Width, Width).CopyTo(result.AsSpan(longestFirst[first + row] * Width, Width));
            }

            first += rows;
        }

        return result;
    }

    /// <summary>Embeds the texts of entries and writes them as an index, which has the declared dimensions as prefixes.</summary>
    /// <param name="path">The file to write.</param>
    /// <param name="entries">The entries to embed. Texts longer than the context are truncated.</param>
    /// <param name="progress">Called with the number of entries embedded so far.</param>
    /// <param name="cancellationToken">Cancels the operation. No file is written in this case.</param>
    /// <exception cref="InvalidOperationException">There are no entries.</exception>
    /// <exception cref="IOException">The file cannot be written. Nothing is left behind.</exception>
    public void WriteIndex(
        string path, IEnumerable<IndexEntry> entries, Action<int>? progress = null, CancellationToken cancellationToken = default) =>
        WriteIndex(path, entries, indexed: null, progress, cancellationToken);

    /// <summary>Writes an index that remembers the data whose texts it holds.</summary>
    internal void WriteIndex(
        string path, IEnumerable<IndexEntry> entries, RememberedData? indexed, Action<int>? progress, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(entries);
        var prefixes = _model.Architecture.EmbeddingDimensions.Where(dimension => dimension <= Width);
        using var writer = new VectorIndexWriter(path, Width, prefixes, Identity) { Indexed = indexed };
        foreach (var some in entries.Chunk(EntriesAtOnce))
        {
            writer.Add(Embed([.. some.Select(entry => entry.Text)], cancellationToken), some);
            progress?.Invoke(writer.Count);
        }

        writer.Complete();
    }

    /// <summary>Throws unless the vectors of an index have these weights, this tokenizer and this width. Any profile fits.</summary>
    /// <exception cref="CheckpointException">The index was embedded by another model, or at another width.</exception>
    public void CheckFits(VectorIndex index)
    {
        ArgumentNullException.ThrowIfNull(index);
        index.CheckFits(Identity);
        if (index.Width == Width) return;
        throw new CheckpointException(
            index.Path, $"has vectors of {index.Width} dimensions, but queries are embedded at {Width}; embed them at {index.Width}, and "
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
