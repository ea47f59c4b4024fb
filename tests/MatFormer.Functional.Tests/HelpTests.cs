using System.Text.RegularExpressions;

namespace MatFormer.Functional.Tests;

/// <summary>Reads the help of every command of every kind of model.</summary>
[Trait("Kernels", "any")]
public sealed partial class HelpTests
{
    private const int Columns = 100;

    [Fact]
    public Task TheHelpOfALanguageModelFitsTheScreen() => TheHelpFitsTheScreen<OracleLlama>();

    [Fact]
    public Task TheHelpOfAVisionTransformerFitsTheScreen() => TheHelpFitsTheScreen<OtherViT>();

    [Fact]
    public Task TheHelpOfATextEncoderFitsTheScreen() => TheHelpFitsTheScreen<ByteEncoder>();

    [Fact]
    public async Task ProfilesWritesNoFilesAndHasNoFolder() =>
        Assert.DoesNotContain("--out", await Help<ByteEncoder>("profiles", "--help"), StringComparison.Ordinal);

    // A line such as "training: 4 texts; eval: 16" speaks of other commands.
    private static async Task TheHelpFitsTheScreen<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var root = await Help<TModel>("--help");
        var commands = Listed().Matches(root[root.IndexOf("Commands:", StringComparison.Ordinal)..])
            .Select(match => match.Groups[1].Value).ToList();
        Assert.Contains("train", commands);
        Assert.Contains("profiles", commands);
        Assert.All(root.Split('\n'), Fits);
        foreach (var command in commands)
        {
            var help = await Help<TModel>(command, "--help");
            Assert.All(help.Split('\n'), Fits);
            foreach (var other in commands.Append("training").Where(other => other != command))
                Assert.DoesNotContain($"{other}:", help, StringComparison.Ordinal);
        }

        static void Fits(string line) => Assert.True(line.TrimEnd().Length <= Columns, $"{line.TrimEnd().Length} columns: {line}");
    }

    private static async Task<string> Help<TModel>(params string[] arguments)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using StringWriter output = new(), error = new();
        Assert.Equal(0, await ModelProgram.RunAsync<TModel>(arguments, output, error, CancellationToken.None));
        return output.ToString();
    }

    [GeneratedRegex("^  ([a-z-]+)  ", RegexOptions.Multiline)]
    private static partial Regex Listed();
}
