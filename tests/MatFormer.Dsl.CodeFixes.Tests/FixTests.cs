using System.Runtime.CompilerServices;

namespace MatFormer.CodeFixes.Tests;

/// <summary>Each fix mends its mistake and leaves all other characters as they were.</summary>
public sealed class FixTests
{
    private const string Lm = "[MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]";
    private const string ViT = "[MatViT(Image = 32, Patch = 4, Classes = 10, Layers = 8, Width = 256, Heads = 8)]";
    private const string Encoder = "[MatEncoder(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256, Embedding = 64)]";
    private const string Ff = "[FeedForward(1024, Activation.SwiGlu)]";
    private const string Gr = "[Granularity(\"S\", 128), Granularity(\"M\", 256), Granularity(\"XL\", 1024)]";
    private const string Class = "public sealed partial class Lm;";

    /// <summary>The id, what the fix is called, and the source, in which [|old => new|] is what it changes.</summary>
    public static TheoryData<string, string, string> Fixes => new()
    {
        { "MFD0001", "Make partial", Declare(type: "public sealed /* one */ [| => partial |]class Lm; // two") },
        { "MFD0001", "Make partial", Declare(type: "[| => partial |]class Lm;") },
        {
            "MFD0001",
            "Make partial",
            $"public static [| => partial |]class A\n{{\n    internal [| => partial |]record struct B\n    {{\n{Lm} {Ff} {Gr}\n"
                + "        private [| => partial |]class Lm;\n    }\n}"
        },
        {
            "MFD0002",
            "Make partial",
            $"public static [| => partial |]class A {{ partial interface B {{ {Lm} {Ff} {Gr} partial class Lm; }} }}"
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
            Declare(gr: "[Granularity([|\"M\", 256 => \"S\", 128|]), Granularity([|\"S\", 128 => \"M\", 256|]), "
                + "Granularity(\"XL\", 1024)]")
        },
        {
            "MFD0016",
            "Sort the granularities by width",
            Declare(gr: "[Granularity([|\"XL\", 1.0 => \"S\", 128|])] // first\n[Granularity([|\"M\", width: 256 => \"M\", width: 256|]),\n"
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
    public void Every_fix_that_a_page_names_is_tried()
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
    public async Task A_fix_mends_the_mistake(string id, string title, string marked)
    {
        var (before, after) = Marks.Split("using MatFormer;\n" + marked);
        using var editor = new Editor(before);
        var diagnostic = Assert.Single((await editor.DiagnosticsAsync()).Where(d => d.Id == id).Take(1));
        var fix = Assert.Single(await editor.FixesOfAsync(diagnostic));
        Assert.Equal(title, fix.Action.Title);
        await editor.ApplyAsync(fix.Action);
        Assert.Equal(after, Assert.Single(await editor.TextsAsync()));
        Assert.Empty(await editor.DiagnosticsAsync());
        Assert.Empty(await editor.CompilerErrorsAsync());
    }

    /// <summary>Where no change is known to be what is meant.</summary>
    public static TheoryData<string, string> Unfixable => new()
    {
        // Written in parts, or nothing to repeat.
        { "MFD0019", Declare(more: "[Profile(\"P\", \"4*S \" + \"4*Medium\")]") },
        { "MFD0021", Declare(more: "[Profile(\"P\", \"4*S \" + \"3*M\")]") },
        { "MFD0021", Declare(more: "[Profile(\"P\", \"\")]") },

        // Two as wide as each other have no order, nor have parts in several files.
        { "MFD0016", Declare(gr: "[Granularity(\"S\", 128), Granularity(\"M\", 128), Granularity(\"XL\", 1024)]") },

        // Cut to the feed-forward's width, it would be as wide as the last.
        { "MFD0015", Declare(gr: "[Granularity(\"S\", 128), Granularity(\"L\", 2048), Granularity(\"XL\", 1024)]") },

        // What is to be written is the user's to say.
        { "MFD0007", Declare(lm: "[MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256)]") },
        { "MFD0004", Declare(type: "public partial class Lm : System.IO.MemoryStream;") },
        { "MFD0025", Declare(more: "[Profile(\"xl\", \"8*S\")]") },
        { "MFD0103", Declare(type: $"{Class}\nclass A {{ object P => Profile<Lm>.Parse(\"4*\" + \"S\"); }}") },
        { "MFD0012", Declare(lm: "[MatLM(Layers = 8, Width = 21, Heads = 7, Context = 256, Vocabulary = 256)]") },
    };

    [Theory]
    [MemberData(nameof(Unfixable))]
    public async Task No_fix_is_offered_where_it_would_be_a_guess(string id, string source)
    {
        using var editor = new Editor("using MatFormer;\n" + source);
        var diagnostic = Assert.Single(await editor.DiagnosticsAsync());
        Assert.Equal(id, diagnostic.Id);
        Assert.Empty(await editor.FixesOfAsync(diagnostic));
    }

    [Fact]
    public async Task Granularities_of_several_files_are_not_sorted()
    {
        using var editor = new Editor(
            "using MatFormer;\n" + Declare(gr: "[Granularity(\"M\", 256)]"),
            "using MatFormer; [Granularity(\"S\", 128), Granularity(\"XL\", 1024)] partial class Lm;");
        var diagnostic = Assert.Single(await editor.DiagnosticsAsync());
        Assert.Equal("MFD0016", diagnostic.Id);
        Assert.Empty(await editor.FixesOfAsync(diagnostic));
    }

    /// <summary>Several of one mistake, in two files: [|old => new|] is what fixing all changes.</summary>
    public static TheoryData<string, string, string> Everywhere => new()
    {
        {
            "MFD0001",
            $"[| => partial |]class A {{ {Lm} {Ff} {Gr} public [| => partial |]class B; {Lm} {Ff} {Gr} public [| => partial |]class C; }}",
            $"{Lm} {Ff} {Gr} sealed [| => partial |]class D;"
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
            Declare(gr: "[Granularity([|\"M\", 256 => \"S\", 128|]), Granularity([|\"S\", 128 => \"M\", 256|]), "
                + "Granularity(\"XL\", 1024)]"),
            Declare(
                gr: "[Granularity([|\"XL\", 1024 => \"S\", 0.5|]), Granularity([|\"S\", 0.5 => \"XL\", 1024|])]",
                type: "partial class Other;")
        },
    };

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Fixing_all_mends_every_file(string id, string first, string second)
    {
        var (before, after) = Marks.Split("using MatFormer;\n" + first);
        var (otherBefore, otherAfter) = Marks.Split("using MatFormer;\n" + second);
        using var editor = new Editor(before, otherBefore);
        var (provider, action) = Assert.Single(await editor.FixesOfAsync((await editor.DiagnosticsAsync()).First(d => d.Id == id)));
        await editor.ApplyEverywhereAsync(provider, action, id);
        Assert.Equal([after, otherAfter], await editor.TextsAsync());
        Assert.Empty(await editor.DiagnosticsAsync());
        Assert.Empty(await editor.CompilerErrorsAsync());
    }

    private static string Declare(string lm = Lm, string ff = Ff, string gr = Gr, string more = "", string type = Class) =>
        string.Join('\n', lm, ff, gr, more, type);
}
