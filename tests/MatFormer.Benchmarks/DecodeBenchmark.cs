using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using TorchSharp;

namespace MatFormer.Benchmarks;

/// <summary>A MatLM with 0.2 billion weights, which fit into no cache.</summary>
[MatLM(Layers = 12, Width = 1024, Heads = 16, Context = 256, Vocabulary = 256)]
[FeedForward(4096, Activation.SwiGlu)]
[Granularity("S", 512), Granularity("XL", 4096)]
internal sealed partial class BenchLmLarge;

/// <summary>
/// Measures decoding token by token with batch size 1: the decoding engine against plain PyTorch, a small size against a large one, weights
/// larger than the caches against the memory bandwidth, and speculative decoding against plain decoding.
/// </summary>
internal static class DecodeBenchmark
{
    private const int Tokens = 128;
    private const int Turns = 7;
    private const int DraftLength = 4;

    // Training takes half a minute with bf16, and over a minute without. The sizes agree as much as after any short run.
    private static int TrainingSteps => Machine.CpuHasBFloat16 ? 300 : 100;

    public static IEnumerable<Result> Run() =>
        [.. AgainstPyTorch(), .. ShareOfIdeal(), .. Large(), .. Switching(), .. Trained()];

    private static string NameOf(DecodingWeights weights) => weights.ShortName;

    private static IEnumerable<Result> AgainstPyTorch()
    {
        foreach (var weights in Enum.GetValues<DecodingWeights>())
        {
            using var model = new BenchLm();
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            var name = $"decode.xl.{NameOf(weights)}";
            Greedy(engine);
            var prefills = RunWarm(() => Prefill(engine));
            yield return new Result(
                $"decode.prefill.{NameOf(weights)}", Tokens / Benchmarks.Turns.Median(prefills), "tokens/s", Runs: prefills.Length);

            // PyTorch has no int8 weights for this, so int8 is compared with its bfloat16.
            using var peer = PythonPeer.Start(
                "--dtype", weights == DecodingWeights.Float32 ? "f32" : "bf16",
                "--threads", torch.get_num_threads().ToString(CultureInfo.InvariantCulture));
            if (peer is null)
            {
                PythonPeer.TellMissing($"{name}.vs_pytorch");
                var alone = RunWarm(() => Greedy(engine));
                yield return new Result(
                    $"{name}.tokens_per_second", Tokens / Benchmarks.Turns.Median(alone), "tokens/s", Runs: alone.Length);
                continue;
            }

            peer.Time("decode", Tokens);
            var times = Benchmarks.Turns.RunWarm(Turns, () => Greedy(engine), () => peer.Time("decode", Tokens));
            yield return Benchmarks.Turns.Ratio($"{name}.vs_pytorch", (times[0], times[1]), Tokens);
        }
    }

    // How many times faster the smallest granularity is than the largest, divided by how many times fewer bytes (weights, keys and values)
    // it reads for a token.
    private static IEnumerable<Result> ShareOfIdeal()
    {
        using var model = new BenchLm();
        foreach (var weights in Enum.GetValues<DecodingWeights>())
        {
            using var large = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            using var view = model.View<BenchLm.S>();
            using var small = DecodingEngine.Create(view, new DecodingOptions { Weights = weights });
            var times = Benchmarks.Turns.RunWarm(Turns, () => Greedy(small), () => Greedy(large));
            var bytes = (double)BytesPerToken(large) / BytesPerToken(small);
            var speedUp = Benchmarks.Turns.Median(times[1]) / Benchmarks.Turns.Median(times[0]);
            yield return new Result(
                weights == DecodingWeights.Float32 ? "decode.s.share_of_ideal" : $"decode.s.{NameOf(weights)}.share_of_ideal",
                speedUp / bytes, "of the ratio of bytes", speedUp, bytes, times[0].Length);
        }

        // On average, the keys and values of half of the tokens are in the cache.
        static long BytesPerToken(DecodingEngine engine) => engine.WeightBytes + (engine.SequenceBytes * Tokens / engine.Capacity / 2);
    }

    private static IEnumerable<Result> Large()
    {
        torch.manual_seed(0);
        using var model = new BenchLmLarge();
        foreach (var weights in Enum.GetValues<DecodingWeights>())
        {
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            const int tokens = 8;
            using var memory = new Memory(engine.WeightBytes);
            var times = Benchmarks.Turns.RunWarm(Turns, () => Greedy(engine, tokens) / tokens, memory.Read);
            var (ours, limit) = (engine.WeightBytes / Benchmarks.Turns.Median(times[0]), memory.Bytes / Benchmarks.Turns.Median(times[1]));
            yield return new Result(
                weights == DecodingWeights.Float32 ? "decode.large.bandwidth_share" : $"decode.large.{NameOf(weights)}.bandwidth_share",
                ours / limit, "of the memory's bytes/s", ours, limit, times[0].Length);
        }

        foreach (var result in Nested(model)) yield return result;
    }

    // One copy of the weights in 8, 4 and 2 bits, against an engine of int8.
    private static IEnumerable<Result> Nested(BenchLmLarge model)
    {
        const int tokens = 8;
        using var plain = DecodingEngine.Create(model, new DecodingOptions { Weights = DecodingWeights.Int8 });
        using var nested = DecodingEngine.Create(model, new DecodingOptions { Weights = DecodingWeights.Nested8 });
        DecodingWeights[] formats = [DecodingWeights.Nested8, DecodingWeights.Nested4, DecodingWeights.Nested2];
        foreach (var (name, measure) in ((string, Func<DecodingEngine, double>)[])[
            ("", engine => Greedy(engine, tokens)), ("prefill.", engine => Prefill(engine))])
        {
            var times = Benchmarks.Turns.RunWarm(Turns, [() => measure(plain), .. formats.Select(f => (Func<double>)(() => In(f)))]);
            for (var i = 0; i < formats.Length; i++)
            {
                var bits = formats[i] == DecodingWeights.Nested8 ? "nested8" : $"int{formats[i].NestedBits}";
                yield return Benchmarks.Turns.Ratio(
                    $"decode.large.{name}{bits}.vs_int8", (times[i + 1], times[0]), name == "" ? tokens : Tokens);
            }

            double In(DecodingWeights weights)
            {
                nested.Use(0, weights);
                return measure(nested);
            }
        }
    }

    private static IEnumerable<Result> Switching()
    {
        using var model = new BenchLm();
        using var engine = DecodingEngine.Create(model);
        ImmutableArray<LayerSlice>[] sizes = [BenchLm.Profile.S.Layers, BenchLm.Profile.XL.Layers];
        Switch(100);
        const int switches = 10_000;
        var before = GC.GetTotalAllocatedBytes(precise: true);
        var seconds = Switch(switches);
        yield return new Result("switch.us", seconds / switches * 1e6, "us", Runs: switches);
        yield return new Result(
            "switch.bytes", (GC.GetTotalAllocatedBytes(precise: true) - before) / (double)switches, "bytes", Runs: switches);

        Greedy(engine);
        engine.Truncate(0, 0);
        before = GC.GetTotalAllocatedBytes(precise: true);
        for (var token = 0; token < Tokens; token++)
        {
            engine.Use(0, sizes[token % 2]);
            Next(engine, token);
        }

        yield return new Result(
            "decode.bytes_per_token", (GC.GetTotalAllocatedBytes(precise: true) - before) / (double)Tokens, "bytes", Runs: Tokens);

        // A token comes first, because a switch checks the tokens that are in the cache.
        double Switch(int count)
        {
            engine.Truncate(0, 0);
            Next(engine, 1);
            var start = Stopwatch.GetTimestamp();
            for (var i = 0; i < count; i++) engine.Use(0, sizes[i % 2]);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
    }

    // The figures that depend on trained weights: how often a draft is right, and what rounding costs.
    private static IEnumerable<Result> Trained()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        torch.manual_seed(0);
        using var model = new BenchLm { ComputeType = Machine.CpuHasBFloat16 ? torch.ScalarType.BFloat16 : torch.ScalarType.Float32 };
        using (var corpus = TextCorpus.Open(null, folder.FullName))
        {
            var trainer = new TrainerOptions { Steps = TrainingSteps, Batch = 8, LearningRate = 2e-3 };
            new Trainer<BenchLm>(model, trainer).Fit(corpus);
            foreach (var result in Rounding(model, corpus)) yield return result;
        }

        folder.Delete(recursive: true);
        string[] prompts = ["Returns the ", "Gets or sets a value that ", "The exception that is thrown when "];
        foreach (var weights in (DecodingWeights[])[DecodingWeights.Float32, DecodingWeights.BFloat16, DecodingWeights.Nested8])
        {
            // Nested weights draft with their upper 4 bits.
            var draftWeights = weights == DecodingWeights.Nested8 ? DecodingWeights.Nested4 : (DecodingWeights?)null;
            var suffix = weights == DecodingWeights.Float32 ? string.Empty : $".{NameOf(weights)}";
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            var plain = new GenerationOptions { Tokens = 200 };
            var drafted = plain with { Draft = BenchLm.Profile.S.Layers, DraftWeights = draftWeights };
            var (texts, results) =
                (prompts.Select(p => TextGenerator.Generate(engine, p, plain).Text).ToList(), new List<GenerationResult>());
            var times = Benchmarks.Turns.RunWarm(
                Turns,
                () => prompts.Select(p => TextGenerator.Generate(engine, p, drafted)).Select(Noted).Sum(r => r.Tokens / r.TokensPerSecond),
                () => prompts.Sum(p => TextGenerator.Generate(engine, p, plain) is var r ? r.Tokens / r.TokensPerSecond : 0));
            for (var i = 0; i < results.Count; i++)
            {
                if (results[i].Text != texts[i % prompts.Length]) throw new InvalidOperationException("A draft changed the text.");
            }

            yield return Benchmarks.Turns.Ratio($"speculative.vs_greedy{suffix}", (times[0], times[1]), prompts.Length * plain.Tokens);
            yield return new Result(
                $"speculative.acceptance{suffix}", results.Average(r => r.Drafts!.Acceptance), "of drafted tokens", Runs: results.Count);
            yield return new Result(
                $"speculative.draft_length{suffix}", results.Average(r => r.Drafts!.MeanLength), "tokens a pass", Runs: results.Count);

            using var view = model.View<BenchLm.S>();
            using var small = DecodingEngine.Create(view, new DecodingOptions { Weights = draftWeights ?? weights });
            var separateTexts = new List<string>();
            var shared = drafted with { DraftLength = DraftLength };
            times = Benchmarks.Turns.RunWarm(
                Turns,
                () => prompts.Sum(p => TextGenerator.Generate(engine, p, shared) is var r ? r.Tokens / r.TokensPerSecond : 0),
                () => prompts.Sum(p => Separate(engine, small, p, plain.Tokens, separateTexts)));
            for (var i = 0; i < separateTexts.Count; i++)
            {
                if (separateTexts[i] != texts[i % prompts.Length])
                    throw new InvalidOperationException("A draft with its own cache changed the text.");
            }

            yield return Benchmarks.Turns.Ratio(
                $"speculative.shared_vs_separate_cache{suffix}", (times[0], times[1]), prompts.Length * plain.Tokens);

            GenerationResult Noted(GenerationResult result)
            {
                results.Add(result);
                return result;
            }
        }
    }

    // The increase of the validation loss, in bits per byte, through rounded weights: of the smallest and the largest size.
    private static IEnumerable<Result> Rounding(BenchLm model, TextCorpus corpus)
    {
        ImmutableArray<Profile<BenchLm>> sizes = [BenchLm.Profile.S, BenchLm.Profile.XL];
        var options = new EvaluationOptions { Windows = 64, Continuations = 0 };
        var exact = Evaluator.Run(model, sizes, corpus, options);
        foreach (var weights in Enum.GetValues<DecodingWeights>().Where(weights => weights != DecodingWeights.Float32))
        {
            using var rounded = new BenchLm { ComputeType = model.ComputeType };
            rounded.load_state_dict(model.state_dict());
            DecodingEngine.RoundWeights(rounded, weights);
            var rows = Evaluator.Run(rounded, sizes, corpus, options).Rows;
            for (var i = 0; i < sizes.Length; i++)
            {
                var (before, after) = (exact.Rows[i].BitsPerByte, rows[i].BitsPerByte);
                yield return new Result($"decode.{sizes[i].Name.ToLowerInvariant()}.{NameOf(weights)}.loss_increase",
                    after - before, "bits per byte", after, before);
            }
        }

        // The engine also rounds keys and values, and with nested weights the inputs of products.
        var windows = WindowsOf(corpus, options.Windows);
        foreach (var size in sizes)
        {
            var before = EngineBits(model, size, DecodingWeights.Float32, windows);
            foreach (var weights in Enum.GetValues<DecodingWeights>().Where(weights => weights != DecodingWeights.Float32))
            {
                var after = EngineBits(model, size, weights, windows);
                yield return new Result(
                    $"decode.{size.Name.ToLowerInvariant()}.{NameOf(weights)}.engine_loss_increase", after - before, "bits per byte",
                    after, before);
            }
        }
    }

    // Texts of one token more than the context, in bytes.
    private static List<int[]> WindowsOf(TextCorpus corpus, int count)
    {
        var length = BenchLm.Spec.Context + 1;
        var bytes = Enumerable.Range(0, corpus.Validation.Documents).SelectMany(corpus.Validation.ReadDocument);
        return [.. bytes.Take(count * length).Select(value => (int)value).Chunk(length).Where(window => window.Length == length)];
    }

    private static double EngineBits(BenchLm model, Profile<BenchLm> size, DecodingWeights weights, List<int[]> windows)
    {
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
        engine.Use(0, size);
        var (bits, count) = (0.0, 0);
        foreach (var window in windows)
        {
            engine.Truncate(0, 0);
            engine.Append(0, window.AsSpan(..^1), allLogits: true);
            engine.Run();
            for (var i = 1; i < window.Length; i++, count++)
            {
                var logits = engine.Logits(i - 1);
                var (largest, sum) = (logits[ArgMax(logits)], 0.0);
                foreach (var logit in logits) sum += Math.Exp(logit - largest);
                bits += (Math.Log(sum) - (logits[window[i]] - largest)) / Math.Log(2);
            }
        }

        return bits / count;
    }

    // Speculative decoding with two separate models: the small one has its own cache, and reads all tokens that the large one chose.
    private static double Separate(DecodingEngine large, DecodingEngine small, string prompt, int count, List<string> texts)
    {
        var start = Stopwatch.GetTimestamp();
        var tokens = new List<int>(Tokenizer.ByteLevel.Encode(prompt));
        var given = tokens.Count;
        large.Truncate(0, 0);
        small.Truncate(0, 0);
        large.Append(0, CollectionsMarshal.AsSpan(tokens));
        large.Run();
        tokens.Add(ArgMax(large.Logits(0)));
        while (tokens.Count < given + count)
        {
            var fed = tokens.Count - 1;
            var most = Math.Min(DraftLength, Math.Min(large.Capacity - fed, given + count - tokens.Count) - 1);
            for (var i = 0; i < most; i++)
            {
                small.Append(0, CollectionsMarshal.AsSpan(tokens)[small.Length(0)..]);
                small.Run();
                tokens.Add(ArgMax(small.Logits(0)));
            }

            var draft = tokens[(fed + 1)..];
            large.Append(0, CollectionsMarshal.AsSpan(tokens)[fed..], allLogits: true);
            large.Run();
            tokens.RemoveRange(fed + 1, draft.Count);
            for (var i = 0; i <= draft.Count; i++)
            {
                tokens.Add(ArgMax(large.Logits(i)));
                if (i < draft.Count && tokens[^1] != draft[i]) break;
            }

            large.Truncate(0, tokens.Count - 1);
            small.Truncate(0, Math.Min(small.Length(0), tokens.Count - 1));
        }

        var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        texts.Add(Tokenizer.ByteLevel.Decode(CollectionsMarshal.AsSpan(tokens)[given..]));
        return seconds;
    }

    private static double[] RunWarm(Func<double> side)
    {
        side();
        return Benchmarks.Turns.RunWarm(Turns, side)[0];
    }

    private static double Prefill(DecodingEngine engine)
    {
        engine.Truncate(0, 0);
        Span<int> prompt = stackalloc int[Tokens];
        for (var i = 0; i < prompt.Length; i++) prompt[i] = i;
        var start = Stopwatch.GetTimestamp();
        engine.Append(0, prompt);
        engine.Run();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static double Greedy(DecodingEngine engine, int tokens = Tokens)
    {
        engine.Truncate(0, 0);
        var start = Stopwatch.GetTimestamp();
        var token = 0;
        for (var i = 0; i < tokens; i++) token = Next(engine, token);
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static int Next(DecodingEngine engine, int token)
    {
        engine.Append(0, [token]);
        engine.Run();
        return ArgMax(engine.Logits(0));
    }

    /// <summary>Returns the index of the largest logit.</summary>
    public static int ArgMax(ReadOnlySpan<float> logits)
    {
        var best = 0;
        for (var i = 1; i < logits.Length; i++)
        {
            if (logits[i] > logits[best]) best = i;
        }

        return best;
    }

    /// <summary>As many bytes as the weights have, which one thread for each core reads from beginning to end.</summary>
    private sealed unsafe class Memory : IDisposable
    {
        private readonly float* _values;
        private readonly nint _count;
        private readonly float[] _sums = new float[Environment.ProcessorCount];

        public Memory(long bytes)
        {
            _count = (nint)(bytes / sizeof(float));
            _values = (float*)NativeMemory.AlignedAlloc((nuint)(_count * sizeof(float)), 64);
            for (nint i = 0; i < _count; i++) _values[i] = i % 7;
        }

        public long Bytes => _count * sizeof(float);

        public double Read()
        {
            var start = Stopwatch.GetTimestamp();
            Parallel.For(0, _sums.Length, thread =>
            {
                var (first, end) = (_count / _sums.Length * thread, _count / _sums.Length * (thread + 1));
                var (a, b, c, d) = (Vector<float>.Zero, Vector<float>.Zero, Vector<float>.Zero, Vector<float>.Zero);
                var step = Vector<float>.Count;
                for (var i = first; i + (4 * step) <= end; i += 4 * step)
                {
                    a += Vector.Load(_values + i);
                    b += Vector.Load(_values + i + step);
                    c += Vector.Load(_values + i + (2 * step));
                    d += Vector.Load(_values + i + (3 * step));
                }

                _sums[thread] = Vector.Sum((a + b) + (c + d));
            });
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public void Dispose() => NativeMemory.AlignedFree(_values);
    }
}
