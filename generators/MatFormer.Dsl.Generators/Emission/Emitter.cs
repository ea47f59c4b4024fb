using System.Text;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Validation;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Emission;

/// <summary>One file to add to the compilation.</summary>
internal sealed record GeneratedFile(string HintName, SourceText Text);

/// <summary>Writes the files of a class. The files depend only on the class's spec.</summary>
internal static class Emitter
{
    // Files have no byte order mark. If users keep the files, they are then the same on every machine.
    private static readonly Encoding s_utf8 = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);

    public static IEnumerable<GeneratedFile> Emit(Output output) => Files(output).Select(file => new GeneratedFile(
        output.Type.HintName + "." + file.Name + ".g.cs", SourceText.From(file.Code.ToString(), s_utf8)));

    private static IEnumerable<(string Name, CodeFile Code)> Files(Output output)
    {
        if (output is Output.Skeleton skeleton)
        {
            yield return ("Skeleton", SkeletonEmitter.Emit(skeleton));
            yield break;
        }

        var spec = ((Output.Whole)output).Spec;
        var model = Architecture.Of(spec);
        var costs = Costs.Of(spec);
        yield return ("Spec", SpecEmitter.Emit(spec, model, costs));
        yield return ("Submodels", SubmodelsEmitter.Emit(spec, model, costs));
        if (spec.IsDecoder) yield return ("Decoding", DecodingEmitter.Emit(spec, model));
        if (!spec.Type.HasTensors) yield break;
        yield return ("Parameters", ParametersEmitter.Emit(spec, model));
        yield return ("Forward", ForwardEmitter.Emit(spec, model));
        if (spec.Routing is not null) yield return ("Routing", RoutingEmitter.Emit(spec, model));
        yield return ("Training", TrainingEmitter.Emit(spec, model));
        yield return ("Slicing", SlicingEmitter.Emit(spec, model));
    }
}
