// Speculative decoding within one model: S drafts and XL verifies. The text is that of XL alone, but takes less time.
//   dotnet run --project examples/Speculate -c Release -- [model.safetensors] [prompt]
using MatFormer;

var file = args.ElementAtOrDefault(0) ?? "out/DocsLm/model.safetensors";
var prompt = args.ElementAtOrDefault(1) ?? "Gets or sets a value that indicates ";
DecodingEngine opened;
try
{
    opened = DecodingEngine.Open(file, DocsLm.Profile.XL);
}
catch (CheckpointException e)
{
    Console.Error.WriteLine(Path.Exists(file) ? e.Message : $"There is no '{file}'; run `bash examples/run.sh`, or give another file.");
    return 2;
}

using var engine = opened;
var alone = new GenerationOptions { Tokens = 200, Temperature = 0.5 };
Profile<DocsLm>[] sizes = [DocsLm.Profile.S, DocsLm.Profile.M];
GenerationOptions[] options = [alone, .. sizes.Select(draft => alone with { Draft = draft.Layers })];

// They take turns, so that other load on the machine affects all of them, and the fastest turn counts. The first turns compile code.
var turns = Enumerable.Range(0, 5).Select(_ => Array.ConvertAll(options, one => TextGenerator.Generate(engine, prompt, one))).ToList();
var fastest = options.Index().Select(one => turns.Select(turn => turn[one.Index]).MaxBy(result => result.TokensPerSecond)!).ToList();
var plain = fastest[0];
Console.WriteLine(prompt + plain.Text);
Console.WriteLine($"XL alone: {plain.TokensPerSecond:N0} tokens/s");
foreach (var (draft, drafted) in sizes.Zip(fastest.Skip(1)))
{
    if (drafted.Text != plain.Text) throw new InvalidOperationException($"The draft of {draft.Name} changed the text.");
    var drafts = drafted.Drafts!;
    Console.WriteLine(
        $"{draft.Name} drafts, XL verifies: {drafted.TokensPerSecond:N0} tokens/s, the same text; "
        + $"{drafts.Acceptance:P0} of the drafted tokens accepted, {drafts.MeanLength:N1} at once");
}

return 0;
