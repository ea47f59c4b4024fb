using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace MatFormer.Functional.Tests;

/// <summary>Makes folders as another program would write them: without our metadata, in any number of files.</summary>
internal static class DenseFolder
{
    /// <summary>Splits weights into files, with an index if there are several files, and copies the config.json beside them.</summary>
    public static string Split(string from, string folder, int files = 1)
    {
        Directory.CreateDirectory(folder);
        using var reader = SafetensorsReader.Open(from);
        var parts = reader.Tensors.Select((tensor, i) => (tensor, i)).GroupBy(pair => pair.i % files, pair => pair.tensor).ToList();
        var map = new JsonObject();
        foreach (var part in parts)
        {
            var name = files == 1
                ? "model.safetensors"
                : string.Create(CultureInfo.InvariantCulture, $"model-{part.Key + 1:D5}-of-{files:D5}.safetensors");
            SafetensorsWriter.Write(
                Path.Combine(folder, name), [.. part.Select(tensor => new SafetensorsEntry(tensor.Name, tensor.Type, tensor.Shape))],
                new Dictionary<string, string> { ["format"] = "pt" },
                (tensor, stream) => stream.Write(Bytes(reader, reader.Find(tensor.Name)!)));
            foreach (var tensor in part) map[tensor.Name] = name;
        }

        if (files > 1) WriteIndex(folder, map);
        var config = Path.Combine(Path.GetDirectoryName(reader.Path)!, "config.json");
        if (File.Exists(config)) File.Copy(config, Path.Combine(folder, "config.json"), overwrite: true);
        return folder;
    }

    public static void WriteIndex(string folder, JsonObject map) => File.WriteAllText(
        Path.Combine(folder, "model.safetensors.index.json"),
        new JsonObject { ["metadata"] = new JsonObject { ["total_size"] = 1 }, ["weight_map"] = map }.ToJsonString());

    public static JsonObject Index(string folder) =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "model.safetensors.index.json")))!["weight_map"]!.DeepClone().AsObject();

    public static JsonObject Config(string folder) => JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "config.json")))!.AsObject();

    /// <summary>Sets keys of a folder's config.json to JSON values, and removes the keys whose value is null.</summary>
    public static void Configure(string folder, params (string Key, string? Json)[] values)
    {
        var path = Path.Combine(folder, "config.json");
        var config = File.Exists(path) ? Config(folder) : [];
        foreach (var (key, json) in values)
        {
            config.Remove(key);
            if (json is not null) config.Add(key, JsonNode.Parse(json));
        }

        File.WriteAllText(path, config.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
    }

    /// <summary>Rewrites the only file of a folder with other tensors. New tensors are zeros.</summary>
    public static void Alter(string folder, Func<IEnumerable<SafetensorsEntry>, IEnumerable<SafetensorsEntry>> tensors)
    {
        var path = Path.Combine(folder, "model.safetensors");
        Dictionary<string, byte[]> data;
        List<SafetensorsEntry> altered;
        using (var reader = SafetensorsReader.Open(path))
        {
            data = reader.Tensors.ToDictionary(tensor => tensor.Name, tensor => Bytes(reader, tensor));
            altered = [.. tensors(reader.Tensors)];
        }

        SafetensorsWriter.Write(path, altered, new Dictionary<string, string>(), (tensor, stream) =>
            stream.Write(data.TryGetValue(tensor.Name, out var bytes) && bytes.Length == tensor.Length ? bytes : new byte[tensor.Length]));
    }

    private static byte[] Bytes(SafetensorsReader reader, SafetensorsEntry tensor)
    {
        var bytes = new byte[tensor.Length];
        reader.Read(tensor, 0, bytes);
        return bytes;
    }
}
