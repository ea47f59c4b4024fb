namespace MatFormer;

/// <summary>Reads the records of a file one after the other, so that the file may be larger than memory.</summary>
/// <param name="file">
/// The file, which can be sought. It is disposed after the last record. It throws <see cref="OperationCanceledException"/> if the
/// preparation is cancelled.
/// </param>
/// <param name="columns">
/// The names of the columns to read: <c>text</c> for language models, <c>query</c> and <c>document</c> for text encoders.
/// </param>
/// <returns>For each record, the texts of the columns in the order of <paramref name="columns"/>. An empty text stands for none.</returns>
/// <exception cref="InvalidDataException">
/// The file is damaged or lacks a column. The message follows the name of the file and a colon, so it says what is wrong and what to do.
/// </exception>
public delegate IEnumerable<string[]> RecordReader(Stream file, IReadOnlyList<string> columns);
