using System.Collections.Immutable;
using System.Numerics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Rounds a matrix to the 8-bit numbers of <see cref="NestedRounding"/> so that its outputs at several bits change little: GPTQ (arXiv
/// 2210.17323) for several bits at once, as in MatGPTQ (arXiv 2602.03537), and for several sizes.
/// </summary>
/// <remarks>
/// <para>
/// Columns are rounded in their order. Each of the bits has weights of its own, which the later columns take its errors into. A column gets
/// the 8-bit number whose 8, 4 and 2 bits are together nearest to these weights.
/// </para>
/// <para>
/// A size has the first columns only. So the errors of its columns are first taken into the rest of its own columns, and what remains goes
/// into the columns of the next size, which leaves the smaller one as it is.
/// </para>
/// <para>
/// Every group has a number that is the largest or the smallest possible one, so its scale follows from its rounded weights, exactly. The
/// weights of files therefore stay what they were, and nothing else has to be stored.
/// </para>
/// </remarks>
internal sealed class CalibratedRounding
{
    // Scales that are tried, as shares of the scale with which no weight is clamped.
    private static readonly float[] s_shares = [1, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f, 0.7f, 0.65f, 0.6f];

    private readonly ImmutableArray<int> _bits;
    private readonly ImmutableArray<double> _factors;
    private readonly List<Segment> _segments = [];
    private readonly double[] _importance;

    /// <summary>Prepares the rounding of matrices that have the same inputs.</summary>
    /// <param name="hessian">
    /// The sum of x x^T over the inputs x, (columns, columns) float64, where x is 0 beyond the columns of its size.
    /// </param>
    /// <param name="ends">The numbers of columns of the sizes, ascending; the last is that of the matrix.</param>
    /// <param name="bits">The bits, such as 8, 4, 2.</param>
    /// <param name="factors">The factor of the squared error at each of the bits.</param>
    /// <param name="damping">The share of the mean of the diagonal that is added to it.</param>
    public CalibratedRounding(
        Tensor hessian, IEnumerable<int> ends, ImmutableArray<int> bits, ImmutableArray<double> factors, double damping)
    {
        (_bits, _factors) = (bits, factors);
        _importance = new double[hessian.shape[0]];
        var start = 0;
        foreach (var end in ends)
        {
            _segments.Add(new Segment(hessian, start, end, damping));
            _segments[^1].Importance.CopyTo(_importance, start);
            start = end;
        }
    }

    /// <summary>Rounds the rows (R, columns) of a matrix in place. All values are then those of 8-bit numbers.</summary>
    public void Round(float[] weights, CancellationToken cancellationToken = default)
    {
        var columns = _importance.Length;
        var options = new ParallelOptions { MaxDegreeOfParallelism = get_num_threads(), CancellationToken = cancellationToken };
        Parallel.For(0, weights.Length / columns, options, row => new Row(this, weights.AsMemory(row * columns, columns)).Round());
    }

    /// <summary>One row. All numbers are in the unit of the weights.</summary>
    private sealed class Row
    {
        private readonly CalibratedRounding _its;
        private readonly Memory<float> _weights;
        private readonly double[][] _wanted; // for each of the bits: the weights that take the errors so far
        private readonly double[][] _errors; // for each of the bits: the weight minus what it is rounded to
        private float _scale;
        private int _anchor; // the column that gets the largest or smallest number if no column before it in the group did
        private bool _isAnchored;

        public Row(CalibratedRounding its, Memory<float> weights)
        {
            (_its, _weights) = (its, weights);
            _wanted = [.. its._bits.Select(_ => Array.ConvertAll(weights.ToArray(), weight => (double)weight))];
            _errors = [.. its._bits.Select(_ => new double[weights.Length])];
        }

        public void Round()
        {
            var weights = _weights.ToArray();
            foreach (var segment in _its._segments)
            {
                for (var b = 0; b < _wanted.Length; b++) segment.TakeEarlier(_errors[b], _wanted[b]);
                for (var column = segment.Start; column < segment.End; column++)
                {
                    if (column % NestedRounding.Group == 0) Begin(weights, column);
                    var q8 = Number(column);
                    _weights.Span[column] = _scale * q8;
                    for (var b = 0; b < _wanted.Length; b++)
                    {
                        var value = _scale * NestedRounding.Value(q8, _its._bits[b]);
                        _errors[b][column] = weights[column] - value;
                        segment.TakeInto(_wanted[b], column, _wanted[b][column] - value);
                    }
                }
            }
        }

        // Chooses the scale and the anchor of the group that begins with a column.
        private void Begin(float[] weights, int start)
        {
            var count = Math.Min(NestedRounding.Group, weights.Length - start);
            var plain = (float)NestedRounding.Scale(weights.AsSpan(start, count));
            var (best, least) = (0f, double.PositiveInfinity);
            foreach (var share in s_shares)
            {
                _scale = (float)(Half)(plain * share);
                if (_scale == 0) continue;
                var cost = 0.0;
                for (var column = start; column < start + count; column++) cost += _its._importance[column] * Best(column).Cost;
                if (cost < least) (best, least) = (_scale, cost);
            }

            (_scale, _anchor, _isAnchored) = (best, start, best == 0);
            for (var column = start + 1; column < start + count; column++)
            {
                if (Reach(column) > Reach(_anchor)) _anchor = column;
            }
        }

        // How far a weight is to the end of the numbers on its side of zero.
        private double Reach(int column)
        {
            var weight = _wanted[0][column];
            return weight / (weight > 0 ? NestedRounding.Largest : NestedRounding.Smallest);
        }

        private int Number(int column)
        {
            if (_scale == 0) return 0;
            var q8 = column == _anchor && !_isAnchored
                ? (int)(_wanted[0][column] > 0 ? NestedRounding.Largest : NestedRounding.Smallest)
                : Best(column).Number;
            _isAnchored |= q8 is (int)NestedRounding.Largest or (int)NestedRounding.Smallest;
            return q8;
        }

        // Returns the 8-bit number with the least error, and the error.
        private (int Number, double Cost) Best(int column)
        {
            var (best, least) = (0, double.PositiveInfinity);
            for (var q4 = -8; q4 < 8; q4++)
            {
                // Of the numbers with these 4 bits, the one nearest to the 8-bit weight, or that of the 4 bits themselves.
                var first = Math.Max((16 * q4) - 8, (int)NestedRounding.Smallest);
                var last = Math.Min((16 * q4) + 7, (int)NestedRounding.Largest);
                var q8 = _its._bits[0] == 8
                    ? (int)Math.Clamp(Math.Round(_wanted[0][column] / _scale), first, last)
                    : 16 * q4;
                var cost = 0.0;
                for (var b = 0; b < _wanted.Length; b++)
                {
                    var error = _wanted[b][column] - (_scale * NestedRounding.Value(q8, _its._bits[b]));
                    cost += _its._factors[b] * error * error;
                }

                if (cost < least) (best, least) = (q8, cost);
            }

            return (best, least);
        }
    }

    /// <summary>The columns that a size has, and the size before it does not.</summary>
    private sealed class Segment
    {
        private readonly double[][] _into; // for each column: how much each column from it on takes of its error
        private readonly double[][] _earlier; // for each column: how much it takes of the errors of the segments before

        public Segment(Tensor hessian, int start, int end, double damping)
        {
            using var scope = NewDisposeScope();
            (Start, End) = (start, end);
            var count = end - start;
            var rows = hessian.narrow(0, start, count);
            var own = rows.narrow(1, start, count).clone();
            var mean = own.diagonal().mean().item<double>();

            // Inputs that are always 0 do not matter, so their columns are rounded without regard to others.
            own.diagonal().add_(Numbers.Number(mean > 0 ? damping * mean : 1), Numbers.One);
            var inverse = linalg.cholesky(own).cholesky_inverse();
            var factor = linalg.cholesky(inverse).t();
            var diagonal = factor.diagonal().clone();
            Importance = [.. diagonal.data<double>().Select(d => 1 / (d * d))];
            _into = Rows(factor.div(diagonal.unsqueeze(1)));
            _earlier = start == 0 ? [] : Rows(inverse.mm(rows.narrow(1, 0, start)));
        }

        public int Start { get; }

        public int End { get; }

        /// <summary>Gets, for each column, how much a squared error of it matters if the columns after it take it.</summary>
        public double[] Importance { get; }

        /// <summary>Lets this segment's weights take the errors of the segments before.</summary>
        public void TakeEarlier(double[] errors, double[] wanted)
        {
            for (var i = 0; i < _earlier.Length; i++) wanted[Start + i] += Dot(_earlier[i], errors);
        }

        /// <summary>Lets the columns after a column take its error.</summary>
        public void TakeInto(double[] wanted, int column, double error)
        {
            var factors = _into[column - Start];
            var (i, offset, times) = (column - Start, Start, new Vector<double>(error));
            for (; i <= factors.Length - Vector<double>.Count; i += Vector<double>.Count)
            {
                var its = new Vector<double>(wanted, offset + i) - (times * new Vector<double>(factors, i));
                its.CopyTo(wanted, offset + i);
            }

            for (; i < factors.Length; i++) wanted[offset + i] -= error * factors[i];
        }

        private static double Dot(double[] factors, double[] errors)
        {
            var (sum, i) = (Vector<double>.Zero, 0);
            for (; i <= factors.Length - Vector<double>.Count; i += Vector<double>.Count)
                sum += new Vector<double>(factors, i) * new Vector<double>(errors, i);
            var total = Vector.Sum(sum);
            for (; i < factors.Length; i++) total += factors[i] * errors[i];
            return total;
        }

        private static double[][] Rows(Tensor matrix)
        {
            var columns = (int)matrix.shape[1];
            return [.. matrix.contiguous().data<double>().ToArray().Chunk(columns)];
        }
    }
}
