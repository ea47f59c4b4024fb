namespace MatFormer;

/// <summary>What a vector of an index stands for.</summary>
/// <param name="Title">A line that names it.</param>
/// <param name="Text">What was embedded, or as much of it as a search should show; may be empty.</param>
public readonly record struct IndexEntry(string Title, string Text = "");
