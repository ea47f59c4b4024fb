using System.Globalization;
using MatFormer.Tests;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the rounding of weights to 8, 4 and 2 bits. <c>record_rounding.py</c> prints the recorded values.</summary>
public sealed class NestedRoundingTests
{
    // Half scales (1e-3 has subnormal ones, 3e7 saturates), then for each of 8, 4 and 2 bits the float32 bits of every ninth weight of 75.
    public static TheoryData<float, string, string, string, string> Recorded => new()
    {
        {
            1f, "241a 2310 241a",
            "bff61800 bfdd7c00 be834000 bfbeb900 bfb5dc00 bd8d4000 bfb5dc00 bfbeb000 be834000",
            "bfe5b000 bfe5b000 be834000 bfc4e000 bfa98000 00000000 bfa98000 bfc5c000 be834000",
            "bfd54800 bfd54800 bf241000 bfd54800 bfb7a000 3ea98000 bfb7a000 bfb7a000 bf241000"
        },
        {
            1e-3f, "010d 00e7 010d",
            "bafc3000 bae2f800 b9868000 bac37200 bab9e200 b8906000 bab9e200 bac2e800 b9868000",
            "baeb6000 baeb6000 b9868000 bac9c000 baad4000 00000000 baad4000 baca2000 b9868000",
            "bada9000 bada9000 ba282000 bada9000 babbb000 39ad4000 babbb000 babbb000 ba282000"
        },
        {
            1e-6f, "0000 0000 0000",
            "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
            "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
            "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
        },
        {
            3e7f, "7bff 7bff 7bff",
            "caffe000 caffe000 cae3e380 caffe000 caffe000 c9e7e300 caffe000 caffe000 cae3e380",
            "caffe000 caffe000 cadfe400 caffe000 caffe000 c9ffe000 caffe000 caffe000 cadfe400",
            "cacfe600 cacfe600 cacfe600 cacfe600 cacfe600 ca1fec00 cacfe600 cacfe600 cacfe600"
        },
    };

    [Theory]
    [MemberData(nameof(Recorded))]
    public void ValuesAreThoseOfNumpy(float factor, string scales, string at8, string at4, string at2)
    {
        var row = Weights(75, factor);
        var halves = new Half[3];
        NestedRounding.Quantize(row, new sbyte[75], halves);
        Assert.Equal(
            scales, string.Join(' ', halves.Select(h => BitConverter.HalfToUInt16Bits(h).ToString("x4", CultureInfo.InvariantCulture))));
        foreach (var (bits, recorded) in new[] { (8, at8), (4, at4), (2, at2) })
        {
            var rounded = new float[75];
            NestedRounding.Round(row, bits, rounded);
            List<string> every =
                [.. rounded.Where((_, i) => i % 9 == 0).Select(Bits).Select(b => b.ToString("x8", CultureInfo.InvariantCulture))];
            Assert.Equal(recorded, string.Join(' ', every));
            Oracles.Compared("numpy: rounded weights", every.Count);
        }
    }

    [Fact]
    public void NumbersOf8BitsAreThoseOfNumpy()
    {
        sbyte[] recorded = [
            -120, -73, 46, -14, -1, 84, -10, -31, 20, -108, 87, 103, -59, 102, 85, -111, 16, -36, -16, 77, -9, -22, 36, -84, 119, -107, -11,
            -93, -102, -40, 95, 51, 92, -83, 118, 111, -103, 58, 11, 49, -121, 84, 82, -128, 37, -5, 37, -128, 82, 84, -121, 49, 11, 58,
            -103, 111, 118, -83, 92, 59, 110, -46, -119, -108, -11, -107, 119, -84, 36, -22, -9, 77, -16, -36, 16];
        var q8 = new sbyte[75];
        NestedRounding.Quantize(Weights(75, 1), q8, new Half[3]);
        Assert.Equal(recorded, q8);
        Oracles.Compared("numpy: rounded weights", q8.Length);
    }

    /// <summary>The rounded weights of every width are the values of the planes, whose upper bits are the narrower numbers.</summary>
    [Fact]
    public void EveryWidthIsAPlaneOfTheSameNumbers()
    {
        var random = new CounterRandom(3, RandomPurpose.Mix);
        for (var length = 1; length <= 100; length++)
        {
            var row = new float[length];
            for (var i = 0; i < length; i++) row[i] = (float)(random.Unit((length * 100L) + i) - 0.4);
            var (q8, scales) = (new sbyte[length], new Half[(length + 31) / 32]);
            NestedRounding.Quantize(row, q8, scales);
            foreach (var bits in new[] { 8, 4, 2 })
            {
                var rounded = new float[length];
                NestedRounding.Round(row, bits, rounded);
                var expected = q8.Select((q, i) => (float)scales[i / 32] * Factor(q, bits));
                Assert.Equal(expected.Select(Bits), rounded.Select(Bits));
            }
        }

        static float Factor(sbyte q8, int bits)
        {
            var q4 = (q8 + 8) >> 4;
            return bits switch { 8 => q8, 4 => 16 * q4, _ => 16 * ((4 * (q4 >> 2)) + 1.5f) };
        }
    }

    [Fact]
    public void OtherBitsAreRefused()
    {
        var thrown = Assert.Throws<ArgumentOutOfRangeException>(() => NestedRounding.Round([1], 3, new float[1]));
        Assert.Contains("8, 4 or 2 bits", thrown.Message, StringComparison.Ordinal);
    }

    private static uint Bits(float value) => BitConverter.SingleToUInt32Bits(value);

    private static float[] Weights(int count, float factor) =>
        [.. Enumerable.Range(0, count).Select(i => ((((i * i * 37) + (i * 11) + 5) % 257) - 128) / 64f * factor)];
}
