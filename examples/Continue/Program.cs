// Generates text at three sizes from one file and one copy of the weights in memory.
//   dotnet run --project examples/Continue -c Release -- [model.safetensors] [prompt]
using MatFormer;

var file = args.ElementAtOrDefault(0) ?? "out/DocsLm/model.safetensors";
var prompt = args.ElementAtOrDefault(1) ?? "Returns the ";
DecodingEngine opened;
try
{
    opened = DecodingEngine.Open(file, DocsLm.Profile.XL, new DecodingOptions { Weights = DecodingWeights.BFloat16 });
}
catch (CheckpointException e)
{
    Console.Error.WriteLine(Path.Exists(file) ? e.Message : $"There is no '{file}'; run `bash examples/run.sh`, or give another file.");
    return 2;
}

using var engine = opened;
var options = new GenerationOptions { Tokens = 120, Temperature = 0.7, TopP = 0.95, StopStrings = ["\n\n"] };
foreach (var profile in (Profile<DocsLm>[])[DocsLm.Profile.S, DocsLm.Profile.Phone, DocsLm.Profile.XL])
{
    engine.Use(0, profile); // free: a submodel's weights are a prefix of the loaded weights
    Console.WriteLine($"--- {profile.Name}: {profile.ParameterCount:N0} parameters");
    Console.Write(prompt);
    await foreach (var piece in TextGenerator.StreamAsync(engine, prompt, options)) Console.Write(piece.Text);
    Console.WriteLine();
}

return 0;
