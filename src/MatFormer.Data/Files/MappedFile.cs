using System.IO.MemoryMappedFiles;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;

namespace MatFormer;

/// <summary>A memory-mapped file. Several threads may read it, even while another thread disposes it.</summary>
internal sealed class MappedFile : IDisposable
{
    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;

    /// <exception cref="IOException">The file cannot be opened.</exception>
    public MappedFile(string path)
    {
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        Length = stream.Length;
        _file = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        _view = _file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
    }

    /// <summary>The length of the file in bytes.</summary>
    public long Length { get; }

    /// <summary>Copies bytes from an offset on.</summary>
    /// <exception cref="ObjectDisposedException">The file is no longer open.</exception>
    public unsafe void Read(long offset, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - destination.Length);
        using var lease = Borrow();
        new ReadOnlySpan<byte>(lease.Start + offset, destination.Length).CopyTo(destination);
    }

    /// <summary>Returns the SHA-256 hash of bytes from an offset on.</summary>
    /// <exception cref="ObjectDisposedException">The file is no longer open.</exception>
    public unsafe byte[] Hash(long offset, long length, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - length);
        const int Piece = 1 << 22;
        using var lease = Borrow();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (var end = offset + length; offset < end; offset += Piece)
        {
            cancellationToken.ThrowIfCancellationRequested();
            hash.AppendData(new ReadOnlySpan<byte>(lease.Start + offset, (int)Math.Min(Piece, end - offset)));
        }

        return hash.GetHashAndReset();
    }

    /// <summary>
    /// Gives access to the bytes without a copy. They stay mapped until the lease is disposed, even if another thread disposes the file.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The file is no longer open.</exception>
    public Lease Borrow() => new(_view.SafeMemoryMappedViewHandle);

    /// <inheritdoc/>
    public void Dispose()
    {
        _view.Dispose();
        _file.Dispose();
    }

    /// <summary>Keeps the bytes mapped until it is disposed.</summary>
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
