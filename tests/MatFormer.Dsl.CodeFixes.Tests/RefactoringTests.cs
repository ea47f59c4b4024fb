namespace MatFormer.CodeFixes.Tests;

/// <summary>A profile's pattern turned into a budget, and back.</summary>
public sealed class RefactoringTests
{
    private const string Model = """
        using MatFormer;
        [MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]
        [FeedForward(1024, Activation.SwiGlu)]
        [Granularity("S", 128), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
        [Attribute]
        public sealed partial class DocsLm;
        """;

    /// <summary>Counts are the generator's, which CostTests compares with a model's own.</summary>
    public static TheoryData<string, string> Changes => new()
    {
        {
            """[Profile("Phone", [|"4*S 4*M" => MaxParameters = 3_346_688|])] // four and four""",
            "Let the compiler solve it: MaxParameters = 3_346_688"
        },
        {
            """[Profile("Phone", /* why */ [|pattern: "8*XL" => MaxParameters = 8_458_496|])]""",
            "Let the compiler solve it: MaxParameters = 8_458_496"
        },
        {
            """[Profile("P", [|128, 128, 128, 128, 256, 256, 256, 256 => MaxParameters = 3_346_688|])]""",
            "Let the compiler solve it: MaxParameters = 3_346_688"
        },
        {
            """[Profile("Laptop", [|"2*M 4*L 2*XL" => MaxParameters = 5_705_984|])]""",
            "Let the compiler solve it: MaxParameters = 5_705_984, which gives 7*L 1*XL"
        },
        {
            """[Profile("Other", "8*S"), Profile("Watch",  [|MaxParameters = 3_000_000 => "8*S"|] )]""",
            "Write the pattern: \"8*S\""
        },
        {
            """[Profile("Watch", [|MaxParameters = 3_346_688 => "4*S 4*M"|])]""",
            "Write the pattern: \"4*S 4*M\""
        },
    };

    [Theory]
    [MemberData(nameof(Changes))]
    public async Task The_other_form_is_offered(string attribute, string title)
    {
        var (before, after) = Marks.Split(Model.Replace("[Attribute]", attribute, StringComparison.Ordinal));
        using var editor = new Editor(before);
        var cursor = before.IndexOf(attribute.Split("[|")[1].Split(" =>")[0], StringComparison.Ordinal);
        var action = Assert.Single(await editor.RefactoringsAsync(cursor));
        Assert.Equal(title, action.Title);
        await editor.ApplyAsync(action);
        Assert.Equal(after, Assert.Single(await editor.TextsAsync()));
        Assert.Empty(await editor.DiagnosticsAsync());
        Assert.Empty(await editor.CompilerErrorsAsync());
    }

    [Theory]
    [InlineData("""[Profile("$$Wrong", "7*S")]""")]
    [InlineData("""[Profile("$$Bare")]""")]
    [InlineData("""[Profile(pattern: "$$8*S", name: "P")]""")]
    [InlineData("""[System.Obsolete("$$Both", false)]""")]
    [InlineData("""[Profile("P", "8*S")] /* $$ */""")]
    public async Task Elsewhere_nothing_is_offered(string attribute)
    {
        var marked = Model.Replace("[Attribute]", attribute, StringComparison.Ordinal);
        var cursor = marked.IndexOf("$$", StringComparison.Ordinal);
        using var editor = new Editor(marked.Remove(cursor, 2));
        Assert.Empty(await editor.RefactoringsAsync(cursor));
    }
}
