using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace MatFormer.Tests;

/// <summary>Damages files at random, the same way in every run.</summary>
internal static class Mutator
{
    private const int Edge = 256; // headers and footers are at the edges of a file
    private const int DefaultCount = 300;
    private const long MostBytes = 512 << 20;

    private static readonly byte[] s_bytes = [0, 1, 0x7F, 0x80, 0xFF, (byte)'"', (byte)'{', (byte)'[', (byte)'\n', (byte)'\t', (byte)'9'];

    private static readonly long[] s_numbers =
    [
        0, 1, -1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 30, int.MaxValue, int.MinValue, uint.MaxValue, 1L << 32, 1L << 62, long.MaxValue,
        long.MinValue,
    ];

    private static readonly byte[][] s_texts =
    [
        .. ((string[])[
            "\\ud800", "\\udc00", "\\ud83d\\u", "\\u0000", "null", "true", "{}", "[]", "\"\"", "-1", "0", "1e999", "0.5", "2147483648",
            "9223372036854775808", "99999999999999999999999", "[[[[[[[[", "{\"a\":", ",", ":", "\\", "\r\n\r\n", "\uFEFF", "65536 65536",
        ]).Select(Encoding.UTF8.GetBytes),
        [0xFF, 0xFE], [0xC3], [0xED, 0xA0, 0x80],
    ];

    /// <summary>The number of mutants of each reader: the environment variable <c>MATFORMER_MUTANTS</c>, or 300.</summary>
    public static int Count { get; } = Number("MATFORMER_MUTANTS") ?? DefaultCount;

    /// <summary>
    /// The first mutant: the environment variable <c>MATFORMER_FIRST_MUTANT</c>, or 0. A long run that was stopped continues there.
    /// </summary>
    private static int First { get; } = Number("MATFORMER_FIRST_MUTANT") ?? 0;

    /// <summary>
    /// Gives damaged files to a reader. Fails if the reader throws an exception that it does not document, or allocates too much.
    /// </summary>
    /// <param name="seeds">Whole files. The reader must accept each of them.</param>
    /// <param name="read">The reader.</param>
    /// <param name="isDocumented">Whether the reader documents an exception.</param>
    /// <param name="repair">Makes the checksums of half of the files right again, so that the reader looks beyond them.</param>
    public static void Run(
        IReadOnlyList<byte[]> seeds, Action<byte[]> read, Func<Exception, bool> isDocumented, Action<byte[]>? repair = null)
    {
        foreach (var seed in seeds) read(seed);
        var escaped = new Dictionary<string, (int Count, string First)>();
        var refused = 0;
        for (var i = First; i < Count; i++)
        {
            var random = new Random(i);
            var file = Mutate(seeds[random.Next(seeds.Count)], random);
            if (repair is not null && random.Next(2) == 0) repair(file);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                read(file);
            }
            catch (Exception e) when (isDocumented(e))
            {
                refused++;
            }
            catch (Exception e)
            {
                var place = e.StackTrace?.Split('\n').FirstOrDefault(line => line.Contains("MatFormer", StringComparison.Ordinal));
                Note($"{e.GetType().Name} {place}", i, e);
            }

            var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            if (allocated > MostBytes) Note("allocates too much", i, allocated);
        }

        Assert.True(escaped.Count == 0, string.Join('\n', escaped.Select(e => $"{e.Value.Count} mutants: {e.Key}\n{e.Value.First}")));
        Assert.True(Count - First < DefaultCount || refused > 0, "The reader refused nothing.");

        void Note(string kind, int mutant, object what)
        {
            var (count, first) = escaped.GetValueOrDefault(kind, (0, $"The first is mutant {mutant}: {what}"));
            escaped[kind] = (count + 1, first);
        }
    }

    private static byte[] Mutate(byte[] seed, Random random)
    {
        var file = seed.ToList();
        for (var edits = random.Next(1, 5); edits > 0; edits--)
        {
            var at = Place(file.Count, random);
            var length = Math.Min(file.Count - at, random.Next(4) == 0 ? random.Next(1, file.Count + 2) : random.Next(1, 9));
            switch (random.Next(9))
            {
                case 0 when at < file.Count:
                    file[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1 when at < file.Count:
                    file[at] = s_bytes[random.Next(s_bytes.Length)];
                    break;
                case 2:
                    file.RemoveRange(at, length);
                    break;
                case 3:
                    file.InsertRange(Place(file.Count, random), file.GetRange(at, length));
                    break;
                case 4:
                    file.RemoveRange(at, file.Count - at);
                    break;
                case 5:
                    Overwrite(at, Number(random));
                    break;
                case 6:
                    Overwrite(at, s_texts[random.Next(s_texts.Length)]);
                    break;
                case 7:
                    file.InsertRange(at, s_texts[random.Next(s_texts.Length)]);
                    break;
                default:
                    if (Digits(at) is var (start, count))
                    {
                        file.RemoveRange(start, count);
                        var number = s_numbers[random.Next(s_numbers.Length)].ToString(CultureInfo.InvariantCulture);
                        file.InsertRange(start, Encoding.ASCII.GetBytes(number));
                    }

                    break;
            }
        }

        return [.. file];

        void Overwrite(int at, ReadOnlySpan<byte> bytes)
        {
            for (var i = 0; i < bytes.Length && at + i < file.Count; i++) file[at + i] = bytes[i];
        }

        // Returns the next number in digits.
        (int Start, int Count)? Digits(int at)
        {
            var start = file.FindIndex(at, value => char.IsAsciiDigit((char)value));
            if (start < 0) return null;
            var end = file.FindIndex(start, value => !char.IsAsciiDigit((char)value));
            return (start, (end < 0 ? file.Count : end) - start);
        }
    }

    private static int Place(int length, Random random) => random.Next(4) switch
    {
        0 => random.Next(Math.Min(length, Edge) + 1),
        1 => length - random.Next(Math.Min(length, Edge) + 1),
        2 => Math.Min(length, 4 * random.Next(10)),
        _ => random.Next(length + 1),
    };

    private static int? Number(string variable) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } number ? int.Parse(number, CultureInfo.InvariantCulture) : null;

    private static byte[] Number(Random random)
    {
        var (bytes, number) = (new byte[8], s_numbers[random.Next(s_numbers.Length)] + random.Next(-1, 2));
        if (random.Next(2) == 0) BinaryPrimitives.WriteInt64LittleEndian(bytes, number);
        else BinaryPrimitives.WriteInt64BigEndian(bytes, number);
        return random.Next(2) == 0 ? bytes : BitConverter.IsLittleEndian && bytes[0] != 0 ? bytes[..4] : bytes[4..];
    }
}
