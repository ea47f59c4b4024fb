using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>Each wrong use of a model gives one diagnostic in its place. Right uses give none.</summary>
public sealed class MisuseTests
{
    private const string Header = """
        #pragma warning disable CS1591, CS8019
        using System.Collections.Generic;
        using MatFormer;
        using TorchSharp;
        using TorchSharp.Modules;
        using static TorchSharp.torch;

        namespace Models
        {
            [MatLM(Layers = 2, Width = 12, Heads = 2, Context = 9, Vocabulary = 256), FeedForward(48, Activation.SwiGlu)]
            [Granularity("S", 6), Granularity("XL", 48), Profile("Mixed", "S XL")]
            public sealed partial class Lm;

            [MatLM(Layers = 3, Width = 12, Heads = 2, Context = 9, Vocabulary = 256), FeedForward(48, Activation.SwiGlu)]
            [Granularity("Small", 6), Granularity("Large", 48)]
            public sealed partial class Other;

            internal static class Program
            {
                private static readonly bool s_ok = cuda.is_available();
                private static Tensor? s_kept;

                private static void Keep(Tensor tensor) => s_kept = tensor;

                private static T Create<T>() where T : MatFormerModel, IMatFormer<T> => T.Create();


        """;

    private const string Footer = "\n    }\n}\n";

    /// <summary>The id, the member with <c>[|</c> and <c>|]</c> around the place of the diagnostic, and the message.</summary>
    public static TheoryData<string, string, string> Misuses => new()
    {
        {
            "MFD0101",
            "static void Run(Lm model, Tensor x) { for (var i = 0; i < 9; i++) { var y = [|model.forward(x)|]; _ = y.sum().shape; } }",
            "The tensor of 'forward' outlives the loop iteration; write 'using var y = ...', or open a scope in the loop with "
                + "NewDisposeScope()"
        },
        {
            "MFD0101",
            "static void Run(Lm model, Tensor x) { while (true) [|model.Forward(Lm.Profile.S, x)|]; }",
            "The tensor of 'Forward' outlives the loop iteration; write 'using var logits = ...', or open a scope in the loop with "
                + "NewDisposeScope()"
        },
        {
            "MFD0101",
            "static void Run(Lm model, Tensor[] all) { foreach (var x in all) { if (s_ok) [|model.JointLosses(x, x)|].backward(); } }",
            "The tensor of 'JointLosses' outlives the loop iteration; write 'using var losses = ...', or open a scope in the loop with "
                + "NewDisposeScope()"
        },
        {
            "MFD0101",
            "static void Run(Lm.Mixed model, Tensor x) { do { _ = [|model.Loss(x, x)|]; } while (true); }",
            "The tensor of 'Loss' outlives the loop iteration; write 'using var loss = ...', or open a scope in the loop with "
                + "NewDisposeScope()"
        },
        {
            "MFD0101",
            "static void Run<T>(T model, Tensor x) where T : MatFormerModel { while (true) { using var y = [|model.call(x)|] * 2; } }",
            "The tensor of 'call' outlives the loop iteration; write 'using var logits = ...', or open a scope in the loop with "
                + "NewDisposeScope()"
        },
        {
            "MFD0101",
            """
            static void Run<T>(T model, Tensor x) where T : MatFormerModel, IMatFormer<T>
            {
                System.Action<int> step = rounds =>
                {
                    while (rounds-- > 0)
                    {
                        var logits = [|model.Forward(T.Granularities[0], x)|];
                        using var best = cat([x], 0);
                        best.add_(logits.sum());
                    }
                };
                step(3);
            }
            """,
            "The tensor of 'Forward' outlives the loop iteration; write 'using var logits = ...', or open a scope in the loop with "
                + "NewDisposeScope()"
        },
        {
            "MFD0102",
            "static void Run() { using var model = new Lm(); var all = optim.AdamW([|model.parameters()|]); model.to(CUDA); all.step(); }",
            "'model.to' later replaces the parameters that are passed here; build the optimizer after that call"
        },
        {
            "MFD0102",
            "static void Run(Lm model) { var all = new AdamW([.. [|model.parameters()|]]); if (s_ok) { model = model.cuda(); } }",
            "'model.cuda' later replaces the parameters that are passed here; build the optimizer after that call"
        },
        {
            "MFD0102",
            """
            static void Run(TextCorpus corpus)
            {
                using var model = new Lm();
                using var trainer = new Trainer<Lm>([|model|], new TrainerOptions());
                model.to(ScalarType.Float32, true).to(CUDA);
                trainer.Fit(corpus);
            }
            """,
            "'model.to' later replaces the parameters that are passed here; build the trainer after that call"
        },
        {
            "MFD0103",
            "static object Run() => Profile<Lm>.Parse(\"1*S 1*[|M|]\");",
            "This is not a profile of 'Lm': 'M' is not a granularity of 'Lm'; write one of S, XL"
        },
        {
            "MFD0103",
            "static object Run() => Profile<Other>.Parse(\"[|Mixed|]\");",
            "This is not a profile of 'Other': write one of Small, Large, or a pattern of granularities"
        },
        {
            "MFD0103",
            "const string Both = \"2*Small 2*Large\"; static object Run() => Profile<Other>.Parse([|Both|]);",
            "This is not a profile of 'Other': The profile '2*Small 2*Large' has 4 layers, but 'Other' has 3 layers; remove 1 layer"
        },
        {
            "MFD0103",
            "static object Run() => Profile<Lm>.Parse(@\"[|3*S|]\");",
            "This is not a profile of 'Lm': The profile '3*S' has 3 layers, but 'Lm' has 2 layers; remove 1 layer"
        },
        {
            "MFD0104",
            "static void Run(Lm model, Tensor x) { using var v = model.View<Lm.Mixed>(); using var l = [|v.Loss(x, x)|]; l.backward(); }",
            "A view shares its weights for inference only and has no gradients; train 'model' itself, or a slice that Extract copies"
        },
        {
            "MFD0104",
            "static void Run(Lm model, Tensor x) => [|model.View<Lm.S>().Loss(x, x)|].backward();",
            "A view shares its weights for inference only and has no gradients; train 'model' itself, or a slice that Extract copies"
        },
        {
            "MFD0104",
            "static void Run() { var view = Create<Lm>().View(Lm.Profile.Mixed); optim.AdamW([|view.parameters()|]).step(); }",
            "A view shares its weights for inference only and has no gradients; train 'Lm' itself, or a slice that Extract copies"
        },
    };

    [Theory]
    [MemberData(nameof(Misuses))]
    public Task AMisuseIsOneDiagnosticInItsPlace(string id, string marked, string message) =>
        new DiagnosticsOf(Header + marked + Footer) { Id = id, Message = message, IgnoresHints = true }.RunAsync();

    /// <summary>Right uses, each similar to a wrong one.</summary>
    public static TheoryData<string> Uses =>
    [
        // Tensors that are disposed, or that somebody else owns.
        "static void Run(Lm model, Tensor x) { var y = model.forward(x); }",
        "static void Run(Lm model, Tensor x) { while (true) { using var y = model.forward(x); } }",
        "static void Run(Lm model, Tensor x) { while (true) { using (var y = model.forward(x)) { } } }",
        "static void Run(Lm model, Tensor x) { while (true) { using (model.forward(x)) { } } }",
        "static void Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); y.sum().Dispose(); y.Dispose(); } }",
        "static void Run(Lm model, Tensor x) { while (true) { model.forward(x).Dispose(); } }",
        "static void Run(Lm model, Tensor x) { while (true) { using var scope = NewDisposeScope(); var y = model.forward(x); } }",
        "static void Run(Lm model, Tensor x) { using var scope = NewDisposeScope(); while (true) { model.forward(x); } }",
        "static void Run(Lm model, Tensor x) { while (true) { s_kept = model.forward(x); } }",
        "static void Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); s_kept = y; } }",
        "static void Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); Keep(y); } }",
        "static void Run(Lm model, Tensor x) { while (true) { Keep(model.forward(x)); } }",
        "static void Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); System.Action a = () => y.sum(); } }",
        "static void Run(Lm model, Tensor x) { var all = new List<Tensor>(); while (true) { all.Add(model.forward(x)); } }",
        "static void Run(Lm model, Tensor x) { var all = new Tensor[2]; while (true) { all[0] = model.forward(x); } }",
        "static Tensor Run(Lm model, Tensor x) { while (true) { return model.forward(x); } }",
        "static Tensor Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); return y; } }",
        "static IEnumerable<Tensor> Run(Lm model, Tensor x) { while (true) { yield return model.forward(x); } }",
        "static (Tensor, int) Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); return (y, 1); } }",
        "static void Run(Lm model, Tensor x) { while (true) { var y = model.forward(x); var both = (Tensor[])[y, x]; } }",
        "static void Run(Lm model, Tensor x) { while (true) { var y = model.forward(x).DetachFromDisposeScope(); } }",
        "static void Run(Lm model, Tensor x) { for (var y = model.forward(x); ;) { y.sum().Dispose(); } }",
        "static void Run(Lm model, Tensor x) { while (true) { Local(); } void Local() { var y = model.forward(x); } }",
        "static void Run(nn.Module<Tensor, Tensor> model, Tensor x) { while (true) { var y = model.call(x); } }",

        // Optimizers that are built after the move, or for another model.
        "static void Run() { var model = new Lm(); model.to(CUDA); optim.AdamW(model.parameters()).step(); }",
        "static void Run() { var model = new Lm().to(CUDA); optim.AdamW(model.parameters()).step(); }",
        "static void Run(Lm model, Lm other) { optim.AdamW(model.parameters()).step(); other.to(CUDA); }",
        "static void Run(Lm model) { optim.AdamW(model.parameters()).step(); model = new Lm(); model.to(CUDA); }",
        "static void Run(Lm model, bool b) { if (b) { optim.AdamW(model.parameters()).step(); } else { model.to(CUDA); } }",
        "static void Run(Lm model, bool b) { if (b) { optim.AdamW(model.parameters()).step(); return; } model.to(CUDA); }",
        "static void Run(Lm model) { var a = optim.AdamW(model.parameters()); model.to(CUDA); a = optim.AdamW(model.parameters()); }",
        "static void Run(Lm model) { var a = optim.AdamW(model.parameters()); System.Action move = () => model.to(CUDA); }",
        "static void Run(Lm model, Tensor x) { var a = optim.AdamW(model.parameters()); x.to(CUDA).Dispose(); }",
        "static void Run(nn.Module<Tensor, Tensor> model) { var a = optim.AdamW(model.parameters()); model.to(CUDA); }",
        "static void Run(Lm model) { using var t = new Trainer<Lm>(model, new TrainerOptions()); _ = model.named_parameters(); }",

        // Profiles.
        "static object Run() => Profile<Lm>.Parse(\"Mixed\");",
        "static object Run() => Profile<Lm>.Parse(\"XL\");",
        "static object Run() => Profile<Lm>.Parse(\"1*S  XL\");",
        "static object Run(string text) => Profile<Lm>.Parse(text);",
        "static object Run<T>() where T : MatFormerModel, IMatFormer<T> => Profile<T>.Parse(\"8*M\");",
        "static object Run() => int.Parse(\"8*M\");",

        // Views that are only used for inference.
        "static void Run(Lm model, Tensor x) { using var v = model.View<Lm.Mixed>(); using var l = v.Loss(x, x); l.sum().Dispose(); }",
        "static void Run(Lm model, Tensor x) { var part = model.Extract<Lm.Mixed>(); using var loss = part.Loss(x, x); loss.backward(); }",
        "static void Run(Lm model, Tensor x) { var part = model.View<Lm.S>(); part = model.Extract<Lm.S>(); part.Loss(x, x).backward(); }",
        "static void Run(Lm model, Tensor x) { var v = model.View<Lm.S>(); model.Loss(Lm.Profile.S, x, x).backward(); }",
        "static void Run(Lm model) { var view = model.View<Lm.S>(); foreach (var p in view.parameters()) { _ = p.numel(); } }",
        "static void Run(Tensor x) { using var loss = x.view(1).sum(); loss.backward(); }",
    ];

    [Theory]
    [MemberData(nameof(Uses))]
    public Task ARightUseGivesNoDiagnostic(string member) => DiagnosticsOf.AreNoneAsync(Header + member + Footer);

    /// <summary>A declaration whose attribute the compiler can read only together with the generated code.</summary>
    public static TheoryData<string, string> SelfReading => new()
    {
        {
            "MFD0105",
            """
            [MatLM(Layers = 2, Width = 12, Heads = 2, Context = 9, Vocabulary = 256), FeedForward(48, Activation.SwiGlu)]
            [Granularity("S", 6), Granularity("XL", 48), Profile(nameof(XL) + "2", "S XL")]
            public sealed partial class [|Lm|];
            """
        },
    };

    [Theory]
    [MemberData(nameof(SelfReading))]
    public Task ADeclarationThatReadsItsGeneratedCodeIsAnError(string id, string marked) =>
        new DiagnosticsOf(DiagnosticTests.Header + marked)
        {
            Id = id,
            Message = "An attribute of 'Lm' has a value that is generated from the attributes; write the value itself",
            IgnoresHints = true,
        }.RunAsync();
}
