using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;

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
        using var lease = Borrow();
        new ReadOnlySpan<byte>(lease.Start + offset, destination.Length).CopyTo(destination);
    }

    /// <summary>The bytes themselves, until the lease is disposed; also while the file is disposed on another thread.</summary>
    /// <exception cref="ObjectDisposedException">It is no longer open.</exception>
    public Lease Borrow() => new(_view.SafeMemoryMappedViewHandle);

    /// <inheritdoc/>
    public void Dispose()
    {
        _view.Dispose();
        _file.Dispose();
    }

    /// <summary>Keeps the bytes in memory.</summary>
    public readonly unsafe ref struct Lease
    {
        private readonly SafeMemoryMappedViewHandle _handle;

        public Lease(SafeMemoryMappedViewHandle handle)
        {
            byte* start = null;
            handle.AcquirePointer(ref start);
            _handle = handle;
            Start = start;
        }

        /// <summary>The first byte.</summary>
        public byte* Start { get; }

        public void Dispose() => _handle.ReleasePointer();
    }
}
