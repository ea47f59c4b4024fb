using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>The input of a model, and its way to the states <c>x</c> before the first layer.</summary>
internal abstract class InputPart(ModelSpec spec) : Part(spec)
{
    /// <summary>The name of the input.</summary>
    public abstract string Name { get; }

    /// <summary>The input in prose, with its shape and dtype. It ends in a comma if the sentence after it needs one.</summary>
    public abstract string Takes { get; }

    /// <summary>The condition of the exception for a wrong input.</summary>
    public abstract string NotFitting { get; }

    /// <summary>The method that checks the input.</summary>
    public abstract string Check { get; }

    /// <summary>The field of the input's weight, which every model has.</summary>
    public abstract string Field { get; }

    /// <summary>The width of the streams that run, as an argument of the input's kernel, with a comma in front.</summary>
    private protected string? Width(Pass pass) => pass.IsStacked && Spec.ElasticWidth ? ", streams.Width" : null;
}

/// <summary>The tokens of a decoder.</summary>
internal class TokenInput(ModelSpec spec, Architecture architecture) : InputPart(spec)
{
    public override string Name => "tokens";

    public override string Takes => "tokens (B, T) int64";

    public override string NotFitting => $"The tokens are not (B, T) int64, or T is above {Literals.Text(Spec.Context)}";

    public override string Check => "CheckTokens";

    public override string Field => "EmbedTokens";

    public override IEnumerable<WeightSpec> Weights =>
        [WeightSpec.Embedding(Field, "model.embed_tokens.weight", Spec.Vocabulary, Spec.Stream)];

    public override IEnumerable<string> SpecLines => [$"Vocabulary = {Literals.Of(Spec.Vocabulary)},"];

    public override IEnumerable<string> Enter(Pass pass)
    {
        var (f, states, start) = (pass.File, Shape.States(Spec), architecture.Mask.Start);
        var embedded = $"{f.Kernels}.Embedding({pass.Network}{Field}, tokens, {pass.Type}{Width(pass)});  //| {states}";
        if (!architecture.Positions.AreAdded)
        {
            yield return "var x = " + embedded;
            yield break;
        }

        var nested = pass.IsStacked && Spec.ElasticWidth ? ", nested: true" : null;
        yield return "var embedded = " + embedded;
        yield return $"var x = {f.Kernels}.AddPositions(embedded, {architecture.Positions.Added(pass)}, {start}{nested});  //| {states}";
        yield return "embedded.Dispose();";
    }

    public override IEnumerable<PackedField> Packed(CodeFile f) =>
    [
        new(
            f.PackedMatrix,
            "_embedTokens",
            $"packer.Matrix(\"model.embed_tokens.weight\", {Literals.Of(Spec.Vocabulary)}, {Shape.WidthExpression(Spec)})",
            $"({Spec.Vocabulary}, {Shape.Width(Spec)})"),
    ];
}

/// <summary>The texts of an encoder.</summary>
internal sealed class TextInput(ModelSpec spec, Architecture architecture) : TokenInput(spec, architecture)
{
    private readonly Architecture _architecture = architecture;

    public override string Takes => "tokens (B, T) int64, -1 after the end of a text,";

    public override IEnumerable<string> Enter(Pass pass)
    {
        var (classToken, positions) = (_architecture.Pooling.ClassToken(pass), _architecture.Positions.Added(pass));
        yield return $"var x = {pass.File.Kernels}.EmbedText(";
        yield return $"    tokens, {pass.Network}{Field}, {classToken}, {positions}, {pass.Type}{Width(pass)});  //| {Shape.States(Spec)}";
    }
}

/// <summary>Images, which are cut into patches.</summary>
internal class PatchInput(ModelSpec spec, ImageSpec image, Architecture architecture) : InputPart(spec)
{
    public override string Name => "pixels";

    public override string Takes => $"pixels {Pixels} float32, from -1 to 1,";

    public override string NotFitting => $"The pixels are not {Pixels} float32";

    public override string Check => "CheckPixels";

    public override string Field => "EmbedPatches";

    public override IEnumerable<WeightSpec> Weights
    {
        get
        {
            const string name = "vit.embeddings.patch_embeddings.projection";
            yield return WeightSpec.Embedding(Field, name + ".weight", Spec.Stream, image.Channels, image.Patch, image.Patch);
            var bias = WeightSpec.Vector(Field + "Bias", name + ".bias", Draw.Zeros, Spec.Stream);
            yield return bias with { IsEmbedding = true };
        }
    }

    public override long Flops => 2L * Spec.Width * image.Patches * image.PatchElements;

    public override IEnumerable<string> SpecLines
    {
        get
        {
            var sizes = new[] { image.Size, image.Patch, image.Channels, image.Classes }.Select(size => Literals.Of(size));
            yield return $"Image = new({string.Join(", ", sizes)}),";
        }
    }

    /// <summary>The shape of a batch of images.</summary>
    public string Pixels => $"(B, {Literals.Digits(image.Channels)}, {Literals.Digits(image.Size)}, {Literals.Digits(image.Size)})";

    public override IEnumerable<string> Enter(Pass pass)
    {
        yield return $"var x = {pass.File.Kernels}.{Embedded(pass)};  //| {Shape.States(Spec)}";
    }

    /// <summary>The call of the kernel that embeds the pixels.</summary>
    private protected virtual string Embedded(Pass pass)
    {
        var added = $"{architecture.Pooling.ClassToken(pass)}, {Positions(pass)}";
        return $"EmbedPatches(\n    pixels, {Projection(pass)}, {added}, {pass.Type}{Width(pass)})";
    }

    private protected static string Projection(Pass pass) => $"{pass.Network}EmbedPatches, {pass.Network}EmbedPatchesBias";

    private protected string Positions(Pass pass) => architecture.Positions.Added(pass);
}
