using System.Collections.Immutable;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One tensor of a profile: the beginning of a tensor of the universal model's file along each dimension.</summary>
/// <param name="Name">Its name in the model.</param>
/// <param name="Source">The whole tensor in the file.</param>
/// <param name="Shape">The kept shape: (values), or (rows, ..., columns).</param>
internal sealed record SlicedTensor(string Name, SafetensorsEntry Source, ImmutableArray<long> Shape)
{
    /// <summary>True for matrices, false for norms' weights and biases.</summary>
    public bool IsMatrix => Shape.Length > 1;

    /// <summary>
    /// The number of kept rows: the product of all dimensions but the last. A vector is one row, or, if its values are interleaved, rows of
    /// one value each.
    /// </summary>
    public long Rows => IsMatrix || Interleaved == 0 ? Shape[..^1].Aggregate(1L, (rows, size) => rows * size) : Shape[0];

    /// <summary>The number of kept values of each row.</summary>
    public int Columns => IsMatrix || Interleaved == 0 ? checked((int)Shape[^1]) : 1;

    /// <summary>The number of values of each row of the whole tensor.</summary>
    public long SourceColumns => IsMatrix || Interleaved == 0 ? Source.Shape[^1] : 1;

    /// <summary>
    /// The width of the heads whose halves are interleaved: rows j and j + width/2, which rotary position embedding rotates together,
    /// become neighbours. It is 0 if rows stay where they are.
    /// </summary>
    public int Interleaved { get; init; }

    /// <summary>The layer that the tensor belongs to, or null, and its name within the layer.</summary>
    public (int? Layer, string Part) Place => Misfits.Place(Name);

    /// <summary>Returns the row of the whole tensor that becomes row <paramref name="row"/> here.</summary>
    public long SourceRow(long row)
    {
        if (Interleaved == 0) return row;
        var within = row % Interleaved;
        return row - within + (within / 2) + (within % 2 * (Interleaved / 2));
    }
}

/// <summary>
/// The weights of one profile, read piece by piece from the universal model's file. Writing them elsewhere takes memory for only one piece.
/// </summary>
internal sealed class SlicedWeights : IDisposable
{
    private const int PieceValues = 1 << 18;
    private readonly SafetensorsReader _reader;

    // Buffers that all tensors share: the values of a piece, and their encoding.
    private float[] _values = [];
    private byte[] _bytes = [];

    private SlicedWeights(SafetensorsReader reader) => _reader = reader;

    /// <summary>The declared model, as wide as the profile.</summary>
    public required ModelSpec Spec { get; init; }

    public required string ProfileName { get; init; }

    public required ImmutableArray<LayerSlice> Layers { get; init; }

    /// <summary>The bits in which the profile is meant to be stored and decoded; null if none are declared.</summary>
    public int? Bits { get; init; }

    public required ImmutableArray<SlicedTensor> Tensors { get; init; }

    /// <summary>The fingerprint of the tokenizer that the model was trained with; null if it is unknown.</summary>
    public required string? TokenizerFingerprint { get; init; }

    /// <summary>True if MatFormer wrote the weights, so that they are nested.</summary>
    public bool IsOurs => CheckpointHeader.IsOurs(_reader);

    /// <summary>The metadata that identifies the model and the profile of the weights.</summary>
    public Dictionary<string, string> Metadata => CheckpointHeader.MetadataOf(Spec, ProfileName, Layers, TokenizerFingerprint, Bits);

    /// <summary>
    /// The metadata with what the model was trained on. Files for other programs do not get it, because they are made to be passed on, and
    /// a path may tell more than its owner wants.
    /// </summary>
    public Dictionary<string, string> RememberingMetadata
    {
        get
        {
            var metadata = Metadata;
            RememberedData.In(_reader.Metadata)?.AddTo(metadata);
            return metadata;
        }
    }

    /// <summary>Opens the universal model's file.</summary>
    /// <exception cref="CheckpointException">The file is damaged, belongs to another model, or is a slice.</exception>
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

    /// <summary>Selects a profile of any weights that have the universal model's shapes.</summary>
    /// <param name="reader">The weights. The result disposes the reader.</param>
    /// <param name="profile">The profile to keep.</param>
    /// <param name="tokenizer">The fingerprint of the weights' tokenizer; null if it is unknown.</param>
    /// <exception cref="CheckpointException">The weights have other shapes.</exception>
    public static SlicedWeights Of<TModel>(SafetensorsReader reader, Profile<TModel> profile, string? tokenizer)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        // The models are made on the meta device because only their shapes are needed.
        using var whole = TModel.Create(META);
        using var slice = TModel.CreateSubmodel(profile, META);
        Checkpoint.Match(reader, whole);
        return new SlicedWeights(reader)
        {
            Spec = TModel.Spec.Narrowed(profile.Layers.AsSpan()),
            ProfileName = profile.Name,
            Layers = profile.Layers,
            Bits = profile.Bits,
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
