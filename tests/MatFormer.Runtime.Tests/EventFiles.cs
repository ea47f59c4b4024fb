using System.Buffers.Binary;
using System.Text;

namespace MatFormer.Tests;

/// <summary>An event of a file for TensorBoard. It has only the fields that our files have.</summary>
internal sealed record FileEvent(double Time, long Step, string? Version, int? SessionStatus, IReadOnlyDictionary<string, float> Numbers);

/// <summary>Reads files of events for TensorBoard, independently of what writes them: records, checksums and messages.</summary>
internal static class EventFiles
{
    /// <summary>Returns the events of each file of a folder, in the order in which TensorBoard reads the files.</summary>
    public static List<List<FileEvent>> Read(string folder) =>
        [.. Directory.GetFiles(folder, "*tfevents*").Order(StringComparer.Ordinal)
            .Select(path => Records(File.ReadAllBytes(path)).Select(Event).ToList())];

    private static IEnumerable<byte[]> Records(byte[] file)
    {
        for (var at = 0; at < file.Length;)
        {
            var length = (int)BinaryPrimitives.ReadInt64LittleEndian(file.AsSpan(at));
            Assert.Equal(Masked(file.AsSpan(at, 8)), BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 8)));
            var data = file.AsSpan(at + 12, length).ToArray();
            Assert.Equal(Masked(data), BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 12 + length)));
            yield return data;
            at += length + 16;
        }
    }

    private static FileEvent Event(byte[] message)
    {
        var (its, numbers) = (new FileEvent(0, 0, null, null, new Dictionary<string, float>()), new Dictionary<string, float>());
        foreach (var (field, value) in Fields(message))
        {
            its = field switch
            {
                1 => its with { Time = BitConverter.ToDouble(value) },
                2 => its with { Step = BitConverter.ToInt64(value) },
                3 => its with { Version = Encoding.UTF8.GetString(value) },
                7 => its with { SessionStatus = (int)BitConverter.ToInt64(Fields(value).Single(f => f.Field == 1).Value) },
                5 => its,
                _ => throw new InvalidDataException($"unknown field {field}"),
            };
            if (field != 5) continue;
            foreach (var (_, number) in Fields(value))
            {
                var parts = Fields(number).ToDictionary(f => f.Field, f => f.Value);
                numbers.Add(Encoding.UTF8.GetString(parts[1]), BitConverter.ToSingle(parts[2]));
            }
        }

        return its with { Numbers = numbers };
    }

    // The fields of a message of protocol buffers. A varint becomes eight bytes.
    private static IEnumerable<(int Field, byte[] Value)> Fields(byte[] message)
    {
        for (var at = 0; at < message.Length;)
        {
            var key = Varint();
            var length = (key & 7) switch
            {
                0 => 0,
                1 => 8,
                2 => (int)Varint(),
                5 => 4,
                var type => throw new InvalidDataException($"wire type {type}"),
            };
            yield return ((int)(key >> 3), (key & 7) == 0 ? BitConverter.GetBytes(Varint()) : message[at..(at + length)]);
            at += length;

            long Varint()
            {
                for (var (value, shift) = (0L, 0); ; shift += 7)
                {
                    value |= (message[at] & 0x7fL) << shift;
                    if (message[at++] < 0x80) return value;
                }
            }
        }
    }

    private static uint Masked(ReadOnlySpan<byte> bytes)
    {
        var crc = Crc32C(bytes);
        return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
    }

    // Bit by bit, with Castagnoli's polynomial.
    private static uint Crc32C(ReadOnlySpan<byte> bytes)
    {
        var crc = ~0u;
        foreach (var value in bytes)
        {
            crc ^= value;
            for (var bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) * 0x82f63b78);
        }

        return ~crc;
    }
}
