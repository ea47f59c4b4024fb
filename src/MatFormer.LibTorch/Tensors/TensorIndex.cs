namespace TorchSharp;

public static partial class torch
{
    /// <summary>One place of an index such as x[2, 1.., None, mask].</summary>
    public readonly struct TensorIndex
    {
        /// <summary>The whole dimension.</summary>
        public static readonly TensorIndex Colon = new(IndexKind.Slice) { Step = 1, Stop = long.MaxValue };

        /// <summary>All dimensions that are not named by the other places.</summary>
        public static readonly TensorIndex Ellipsis = new(IndexKind.Ellipsis);

        /// <summary>A new dimension of one element.</summary>
        public static readonly TensorIndex None = new(IndexKind.NewDimension);

        /// <summary>A new dimension of one element.</summary>
        public static readonly TensorIndex Null = new(IndexKind.NewDimension);

        private TensorIndex(IndexKind kind) => Kind = kind;

        internal enum IndexKind
        {
            Single,
            Slice,
            Ellipsis,
            NewDimension,
            Tensor,
        }

        internal IndexKind Kind { get; }

        internal long Start { get; private init; }

        internal long Stop { get; private init; }

        internal long Step { get; private init; }

        internal torch.Tensor? Indices { get; private init; }

        public static implicit operator TensorIndex(long value) => Single(value);

        public static implicit operator TensorIndex(Index index) => Single(index.IsFromEnd ? -index.Value : index.Value);

        public static implicit operator TensorIndex(Range range) => Slice(range);

        public static implicit operator TensorIndex((int? start, int? end) range) => Slice(range.start, range.end);

        /// <summary>One element; the dimension goes.</summary>
        public static TensorIndex Single(long? index) => index is { } place ? new(IndexKind.Single) { Start = place } : None;

        /// <summary>From start up to, not including, stop; negative numbers count from the end.</summary>
        /// <exception cref="ArgumentException">step is not positive.</exception>
        public static TensorIndex Slice(long? start = null, long? stop = null, long? step = null) => step is null or > 0
            ? new(IndexKind.Slice) { Start = start ?? 0, Stop = stop ?? long.MaxValue, Step = step ?? 1 }
            : throw new ArgumentException($"The step of a slice must be positive, not {step}.", nameof(step));

        public static TensorIndex Slice((int?, int?) range) => Slice(range.Item1, range.Item2);

        public static TensorIndex Slice(Range range) => Slice(
            range.Start.IsFromEnd ? -range.Start.Value : range.Start.Value,
            !range.End.IsFromEnd ? range.End.Value : range.End.Value == 0 ? long.MaxValue : -range.End.Value);

        /// <summary>The elements that a mask or a tensor of indices names.</summary>
        public static TensorIndex Tensor(torch.Tensor tensor)
        {
            ArgumentNullException.ThrowIfNull(tensor);
            return new(IndexKind.Tensor) { Indices = tensor };
        }
    }
}
