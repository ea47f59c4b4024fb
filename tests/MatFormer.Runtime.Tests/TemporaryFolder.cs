namespace MatFormer.Runtime.Tests;

/// <summary>A folder that is deleted when it is disposed of.</summary>
public sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("matformer-runtime-").FullName;

    /// <summary>The path of a file or folder in this folder.</summary>
    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>The relative paths of all files in this folder.</summary>
    public string[] Files =>
        [.. Directory.GetFiles(Path, "*", SearchOption.AllDirectories)
        .Select(f => System.IO.Path.GetRelativePath(Path, f)).Order(StringComparer.Ordinal)];

    public void Dispose() => Directory.Delete(Path, recursive: true);

    /// <summary>Writes different text documents, about 110 KB in all, and returns their folder.</summary>
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
