using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>Models in unusual surroundings.</summary>
public sealed class UseTests
{
    private const string Attributes = """
        [MatLM(Layers = 2, Width = 12, Heads = 2, Context = 9, Vocabulary = 17)]
        [FeedForward(48, Activation.SwiGlu, Bias = true)]
        [Attention(QkNorm = true)]
        [Granularity("S", 6), Granularity("XL", 48)]
        [Profile("Mixed", "S XL")]
        """;

    /// <summary>[Model] stands for the attributes.</summary>
    public static TheoryData<string> Surroundings =>
    [
        """
        namespace A.B.C;
        [Model] internal partial class Lm;
        """,
        """
        namespace A { namespace B { [Model] public partial class Lm { } } }
        """,
        """
        namespace A;
        public partial struct Outer { internal partial interface IMiddle { partial record Inner { [Model] private partial class Lm; } } }
        """,
        """
        namespace A;
        public static partial class Outer { internal partial record struct Inner { [Model] public partial class Lm; } }
        """,

        // The user's types have names that the generated code uses for other types.
        """
        namespace A;
        public class Tensor;
        public class Kernels;
        public class Weights;
        public class Device;
        public class Module;
        public class torch;
        [Model] public partial class Lm;
        """,
        """
        namespace A { public class Streams; public class ModelSpec; }
        namespace A.B { using Parameter = string; [Model] public partial class Lm; }
        public class ScalarType;
        """,
        """
        public class Tensor;
        public class Profile;
        [Model] public partial class Lm { public class Streams; }
        """,
        """
        namespace MatFormer.System;
        public class Profile;
        [Model] public partial class Lm;
        """,
        """
        namespace A.System.TorchSharp;
        [Model] public partial class Lm;
        """,
        """
        [Model] public partial class Tensor;
        """,
        """
        [Model("Streams", "Tensor")] public partial class Lm;
        """,
        """
        namespace @class.@event;
        [Model] public partial class @object;
        """,

        // The compiler warns of names in lower case.
        """
        [Model("s", "mixed")] public partial class Lm;
        """,

        // Global usings.
        """
        global using Tensor = TorchSharp.torch.Tensor;
        global using Device = string;
        [Model] public partial class Lm;
        """,
        """
        global using System.CodeDom.Compiler;
        global using System.Reflection;
        global using TorchSharp.Modules;
        global using static TorchSharp.torch;
        [Model] public partial class Lm;
        """,

        // The user adds parts to the class.
        """
        [Model] public partial class Lm;
        public partial class Lm : System.IEquatable<Lm> { public bool Equals(Lm? other) => ReferenceEquals(this, other); }
        """,
        """
        [Model] public partial class Lm : MatFormer.MatFormerModel;
        """,
    ];

    [Theory]
    [MemberData(nameof(Surroundings))]
    public void AModelCompilesWithoutAWarningInAnySurroundings(string surroundings)
    {
        var run = GeneratorRun.Of(Declare(surroundings)).AssertIsModel();
        Assert.Equal(8, run.Sources.Count);
    }

    [Fact]
    public void AttributesOnSeveralPartsGiveTheSameCodeAsOnOne()
    {
        const string profile = "[Profile(\"Mixed\", \"S XL\")]";
        var together = GeneratorRun.Of(Declare("[Model] public partial class Lm;"));
        var apart = GeneratorRun.Of(
            Declare("[Model] public partial class Lm;").Replace(profile, "", StringComparison.Ordinal),
            $"using MatFormer; {profile} public partial class Lm;").AssertIsModel();
        Assert.Equal(together.Sources, apart.Sources);
    }

    [Fact]
    public void AClassWithoutAModelSAttributeGetsNoCode() =>
        Assert.Empty(GeneratorRun.Of("using MatFormer;\n[FeedForward(8, Activation.Gelu)] internal class Lm;").AssertIsModel().Sources);

    [Fact]
    public void TheNamesOfFilesBeginWithTheFullNameOfTheClass() => Assert.Equal(
        [
            "A.B.Outer.Lm.Decoding.g.cs",
            "A.B.Outer.Lm.Forward.g.cs",
            "A.B.Outer.Lm.Parameters.g.cs",
            "A.B.Outer.Lm.Slicing.g.cs",
            "A.B.Outer.Lm.Spec.g.cs",
            "A.B.Outer.Lm.Submodels.g.cs",
            "A.B.Outer.Lm.Training.g.cs",
            "MatFormer.TorchLibrary.g.cs",
        ],
        GeneratorRun.Of(Declare("namespace A.B; public partial class Outer { [Model] public partial class Lm; }")).Sources.Keys
            .Order(StringComparer.Ordinal));

    private static string Declare(string surroundings)
    {
        var source = surroundings
            .Replace("[Model]", Attributes, StringComparison.Ordinal)
            .Replace("[Model(\"Streams\", \"Tensor\")]", Renamed("Streams", "Tensor"), StringComparison.Ordinal)
            .Replace("[Model(\"s\", \"mixed\")]", Renamed("s", "mixed"), StringComparison.Ordinal);
        return "#pragma warning disable CS1591, CS8981, CS0659, CS0660, CS0661\nglobal using MatFormer;\n" + source;
    }

    private static string Renamed(string granularity, string profile) => Attributes
        .Replace("Mixed", profile, StringComparison.Ordinal)
        .Replace("\"S\"", $"\"{granularity}\"", StringComparison.Ordinal)
        .Replace("\"S XL\"", $"\"{granularity} XL\"", StringComparison.Ordinal);
}
