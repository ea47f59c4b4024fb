using System.Buffers.Binary;
using System.Text;

namespace MatFormer;

/// <summary>
/// The symbol versions in a 64-bit little-endian ELF file: the ones it needs from other libraries, and the ones it defines. Every read is
/// checked against the end of the file, so a damaged file gives null, never an exception.
/// </summary>
/// <remarks>The records are described in the Linux Standard Base, chapter "Symbol Versioning".</remarks>
internal sealed class ElfVersions
{
    // Section types. In elf.h they are SHT_RELA, SHT_REL, SHT_DYNSYM, SHT_GNU_verdef, SHT_GNU_verneed and SHT_GNU_versym.
    private const uint Rela = 4, Rel = 9, DynamicSymbols = 11, Definitions = 0x6ffffffd, Needs = 0x6ffffffe, SymbolVersions = 0x6fffffff;
    private const int SectionHeaderSize = 64, SymbolSize = 24, LongestName = 1024;
    private const byte WeakFlag = 2; // VER_FLG_WEAK

    private readonly byte[] _file;
    private readonly List<Section> _sections = [];
    private readonly List<Need> _needed = [];
    private readonly HashSet<string> _defined = new(StringComparer.Ordinal);
    private int _records;
    private bool _damaged;

    private ElfVersions(byte[] file)
    {
        _file = file;
        if (!Bytes(0, 6).SequenceEqual<byte>([0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1]) || U16(0x3a) != SectionHeaderSize)
        {
            _damaged = true;
            return;
        }

        ulong header = U64(0x28);
        for (int left = U16(0x3c); left > 0 && Bytes(header, SectionHeaderSize).Length > 0; left--, header += SectionHeaderSize)
            _sections.Add(new(U32(header + 4), U64(header + 24), U64(header + 32), U32(header + 40)));

        if (Find(Needs) is { Size: > 0 } needs)
        {
            var names = At(needs.Link);
            foreach (var library in Chain(needs.Offset, link: 12))
                foreach (var version in Chain(library + U32(library + 8), link: 12))
                    _needed.Add(new(Text(names, U32(library + 4)), Text(names, U32(version + 8)), U16(version + 6), version + 4));
        }

        if (Find(Definitions) is { Size: > 0 } definitions)
        {
            var names = At(definitions.Link);
            foreach (var version in Chain(definitions.Offset, link: 16)) _defined.Add(Text(names, U32(version + U32(version + 12))));
        }
    }

    /// <summary>The versions without which the file cannot be loaded.</summary>
    public IEnumerable<Need> Needed => _needed.Where(need => (_file[need.FlagsAt] & WeakFlag) == 0);

    /// <summary>The versions that the file defines for other libraries.</summary>
    public IReadOnlySet<string> Defined => _defined;

    /// <summary>Reads the versions in a file. Returns null unless it is a complete 64-bit little-endian ELF file.</summary>
    public static ElfVersions? Read(byte[] file)
    {
        var versions = new ElfVersions(file);
        return versions._damaged ? null : versions;
    }

    /// <summary>
    /// Returns a copy of the file that also loads where <paramref name="need"/> is missing. Returns null unless exactly one symbol has that
    /// version, this symbol is the undefined <paramref name="symbol"/>, and no relocation refers to it.
    /// </summary>
    public byte[]? Weaken(Need need, string symbol)
    {
        var index = _sections.FindIndex(section => section.Type == DynamicSymbols);
        var (symbols, versions) = (Find(DynamicSymbols), Find(SymbolVersions));
        if (symbols.Size / SymbolSize != versions.Size / sizeof(ushort)) return null;

        var bound = new HashSet<uint>();
        for (uint i = 0; i < symbols.Size / SymbolSize; i++)
        {
            // The highest bit only hides a symbol from lookups without a version.
            if ((U16(versions.Offset + (i * sizeof(ushort))) & 0x7fff) != need.Index) continue;
            ulong at = symbols.Offset + (i * SymbolSize);
            if (U16(at + 6) != 0 || Text(At(symbols.Link), U32(at)) != symbol) return null;
            bound.Add(i);
        }

        foreach (var section in _sections.Where(s => s.Type is Rela or Rel && s.Link == index))
        {
            ulong size = section.Type == Rela ? 24u : 16u, length = (ulong)Bytes(section.Offset, section.Size).Length;
            for (ulong at = 0; at < length; at += size)
                if (bound.Contains(U32(section.Offset + at + 12))) return null;
        }

        if (_damaged || bound.Count != 1) return null;
        var copy = (byte[])_file.Clone();
        copy[need.FlagsAt] |= WeakFlag;
        return copy;
    }

    // Returns the first section of a type, or an empty section if there is none.
    private Section Find(uint type) => At((uint)_sections.FindIndex(section => section.Type == type));

    private Section At(uint index)
    {
        var section = index < (uint)_sections.Count ? _sections[(int)index] : default;
        Bytes(section.Offset, section.Size);
        return _damaged ? default : section;
    }

    // Returns the offsets of a chain of records. The field at `link` of each record holds the distance to the next; 0 ends the chain. A
    // damaged chain can pass through the same bytes forever, so the number of records is limited by what fits in the file.
    private IEnumerable<ulong> Chain(ulong at, uint link)
    {
        for (uint next = 1; next != 0 && !_damaged; at += next)
        {
            next = U32(at + link);
            _damaged |= ++_records > _file.Length / 8;
            if (!_damaged) yield return at;
        }
    }

    private string Text(Section strings, uint offset)
    {
        var bytes = offset < strings.Size ? Bytes(strings.Offset + offset, Math.Min(strings.Size - offset, LongestName)) : [];
        var end = bytes.IndexOf((byte)0);
        _damaged |= end < 0;
        return end < 0 ? "" : Encoding.Latin1.GetString(bytes[..end]);
    }

    private ushort U16(ulong at) => Bytes(at, 2) is { Length: 2 } bytes ? BinaryPrimitives.ReadUInt16LittleEndian(bytes) : (ushort)0;

    private uint U32(ulong at) => Bytes(at, 4) is { Length: 4 } bytes ? BinaryPrimitives.ReadUInt32LittleEndian(bytes) : 0;

    private ulong U64(ulong at) => Bytes(at, 8) is { Length: 8 } bytes ? BinaryPrimitives.ReadUInt64LittleEndian(bytes) : 0;

    // Every read goes through this method. Outside of the file there are no bytes, and such a read marks the file as damaged.
    private ReadOnlySpan<byte> Bytes(ulong at, ulong count)
    {
        var length = (ulong)_file.Length;
        if (at <= length && count <= length - at) return _file.AsSpan((int)at, (int)count);
        _damaged = true;
        return [];
    }

    /// <summary>A version that a file needs from a library.</summary>
    /// <param name="Library">The library's name, such as libstdc++.so.6.</param>
    /// <param name="Version">The version's name, such as GLIBCXX_3.4.32.</param>
    /// <param name="Index">The number by which the file's symbols refer to it.</param>
    /// <param name="FlagsAt">Where in the file its flags are.</param>
    internal sealed record Need(string Library, string Version, ushort Index, ulong FlagsAt);

    private readonly record struct Section(uint Type, ulong Offset, ulong Size, uint Link);
}
