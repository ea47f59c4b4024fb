using System.Runtime.InteropServices;

namespace MatFormer.Runtime.Tests.Decoding;

/// <summary>Nested weights: their planes, and their products with rounded rows.</summary>
public sealed unsafe class NestedTests
{
    private const int Recorded = 77;

    // Computed with numpy from the same weights, by the definition of the format.
    private static readonly ushort[] s_scales = [0x2408, 0x1, 0x240f];
    private static readonly int[] s_eight =
    [
        -124, 113, 101, 90, 78, 67, 55, 44, 32, 20, 9, -3, -14, -26, -37, -49, -60, -72, -83, -95, -106, -118, 119, 107, 96, 84, 73, 61, 50,
        38, 27, 15, 4, -8, -20, -31, -43, -54, -66, -78, -89, -101, -113, -124, 114, 103, 91, 80, 68, 56, 45, 33, 22, 10, -2, -13, -25, -37,
        -48, -60, -72, -83, -95, -106, -29, 119, 108, 96, 85, 73, 62, 50, 39, 27, 16, 4, -2,
    ];

    private static readonly int[] s_four =
    [
        -8, 7, 6, 6, 5, 4, 3, 3, 2, 1, 1, 0, -1, -2, -2, -3, -4, -4, -5, -6, -7, -7, 7, 7, 6, 5, 5, 4, 3, 2, 2, 1, 0, 0, -1, -2, -3, -3, -4,
        -5, -6, -6, -7, -8, 7, 6, 6, 5, 4, 4, 3, 2, 1, 1, 0, -1, -2, -2, -3, -4, -4, -5, -6, -7, -2, 7, 7, 6, 5, 5, 4, 3, 2, 2, 1, 0, 0,
    ];

    private static readonly int[] s_two =
    [
        -2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -2, -2, -2, -2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1,
        -2, -2, -2, -2, -2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -2, -2, -2, -1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0,
    ];

    [Theory]
    [InlineData(8)]
    [InlineData(4)]
    [InlineData(2)]
    public void ThePlanesHoldWhatNumpyRounds(int bits)
    {
        // The second group has a scale that is the smallest half; in the third, the largest magnitudes are positive.
        var weights = Enumerable.Range(0, Recorded).Select(i => ((i * 7919 % 2003) - 1001) / 512f).ToArray();
        for (var i = 32; i < 64; i++) weights[i] /= 1 << 18;
        for (var i = 64; i < Recorded; i++) weights[i] *= weights[i] > 0 ? 1 : 0.25f;
        using var planes = new NestedPlanes(2, Recorded, bits, holdsNothing: false);
        planes.SetRow(21, weights);
        planes.SetRow(22, new float[Recorded]);
        planes.SetRow(21, weights); // it replaces what is there
        var row = new float[Recorded];
        fixed (float* target = row) planes.CopyRow(21, Recorded, bits, target);
        for (var i = 0; i < Recorded; i++)
        {
            var scale = (float)BitConverter.UInt16BitsToHalf(s_scales[i / 32]);
            Assert.Equal(scale * (bits switch { 8 => s_eight[i], 4 => 16 * s_four[i], _ => 16 * ((4 * s_two[i]) + 1.5f) }), row[i]);
        }

        Assert.Equal(2 * 3 * 16 * ((32 * bits / 8) + 2), planes.Bytes);
    }

    [Theory]
    [InlineData(8)]
    [InlineData(4)]
    [InlineData(2)]
    public void AProductIsThatOfTheRoundedWeightsAndRows(int bits)
    {
        var random = new Random(bits);
        foreach (var (outputs, columns, rows) in ((int, int, int)[])[(1, 1, 1), (16, 32, 2), (40, 77, 5), (70, 300, 64)])
        {
            using var product = new Product(random, outputs, columns, rows);

            // A slice keeps the first columns, which may end within a group.
            foreach (var kept in (int[])[columns, (columns + 1) / 2])
            {
                float[]? first = null;
                foreach (var registers in (int[])[128, 256, 512])
                {
                    if (registers > DecodingKernels.RegisterBits) continue;
                    var got = product.Multiply(bits, kept, registers);
                    first ??= got;
                    Assert.True(first.AsSpan().SequenceEqual(got), "The bits differ between registers.");
                }

                for (var row = 0; row < rows; row++)
                {
                    var x = product.RowOf(row, kept);
                    for (var output = 0; output < outputs; output++)
                    {
                        var weights = product.WeightsOf(output, bits);
                        double sum = 0, sizes = 0;
                        for (var c = 0; c < kept; c++)
                        {
                            sum += (double)x[c] * weights[c];
                            sizes += Math.Abs((double)x[c] * weights[c]);
                        }

                        var error = Math.Abs(sum - first![(row * product.Outputs) + output]);
                        Assert.True(error <= 1e-6 * sizes, $"{outputs}, {columns}, {rows}");
                    }
                }
            }
        }
    }

    [Fact]
    public void RowsAreRoundedToTheNearestOf255Steps()
    {
        var random = new Random(5);
        using var product = new Product(random, 1, 100, 3);
        for (var row = 0; row < 3; row++)
        {
            var (given, rounded) = (product.GivenRow(row), product.RowOf(row, 100));
            for (var group = 0; group < 100; group += 32)
            {
                var end = Math.Min(100, group + 32);
                var step = given[group..end].Max(MathF.Abs) / 127;
                for (var c = group; c < end; c++)
                {
                    Assert.InRange(Math.Abs(given[c] - rounded[c]), 0, step * 0.50001f);
                    Assert.InRange(Math.Abs((rounded[c] / step) - MathF.Round(rounded[c] / step)), 0, 1e-3f);
                }
            }
        }
    }

    [Fact]
    public void ARowOfZerosGivesZerosAndADamagedRowGivesNumbersThatAreNotFinite()
    {
        using var product = new Product(new Random(1), 3, 64, 4);
        new Span<float>(product.Given(0), 64).Clear();
        product.Given(1)[40] = float.NaN;
        product.Given(2)[3] = float.PositiveInfinity;
        foreach (var bits in (int[])[8, 4, 2])
        {
            var got = product.Multiply(bits, 64, DecodingKernels.RegisterBits);
            Assert.All(got[..3], value => Assert.Equal(0, value));
            Assert.All(got[product.Outputs..(product.Outputs + 3)], value => Assert.False(float.IsFinite(value)));
            Assert.All(got[(2 * product.Outputs)..((2 * product.Outputs) + 3)], value => Assert.False(float.IsFinite(value)));
            Assert.All(got[(3 * product.Outputs)..((3 * product.Outputs) + 3)], value => Assert.True(float.IsFinite(value)));
        }
    }

    /// <summary>The largest integers of weights and rows do not overflow a sum of 16 bits.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void TheLargestNumbersDoNotOverflow(int sign)
    {
        using var product = new Product(new Random(1), 2, 64, 1);
        for (var c = 0; c < 64; c++) product.Given(0)[c] = sign;
        product.SetWeights(0, [.. Enumerable.Repeat(119f, 64)]);
        product.SetWeights(1, [.. Enumerable.Repeat(-128f, 64)]);
        foreach (var registers in (int[])[128, 256, 512])
        {
            if (registers > DecodingKernels.RegisterBits) continue;
            Assert.Equal([sign * 64 * 119f, sign * 64 * -128f], product.Multiply(8, 64, registers)[..2]);
            Assert.Equal([sign * 64 * 112f, sign * 64 * -128f], product.Multiply(4, 64, registers)[..2]);
            Assert.Equal([sign * 64 * 88f, sign * 64 * -104f], product.Multiply(2, 64, registers)[..2]);
        }
    }

    [Fact]
    public void EightBitsAreCloserThanAScaleForARow()
    {
        var random = new Random(2);
        double nested = 0, plain = 0;
        const int columns = 256;
        using var eight = new PackedMatrix(1, columns, DecodingWeights.Nested8, hasBias: false);
        using var old = new PackedMatrix(1, columns, DecodingWeights.Int8, hasBias: false);
        for (var row = 0; row < 50; row++)
        {
            var weights = Enumerable.Range(0, columns).Select(_ => Normal(random)).ToArray();
            nested += Error(eight, weights, DecodingWeights.Nested8);
            plain += Error(old, weights, DecodingWeights.Int8);
        }

        Assert.True(nested < 0.85 * plain, $"{nested} against {plain}");

        static double Error(PackedMatrix matrix, float[] weights, DecodingWeights type)
        {
            var rounded = new float[columns];
            matrix.SetRow(0, weights);
            fixed (float* target = rounded) matrix.CopyRow(0, target, type);
            return weights.Zip(rounded, (a, b) => Math.Abs(a - b)).Average();
        }
    }

    private static float Normal(Random random) =>
        (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));

    // A matrix of random weights, and random rows.
    private sealed class Product : IDisposable
    {
        private readonly NestedPlanes _weights;
        private readonly float* _given;
        private readonly float* _memory;
        private readonly int _columns;
        private readonly int _rows;

        public Product(Random random, int outputs, int columns, int rows)
        {
            (_columns, _rows) = (columns, rows);
            Outputs = PackedMatrix.RoundUp(outputs);
            _weights = new NestedPlanes(Outputs / 16, columns, 8, holdsNothing: false);
            for (var output = 0; output < outputs; output++)
                SetWeights(output, [.. Enumerable.Range(0, columns).Select(_ => Normal(random))]);
            _given = (float*)PackedMatrix.Allocate(rows * columns * sizeof(float));
            for (var i = 0; i < rows * columns; i++) _given[i] = Normal(random);
            _memory = (float*)PackedMatrix.Allocate(RoundedRows.Floats(rows, columns) * sizeof(float));
        }

        public int Outputs { get; }

        public float* Given(int row) => _given + (row * _columns);

        public float[] GivenRow(int row) => new Span<float>(Given(row), _columns).ToArray();

        public void SetWeights(int output, float[] weights) => _weights.SetRow(output, weights);

        public float[] WeightsOf(int output, int bits)
        {
            var weights = new float[_columns];
            fixed (float* target = weights) _weights.CopyRow(output, _columns, bits, target);
            return weights;
        }

        public float[] RowOf(int row, int columns)
        {
            var rounded = Round(columns);
            return [.. Enumerable.Range(0, columns).Select(c => rounded.Values(c / 32, row)[c % 32] * *rounded.Scales(c / 32, row))];
        }

        // Two calls compute the first rows and the others, as in a pass of several submodels.
        public float[] Multiply(int bits, int columns, int registers)
        {
            var (kernels, rounded, result) = (NestedKernels.Create(registers), Round(columns), new float[_rows * Outputs]);
            var half = _rows / 2;
            fixed (float* target = result)
            {
                kernels.Multiply(_weights, bits, 0, Outputs / 16, columns, rounded, 0, half, target, Outputs);
                kernels.Multiply(_weights, bits, 0, Outputs / 16, columns, rounded, half, _rows - half, target + (half * Outputs), Outputs);
            }

            return result;
        }

        public void Dispose()
        {
            _weights.Dispose();
            NativeMemory.AlignedFree(_given);
            NativeMemory.AlignedFree(_memory);
        }

        private RoundedRows Round(int columns)
        {
            var rounded = new RoundedRows(_memory, _rows, _columns);
            for (var row = 0; row < _rows; row++) rounded.Round(Given(row), columns, row);
            return rounded;
        }
    }
}
