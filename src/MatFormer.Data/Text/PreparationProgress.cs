namespace MatFormer;

/// <summary>How far the preparation of a <see cref="TextCorpus"/> is.</summary>
/// <param name="Step">What is done: <c>reading text</c>, then <c>encoding text</c> if the tokens are not bytes.</param>
/// <param name="Done">The number of bytes that are done: of the files, or of the text that is encoded.</param>
/// <param name="Total">The number of all bytes.</param>
public readonly record struct PreparationProgress(string Step, long Done, long Total);
