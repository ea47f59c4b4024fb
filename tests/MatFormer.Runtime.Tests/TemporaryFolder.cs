namespace MatFormer.Runtime.Tests;

/// <summary>A folder that is deleted at the end.</summary>
public sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("matformer-runtime-").FullName;

    /// <summary>A path in it.</summary>
    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>Everything in it, as relative paths.</summary>
    public string[] Files =>
        [.. Directory.GetFiles(Path, "*", SearchOption.AllDirectories)
        .Select(f => System.IO.Path.GetRelativePath(Path, f)).Order(StringComparer.Ordinal)];

    public void Dispose() => Directory.Delete(Path, recursive: true);

    /// <summary>Writes text documents of different content, in all about 110 KB, and gives their folder.</summary>
    public string WriteTexts(string name = "texts", int documents = 60)
    {
        var folder = this[name];
        Directory.CreateDirectory(folder);
        string[] words = ["the", "model", "returns", "a", "nested", "width", "of", "every", "layer", "and", "its", "loss"];
        var random = new Random(5);
        for (var document = 0; document < documents; document++)
        {
            var text = string.Join(' ', Enumerable.Range(0, 330).Select(_ => words[random.Next(words.Length)])) + ".\n";
            File.WriteAllText(System.IO.Path.Combine(folder, $"{document:D2}.txt"), text);
        }

        return folder;
    }
}
