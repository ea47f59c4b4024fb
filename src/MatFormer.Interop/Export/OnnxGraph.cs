using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// Builds a graph of ONNX's operators and writes it as an ONNX file: a message ModelProto of Protocol Buffers
/// (https://onnx.ai/onnx/repo-docs/IR.html). Operators are added in the order of execution. The weights are streamed behind the rest.
/// </summary>
internal sealed class OnnxGraph
{
    /// <summary>The version of the operators: the first that has LayerNormalization, of ONNX 1.12.</summary>
    public const int Opset = 17;

    private const int IrVersion = 8; // of ONNX 1.12

    // Values of TensorProto.DataType.
    private const int Float = 1;
    private const int Int64 = 7;

    private readonly ProtoMessage _graph = new();
    private readonly HashSet<string> _constants = new(StringComparer.Ordinal);
    private readonly List<(string Name, ProtoMessage Head, long Length)> _weights = [];
    private int _operators;

    public OnnxGraph(string name) => _graph.Add(GraphField.Name, name);

    /// <summary>What the names of operators begin with, such as the layer.</summary>
    public string Scope { get; set; } = "";

    // The numbers of the fields of onnx.proto's messages.
    private static class ModelField
    {
        public const int IrVersion = 1;
        public const int ProducerName = 2;
        public const int Graph = 7;
        public const int OpsetImport = 8;
        public const int Metadata = 14;
    }

    private static class GraphField
    {
        public const int Node = 1;
        public const int Name = 2;
        public const int Initializer = 5;
        public const int Input = 11;
        public const int Output = 12;
    }

    private static class NodeField
    {
        public const int Input = 1;
        public const int Output = 2;
        public const int Name = 3;
        public const int Operator = 4;
        public const int Attribute = 5;
    }

    private static class TensorField
    {
        public const int Dimension = 1;
        public const int Type = 2;
        public const int Name = 8;
        public const int RawData = 9;
    }

    /// <summary>Makes an attribute that is a whole number.</summary>
    public static ProtoMessage Attribute(string name, long value) => NewAttribute(name, 2).Add(3, value);

    /// <summary>Makes an attribute that is a float32.</summary>
    public static ProtoMessage Attribute(string name, float value) => NewAttribute(name, 1).Add(2, value);

    /// <summary>Makes an attribute that is a list of whole numbers.</summary>
    public static ProtoMessage Attribute(string name, params ReadOnlySpan<long> values)
    {
        var attribute = NewAttribute(name, 7);
        foreach (var value in values) attribute.Add(8, value);
        return attribute;
    }

    /// <summary>Adds an operator with one result. Returns the name of the result.</summary>
    public string Add(string type, ReadOnlySpan<string> inputs, params ReadOnlySpan<ProtoMessage> attributes) =>
        Add(type, inputs, 1, attributes)[0];

    /// <summary>Adds an operator. Returns the names of its results.</summary>
    public string[] Add(string type, ReadOnlySpan<string> inputs, int outputs, params ReadOnlySpan<ProtoMessage> attributes)
    {
        var name = string.Create(CultureInfo.InvariantCulture, $"{Scope}{type}_{_operators++}");
        var node = new ProtoMessage();
        foreach (var input in inputs) node.Add(NodeField.Input, input);
        var results = new string[outputs];
        for (var i = 0; i < outputs; i++)
        {
            results[i] = i == 0 ? name : string.Create(CultureInfo.InvariantCulture, $"{name}_{i}");
            node.Add(NodeField.Output, results[i]);
        }

        node.Add(NodeField.Name, name).Add(NodeField.Operator, type);
        foreach (var attribute in attributes) node.Add(NodeField.Attribute, attribute);
        _graph.Add(GraphField.Node, node);
        return results;
    }

    /// <summary>Declares an input of whole numbers. A dimension is a number, or the name of a dimension that the caller chooses.</summary>
    public void AddIntegers(string input, params ReadOnlySpan<string> shape) =>
        _graph.Add(GraphField.Input, ValueInfo(input, Int64, shape));

    /// <summary>Declares an input of float32.</summary>
    public void AddFloats(string input, params ReadOnlySpan<string> shape) => _graph.Add(GraphField.Input, ValueInfo(input, Float, shape));

    /// <summary>Declares that a result is an output of float32, under another name.</summary>
    public void AddOutput(string result, string name, params ReadOnlySpan<string> shape)
    {
        var node = new ProtoMessage().Add(NodeField.Input, result).Add(NodeField.Output, name).Add(NodeField.Operator, "Identity");
        _graph.Add(GraphField.Node, node).Add(GraphField.Output, ValueInfo(name, Float, shape));
    }

    /// <summary>Returns the name of a whole number, as a tensor without dimensions.</summary>
    public string Integer(long value) => AddConstant(Name("int", [value]), Int64, [], MemoryMarshal.AsBytes<long>([value]));

    /// <summary>Returns the name of a list of whole numbers.</summary>
    public string Integers(params ReadOnlySpan<long> values) =>
        AddConstant(Name("ints", values), Int64, [values.Length], MemoryMarshal.AsBytes(values));

    /// <summary>Returns the name of a number, as a tensor without dimensions.</summary>
    public string Number(float value) => AddConstant(
        "float_" + value.ToString("R", CultureInfo.InvariantCulture), Float, [], MemoryMarshal.AsBytes<float>([value]));

    /// <summary>Returns the name of a table of computed numbers.</summary>
    public string Table(string name, ReadOnlySpan<long> shape, ReadOnlySpan<float> values) =>
        AddConstant(name, Float, shape, MemoryMarshal.AsBytes(values));

    /// <summary>Adds a float32 weight, which <see cref="Write"/> streams.</summary>
    public void AddWeight(string name, ImmutableArray<long> shape)
    {
        var length = shape.Aggregate((long)sizeof(float), (product, dimension) => checked(product * dimension));
        _weights.Add((name, Tensor(name, Float, shape.AsSpan()).Begin(TensorField.RawData, length), length));
    }

    /// <summary>Writes the file atomically. <paramref name="writeData"/> streams the bytes of each weight.</summary>
    /// <exception cref="ExtractionException">The file would be too large for the format.</exception>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public void Write(string path, IEnumerable<KeyValuePair<string, string>> metadata, Action<string, Stream> writeData)
    {
        var model = new ProtoMessage().Add(ModelField.IrVersion, IrVersion).Add(ModelField.ProducerName, "MatFormer")
            .Add(ModelField.OpsetImport, new ProtoMessage().Add(2, Opset));
        foreach (var (key, value) in metadata) model.Add(ModelField.Metadata, new ProtoMessage().Add(1, key).Add(2, value));
        var length = _graph.Length + _weights.Sum(w => ProtoMessage.SizeOf(GraphField.Initializer, w.Head.Length + w.Length));
        if (model.Length + ProtoMessage.SizeOf(ModelField.Graph, length) > int.MaxValue)
        {
            throw new ExtractionException($"The model takes {length} bytes, but an ONNX file has at most 2 GB; extract a smaller profile, "
                + "or use --format safetensors.");
        }

        AtomicFile.Write(path, stream =>
        {
            model.WriteTo(stream);
            ProtoMessage.Begin(stream, ModelField.Graph, length);
            _graph.WriteTo(stream);
            foreach (var (name, head, bytes) in _weights)
            {
                ProtoMessage.Begin(stream, GraphField.Initializer, head.Length + bytes);
                head.WriteTo(stream);
                var start = stream.Position;
                writeData(name, stream);
                if (stream.Position - start != bytes)
                {
                    throw new InvalidOperationException(
                        $"The tensor '{name}' has {bytes} bytes, but {stream.Position - start} were written.");
                }
            }
        });
    }

    private static ProtoMessage NewAttribute(string name, int type) => new ProtoMessage().Add(1, name).Add(20, type);

    private static ProtoMessage Tensor(string name, int type, ReadOnlySpan<long> shape)
    {
        var tensor = new ProtoMessage();
        foreach (var dimension in shape) tensor.Add(TensorField.Dimension, dimension);
        return tensor.Add(TensorField.Type, type).Add(TensorField.Name, name);
    }

    private static ProtoMessage ValueInfo(string name, int type, ReadOnlySpan<string> shape)
    {
        var dimensions = new ProtoMessage();
        foreach (var dimension in shape)
        {
            var isNumber = long.TryParse(dimension, NumberStyles.None, CultureInfo.InvariantCulture, out var number);
            dimensions.Add(1, isNumber ? new ProtoMessage().Add(1, number) : new ProtoMessage().Add(2, dimension));
        }

        var tensor = new ProtoMessage().Add(1, type).Add(2, dimensions);
        return new ProtoMessage().Add(1, name).Add(2, new ProtoMessage().Add(1, tensor));
    }

    private static string Name(string kind, ReadOnlySpan<long> values) => $"{kind}_{string.Join('_', values.ToArray())}";

    // Constants are named by their values, so that the same one is written once.
    private string AddConstant(string name, int type, ReadOnlySpan<long> shape, ReadOnlySpan<byte> bytes)
    {
        if (_constants.Add(name)) _graph.Add(GraphField.Initializer, Tensor(name, type, shape).Add(TensorField.RawData, bytes));
        return name;
    }
}
