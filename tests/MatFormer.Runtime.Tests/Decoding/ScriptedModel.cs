using System.Collections.Immutable;
using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Decoding;

/// <summary>A model that generates its script again and again, after a prompt of <paramref name="promptLength"/> tokens.</summary>
public sealed class ScriptedModel(int[] script, int promptLength = 1, Action? beforeToken = null) : MatFormerModel("Scripted")
{
    public ScriptedModel(string script, int promptLength = 1, Action? beforeToken = null)
        : this([.. Encoding.UTF8.GetBytes(script).Select(b => (int)b)], promptLength, beforeToken)
    {
    }

    public override ModelSpec Architecture { get; } = TinyModel.Spec with { Name = "Scripted", Context = 4096 };

    public override string ProfileName => "XL";

    public override ImmutableArray<LayerSlice> Layers => [];

    public override bool IsUniversal => false;

    public override Device Device => CPU;

    /// <summary>The ids of the threads that ran the forward pass.</summary>
    public HashSet<int> Threads { get; } = [];

    public override Tensor forward(Tensor tokens) => throw new NotSupportedException();

    public override Tensor forward(Tensor tokens, KeyValueCache cache)
    {
        beforeToken?.Invoke();
        Threads.Add(Environment.CurrentManagedThreadId);
        var time = (int)tokens.shape[1];
        cache.Advance(time);
        var logits = zeros([1, time, TinyModel.Vocabulary]);
        using var wanted = logits.narrow(1, time - 1, 1).narrow(2, script[(cache.Length - promptLength) % script.Length], 1);
        wanted.fill_(10);
        return logits;
    }

    protected override void BindParameters()
    {
    }
}
