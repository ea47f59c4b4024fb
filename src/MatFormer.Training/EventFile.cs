using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using System.Numerics;
using Google.Protobuf;
using Tensorboard;

namespace MatFormer;

/// <summary>
/// A file of events for TensorBoard: one event for each step, with the numbers of metrics.jsonl. The messages are TorchSharp's.
/// </summary>
/// <remarks>
/// TorchSharp's own writer is not used. It keeps the time of an event in a float, which is up to a minute wrong, it opens the file again
/// for each number, and it cannot tell TensorBoard where a resumed run begins.
/// </remarks>
internal sealed class EventFile : IDisposable
{
    private const string Prefix = "events.out.tfevents.";

    private static int s_files;

    private readonly FileStream _stream;

    private EventFile(FileStream stream) => _stream = stream;

    /// <summary>
    /// Creates a file in a folder. At step 0 it replaces the files of an earlier run. At a later step, TensorBoard adds it to them and
    /// forgets their events of later steps.
    /// </summary>
    /// <param name="folder">The folder, which may be missing.</param>
    /// <param name="step">The last step that was done.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static EventFile Create(string folder, long step)
    {
        Directory.CreateDirectory(folder);
        if (step == 0)
        {
            foreach (var old in Directory.GetFiles(folder, Prefix + "*")) File.Delete(old);
        }

        // TensorBoard reads the files in the order of their names.
        var name = string.Create(
            CultureInfo.InvariantCulture, $"{Prefix}{DateTimeOffset.UtcNow.ToUnixTimeSeconds():D10}.{Environment.MachineName}."
                + $"{Environment.ProcessId}.{Interlocked.Increment(ref s_files):D6}");
        var stream = new FileStream(Path.Combine(folder, name), FileMode.CreateNew, FileAccess.Write, FileShare.Read, bufferSize: 0);
        var file = new EventFile(stream);
        file.Write(new Event { FileVersion = "brain.Event:2" });
        if (step > 0)
            file.Write(new Event { Step = step + 1, SessionLog = new SessionLog { Status = SessionLog.Types.SessionStatus.Start } });
        return file;
    }

    /// <summary>Adds a step in one write.</summary>
    public void Add(StepResult result)
    {
        var summary = new Summary();
        Add("learning_rate", (float)result.LearningRate);
        Add("tokens_per_second", (float)result.TokensPerSecond);
        if (result.Skipped is null) Add("gradient_norm", (float)result.GradientNorm);
        AddAll("loss", result.Losses);
        AddAll("divergence", result.Divergences);
        AddAll("validation", result.Validation);
        Write(new Event { Step = result.Step, Summary = summary });

        void Add(string tag, float number) => summary.Value.Add(new Summary.Types.Value { Tag = tag, SimpleValue = number });

        // The mean has the name alone. TensorBoard shows it beside the numbers of the granularities.
        void AddAll(string name, ImmutableArray<(string Granularity, float Number)> numbers)
        {
            if (numbers.IsEmpty) return;
            Add(name, numbers.Average(n => n.Number));
            foreach (var (granularity, number) in numbers) Add($"{name}/{granularity}", number);
        }
    }

    public void Dispose() => _stream.Dispose();

    // A record is the length, the length's checksum, the message, and the message's checksum (TFRecord).
    private void Write(Event message)
    {
        message.WallTime = (DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds;
        var data = message.ToByteArray(); // TorchSharp's messages cannot be written into a span
        var record = new byte[data.Length + 16];
        BinaryPrimitives.WriteInt64LittleEndian(record, data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(8), Checksum(record.AsSpan(0, 8)));
        data.CopyTo(record, 12);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(12 + data.Length), Checksum(data));
        _stream.Write(record);
    }

    // CRC-32C, masked so that the checksum of data that contain checksums is not weak.
    private static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        foreach (var value in bytes) crc = BitOperations.Crc32C(crc, value);
        return BitOperations.RotateRight(~crc, 15) + 0xa282ead8;
    }
}
