// Speculative decoding within one model: S drafts and XL verifies. The text is that of XL alone, but takes less time.
//   dotnet run --project examples/Speculate -c Release -- [model.safetensors] [prompt]
using MatFormer;

var file = args.ElementAtOrDefault(0) ?? "out/DocsLm/model.safetensors";
var prompt = args.ElementAtOrDefault(1) ?? "Gets or sets a value that indicates ";
if (!File.Exists(file))
{
    Console.Error.WriteLine($"There is no '{file}'; run `bash examples/run.sh` to train it, or give the path of another model.");
    return 2;
}

using var engine = DecodingEngine.Open<DocsLm>(file);
var alone = new GenerationOptions { Tokens = 200, Temperature = 0.5 };
TextGenerator.Generate(engine, prompt, alone); // warm-up: the first passes compile code
var plain = TextGenerator.Generate(engine, prompt, alone);
Console.WriteLine(prompt + plain.Text);
Console.WriteLine($"XL alone: {plain.TokensPerSecond:N0} tokens/s");
foreach (var draft in (Profile<DocsLm>[])[DocsLm.Profile.S, DocsLm.Profile.M])
{
    var options = alone with { Draft = draft.Layers };
    TextGenerator.Generate(engine, prompt, options); // warm-up
    var drafted = TextGenerator.Generate(engine, prompt, options);
    if (drafted.Text != plain.Text) throw new InvalidOperationException($"The draft of {draft.Name} changed the text.");
    var drafts = drafted.Drafts!;
    Console.WriteLine(
        $"{draft.Name} drafts, XL verifies: {drafted.TokensPerSecond:N0} tokens/s, the same text; "
        + $"{drafts.Acceptance:P0} of the drafted tokens accepted, {drafts.MeanLength:N1} at once");
}

return 0;
