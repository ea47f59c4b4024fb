// Runs a slice for a phone: one profile of the universal model's file, with 8-bit weights and without libtorch.
//   dotnet run --project examples/Phone -c Release -- [model.safetensors] [prompt]
// As one native program: dotnet publish examples/Phone -c Release -r linux-x64 -p:PublishAot=true -p:IlcInstructionSet=x86-64-v3
using MatFormer;

var file = args.ElementAtOrDefault(0) ?? "out/DocsLm/model.safetensors";
var prompt = args.ElementAtOrDefault(1) ?? "Returns the ";
DecodingEngine opened;
try
{
    // The engine reads only the weights of Phone. The file may also be a slice (`extract --profile Phone`).
    opened = DecodingEngine.Open(file, DocsLm.Profile.Phone, new DecodingOptions { Weights = DecodingWeights.Int8 });
}
catch (CheckpointException e)
{
    Console.Error.WriteLine(Path.Exists(file) ? e.Message : $"There is no '{file}'; run `bash examples/run.sh`, or give another file.");
    return 2;
}

using var engine = opened;
Console.WriteLine(
    $"{engine.ProfileName}: {DocsLm.Phone.ParameterCount:N0} parameters, {engine.WeightBytes / 1e6:N1} MB of weights, "
    + $"{engine.SequenceBytes / 1e6:N1} MB of keys and values");
var options = new GenerationOptions { Tokens = 120, Temperature = 0.7, StopStrings = ["\n\n"] };
TextGenerator.Generate(engine, prompt, options); // warm-up: the first passes compile code
Console.Write(prompt);
var result = TextGenerator.Generate(engine, prompt, options, Console.Write);
Console.WriteLine();
Console.WriteLine($"{result.TokensPerSecond:N0} tokens/s; {Environment.WorkingSet / 1e6:N0} MB of memory in all");
return 0;
