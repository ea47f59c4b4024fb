using MatFormer;

DistributedTraining.Register();
Killed.Watch(args);
return args switch
{
    [nameof(TinyEncoder), .. var others] => await ModelProgram.RunAsync<TinyEncoder>(others),
    [nameof(TinyWidthEncoder), .. var others] => await ModelProgram.RunAsync<TinyWidthEncoder>(others),
    [nameof(TinyRoutedLm), .. var others] => await ModelProgram.RunAsync<TinyRoutedLm>(others),
    [nameof(TinyViT), .. var others] => await ModelProgram.RunAsync<TinyViT>(others),
    _ => await ModelProgram.RunAsync<TinyLm>(args, ServeCommand.For<TinyLm>()),
};

/// <summary>A model program that trains in seconds, for the tests of the command line and of resuming.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "1*S 1*XL")]
public sealed partial class TinyLm;

/// <summary>A text encoder for the same program, which runs its commands after the argument <c>TinyEncoder</c>.</summary>
[MatEncoder(Layers = 2, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu)]
[NestedEmbedding(4, 8, 16)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
public sealed partial class TinyEncoder;

/// <summary>A text encoder whose residual stream is elastic too.</summary>
[MatEncoder(Layers = 2, Width = 32, Heads = 4, Context = 24, Vocabulary = 256, Embedding = 16)]
[FeedForward(64, Activation.SwiGlu)]
[NestedEmbedding(4, 8, 16)]
[Granularity("S", 16, Heads = 2, Width = 16), Granularity("M", 32, Heads = 2, Width = 16), Granularity("XL", 64)]
public sealed partial class TinyWidthEncoder;

/// <summary>A vision transformer that routes tokens, whose commands the program runs after the argument <c>TinyViT</c>.</summary>
[MatViT(Image = 8, Patch = 2, Channels = 1, Classes = 5, Layers = 2, Width = 32, Heads = 4)]
[FeedForward(64, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Routing]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
public sealed partial class TinyViT;

/// <summary>A language model that routes tokens, whose commands the program runs after the argument <c>TinyRoutedLm</c>.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Routing(0.5)]
[Granularity("S", 16), Granularity("M", 32), Granularity("XL", 64)]
public sealed partial class TinyRoutedLm;
