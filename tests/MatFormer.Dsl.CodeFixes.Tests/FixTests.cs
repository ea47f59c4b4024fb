using System.Runtime.CompilerServices;

namespace MatFormer.CodeFixes.Tests;

/// <summary>Each fix mends its mistake and changes no other characters.</summary>
public sealed class FixTests
{
    private const string Lm = "[MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]";
    private const string ViT = "[MatViT(Image = 32, Patch = 4, Classes = 10, Layers = 8, Width = 256, Heads = 8)]";
    private const string Encoder = "[MatEncoder(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256, Embedding = 64)]";
    private const string Ff = "[FeedForward(1024, Activation.SwiGlu)]";
    private const string Gr = "[Granularity(\"S\", 128), Granularity(\"M\", 256), Granularity(\"XL\", 1024)]";
    private const string Class = "public sealed partial class Lm;";

    /// <summary>The id, the title of the fix, and the source as <see cref="Marks"/> reads it.</summary>
    public static TheoryData<string, string, string> Fixes => new()
    {
        { "MFD0001", "Make partial", Declare(type: "public sealed /* one */ [| => partial |]class {|MFD0001:Lm|}; // two") },
        { "MFD0001", "Make partial", Declare(type: "[| => partial |]class {|MFD0001:Lm|};") },
        {
            "MFD0001",
            "Make partial",
            "public static [| => partial |]class {|MFD0002:A|}\n{\n    internal [| => partial |]record struct {|MFD0002:B|}\n"
                + $"    {{\n{Lm} {Ff} {Gr}\n"
                + "        private [| => partial |]class {|MFD0001:Lm|};\n    }\n}"
        },
        {
            "MFD0002",
            "Make partial",
            $"public static [| => partial |]class {{|MFD0002:A|}} {{ partial interface B {{ {Lm} {Ff} {Gr} partial class Lm; }} }}"
        },
        { "MFD0007", "Write 1", Declare(lm: Lm.Replace("Layers = 8", "Layers = [|0 => 1|]", StringComparison.Ordinal)) },
        { "MFD0007", "Write 8", Declare(lm: Lm.Replace("Heads = 8", "Heads /**/ = [|-8 => 8|] /**/", StringComparison.Ordinal)) },
        { "MFD0007", "Write 131072", Declare(more: "[Attention(HeadWidth = [|1_000_000 => 131072|])]", ff: Ff) },
        { "MFD0010", "Write 8", Declare(lm: Lm.Replace("Heads = 8", "Heads = [|7 => 8|]", StringComparison.Ordinal)) },
        {
            "MFD0010",
            "Write 256",
            Declare(lm: Lm.Replace("Heads = 8", "Heads = [|1000 => 256|]", StringComparison.Ordinal), more: Learned)
        },
        { "MFD0011", "Write 4", Declare(more: "[Attention(KeyValueHeads = [|3 => 4|])]") },
        { "MFD0011", "Write 8", Declare(more: "[Attention(KeyValueHeads = [|16 => 8|])]") },
        { "MFD0012", "Write 34", Declare(more: "[Attention(HeadWidth = [|33 => 34|])]") },
        { "MFD0012", "Write 6", Declare(lm: "[MatLM(Layers = 8, Width = 24, Heads = [|8 => 6|], Context = 256, Vocabulary = 256)]") },
        { "MFD0015", "Write 1024", Declare(gr: "[Granularity(\"S\", 128), Granularity(\"XL\", [|2048 => 1024|])]") },
        {
            "MFD0016",
            "Sort the granularities by width",
            Declare(gr: "[Granularity([|\"M\", 256 => \"S\", 128|]), Granularity([|\"S\", {|MFD0016:128|} => \"M\", 256|]), "
                + "Granularity(\"XL\", 1024)]")
        },
        {
            "MFD0016",
            "Sort the granularities by width",
            Declare(gr: "[Granularity([|\"XL\", 1.0 => \"S\", 128|])] // first\n"
                + "[Granularity([|\"M\", width: {|MFD0016:256|} => \"M\", width: 256|]),\n"
                + " Granularity([|\"S\", 128 => \"XL\", 1.0|])] /* last */")
        },
        { "MFD0017", "Write 1024", Declare(gr: "[Granularity(\"S\", 128), Granularity(\"XL\", width: [|512 => 1024|])]") },
        { "MFD0017", "Write 1.0", Declare(gr: "[Granularity(\"S\", 128), Granularity(\"XL\", [|0.5 => 1.0|])]") },
        { "MFD0018", "Write 0.2998046875", Declare(gr: "[Granularity(\"S\", [|0.3 => 0.2998046875|]), Granularity(\"XL\", 1.0)]") },
        { "MFD0018", "Write 1.0", Declare(gr: "[Granularity(\"S\", 0.5), Granularity(\"XL\", [|1.5 => 1.0|])]") },
        { "MFD0019", "Write M", Declare(more: "[Profile(\"P\", \"4*S 4*[|Medium => M|]\")]") },
        { "MFD0019", "Write S", Declare(more: "[Profile(\"P\", @\"[|s => S|]  7*S\")]") },
        { "MFD0019", "Write XL", Declare(more: "[Profile(\"P\", \"7*S [|xl => XL|]\")]") },
        { "MFD0019", "Write XL", Declare(more: "[Profile(\"P\", \"7*S 1*[|XXL => XL|]\")]") },
        { "MFD0021", "Write 4*S 4*M", Declare(more: "[Profile(\"P\", \"[|4*S 3*M => 4*S 4*M|]\")]") },
        { "MFD0021", "Write 4*S 1*M 3*XL", Declare(more: "[Profile(\"P\", \"[|4*S M XL => 4*S 1*M 3*XL|]\")]") },
        { "MFD0021", "Write 8*S", Declare(more: "[Profile(\"P\", \"[|2000000000*S 2000000000*M => 8*S|]\")]") },
        { "MFD0021", "Write 4*S 4*M", Declare(more: "[Profile(\"P\", \"[|4*S 5*M XL => 4*S 4*M|]\")]") },
        {
            "MFD0021",
            "Write 128, 256, 1024, 1024, 1024, 1024, 1024, 1024",
            Declare(more: "[Profile(\"P\", [|128, 256, 1024 => 128, 256, 1024, 1024, 1024, 1024, 1024, 1024|])]")
        },
        { "MFD0022", "Write 128", Declare(more: "[Profile(\"P\", 128, 128, 128, 128, 128, 128, 128, [|129 => 128|])]") },
        { "MFD0022", "Write 1024", Declare(more: "[Profile(\"P\", new[] { 128, 128, 128, 128, 128, 128, 128, [|4096 => 1024|] })]") },
        { "MFD0023", "Write 2953472", Declare(more: "[Profile(\"P\", MaxParameters = [|1_000 => 2953472|])]") },
        { "MFD0023", "Write 0.125", Declare(more: "[Profile(\"P\", FeedForwardShare = [|0.1 => 0.125|])]") },
        {
            "MFD0034",
            "Write 4",
            Declare(gr: "[Granularity(\"S\", 128, Heads = [|3 => 4|]), Granularity(\"XL\", 1024)]", more: "[Attention(KeyValueHeads = 2)]")
        },
        {
            "MFD0035",
            "Write 4",
            Declare(gr: "[Granularity(\"S\", 128, Heads = 4), Granularity(\"M\", 256, Heads = [|2 => 4|]), Granularity(\"XL\", 1024)]")
        },
        {
            "MFD0059",
            "Write 96",
            Declare(gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"M\", 256, Width = [|64 => 96|]), Granularity(\"XL\", 1024)]")
        },
        {
            "MFD0061",
            "Write 96",
            Declare(
                gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"S\", 256, Width = [|128 => 96|], Layers = \"0\"), "
                    + "Granularity(\"XL\", 1024)]")
        },
        { "MFD0063", "Write 8, 4", Declare(more: "[Precision([|4 => 8, 4|])]") },
        { "MFD0064", "Write 4", Declare(more: "[Precision(8, 4), Profile(\"P\", \"8*S\", Bits = [|3 => 4|])]") },
        { "MFD0065", "Write 128", Declare(gr: "[Granularity(\"S\", [|120 => 128|]), Granularity(\"XL\", 1024)]", more: "[Precision(8)]") },
        { "MFD0041", "Write 15", Declare(more: "[ProfileGrid([|99 => 15|])]") },
        {
            "MFD0042",
            "Write 65536",
            Declare(lm: "[MatLM(Layers = 8, Width = 256, Heads = 8, Context = [|100_000 => 65536|], Vocabulary = 256)]", more: Learned)
        },
        { "MFD0047", "Write 8", Declare(lm: ViT.Replace("Patch = 4", "Patch = [|6 => 8|]", StringComparison.Ordinal)) },
        { "MFD0051", "Write 16, 32, 64", Declare(lm: Encoder, more: "[NestedEmbedding([|16,32 => 16, 32, 64|])]") },
        {
            "MFD0054",
            "Write 260",
            Declare(
                lm: "[MatViT(Image = 32, Patch = 4, Classes = 10, Layers = 8, Width = [|258 => 260|], Heads = 2)]",
                more: "[Position(PositionKind.Sinusoidal)]")
        },
        { "MFD0103", "Write XL", Declare(type: $"{Class}\nclass A {{ object P => Profile<Lm>.Parse(\"[|xl => XL|]\"); }}") },
        { "MFD0103", "Write S", Declare(type: $"{Class}\nclass A {{ object P => Profile<Lm>.Parse(\"4*S 4*[|L => S|]\"); }}") },
        { "MFD0103", "Write 4*S 4*M", Declare(type: $"{Class}\nclass A {{ object P => Profile<Lm>.Parse(\"[|4*S M => 4*S 4*M|]\"); }}") },
    };

    private const string Learned = "[Position(PositionKind.Learned)]";

    [Fact]
    public void EachFixThatAPageDescribesIsTested()
    {
        var pages = Path.Combine(Path.GetDirectoryName(ThisFile())!, "..", "..", "docs", "diagnostics");
        var named = Directory.GetFiles(pages, "MFD*.md")
            .Where(page => File.ReadAllText(page).ReplaceLineEndings("\n").Contains("\n## Fix\n\n", StringComparison.Ordinal))
            .Select(Path.GetFileNameWithoutExtension);
        Assert.Equal(
            named.Order(StringComparer.Ordinal),
            Fixes.Select(row => row.Data.Item1).Distinct().Order(StringComparer.Ordinal));

        static string ThisFile([CallerFilePath] string path = "") => path;
    }

    [Theory]
    [MemberData(nameof(Fixes))]
    public Task AFixMendsTheMistake(string id, string title, string marked) => FixOf.IsAsync(id, title, marked);

    /// <summary>Mistakes for which no change is known to be the intended one.</summary>
    public static TheoryData<string> Unfixable =>
    [
        // The text has several parts, or no layer to repeat.
        Declare(more: "[Profile(\"P\", {|MFD0019:\"4*S \" + \"4*Medium\"|})]"),
        Declare(more: "[Profile(\"P\", {|MFD0021:\"4*S \" + \"3*M\"|})]"),
        Declare(more: "[Profile(\"P\", {|MFD0021:\"\"|})]"),

        // Two granularities of one width have no order.
        Declare(gr: "[Granularity(\"S\", 128), Granularity(\"M\", {|MFD0016:128|}), Granularity(\"XL\", 1024)]"),

        // With the width of the feed-forward, the granularity would be as wide as the last one.
        Declare(gr: "[Granularity(\"S\", 128), Granularity(\"L\", {|MFD0015:2048|}), Granularity(\"XL\", 1024)]"),

        // Only the user knows what to write.
        Declare(lm: "[{|MFD0007:MatLM|}(Layers = 8, Width = 256, Heads = 8, Context = 256)]"),
        Declare(type: "public partial class Lm : {|MFD0004:System.IO.MemoryStream|};"),
        Declare(more: "[Profile({|MFD0025:\"xl\"|}, \"8*S\")]"),
        Declare(type: Class + "\nclass A { object P => Profile<Lm>.Parse({|MFD0103:\"4*\" + \"S\"|}); }"),
        Declare(lm: "[MatLM(Layers = 8, Width = 21, Heads = {|MFD0012:7|}, Context = 256, Vocabulary = 256)]"),
    ];

    [Theory]
    [MemberData(nameof(Unfixable))]
    public Task NoFixIsOfferedWhereItWouldBeAGuess(string marked) => FixOf.IsNotOfferedAsync(marked);

    [Fact]
    public Task GranularitiesOfSeveralFilesAreNotSorted() => FixOf.IsNotOfferedAsync(
        Declare(gr: "[Granularity(\"M\", 256)]"),
        "[Granularity(\"S\", {|MFD0016:128|}), Granularity(\"XL\", 1024)] partial class Lm;");

    /// <summary>The id of a mistake that two files have several times, and the files as <see cref="Marks"/> reads them.</summary>
    public static TheoryData<string, string, string> Everywhere => new()
    {
        {
            "MFD0001",
            $"[| => partial |]class {{|MFD0002:{{|MFD0002:A|}}|}} {{ {Lm} {Ff} {Gr} public [| => partial |]class {{|MFD0001:B|}}; "
                + $"{Lm} {Ff} {Gr} public [| => partial |]class {{|MFD0001:C|}}; }}",
            $"{Lm} {Ff} {Gr} sealed [| => partial |]class {{|MFD0001:D|}};"
        },
        {
            "MFD0010",
            Declare(lm: Lm.Replace("Heads = 8", "Heads = [|7 => 8|]", StringComparison.Ordinal)),
            Declare(lm: Lm.Replace("Heads = 8", "Heads = [|5 => 4|]", StringComparison.Ordinal), type: "partial class Other;")
        },
        {
            "MFD0021",
            Declare(more: "[Profile(\"P\", \"[|S => 8*S|]\")] // one\n[Profile(\"Q\", \"[|M => 8*M|]\"), Profile(\"R\", \"8*S\")]"),
            Declare(more: "[Profile(\"P\", [|128, 1024 => 128, 1024, 1024, 1024, 1024, 1024, 1024, 1024|])]", type: "partial class Other;")
        },
        {
            "MFD0016",
            Declare(gr: "[Granularity([|\"M\", 256 => \"S\", 128|]), Granularity([|\"S\", {|MFD0016:128|} => \"M\", 256|]), "
                + "Granularity(\"XL\", 1024)]"),
            Declare(
                gr: "[Granularity([|\"XL\", 1024 => \"S\", 0.5|]), Granularity([|\"S\", {|MFD0016:0.5|} => \"XL\", 1024|])]",
                type: "partial class Other;")
        },
    };

    [Theory]
    [MemberData(nameof(Everywhere))]
    public Task FixingAllMendsEveryFile(string id, string first, string second) => FixOf.EverywhereIsAsync(id, first, second);

    private static string Declare(string lm = Lm, string ff = Ff, string gr = Gr, string more = "", string type = Class) =>
        string.Join('\n', lm, ff, gr, more, type);
}
