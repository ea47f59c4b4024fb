using System.Buffers.Binary;
using System.Text;

namespace MatFormer.Runtime.Tests.Native;

/// <summary>Writes the smallest ELF libraries that have symbol versions. They can be read but not run.</summary>
internal sealed class ElfImage
{
    private const int HeaderSize = 64;

    private readonly List<(uint Type, uint Link, byte[] Content)> _sections = [(0, 0, [])];
    private readonly List<byte> _strings = [0];

    /// <summary>Returns a library that needs versions of other libraries. The indices of the versions are 2, 3 and so on.</summary>
    /// <param name="needs">The other libraries and their versions.</param>
    /// <param name="symbols">The dynamic symbols, each with its version's index, and whether the library itself defines it.</param>
    /// <param name="relocated">The symbols, numbered from 1, that relocations refer to.</param>
    public static byte[] Needing(
        (string Library, string[] Versions)[] needs, (string Name, ushort Version, bool IsDefined)[] symbols, params uint[] relocated)
    {
        var image = new ElfImage();
        ushort index = 2;
        var records = new List<byte>();
        for (var i = 0; i < needs.Length; i++)
        {
            var (library, versions) = needs[i];
            var next = i == needs.Length - 1 ? 0 : 16 + (16 * versions.Length);
            records.AddRange([.. U16(1), .. U16(versions.Length), .. image.Text(library), .. U32(16), .. U32(next)]);
            for (var j = 0; j < versions.Length; j++)
            {
                next = j == versions.Length - 1 ? 0 : 16;
                records.AddRange([.. U32(0), .. U16(0), .. U16(index++), .. image.Text(versions[j]), .. U32(next)]);
            }
        }

        var symbolRecords = new List<byte>(new byte[24]);
        foreach (var (name, _, isDefined) in symbols)
            symbolRecords.AddRange([.. image.Text(name), 0x12, 0, .. U16(isDefined ? 1 : 0), .. new byte[16]]);
        byte[] versionsOfSymbols = [0, 0, .. symbols.SelectMany(symbol => U16(symbol.Version))];
        byte[] relocations = [.. relocated.SelectMany(symbol => (byte[])[.. new byte[8], .. U32(7), .. U32((int)symbol), .. new byte[8]])];

        // The sections' numbers are 1 to 5.
        image._sections.Add((11, 5, [.. symbolRecords]));
        image._sections.Add((0x6fffffff, 1, versionsOfSymbols));
        image._sections.Add((0x6ffffffe, 5, [.. records]));
        image._sections.Add((4, 1, relocations));
        return image.Write(stringsAt: 5);
    }

    /// <summary>Returns a library that defines versions.</summary>
    public static byte[] Defining(params string[] versions)
    {
        var image = new ElfImage();
        var records = new List<byte>();
        for (var i = 0; i < versions.Length; i++)
        {
            var next = i == versions.Length - 1 ? 0 : 28;
            records.AddRange([.. U16(1), .. U16(0), .. U16(i + 1), .. U16(1), .. U32(0), .. U32(20), .. U32(next)]);
            records.AddRange([.. image.Text(versions[i]), .. U32(0)]);
        }

        image._sections.Add((0x6ffffffd, 2, [.. records]));
        return image.Write(stringsAt: 2);
    }

    private static byte[] U16(int value) => [(byte)value, (byte)(value >> 8)];

    private static byte[] U32(int value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }

    private byte[] Text(string text)
    {
        var at = _strings.Count;
        _strings.AddRange([.. Encoding.ASCII.GetBytes(text), 0]);
        return U32(at);
    }

    // Writes the file header, the contents of the sections, and last the headers of the sections.
    private byte[] Write(int stringsAt)
    {
        Assert.Equal(stringsAt, _sections.Count);
        _sections.Add((3, 0, [.. _strings]));
        var file = new List<byte>(new byte[HeaderSize]);
        var headers = new List<byte>();
        foreach (var (type, link, content) in _sections)
        {
            headers.AddRange([.. U32(0), .. U32((int)type), .. new byte[16], .. U32(file.Count), .. U32(0)]);
            headers.AddRange([.. U32(content.Length), .. U32(0), .. U32((int)link), .. new byte[20]]);
            file.AddRange(content);
        }

        byte[] image = [.. file, .. headers];
        byte[] identity = [0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        identity.CopyTo(image, 0);
        BinaryPrimitives.WriteInt64LittleEndian(image.AsSpan(0x28), file.Count);
        BinaryPrimitives.WriteUInt16LittleEndian(image.AsSpan(0x3a), HeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(image.AsSpan(0x3c), (ushort)_sections.Count);
        return image;
    }
}
