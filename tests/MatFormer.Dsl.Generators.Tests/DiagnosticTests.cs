using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis.Testing;

namespace MatFormer.Generators.Tests;

/// <summary>Each mistake in a declaration gives one diagnostic in its place, which says what to write, and no second error.</summary>
public sealed class DiagnosticTests
{
    private const string Lm = "[MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]";
    private const string Ff = "[FeedForward(1024, Activation.SwiGlu)]";
    private const string Gr = "[Granularity(\"S\", 128), Granularity(\"M\", 256), Granularity(\"XL\", 1024)]";
    internal const string Header = "#pragma warning disable CS1591\nusing MatFormer;\n";
    private const string ViT = "[MatViT(Image = 32, Patch = 4, Classes = 10, Layers = 8, Width = 256, Heads = 8)]";
    private const string MeanViT =
        "[MatViT(Image = 32, Patch = 4, Classes = 10, Layers = 8, Width = 256, Heads = 8, Pooling = Pooling.Mean)]";

    private const string Encoder = "[MatEncoder(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256, Embedding = 64)]";
    private const string SevenHeads = "[MatLM(Layers = 8, Width = 256, Heads = {|MFD0010:7|}, Context = 256, Vocabulary = 256)]";
    private const string Class = "public sealed partial class Lm;";

    /// <summary>The id, the declaration with <c>[|</c> and <c>|]</c> around the place of the diagnostic, and the message.</summary>
    public static TheoryData<string, string, string> Mistakes => new()
    {
        {
            "MFD0001",
            Declare(type: "public sealed class [|Lm|];"),
            "The code of 'Lm' is generated into the class; declare it as 'partial class Lm'"
        },
        {
            "MFD0002",
            $"class [|Outer|]\n{{\n{Lm} {Ff} {Gr} public partial class Lm;\n}}",
            "'Outer' encloses 'Lm', whose code is generated; declare 'Outer' as partial too"
        },
        {
            "MFD0003",
            Declare(type: "public partial class Lm[|<T>|];"),
            "A model cannot have type parameters; declare 'Lm' without them"
        },
        {
            "MFD0003",
            $"partial class Outer[|<T>|]\n{{\n{Lm} {Ff} {Gr} public partial class Lm;\n}}",
            "A model cannot have type parameters; declare 'Outer' without them"
        },
        {
            "MFD0004",
            Declare(type: "public partial class Lm : [|System.IO.MemoryStream|];"),
            "'Lm' must derive from MatFormer.MatFormerModel, not from 'System.IO.MemoryStream'; remove the base "
                + "class"
        },
        {
            "MFD0005",
            Declare(type: "public abstract partial class [|Lm|];"),
            "'Lm' is abstract, which a model cannot be; declare it as 'partial class Lm'"
        },
        {
            "MFD0005",
            Declare(type: "public static partial class [|Lm|];"),
            "'Lm' is static, which a model cannot be; declare it as 'partial class Lm'"
        },
        {
            "MFD0005",
            Declare(type: "public partial record [|Lm|];"),
            "'Lm' is a record, which a model cannot be; declare it as 'partial class Lm'"
        },
        {
            "MFD0005",
            Declare(type: "file partial class [|Lm|];"),
            "'Lm' is local to its file, which a model cannot be; declare it as 'partial class Lm'"
        },
        {
            "MFD0005",
            Declare(type: "public partial class [|Lm|]();"),
            "'Lm' is a class with parameters, which a model cannot be; declare it as 'partial class Lm'"
        },
        {
            "MFD0007",
            Declare(lm: "[MatLM(Layers = [|0|], Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]"),
            "Layers is 0; write a number from 1 to 4096"
        },
        {
            "MFD0007",
            Declare(lm: "[MatLM(Layers = 8, Width = 256, Heads = [|-8|], Context = 256, Vocabulary = 256)]"),
            "Heads is -8; write a number from 1 to 1048576"
        },
        {
            "MFD0007",
            Declare(lm: "[[|MatLM|](Layers = 8, Width = 256, Heads = 8, Context = 256)]"),
            "Vocabulary is missing; write a number from 1 to 16777216"
        },
        {
            "MFD0007",
            Declare(ff: "[FeedForward(width: [|0|], activation: Activation.Gelu)]"),
            "The feed-forward's width is 0; write a number from 1 to 1048576"
        },
        {
            "MFD0007",
            Declare(gr: "[Granularity(\"S\", [|-1|]), Granularity(\"XL\", 1024)]"),
            "The width of 'S' is -1; write a number from 1 to 1048576"
        },
        {
            "MFD0007",
            Declare(more: "[Attention(KeyValueHeads = [|-2|])]"),
            "KeyValueHeads is -2; write a number from 1 to 1048576"
        },
        {
            "MFD0007",
            Declare(more: "[Attention(HeadWidth = [|1_000_000|])]"),
            "HeadWidth is 1000000; write a number from 1 to 131072"
        },
        {
            "MFD0008",
            Declare(more: "[Norm(Epsilon = [|-1e-5|])]"),
            "Epsilon is -1E-05; write a finite number above 0"
        },
        {
            "MFD0008",
            Declare(more: "[Attention(RotaryBase = [|double.NaN|])]"),
            "RotaryBase is NaN; write a finite number above 1"
        },
        {
            "MFD0007",
            Declare(more: "[[|RotaryScaling|](RotaryScalingKind.Llama3, 8)]"),
            "OriginalContext is missing; write a number from 1 to 16777216"
        },
        {
            "MFD0007",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = [|0|])]"),
            "OriginalContext is 0; write a number from 1 to 16777216"
        },
        {
            "MFD0008",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Linear, [|1|])]"),
            "The factor of [RotaryScaling] is 1; write a finite number above 1"
        },
        {
            "MFD0008",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 8192, LowFrequencyFactor = [|0|])]"),
            "LowFrequencyFactor is 0; write a finite number above 0"
        },
        {
            "MFD0008",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 8192, HighFrequencyFactor = [|0.5|])]"),
            "HighFrequencyFactor is 0.5; write a finite number above 1"
        },
        {
            "MFD0008",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 8192, LowFrequencyFactor = [|4.5|])]"),
            "HighFrequencyFactor is 4; write a finite number above 4.5"
        },
        {
            "MFD0009",
            Declare(more: "[RotaryScaling([|(RotaryScalingKind)2|], 8)]"),
            "2 is not a value of RotaryScalingKind; write one of Linear, Llama3"
        },
        {
            "MFD0009",
            Declare(ff: "[FeedForward(1024, [|(Activation)9|])]"),
            "9 is not a value of Activation; write one of Gelu, SquaredRelu, SwiGlu, GeGlu"
        },
        {
            "MFD0009",
            Declare(more: "[Norm([|(NormKind)2|])]"),
            "2 is not a value of NormKind; write one of Rms, Layer"
        },
        {
            "MFD0009",
            Declare(more: "[Position([|(PositionKind)3|])]"),
            "3 is not a value of PositionKind; write one of Rotary, Learned, Sinusoidal"
        },
        {
            "MFD0010",
            Declare(lm: "[MatLM(Layers = 8, Width = 256, Heads = [|7|], Context = 256, Vocabulary = 256)]"),
            "7 heads do not divide the width 256; write Heads = 8, or set the width of a head with "
                + "[Attention(HeadWidth = ...)]"
        },
        {
            "MFD0011",
            Declare(more: "[Attention(KeyValueHeads = [|3|])]"),
            "3 key/value heads cannot be shared evenly by 8 heads; write KeyValueHeads = 4"
        },
        {
            "MFD0011",
            Declare(more: "[Attention(KeyValueHeads = [|16|])]"),
            "16 key/value heads cannot be shared evenly by 8 heads; write KeyValueHeads = 8"
        },
        {
            "MFD0012",
            Declare(more: "[Attention(HeadWidth = [|33|])]"),
            "Rotary positions rotate pairs of numbers, but a head is 33 wide; write an even head width, or "
                + "[Position(PositionKind.Learned)]"
        },
        {
            "MFD0012",
            Declare(lm: "[MatLM(Layers = 8, Width = 24, Heads = [|8|], Context = 256, Vocabulary = 256)]"),
            "Rotary positions rotate pairs of numbers, but a head is 3 wide; write an even head width, or "
                + "[Position(PositionKind.Learned)]"
        },
        {
            "MFD0013",
            Declare(ff: "", type: "public partial class [|Lm|];"),
            "'Lm' declares no feed-forward; add one, such as [FeedForward(1024, Activation.SwiGlu)]"
        },
        {
            "MFD0014",
            Declare(gr: "", type: "public partial class [|Lm|];"),
            "'Lm' declares no granularity, but a nested model has at least two; write for example "
                + "[Granularity(\"S\", 128), Granularity(\"XL\", 1024)]"
        },
        {
            "MFD0014",
            Declare(gr: "[Granularity(\"XL\", 1024)]", type: "public partial class [|Lm|];"),
            "'Lm' declares one granularity, but a nested model has at least two; write for example "
                + "[Granularity(\"S\", 128), Granularity(\"XL\", 1024)]"
        },
        {
            "MFD0015",
            Declare(gr: "[Granularity(\"S\", 128), Granularity(\"XL\", [|2048|])]"),
            "'XL' keeps 2048 hidden units, but the feed-forward has 1024; write 1024 or less"
        },
        {
            "MFD0016",
            Declare(gr: "[Granularity(\"S\", 128), Granularity(\"M\", [|128|]), Granularity(\"XL\", 1024)]"),
            "'M' keeps 128 hidden units, which is not more than the 128 of 'S' before it; declare granularities narrowest "
                + "first, each wider than the one before"
        },
        {
            "MFD0017",
            Declare(gr: "[Granularity(\"S\", 128), Granularity(\"XL\", width: [|512|])]"),
            "The last granularity, 'XL', keeps 512 of 1024 hidden units; write 1024, so that none is left "
                + "untrained"
        },
        {
            "MFD0018",
            Declare(gr: "[Granularity(\"S\", [|0.3|]), Granularity(\"XL\", 1.0)]"),
            "0.3 of 1024 hidden units is 307.2, not a whole number from 1 to 1024; write 0.2998046875, or a "
                + "width such as [Granularity(\"S\", 307)]"
        },
        {
            "MFD0018",
            Declare(gr: "[Granularity(\"S\", 0.5), Granularity(\"XL\", [|1.5|])]"),
            "1.5 of 1024 hidden units is 1536, not a whole number from 1 to 1024; write 1.0, or a width such as "
                + "[Granularity(\"XL\", 1024)]"
        },
        {
            "MFD0019",
            Declare(more: "[Profile(\"P\", \"4*S 4*[|Medium|]\")]"),
            "'Medium' is not a granularity of 'Lm'; write one of S, M, XL"
        },
        {
            "MFD0019",
            Declare(more: "[Profile(\"P\", @\"[|s|]  7*S\")]"),
            "'s' is not a granularity of 'Lm'; write one of S, M, XL"
        },
        {
            "MFD0019",
            Declare(more: "[Profile(\"P\", [|\"4*S \" + \"4*Medium\"|])]"),
            "'Medium' is not a granularity of 'Lm'; write one of S, M, XL"
        },
        {
            "MFD0020",
            Declare(more: "[Profile(\"P\", \"4*S [|0*M|] 4*M\")]"),
            "'0*M' is not a run of layers; write a granularity with a count in front, such as '2*S'"
        },
        {
            "MFD0020",
            Declare(more: "[Profile(\"P\", \"4*S [|4*|] M\")]"),
            "'4*' is not a run of layers; write a granularity with a count in front, such as '2*S'"
        },
        {
            "MFD0020",
            Declare(more: "[Profile(\"P\", \"[|99999999999*S|]\")]"),
            "'99999999999*S' is not a run of layers; write a granularity with a count in front, such as '2*S'"
        },
        {
            "MFD0021",
            Declare(more: "[Profile(\"P\", \"[|4*S 3*M|]\")]"),
            "The profile 'P' has 7 layers, but 'Lm' has 8 layers; add 1 layer"
        },
        {
            "MFD0021",
            Declare(more: "[Profile(\"P\", \"[|2000000000*S 2000000000*M|]\")]"),
            "The profile 'P' has 4000000000 layers, but 'Lm' has 8 layers; remove 3999999992 layers"
        },
        {
            "MFD0021",
            Declare(more: "[Profile(\"P\", [|\"\"|])]"),
            "The profile 'P' has 0 layers, but 'Lm' has 8 layers; add 8 layers"
        },
        {
            "MFD0021",
            Declare(more: "[Profile(\"P\", [|128, 256, 1024|])]"),
            "The profile 'P' has 3 widths, but 'Lm' has 8 layers; write a width for each layer"
        },
        {
            "MFD0022",
            Declare(more: "[Profile(\"P\", 128, 128, 128, 128, 128, 128, 128, [|129|])]"),
            "129 is not the width of any granularity of 'Lm'; write one of 128, 256, 1024"
        },
        {
            "MFD0022",
            Declare(more: "[Profile(\"P\", new[] { 128, 128, 128, 128, 128, 128, 128, [|129|] })]"),
            "129 is not the width of any granularity of 'Lm'; write one of 128, 256, 1024"
        },
        {
            "MFD0023",
            Declare(more: "[Profile(\"P\", MaxParameters = [|1_000|])]"),
            "No submodel of 'Lm' fits 1000 parameters, since the smallest has 2953472; write MaxParameters = 2953472 or "
                + "more"
        },
        {
            "MFD0024",
            Declare(more: "[Profile([|\"P\"|])]"),
            "The profile 'P' has no pattern, no widths and no budget; give exactly one, such as [Profile(\"P\", \"8*S\")] or "
                + "[Profile(\"P\", MaxParameters = ...)]"
        },
        {
            "MFD0024",
            Declare(more: "[Profile(\"P\", \"8*S\", MaxParameters = [|9_000_000|])]"),
            "The profile 'P' has a pattern and a budget; give exactly one, such as [Profile(\"P\", \"8*S\")] or "
                + "[Profile(\"P\", MaxParameters = ...)]"
        },
        {
            "MFD0025",
            Declare(gr: "[Granularity(\"S\", 128), Granularity([|\"S\"|], 256), Granularity(\"XL\", 1024)]"),
            "'S' is already the name of a granularity (case does not count), so there can be no class 'Lm.S'; choose another name"
        },
        {
            "MFD0025",
            Declare(more: "[Profile([|\"xl\"|], \"8*S\")]"),
            "'xl' is already the name of a granularity (case does not count), so there can be no class 'Lm.xl'; choose another name"
        },
        {
            "MFD0026",
            Declare(more: "[Profile([|\"My phone\"|], \"8*S\")]"),
            "'My phone' cannot name a class; write an identifier of letters and digits that is not a keyword, such "
                + "as \"Phone\""
        },
        {
            "MFD0026",
            Declare(more: "[Profile([|\"record\"|], \"8*S\")]"),
            "'record' cannot name a class; write an identifier of letters and digits that is not a keyword, such as "
                + "\"Phone\""
        },
        {
            "MFD0026",
            Declare(gr: "[Granularity([|\"\"|], 128), Granularity(\"XL\", 1024)]"),
            "'' cannot name a class; write an identifier of letters and digits that is not a keyword, such as \"S\""
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"Forward\"|], \"8*S\")]"),
            "'Forward' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"Block0\"|], \"8*S\")]"),
            "'Block0' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(type: "public partial class Lm { private sealed class [|Block12|]; }"),
            "'Block12' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"train\"|], \"8*S\")]"),
            "'train' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"ToString\"|], \"8*S\")]"),
            "'ToString' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"Lm\"|], \"8*S\")]"),
            "'Lm' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"Mine\"|], \"8*S\")]", type: "public partial class Lm { public int Mine => 1; }"),
            "'Mine' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(more: "[Profile([|\"get_Spec\"|], \"8*S\")]"),
            "'get_Spec' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(type: "public partial class Lm { public static int [|Spec|] => 1; }"),
            "'Spec' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0027",
            Declare(type: "public partial class Lm { public static int Loss(string text) => 1; private const int [|Forward|] = 1; }"),
            "'Forward' is already a member of 'Lm'; choose another name"
        },
        {
            "MFD0028",
            Declare(type: "public partial class [|Network|];"),
            "A model cannot be named 'Network' here: generated code uses this name, or that of an enclosing type; choose another name"
        },
        {
            "MFD0007",
            Declare(gr: "[Granularity(\"S\", 128, Heads = [|9|]), Granularity(\"XL\", 1024)]"),
            "Heads of 'S' is 9; write a number from 1 to 8"
        },
        {
            "MFD0007",
            Declare(more: "[Attention(Window = [|257|])]"),
            "Window is 257; write a number from 1 to 256"
        },
        {
            "MFD0007",
            Declare(more: "[ProfileGrid([|0|])]"),
            "The number of profiles is 0; write a number from 1 to 256"
        },
        {
            "MFD0016",
            Declare(more: "[Granularity(\"M\", [|64|], Layers = \"2\")]"),
            "'M' keeps 64 hidden units of layer 2, which is not more than the 128 of 'S' before it; declare granularities narrowest "
                + "first, each wider than the one before"
        },
        {
            "MFD0017",
            Declare(gr: "[Granularity(\"S\", 128, Heads = 4), Granularity(\"XL\", 1024, Heads = [|4|])]"),
            "The last granularity, 'XL', keeps 4 of 8 heads; write 8, so that none is left untrained"
        },
        {
            "MFD0023",
            Declare(more: "[Profile(\"P\", MaxFlopsPerToken = [|1|])]"),
            "No submodel of 'Lm' fits 1 FLOPs per token, since the smallest has 6950912; write MaxFlopsPerToken = 6950912 or more"
        },
        {
            "MFD0023",
            Declare(more: "[Profile(\"P\", FeedForwardShare = [|0.1|])]"),
            "No submodel of 'Lm' fits 0.1 of the hidden units, since the smallest has 0.125; write FeedForwardShare = 0.125 or more"
        },
        {
            "MFD0023",
            Declare(more: "[Profile(\"P\", MaxParameters = 4_000_000, MaxWeightBytes = [|-1|], WeightType = WeightType.BFloat16)]"),
            "No submodel of 'Lm' fits -1 bytes of BFloat16 weights, since the smallest has 5906944; write MaxWeightBytes = "
                + "5906944 or more"
        },
        {
            "MFD0026",
            Declare(more: "[ProfileGrid(3, Prefix = [|\"My \"|])]"),
            "'My 1' cannot name a class; write an identifier of letters and digits that is not a keyword, such as \"Phone\""
        },
        {
            "MFD0029",
            Declare(more: "[Attention(Window = 8, Layers = \"0-3, [|4-8|]\")]"),
            "'4-8' names no layers; write numbers from 0 to 7 and ranges of them, such as \"0-7\""
        },
        {
            "MFD0029",
            Declare(more: "[Attention(Window = 8, Layers = [|\"\"|])]"),
            "'' names no layers; write numbers from 0 to 7 and ranges of them, such as \"0-7\""
        },
        {
            "MFD0029",
            Declare(more: "[Granularity(\"M\", 512, Layers = \"[|7-3|]\")]"),
            "'7-3' names no layers; write numbers from 0 to 7 and ranges of them, such as \"0-7\""
        },
        {
            "MFD0030",
            Declare(more: "[Attention(Window = 8, Layers = \"0-3\"), Attention(Window = 4, Layers = \"[|3-4|]\")]"),
            "Layer 3 already has its attention; name each layer once"
        },
        {
            "MFD0031",
            Declare(ff: "[FeedForward(1024, Activation.SwiGlu, Layers = [|\"0-3\"|])]"),
            "Layer 4 of 'Lm' has no feed-forward; name the layer too, or add an attribute without Layers, for all other layers"
        },
        {
            "MFD0031",
            Declare(gr: "[Granularity(\"S\", 128, Layers = [|\"1-7\"|]), Granularity(\"XL\", 1024)]"),
            "Layer 0 of 'Lm' has no granularity 'S'; name the layer too, or add an attribute without Layers, for all other layers"
        },
        {
            "MFD0032",
            Declare(ff: "[FeedForward(1024, Activation.SwiGlu), [|FeedForward|](512, Activation.SwiGlu)]"),
            "'Lm' already has its feed-forward for all layers; remove one attribute, or name the layers that it is for with Layers"
        },
        {
            "MFD0033",
            Declare(more: "[Attention(HeadWidth = [|64|], Layers = \"0-3\")]"),
            "HeadWidth must be the same in all layers; write it in an [Attention] without Layers"
        },
        {
            "MFD0033",
            Declare(more: "[Attention(Bias = true), Attention(OutputBias = [|false|], Layers = \"0-3\")]"),
            "OutputBias must be the same in all layers; write it in an [Attention] without Layers"
        },
        {
            "MFD0034",
            Declare(gr: "[Granularity(\"S\", 128, Heads = [|3|]), Granularity(\"XL\", 1024)]", more: "[Attention(KeyValueHeads = 2)]"),
            "'S' keeps 3 heads, but each key/value head is shared by 4 heads; write Heads = 4"
        },
        {
            "MFD0035",
            Declare(gr: "[Granularity(\"S\", 128, Heads = 4), Granularity(\"M\", 256, Heads = [|2|]), Granularity(\"XL\", 1024)]"),
            "'M' keeps 2 heads, fewer than the 4 of 'S' before it, whose weights it must contain; write Heads = 4 or more"
        },
        {
            "MFD0036",
            Declare(more: "[Profile(\"P\", \"[|8*Skip|]\")]"),
            "The profile 'P' leaves out every layer; keep at least one, such as 1*S"
        },
        {
            "MFD0037",
            Declare(more: "[Profile([|\"Skip\"|], \"8*S\")]"),
            "'Skip' leaves layers out in patterns; choose another name"
        },
        {
            "MFD0038",
            Declare(
                gr: "[Granularity(\"S\", 128, Heads = 4), Granularity(\"M\", 128), Granularity(\"XL\", 1024)]",
                more: "[Profile(\"P\", 1024, [|128|], 128, 128, 128, 128, 128, 128)]"),
            "128 is the width of S and M, which differ in heads; name one of them in a pattern"
        },
        {
            "MFD0039",
            Declare(more: "[Profile(\"P\", FeedForwardShare = [|1.5|])]"),
            "FeedForwardShare is 1.5; write a share above 0 and up to 1"
        },
        {
            "MFD0039",
            Declare(more: "[Profile(\"P\", FeedForwardShare = [|double.NaN|])]"),
            "FeedForwardShare is NaN; write a share above 0 and up to 1"
        },
        {
            "MFD0040",
            Declare(more: "[Profile(\"P\", MaxParameters = 4_000_000, WeightType = [|WeightType.Int8|])]"),
            "WeightType says in which type MaxWeightBytes counts; give MaxWeightBytes too, or remove WeightType"
        },
        {
            "MFD0041",
            Declare(more: "[ProfileGrid([|99|])]"),
            "There are 15 mixes between 'S' and 'XL', not 99; write 15 or less"
        },
        {
            "MFD0042",
            Declare(
                lm: "[MatLM(Layers = 8, Width = 256, Heads = 8, Context = [|100_000|], Vocabulary = 256)]",
                more: "[Position(PositionKind.Learned)]"),
            "Learned positions have a row for each of 100000 tokens; write Context = 65536 or less, or "
                + "[Position(PositionKind.Rotary)]"
        },
        {
            "MFD0043",
            Declare(more: "[Profile(\"P\", MaxParameters = [|9_000_000|])]"),
            "The whole of 'Lm' has 8458496 parameters, which is within 9000000, so 'P' equals 'XL'; write MaxParameters below 8458496"
        },
        {
            "MFD0044",
            Declare(gr: "[Granularity(\"S\", [|100|]), Granularity(\"XL\", 1024)]"),
            "'S' keeps 100 hidden units; a multiple of 64, such as 128, makes better use of vector and matrix units"
        },
        {
            "MFD0045",
            Declare(more: "[Profile([|\"P\"|], \"8*S\")]"),
            "'P' is the same model as 'S': 8*S"
        },
        {
            "MFD0046",
            Declare(more: "[Profile(\"P\", \"[|2*M Skip 5*S|]\")]"),
            "'P' becomes narrower at layer 3; mixes whose widths never decrease with depth were "
                + "consistently more accurate (MatFormer, arXiv 2310.07707, section 3.3)"
        },
        {
            "MFD0047",
            Declare(lm: "[MatViT(Image = 32, Patch = [|6|], Classes = 10, Layers = 8, Width = 256, Heads = 8)]"),
            "Patches of 6 x 6 pixels do not divide an image of 32 x 32; write Patch = 8"
        },
        {
            "MFD0048",
            Declare(lm: Encoder, more: "[Attention(Window = [|16|])]"),
            "Window applies only to [MatLM], not to [MatEncoder]; remove it"
        },
        {
            "MFD0048",
            Declare(lm: ViT, more: "[[|Embedding|](Tied = true)]"),
            "[Embedding] applies only to [MatLM], not to [MatViT]; remove it"
        },
        {
            "MFD0048",
            Declare(more: "[[|NestedEmbedding|](128, 256)]"),
            "[NestedEmbedding] applies only to [MatViT] and [MatEncoder], not to [MatLM]; remove it"
        },
        {
            "MFD0048",
            Declare(lm: ViT, more: "[Profile(\"P\", MaxFlopsPerToken = [|1|])]"),
            "MaxFlopsPerToken applies only to [MatLM], not to [MatViT]; write MaxFlopsPerImage"
        },
        {
            "MFD0048",
            Declare(lm: Encoder, more: "[Profile(\"P\", MaxFlopsPerImage = [|1|])]"),
            "MaxFlopsPerImage applies only to [MatViT], not to [MatEncoder]; write MaxFlopsPerText"
        },
        {
            "MFD0048",
            Declare(more: "[Profile(\"P\", MaxFlopsPerText = [|1|])]"),
            "MaxFlopsPerText applies only to [MatEncoder], not to [MatLM]; write MaxFlopsPerToken"
        },
        {
            "MFD0048",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Linear, 8, OriginalContext = [|8192|])]"),
            "OriginalContext applies only to RotaryScalingKind.Llama3, not to RotaryScalingKind.Linear; remove it"
        },
        {
            "MFD0048",
            Declare(more: "[RotaryScaling(RotaryScalingKind.Linear, 8, HighFrequencyFactor = [|4|])]"),
            "HighFrequencyFactor applies only to RotaryScalingKind.Llama3, not to RotaryScalingKind.Linear; remove it"
        },
        {
            "MFD0048",
            Declare(more: "[Position(PositionKind.Learned), [|RotaryScaling|](RotaryScalingKind.Linear, 8)]"),
            "[RotaryScaling] applies only to PositionKind.Rotary, not to PositionKind.Learned; remove it"
        },
        {
            "MFD0048",
            Declare(lm: ViT, more: "[[|RotaryScaling|](RotaryScalingKind.Linear, 8)]"),
            "[RotaryScaling] applies only to PositionKind.Rotary, not to PositionKind.Learned; remove it"
        },
        {
            "MFD0049",
            Declare(lm: ViT, more: "[Position([|PositionKind.Rotary|])]"),
            "Rotary positions do not work with [MatViT]; write PositionKind.Sinusoidal or PositionKind.Learned"
        },
        {
            "MFD0049",
            Declare(lm: Encoder, more: "[Position([|PositionKind.Sinusoidal|])]"),
            "Sinusoidal positions do not work with [MatEncoder]; write PositionKind.Rotary or PositionKind.Learned"
        },
        {
            "MFD0050",
            Declare(lm: Encoder, more: "[NestedEmbedding(16, [|16|], 64)]"),
            "16 is not more than the 16 before it; write the dimensions narrowest first"
        },
        {
            "MFD0051",
            Declare(lm: Encoder, more: "[NestedEmbedding([|16, 32|])]"),
            "The embedding of 'Lm' is 64 wide, so the last dimension must be 64; write 64 last"
        },
        {
            "MFD0051",
            Declare(lm: ViT, more: "[[|NestedEmbedding|]]"),
            "The embedding of 'Lm' is 256 wide, so the last dimension must be 256; write 256 last"
        },
        {
            "MFD0052",
            Declare(lm: Encoder, more: "[NestedEmbedding(16, 64, Weights = [|[1]|])]"),
            "There is 1 weight; write a weight above 0 for each of 2 dimensions"
        },
        {
            "MFD0052",
            Declare(lm: Encoder, more: "[NestedEmbedding(16, 64, Weights = [|new double[] { 1, -2 }|])]"),
            "A weight is -2; write a weight above 0 for each of 2 dimensions"
        },
        {
            "MFD0052",
            Declare(lm: Encoder, more: "[NestedEmbedding(16, 64, Weights = [|[1e308, 1e308]|])]"),
            "The weights add up to Infinity; write a weight above 0 for each of 2 dimensions"
        },
        {
            "MFD0053",
            Declare(lm: Lm + "\n" + Encoder.Replace("MatEncoder", "[|MatEncoder|]", StringComparison.Ordinal)),
            "'Lm' already has [MatLM]; remove [MatEncoder], or declare another class"
        },
        {
            "MFD0054",
            Declare(
                lm: "[MatViT(Image = 32, Patch = 4, Classes = 10, Layers = 8, Width = [|250|], Heads = 5)]",
                more: "[Position(PositionKind.Sinusoidal)]"),
            "Sinusoidal positions are the sines and cosines of row and column, each a quarter of the width, but four does not divide 250; "
                + "write Width = 260 or PositionKind.Learned"
        },
        {
            "MFD0055",
            Declare(
                lm: "[[|MatEncoder|](Layers = 4096, Width = 1 << 20, Heads = 1, Context = 1 << 24, Vocabulary = 256, Embedding = 64)]"),
            "'Lm' takes more than 9223372036854775807 FLOPs per text; write fewer or narrower layers, or a shorter context"
        },
        {
            "MFD0055",
            Declare(lm: "[[|MatViT|](Image = 4096, Patch = 1, Classes = 2, Layers = 4096, Width = 1 << 20, Heads = 1)]"),
            "'Lm' takes more than 9223372036854775807 FLOPs per image; write fewer or narrower layers, or a shorter side of the image"
        },
        {
            "MFD0056",
            Declare(
                lm: "[MatLM(Layers = 220, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]",
                gr: "[Granularity(\"S\", 128), Granularity(\"XL\", 1024)]",
                more: "[ProfileGrid(201)]",
                type: "public sealed partial class [|Lm|];"),
            "'Lm' declares 201 profiles, and each is a class that makes builds slower (above 200, all share one forward pass); "
                + "declare the profiles that the program names, and create the others with 'new Profile<Lm>(name, pattern)'"
        },
        {
            "MFD0058",
            Declare(more: "[Attention(OutputBias = [|true|])]"),
            "OutputBias gives the output of attention a bias, but queries, keys and values have none; write Bias = true as well, or remove "
                + "it"
        },
        {
            "MFD0058",
            Declare(more: "[Attention(Bias = false, OutputBias = [|true|])]"),
            "OutputBias gives the output of attention a bias, but queries, keys and values have none; write Bias = true as well, or remove "
                + "it"
        },
        {
            "MFD0007",
            Declare(gr: "[Granularity(\"S\", 128, Width = [|0|]), Granularity(\"XL\", 1024)]"),
            "Width of 'S' is 0; write a number from 1 to 256"
        },
        {
            "MFD0017",
            Declare(gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"XL\", 1024, Width = [|128|])]"),
            "The last granularity, 'XL', keeps 128 of 256 channels; write 256, so that none is left untrained"
        },
        {
            "MFD0038",
            Declare(
                gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"M\", 128), Granularity(\"XL\", 1024)]",
                more: "[Profile(\"P\", [|128|], 1024, 1024, 1024, 1024, 1024, 1024, 1024)]"),
            "128 is the width of S and M, which differ in Heads or Width; name one of them in a pattern"
        },
        {
            "MFD0059",
            Declare(gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"M\", 256, Width = [|64|]), Granularity(\"XL\", 1024)]"),
            "'M' keeps 64 channels of the residual stream, fewer than the 96 of 'S' before it, whose weights it must contain; write "
                + "Width = 96 or more"
        },
        {
            "MFD0059",
            Declare(gr: "[Granularity(\"S\", 128), Granularity(\"M\", 256, Width = [|64|]), Granularity(\"XL\", 1024)]"),
            "'M' keeps 64 channels of the residual stream, fewer than the 256 of 'S' before it, whose weights it must contain; write "
                + "Width = 256 or more"
        },
        {
            "MFD0060",
            Declare(
                gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"M\", 256, Width = 96), Granularity(\"XL\", 1024)]",
                more: "[Profile(\"P\", \"[|2*S 4*M Skip XL|]\")]"),
            "The profile 'P' has layers of 'S', which keeps 96 channels of the residual stream, and of 'XL', which keeps 256; all layers "
                + "add to the same stream, so choose granularities of one Width"
        },
        {
            "MFD0060",
            Declare(
                gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"XL\", 1024)]",
                more: "[Profile(\"P\", [|128, 1024, 1024, 1024, 1024, 1024, 1024, 1024|])]"),
            "The profile 'P' has layers of 'S', which keeps 96 channels of the residual stream, and of 'XL', which keeps 256; all layers "
                + "add to the same stream, so choose granularities of one Width"
        },
        {
            "MFD0061",
            Declare(
                gr: "[Granularity(\"S\", 128, Width = 96), Granularity(\"S\", 256, Width = [|128|], Layers = \"0\"), "
                    + "Granularity(\"XL\", 1024)]"),
            "'S' keeps 128 channels of the residual stream here, but 96 in its other layers; all layers add to the same stream, so write "
                + "Width = 96"
        },
        {
            "MFD0062",
            Declare(gr: "[Granularity(\"S\", 128, Width = [|100|]), Granularity(\"XL\", 1024)]"),
            "'S' keeps 100 channels of the residual stream; a multiple of 32, such as 96, makes better use of vector units and of "
                + "llama.cpp's blocks"
        },
        {
            "MFD0063",
            Declare(more: "[[|Precision|]]"),
            "[Precision] of 'Lm' has no bits; write 8, and after it 4, 2 or both, because fewer bits are the upper ones of 8"
        },
        {
            "MFD0063",
            Declare(more: "[Precision([|4, 2|])]"),
            "[Precision] of 'Lm' has 4, 2; write 8, and after it 4, 2 or both, because fewer bits are the upper ones of 8"
        },
        {
            "MFD0063",
            Declare(more: "[Precision([|8, 2, 3, 4|])]"),
            "[Precision] of 'Lm' has 8, 2, 3, 4; write 8, and after it 4, 2 or both, because fewer bits are the upper ones of 8"
        },
        {
            "MFD0064",
            Declare(more: "[Profile(\"P\", \"8*S\", Bits = [|4|])]"),
            "Bits of 'P' is 4, but 'Lm' has no [Precision]; add [Precision(8, 4, 2)], or remove Bits"
        },
        {
            "MFD0064",
            Declare(more: "[Precision(8, 4), Profile(\"P\", MaxParameters = 4_000_000, Bits = [|3|])]"),
            "Bits of 'P' is 3, but 'Lm' is trained for 8, 4; write one of these"
        },
        {
            "MFD0064",
            Declare(
                more: "[Precision(8, 4), Profile(\"P\", MaxWeightBytes = 4_000_000, WeightType = [|WeightType.Int8|], Bits = 4)]"),
            "Bits of 'P' is 4, but WeightType says that the weights are stored in another format; remove WeightType"
        },
        {
            "MFD0065",
            Declare(gr: "[Granularity(\"S\", [|120|]), Granularity(\"XL\", 1024)]", more: "[Precision(8, 4)]"),
            "With [Precision], 32 weights of a row share a scale, but 'S' ends inside such a group with 120 hidden units; write a multiple "
                + "of 32"
        },
        {
            "MFD0065",
            Declare(gr: "[Granularity(\"S\", [|0.046875|]), Granularity(\"XL\", 1024)]", more: "[Precision(8)]"),
            "With [Precision], 32 weights of a row share a scale, but 'S' ends inside such a group with 48 hidden units; write a multiple "
                + "of 32"
        },
        {
            "MFD0065",
            Declare(
                gr: "[Granularity(\"S\", 128, Heads = [|3|]), Granularity(\"XL\", 1024)]",
                more: "[Precision(8), Attention(HeadWidth = 16)]"),
            "With [Precision], 32 weights of a row share a scale, but 'S' ends inside such a group with 3 heads; write a multiple of 2"
        },
        {
            "MFD0065",
            Declare(gr: "[Granularity(\"S\", 128, Width = [|100|]), Granularity(\"XL\", 1024)]", more: "[Precision(8)]"),
            "With [Precision], 32 weights of a row share a scale, but 'S' ends inside such a group with 100 channels; write a multiple of "
                + "32"
        },
        {
            "MFD0067",
            Declare(lm: ViT, more: "[Routing([|0.125|], 0.5)]"),
            "A routing budget of 0.125 cannot be met: it must be above 0.125, the share of the hidden units that 'S' has, and at most 1; "
                + "write a number between them"
        },
        {
            "MFD0067",
            Declare(lm: ViT, more: "[Routing(0.5, [|50|])]"),
            "A routing budget of 50 cannot be met: it must be above 0.125, the share of the hidden units that 'S' has, and at most 1; "
                + "write a number between them"
        },
        {
            "MFD0067",
            Declare(lm: ViT, more: "[Routing([|double.NaN|])]"),
            "A routing budget of NaN cannot be met: it must be above 0.125, the share of the hidden units that 'S' has, and at most 1; "
                + "write a number between them"
        },
        {
            "MFD0067",
            Declare(more: "[Routing(0.5, [|1.5|])]"),
            "A routing budget of 1.5 cannot be met: it must be above 0.125, the share of the hidden units that 'S' has, and at most 1; "
                + "write a number between them"
        },
        {
            "MFD0068",
            Declare(lm: ViT, more: "[Granularity(\"S\", 256, Layers = \"2\"), [|Routing|]]"),
            "In layer 2 'S' and 'M' both have 256 hidden units, so routing a token to one or the other is the same; give them different "
                + "widths there, or leave the layer out of [Routing]"
        },
        {
            "MFD0068",
            Declare(lm: ViT, gr: "[Granularity(\"S\", 256, Heads = 2), Granularity(\"M\", 256), Granularity(\"XL\", 1024)]",
                more: "[Routing(0.5, Layers = [|\"3-5\"|])]"),
            "In layer 3 'S' and 'M' both have 256 hidden units, so routing a token to one or the other is the same; give them different "
                + "widths there, or leave the layer out of [Routing]"
        },
        {
            "MFD0069",
            Declare(lm: ViT, more: "[Routing(0.5, [|0.5|])]"),
            "A routing budget of 0.5 is not more than the 0.5 before it; write each budget once, the smallest first"
        },
        {
            "MFD0048",
            Declare(more: "[[|Lookup|](3)]"),
            "[Lookup] applies only to [MatViT], not to [MatLM]; remove it"
        },
        {
            "MFD0007",
            Declare(lm: MeanViT, more: "[Lookup(3, [|9|])]"),
            "The side of a grid is 9; write a number from 1 to 8"
        },
        {
            "MFD0007",
            Declare(lm: MeanViT, more: "[Lookup(3, Hidden = [|0|])]"),
            "Hidden of [Lookup] is 0; write a number from 1 to 1048576"
        },
        {
            "MFD0070",
            Declare(lm: MeanViT, more: "[[|Lookup|]]"),
            "[Lookup] of 'Lm' names no grid of compressed tokens; write the sides of one or more, each from 1 to 8"
        },
        {
            "MFD0071",
            Declare(lm: MeanViT, more: "[Lookup(5, [|5|])]"),
            "A grid of side 5 is not more than the 5 before it; write each side once, the smallest first"
        },
        {
            "MFD0072",
            Declare(lm: ViT, more: "[[|Lookup|](3)]"),
            "'Lm' classifies by the mean of its compressed tokens and has no class token; write Pooling = Pooling.Mean in [MatViT]"
        },
        {
            "MFD0072",
            Declare(lm: MeanViT.Replace("Pooling.Mean", "[|Pooling.ClassToken|]", StringComparison.Ordinal), more: "[Lookup(3)]"),
            "'Lm' classifies by the mean of its compressed tokens and has no class token; write Pooling = Pooling.Mean in [MatViT]"
        },
        {
            "MFD0073",
            Declare(lm: MeanViT, more: "[Attention(HeadWidth = 24), [|Lookup|](3)]"),
            "Heads of 24 do not fill the width of 256, which the cross-attention of 'Lm' divides among them; choose a HeadWidth that "
                + "divides it"
        },
        {
            "MFD0066",
            Declare(lm: MeanViT, more: "[[|Lookup|](3), Routing]"),
            "[Routing] does not work with [Lookup] of 'Lm', because the tokens that a router would choose among differ from grid to grid; "
                + "remove one of the two"
        },
        {
            "MFD0066",
            Declare(lm: MeanViT, more: "[[|Lookup|](3), Precision(8)]"),
            "[Precision] does not work with [Lookup] of 'Lm', because only the nested part of the weights would be rounded in groups; "
                + "remove one of the two"
        },
        {
            "MFD0066",
            Declare(
                lm: MeanViT, gr: "[Granularity(\"S\", 128, Width = 128), Granularity(\"XL\", 1024)]", more: "[[|Lookup|](3)]"),
            "Width of 'S' does not work with [Lookup] of 'Lm', because the cross-attention has the whole width of the model; remove one of "
                + "the two"
        },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public Task AMistakeIsOneDiagnosticInItsPlace(string id, string marked, string message) =>
        new DiagnosticsOf(Header + marked) { Id = id, Message = message }.RunAsync();

    [Fact]
    public Task AProgramThatUsesAMistakenModelHasNoSecondError()
    {
        const string use = """
            using MatFormer;
            using TorchSharp;

            internal static class Use
            {
                public static long Count => Lm.ParameterCount + Lm.Phone.FlopsPerToken + Lm.Spec.Layers;

                public static void Run(torch.Tensor tokens)
                {
                    using var model = new Lm(torch.CPU);
                    using var logits = model.Forward(Lm.Profile.Phone, tokens);
                    using var again = model.forward(tokens);
                    using Lm.Phone phone = model.Extract<Lm.Phone>();
                    using var view = model.View(Lm.Profile.S);
                    using var loss = phone.Loss(tokens, tokens);
                    using var joint = model.JointLosses(tokens, tokens);
                    Runs<Lm>();
                }

                private static void Runs<T>()
                    where T : MatFormerModel, IMatFormer<T>
                {
                }
            }
            """;
        return new DiagnosticsOf(Header + Declare(lm: SevenHeads, more: "[Profile(\"Phone\", \"8*S\")]"), use).RunAsync();
    }

    [Fact]
    public Task AProgramThatUsesTheBitsOfAMistakenModelHasNoSecondError()
    {
        const string use = "internal static class Use { public static long Bytes => Lm.Phone.WeightBytes * Lm.Phone.Bits; }";
        return new DiagnosticsOf(
            Header + Declare(lm: SevenHeads, more: "[Precision(8, 4), Profile(\"Phone\", \"8*S\", Bits = 4)]"), use).RunAsync();
    }

    [Fact]
    public Task EachOfSeveralMistakesIsReported() => new DiagnosticsOf(Header + Declare(
        lm: SevenHeads,
        gr: "[Granularity(\"S\", 128), Granularity(\"XL\", {|MFD0017:512|})]",
        more: "[Profile({|MFD0026:\"a b\"|}, \"8*S\")]")).RunAsync();

    [Fact]
    public Task ACompilerErrorInAnAttributeIsTheOnlyDiagnostic() =>
        new DiagnosticsOf(Header + Declare(ff: "[FeedForward(1024, Activation.{|CS0117:Silu|})]")).RunAsync();

    [Fact]
    public Task PragmasDoNotSuppressAnError() =>
        new DiagnosticsOf("#pragma warning disable\n#pragma warning disable MFD0010\n" + Header + Declare(lm: SevenHeads)).RunAsync();

    /// <summary>The diagnostics whose mistake is in the project file.</summary>
    public static TheoryData<string, string> MissingReferences => new()
    {
        { "MFD0006", Declare(type: "public sealed partial class [|Lm|];") },
    };

    [Theory]
    [MemberData(nameof(MissingReferences))]
    public Task AMissingReferenceIsOneErrorAtTheClass(string id, string marked)
    {
        var test = new DiagnosticsOf(Header + marked) { Id = id };
        test.TestState.AdditionalReferences.Clear();
        test.TestState.AdditionalReferences.AddRange(TestedProject.Libraries.Where(library => !IsRuntime(library.Display!)));
        return test.RunAsync();
    }

    [Fact]
    public void AMissingReferenceLeavesNoCode()
    {
        var compilation = GeneratorRun.Compile(Header + Declare());
        var others = compilation.References.Where(reference => !IsRuntime(reference.Display!));
        Assert.Empty(GeneratorRun.Of(compilation.WithReferences(others)).Sources);
    }

    /// <summary>The ids of mistakes whose diagnostics hold the text to write instead, and the sources with that text.</summary>
    public static TheoryData<string, string> Replacements
    {
        get
        {
            var replacements = new TheoryData<string, string>();
            foreach (var row in Mistakes)
            {
                TestFileMarkupParser.GetSpan(Header + row.Data.Item2, out var source, out _);
                foreach (var diagnostic in GeneratorRun.Of(source).Diagnostics)
                {
                    if (!diagnostic.Properties.TryGetValue(DiagnosticInfo.ReplacementKey, out var text)) continue;
                    var span = diagnostic.Location.SourceSpan;
                    replacements.Add(diagnostic.Id, source.Remove(span.Start, span.Length).Insert(span.Start, text!));
                }
            }

            return replacements;
        }
    }

    [Theory]
    [MemberData(nameof(Replacements))]
    public async Task AReplacementMendsTheMistake(string id, string mended) =>
        Assert.DoesNotContain(await DiagnosticsOf.FindAsync(mended), d => d.Id == id || d.Id.StartsWith("CS", StringComparison.Ordinal));

    [Fact]
    public void ThePageOfAMistakeWithAReplacementDescribesTheFix() => Assert.All(
        Replacements.Select(row => row.Data.Item1).Distinct(),
        id => Assert.Contains("## Fix", File.ReadAllLines(LedgerTests.PageOf(id))));

    private static bool IsRuntime(string reference) =>
        Path.GetFileName(reference) is "MatFormer.Runtime.dll" or "MatFormer.Inference.dll";

    private static string Declare(string lm = Lm, string ff = Ff, string gr = Gr, string more = "", string type = Class) =>
        string.Join('\n', lm, ff, gr, more, type);
}
