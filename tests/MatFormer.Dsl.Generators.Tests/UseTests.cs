using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>Generated code in unusual surroundings.</summary>
public sealed class UseTests
{
    private const string Attributes = """
        [MatLM(Layers = 2, Width = 12, Heads = 2, Context = 9, Vocabulary = 17)]
        [FeedForward(48, Activation.SwiGlu, Bias = true)]
        [Attention(QkNorm = true)]
        [Granularity("S", 6), Granularity("XL", 48)]
        [Profile("Mixed", "S XL")]
        """;

    public static TheoryData<string> Surroundings =>
    [
        $"using MatFormer; namespace A.B.C;\n{Attributes}\ninternal class Lm;\npublic partial class Other;".Replace("internal class", "internal partial class", StringComparison.Ordinal),
        $"namespace A {{ namespace B {{ using MatFormer;\n{Attributes}\npublic partial class Lm {{ }} }} }}",
        $"using MatFormer; namespace A; public partial struct Outer {{ internal partial interface Middle {{ partial record Inner {{\n{Attributes}\nprivate sealed partial class Lm; }} }} }}",
        $"using MatFormer; namespace A; public static partial class Outer {{ protected internal partial record struct No; }}\n{Attributes}\npublic partial class Lm;".Replace("protected internal ", "internal ", StringComparison.Ordinal),

        // Names of the user's that the generated code uses otherwise.
        $"using MatFormer; namespace A;\npublic class Tensor; public class Kernels; public class Weights; public class Device; public class Module; public class torch;\n{Attributes}\npublic partial class Lm;",
        $"using MatFormer; using Parameter = System.String; namespace A.B {{\n{Attributes}\npublic partial class Lm; }} namespace A {{ public class Streams; public class ModelSpec; }} public class ScalarType; public class Parameter2;",
        $"using MatFormer;\npublic class Tensor; public class Profile; public class System2;\n{Attributes}\npublic partial class Lm {{ public class Streams; }}",
        $"using MatFormer; namespace MatFormer.System; public class Profile;\n{Attributes}\npublic partial class Lm;",
        $"using MatFormer; namespace A.System.TorchSharp;\n{Attributes}\npublic partial class Lm;",
        $"using MatFormer;\n{Attributes}\npublic partial class Tensor;",
        $"using MatFormer;\n{Attributes.Replace("Mixed", "Tensor", StringComparison.Ordinal).Replace("\"S\"", "\"Device\"", StringComparison.Ordinal).Replace("\"S XL\"", "\"2*XL\"", StringComparison.Ordinal)}\npublic partial class Lm;"
            .Replace("\"Device\"", "\"Streams\"", StringComparison.Ordinal),
        $"using MatFormer; namespace @class.@event;\n{Attributes}\npublic partial class @object;",

        // Names of small letters, for which the compiler has a warning.
        $"using MatFormer;\n{Attributes.Replace("Mixed", "mixed", StringComparison.Ordinal).Replace("\"S\"", "\"s\"", StringComparison.Ordinal).Replace("S XL", "s XL", StringComparison.Ordinal)}\npublic partial class Lm;",

        // Usings of the whole project.
        $"global using Tensor = TorchSharp.torch.Tensor; global using Device = System.String; using MatFormer;\n{Attributes}\npublic partial class Lm;",
        $"global using System.CodeDom.Compiler; global using static TorchSharp.torch; global using TorchSharp.Modules; global using System.Reflection; using MatFormer;\n{Attributes}\npublic partial class Lm;",

        // The class in two parts, attributes on both.
        $"using MatFormer;\n{Attributes.Replace("[Profile(\"Mixed\", \"S XL\")]", "", StringComparison.Ordinal)}\npublic partial class Lm;\n[Profile(\"Mixed\", \"S XL\")] public partial class Lm : System.IEquatable<Lm> {{ public bool Equals(Lm? other) => ReferenceEquals(this, other); }}".Replace("public bool", "/**<summary>.</summary>*/ public bool", StringComparison.Ordinal),
        $"using MatFormer;\n{Attributes}\npublic partial class Lm : MatFormerModel;",
    ];

    [Theory]
    [MemberData(nameof(Surroundings))]
    public void Compiles_without_a_warning(string source)
    {
        var run = GeneratorRun.Of("#pragma warning disable CS1591, CS8981, CS0660, CS0661\n" + source).AssertClean();
        Assert.Equal(7, run.Sources.Count);
    }

    [Fact]
    public void A_class_without_the_attribute_is_left_alone() =>
        Assert.Empty(GeneratorRun.Of("using MatFormer;\n[FeedForward(8, Activation.Gelu)] internal class Lm;").AssertClean().Sources);

    [Fact]
    public void The_class_s_files_bear_its_full_name()
    {
        var sources = GeneratorRun.Of($"using MatFormer; namespace A.B; public partial class Outer {{\n{Attributes}\npublic partial class Lm; }}").Sources.Keys;
        Assert.Equal(
            ["A.B.Outer.Lm.Forward.g.cs", "A.B.Outer.Lm.Mixed.g.cs", "A.B.Outer.Lm.Parameters.g.cs", "A.B.Outer.Lm.Profiles.g.cs", "A.B.Outer.Lm.S.g.cs", "A.B.Outer.Lm.Training.g.cs", "A.B.Outer.Lm.XL.g.cs"],
            sources.Order(StringComparer.Ordinal));
    }
}
