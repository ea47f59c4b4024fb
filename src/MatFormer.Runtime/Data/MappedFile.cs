using System.IO.MemoryMappedFiles;

namespace MatFormer;

/// <summary>A file in memory as far as it is read; from several threads, also while it is disposed.</summary>
internal sealed class MappedFile : IDisposable
{
    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;

    /// <exception cref="IOException">It cannot be opened.</exception>
    public MappedFile(string path)
    {
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        Length = stream.Length;
        _file = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        _view = _file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
    }

    /// <summary>Bytes of the file.</summary>
    public long Length { get; }

    /// <summary>Copies bytes.</summary>
    /// <exception cref="ObjectDisposedException">It is no longer open.</exception>
    public unsafe void Read(long offset, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - destination.Length);

        // Held for as long as it is read: disposing on another thread waits.
        var handle = _view.SafeMemoryMappedViewHandle;
        byte* bytes = null;
        handle.AcquirePointer(ref bytes);
        try
        {
            new ReadOnlySpan<byte>(bytes + offset, destination.Length).CopyTo(destination);
        }
        finally
        {
            handle.ReleasePointer();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _view.Dispose();
        _file.Dispose();
    }
}
