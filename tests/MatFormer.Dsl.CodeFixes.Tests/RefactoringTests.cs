namespace MatFormer.CodeFixes.Tests;

/// <summary>The refactoring turns the pattern of a profile into a budget, and a budget into a pattern.</summary>
public sealed class RefactoringTests
{
    private const string Model = """
        [MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]
        [FeedForward(1024, Activation.SwiGlu)]
        [Granularity("S", 128), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
        [Attribute]
        public sealed partial class DocsLm;
        """;

    /// <summary>The attribute as <see cref="Marks"/> reads it, and the title. CostTests checks the generator's counts.</summary>
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
    public Task APatternBecomesABudgetAndABudgetAPattern(string attribute, string title) =>
        RefactoringOf.IsAsync(title, Model.Replace("[Attribute]", attribute, StringComparison.Ordinal));

    [Theory]
    [InlineData("""[Profile("$$Wrong", "{|MFD0021:7*S|}")]""")]
    [InlineData("""[Profile({|MFD0024:"$$Bare"|})]""")]
    [InlineData("""[Profile(pattern: "$$8*S", name: "P")]""")]
    [InlineData("""[System.Obsolete("$$Both", false)]""")]
    [InlineData("""[Profile("P", "8*S")] /* $$ */""")]
    public Task NothingIsOfferedAtOtherPlaces(string attribute) =>
        RefactoringOf.IsNotOfferedAsync(Model.Replace("[Attribute]", attribute, StringComparison.Ordinal));
}
