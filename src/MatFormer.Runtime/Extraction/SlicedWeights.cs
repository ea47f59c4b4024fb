using System.Collections.Immutable;
using System.Globalization;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One tensor of a profile: the first rows, or the first columns, of a tensor of the universal model's file.</summary>
/// <param name="Name">Its name in the model.</param>
/// <param name="Source">The whole tensor.</param>
/// <param name="Shape">What is kept of it: (values), or (rows, ..., columns).</param>
internal sealed record SlicedTensor(string Name, SafetensorsEntry Source, ImmutableArray<long> Shape)
{
    private const string LayerPrefix = "model.layers.";

    /// <summary>True for matrices, false for norms' weights and biases.</summary>
    public bool IsMatrix => Shape.Length > 1;

    /// <summary>
    /// Rows kept, all dimensions but the last; what has one dimension is one row, or rows of one value where they change places.
    /// </summary>
    public long Rows => IsMatrix || Interleaved == 0 ? Shape[..^1].Aggregate(1L, (rows, size) => rows * size) : Shape[0];

    /// <summary>Values kept of each row.</summary>
    public int Columns => IsMatrix || Interleaved == 0 ? checked((int)Shape[^1]) : 1;

    /// <summary>Values of each row of the whole tensor.</summary>
    public long SourceColumns => IsMatrix || Interleaved == 0 ? Source.Shape[^1] : 1;

    /// <summary>
    /// The width of a head whose halves are to be interleaved: rows j and j + width/2, which rotary position embedding turns together, come
    /// to stand side by side. 0 if rows stay where they are.
    /// </summary>
    public int Interleaved { get; init; }

    /// <summary>The layer it belongs to, or null, and its name there.</summary>
    public (int? Layer, string Part) Place
    {
        get
        {
            if (!Name.StartsWith(LayerPrefix, StringComparison.Ordinal)) return (null, Name);
            var end = Name.IndexOf('.', LayerPrefix.Length);
            return (int.Parse(Name.AsSpan(LayerPrefix.Length, end - LayerPrefix.Length), CultureInfo.InvariantCulture), Name[(end + 1)..]);
        }
    }

    /// <summary>The row of the whole tensor that is row <paramref name="row"/> here.</summary>
    public long SourceRow(long row)
    {
        if (Interleaved == 0) return row;
        var within = row % Interleaved;
        return row - within + (within / 2) + (within % 2 * (Interleaved / 2));
    }
}

/// <summary>
/// The weights of one profile as they lie in the universal model's file, read piece by piece: whoever writes them elsewhere needs memory
/// for a piece only.
/// </summary>
internal sealed class SlicedWeights : IDisposable
{
    private const int PieceValues = 1 << 18;
    private readonly SafetensorsReader _reader;

    // For all tensors: a piece, and what becomes of it.
    private float[] _values = [];
    private byte[] _bytes = [];

    private SlicedWeights(SafetensorsReader reader) => _reader = reader;

    public required ModelSpec Spec { get; init; }

    public required string ProfileName { get; init; }

    public required ImmutableArray<LayerSlice> Layers { get; init; }

    public required ImmutableArray<SlicedTensor> Tensors { get; init; }

    /// <summary>The tokenizer that the model was trained with, if it is known.</summary>
    public required string? TokenizerFingerprint { get; init; }

    /// <summary>True if MatFormer wrote them, so that they are nested.</summary>
    public bool IsOurs => CheckpointHeader.IsOurs(_reader);

    /// <summary>The metadata that says whose weights these are.</summary>
    public Dictionary<string, string> Metadata => CheckpointHeader.MetadataOf(Spec, ProfileName, Layers, TokenizerFingerprint);

    /// <summary>Opens the universal model's file.</summary>
    /// <exception cref="CheckpointException">It is damaged, of another model, or a slice.</exception>
    public static SlicedWeights Open<TModel>(string path, Profile<TModel> profile)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var reader = SafetensorsReader.Open(path);
        try
        {
            CheckpointHeader.ReadUniversal(reader, TModel.Spec);
            return Of(reader, profile, reader.Metadata.GetValueOrDefault(CheckpointHeader.TokenizerKey));
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>A profile of weights that have the universal model's shapes, whosever they are.</summary>
    /// <param name="reader">The weights; the result disposes it.</param>
    /// <param name="profile">What to keep.</param>
    /// <param name="tokenizer">The fingerprint of their tokenizer, if it is known.</param>
    /// <exception cref="CheckpointException">They are of other shapes.</exception>
    public static SlicedWeights Of<TModel>(SafetensorsReader reader, Profile<TModel> profile, string? tokenizer)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        // Their shapes are all that is wanted.
        using var whole = TModel.Create(META);
        using var slice = TModel.CreateSubmodel(profile, META);
        Checkpoint.Match(reader, whole);
        return new SlicedWeights(reader)
        {
            Spec = TModel.Spec,
            ProfileName = profile.Name,
            Layers = profile.Layers,
            TokenizerFingerprint = tokenizer,
            Tensors = [.. slice.named_parameters().Select(p => new SlicedTensor(p.Item1, reader.Find(p.Item1)!, [.. p.Item2.shape]))],
        };
    }

    /// <summary>Writes the values of a tensor, row by row.</summary>
    /// <exception cref="ExtractionException">A value does not fit the encoding.</exception>
    public void Write(SlicedTensor tensor, WeightEncoding encoding, Stream stream)
    {
        var (rows, columns) = (tensor.Rows, tensor.Columns);
        var atOnce = Math.Clamp(PieceValues / columns, 1, rows);
        if (_values.Length < atOnce * columns) _values = new float[Math.Max(atOnce * columns, PieceValues)];
        if (_bytes.Length < WeightEncoder.ByteCount(encoding, _values.Length))
            _bytes = new byte[WeightEncoder.ByteCount(encoding, _values.Length)];
        for (long row = 0; row < rows; row += atOnce)
        {
            var piece = _values.AsSpan(0, (int)Math.Min(atOnce, rows - row) * columns);
            Read(tensor, row, piece);
            var encoded = _bytes.AsSpan(0, (int)WeightEncoder.ByteCount(encoding, piece.Length));
            if (!WeightEncoder.TryEncode(encoding, piece, encoded))
            {
                throw new ExtractionException($"The tensor '{tensor.Name}' of '{_reader.PathOf(tensor.Source)}' has values that {encoding} "
                    + "cannot hold; extract it as f32.");
            }

            stream.Write(encoded);
        }
    }

    public void Dispose() => _reader.Dispose();

    private void Read(SlicedTensor tensor, long row, Span<float> values)
    {
        var width = tensor.SourceColumns;
        if (tensor.Columns == width && tensor.Interleaved == 0)
        {
            _reader.ReadValues(tensor.Source, row * width, values);
            return;
        }

        for (; !values.IsEmpty; values = values[tensor.Columns..], row++)
            _reader.ReadValues(tensor.Source, tensor.SourceRow(row) * width, values[..tensor.Columns]);
    }
}
