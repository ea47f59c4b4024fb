using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Decoding;

public sealed class SamplerTests
{
    private static readonly GenerationOptions s_drawing = new() { Temperature = 1 };

    // The logits of the probabilities 0.1, 0.5, 0.15 and 0.25.
    private static readonly float[] s_logits = [.. new[] { 0.1, 0.5, 0.15, 0.25 }.Select(p => (float)Math.Log(p))];

    // Returns the probability with which each token is drawn.
    private static double[] Shares(GenerationOptions options, float[] logits, params int[] tokens)
    {
        var weights = new Sampler(options).Weights(logits, tokens, tokens.Length).ToArray();
        return [.. weights.Select(w => w / weights.Sum())];
    }

    private static double[] Softmax(params double[] logits) => [.. logits.Select(l => Math.Exp(l) / logits.Sum(Math.Exp))];

    private static void Near(double[] expected, double[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 6));
    }

    [Fact]
    public void EachFilterLeavesTheProbabilitiesWorkedOutByHand()
    {
        Near([0.1, 0.5, 0.15, 0.25], Shares(s_drawing, s_logits));
        Near([0.01 / 0.345, 0.25 / 0.345, 0.0225 / 0.345, 0.0625 / 0.345], Shares(s_drawing with { Temperature = 0.5 }, s_logits));
        Near([0, 2 / 3.0, 0, 1 / 3.0], Shares(s_drawing with { TopK = 2 }, s_logits));
        Near([0, 1, 0, 0], Shares(s_drawing with { TopP = 0.49 }, s_logits));
        Near([0, 2 / 3.0, 0, 1 / 3.0], Shares(s_drawing with { TopP = 0.51 }, s_logits)); // the token that crosses the sum stays
        Near([0, 2 / 3.0, 0, 1 / 3.0], Shares(s_drawing with { TopP = 0.74 }, s_logits));
        Near([0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9], Shares(s_drawing with { TopP = 0.76 }, s_logits));
        Near([0, 1, 0, 0], Shares(s_drawing with { TopP = 1e-9 }, s_logits));
        Near([0, 2 / 3.0, 0, 1 / 3.0], Shares(s_drawing with { MinP = 0.4 }, s_logits));
        Near([0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9], Shares(s_drawing with { MinP = 0.25 }, s_logits));
        Near([0, 1, 0, 0], Shares(s_drawing with { MinP = 1 }, s_logits));
    }

    [Fact]
    public void FiltersApplyInTheDocumentedOrder()
    {
        // The temperature comes before TopP and MinP: at 0.5 the likeliest token has 0.25 / 0.345 > 0.7, and the next a quarter of that.
        Near([0, 1, 0, 0], Shares(s_drawing with { Temperature = 0.5, TopP = 0.7 }, s_logits));
        Near([0, 1, 0, 0], Shares(s_drawing with { Temperature = 0.5, MinP = 0.3 }, s_logits));

        // TopK comes before TopP: the first of two tokens (2/3 and 1/3) reaches 0.6, but the first of all four does not.
        Near([0, 1, 0, 0], Shares(s_drawing with { TopK = 2, TopP = 0.6 }, s_logits));
        Near([0, 2 / 3.0, 0, 1 / 3.0], Shares(s_drawing with { TopP = 0.6 }, s_logits));

        // TopP comes before MinP: without the cut of TopP, MinP would leave three tokens.
        Near([0, 2 / 3.0, 0, 1 / 3.0], Shares(s_drawing with { TopP = 0.7, MinP = 0.25 }, s_logits));

        // The penalty comes before all of them: token 1 is no longer the likeliest.
        Near([0, 0, 0, 1], Shares(s_drawing with { TopK = 1, RepetitionPenalty = 3 }, s_logits, 1));
    }

    [Fact]
    public void TopKKeepsTiesAndTopPDropsTheLastOfThem()
    {
        float[] logits = [0, 1, 0, 0, float.NegativeInfinity, -0f];
        Assert.Equal([false, true, false, false, false, false], Kept(s_drawing with { TopK = 1 }));
        Assert.Equal([true, true, true, true, false, true], Kept(s_drawing with { TopK = 2 }));
        Assert.Equal([true, true, true, true, false, true], Kept(s_drawing with { TopK = 5 }));

        // Probabilities e : 1 : 1 : 1 : 1.
        Assert.Equal([true, true, false, false, false, false], Kept(s_drawing with { TopP = (Math.E + 0.5) / (Math.E + 4) }));
        Assert.Equal([true, true, true, false, false, false], Kept(s_drawing with { TopP = (Math.E + 1.5) / (Math.E + 4) }));

        bool[] Kept(GenerationOptions options) => [.. Shares(options, logits).Select(w => w > 0)];
    }

    [Fact]
    public void TheRepetitionPenaltyEqualsThatOfTransformers()
    {
        // RepetitionPenaltyLogitsProcessor multiplies negative scores and divides the others, once for each token.
        float[] logits = [2, -2, 3, 0, 1];
        var options = s_drawing with { RepetitionPenalty = 2 };
        Near(Softmax(1, -4, 3, 0, 1), Shares(options, logits, 0, 1, 0, 3));
        Near(Softmax(2, -4, 3, 0, 1), Shares(options with { RepetitionWindow = 2 }, logits, 0, 2, 1, 3));
        Near(Softmax(1, -4, 3, 0, 1), Shares(options with { RepetitionWindow = 9 }, logits, 0, 1, 1));
        Near(Softmax(4, -1, 3, 0, 1), Shares(options with { RepetitionPenalty = 0.5 }, logits, 0, 1, 1));
        Near(Softmax(2, -2, 3, 0, 1), Shares(options, logits));

        // Greedy decoding takes the largest penalised logit, and no penalty carries over to the next token.
        var greedy = new Sampler(options with { Temperature = 0 });
        Assert.Equal(2, greedy.Next(logits, [0], 0));
        Assert.Equal(0, greedy.Next(logits, [2], 1));
        Assert.Equal(2, greedy.Next(logits, [], 2));
    }

    [Fact]
    public void TheCountPenaltiesEqualThoseOfOpenAI()
    {
        // mu[j] - c[j] * frequency - (c[j] > 0) * presence, where c counts generated tokens; the first two tokens are the prompt.
        float[] logits = [2, -2, 3, 0, 1];
        int[] tokens = [3, 4, 0, 1, 0];
        Near(Softmax(2 - 1, -2 - 0.5, 3, 0, 1), Of(s_drawing with { FrequencyPenalty = 0.5 }));
        Near(Softmax(2 - 0.5, -2 - 0.5, 3, 0, 1), Of(s_drawing with { PresencePenalty = 0.5 }));
        Near(Softmax(2 - 1 + 0.25, -2 - 0.5 + 0.25, 3, 0, 1), Of(s_drawing with { FrequencyPenalty = 0.5, PresencePenalty = -0.25 }));

        // The repetition penalty comes first, and counts the prompt too.
        Near(Softmax(1 - 1, -4 - 0.5, 3, 0, 0.5), Of(s_drawing with { FrequencyPenalty = 0.5, RepetitionPenalty = 2 }));

        double[] Of(GenerationOptions options)
        {
            var weights = new Sampler(options).Weights(logits, tokens, 3).ToArray();
            return [.. weights.Select(w => w / weights.Sum())];
        }
    }

    [Fact]
    public void CountsDoNotCarryOverToTheNextToken()
    {
        var greedy = new Sampler(new GenerationOptions { FrequencyPenalty = 1, PresencePenalty = 1 });
        Assert.Equal(0, greedy.Next([2, 1], [], 0));
        Assert.Equal(1, greedy.Next([2, 1], [0], 1));
        Assert.Equal(0, greedy.Next([2, 1], [0, 1], 2));
        Assert.Equal(0, greedy.Next([2, 1], [], 0));
    }

    [Fact]
    public void BiasesAreAddedToTheLogits()
    {
        var options = s_drawing with { LogitBias = ImmutableDictionary<int, double>.Empty.Add(1, 1.5).Add(2, -100) };
        Near(Softmax(2, -0.5, -97, 0), Shares(options, [2, -2, 3, 0]));
        Assert.Equal(0, new Sampler(options with { Temperature = 0 }).Next([2, -2, 3, 0], [], 0));
    }

    [Fact]
    public void LogProbabilitiesAreThoseOfTheLogits()
    {
        var log = TokenLogProbability.Of(2, s_logits, top: 3);
        Assert.Equal(Math.Log(0.15), log.LogProbability, 1e-6);
        Assert.Equal([1, 3, 2], log.Top.Select(t => t.Token));
        Assert.All(log.Top.Zip([0.5, 0.25, 0.15]), pair => Assert.Equal(Math.Log(pair.Second), pair.First.LogProbability, 1e-6));
        Assert.Empty(TokenLogProbability.Of(2, s_logits, top: 0).Top);
        Assert.Equal([1, 3, 2, 0], TokenLogProbability.Of(2, s_logits, top: 9).Top.Select(t => t.Token));
        Assert.Equal([0, 1], TokenLogProbability.Of(2, [1, 1, 1], top: 2).Top.Select(t => t.Token)); // of equal ones the smaller
        Assert.Equal(double.NegativeInfinity, TokenLogProbability.Of(0, [float.NegativeInfinity, 0], top: 0).LogProbability);
    }

    [Theory]
    [InlineData(1.0, 0, 1.0, 0.0, 1.0)]
    [InlineData(0.7, 0, 1.0, 0.0, 1.0)]
    [InlineData(1.3, 7, 1.0, 0.0, 1.0)]
    [InlineData(1.0, 0, 0.8, 0.0, 1.0)]
    [InlineData(1.0, 0, 1.0, 0.2, 1.0)]
    [InlineData(0.9, 9, 0.9, 0.1, 1.2)]
    public void DrawsFollowTheDefinedDistribution(double temperature, int topK, double topP, double minP, double penalty)
    {
        const int Draws = 200_000;
        var options = new GenerationOptions
        {
            Temperature = temperature,
            TopK = topK,
            TopP = topP,
            MinP = minP,
            RepetitionPenalty = penalty,
            Seed = 11,
        };
        float[] logits = [.. Enumerable.Range(0, 12).Select(i => (float)(2 * Math.Sin(i * i)))];
        int[] tokens = [3, 4, 4];
        var expected = Definition(options, logits, tokens);
        var counts = new int[logits.Length];
        var sampler = new Sampler(options);
        for (var i = 0; i < Draws; i++) counts[sampler.Next(logits, tokens, i)]++;

        // Pearson's chi-squared statistic is compared with its 0.999 quantile (Wilson and Hilferty's approximation).
        var (statistic, freedom) = (0.0, -1);
        for (var i = 0; i < counts.Length; i++)
        {
            if (expected[i] == 0)
            {
                Assert.Equal(0, counts[i]);
                continue;
            }

            freedom++;
            statistic += Math.Pow(counts[i] - (expected[i] * Draws), 2) / (expected[i] * Draws);
        }

        Assert.True(freedom >= 2, $"{freedom}");
        var part = 2.0 / (9 * freedom);
        var most = freedom * Math.Pow(1 - part + (3.0902 * Math.Sqrt(part)), 3);
        Assert.True(statistic < most, $"chi-squared {statistic} of {freedom} degrees of freedom is above {most}");
    }

    // Filters by sorting, in the order of Hugging Face's transformers.
    private static double[] Definition(GenerationOptions options, float[] logits, int[] tokens)
    {
        var scores = logits.Select(l => (double)l).ToArray();
        foreach (var token in tokens.Distinct())
            scores[token] = scores[token] < 0 ? scores[token] * options.RepetitionPenalty : scores[token] / options.RepetitionPenalty;
        scores = [.. scores.Select(s => s / options.Temperature)];
        if (options.TopK > 0)
        {
            var least = scores.OrderDescending().ElementAt(Math.Min(options.TopK, scores.Length) - 1);
            Remove(i => scores[i] < least);
        }

        if (options.TopP < 1)
        {
            var shares = Shares();
            var order = Enumerable.Range(0, scores.Length).OrderByDescending(i => shares[i]).ToArray();
            var before = order.ToDictionary(i => i, i => order.TakeWhile(j => j != i).Sum(j => shares[j]));
            Remove(i => before[i] >= options.TopP);
        }

        if (options.MinP > 0)
        {
            var shares = Shares();
            var least = options.MinP * shares.Max();
            Remove(i => shares[i] < least);
        }

        return Shares();

        void Remove(Func<int, bool> removed) => scores = [.. scores.Select((s, i) => removed(i) ? double.NegativeInfinity : s)];
        double[] Shares()
        {
            var most = scores.Max();
            var sum = scores.Sum(s => Math.Exp(s - most));
            return [.. scores.Select(s => Math.Exp(s - most) / sum)];
        }
    }

    // Random logits with ties, and random options.
    private static Gen<(float[] Logits, GenerationOptions Options)> Cases { get; } =
        from length in Gen.Choose(1, 60)
        from whole in Gen.ArrayOf(Gen.Choose(-30, 30), length)
        from temperature in Gen.Choose(1, 30)
        from topK in Gen.Choose(0, 70)
        from topP in Gen.Choose(1, 100)
        from minP in Gen.Choose(0, 100)
        from seed in Gen.Choose(0, 1000)
        select (
            whole.Select(w => w / 10f).ToArray(),
            new GenerationOptions { Temperature = temperature / 10.0, TopK = topK, TopP = topP / 100.0, MinP = minP / 100.0, Seed = seed });

    private static void Holds(Func<float[], GenerationOptions, bool> property) =>
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(500), Prop.ForAll(Cases.ToArbitrary(), c => property(c.Logits, c.Options)));

    [Fact]
    public void RandomFiltersEqualTheirDefinition() => Holds((logits, options) =>
    {
        // Rounding may decide a tie with TopP or MinP differently, so the thresholds are moved off the ties.
        options = options with { TopP = options.TopP == 1 ? 1 : options.TopP + 1e-7, MinP = Math.Max(0, options.MinP - 1e-7) };
        var actual = Shares(options, logits);
        return Definition(options, logits, []).Zip(actual).All(pair => Math.Abs(pair.First - pair.Second) < 1e-9);
    });

    [Fact]
    public void FiltersKeepTheLikeliestTokens() => Holds((logits, options) =>
    {
        var shares = Shares(options, logits);
        var kept = logits.Where((_, i) => shares[i] > 0).ToArray();
        var gone = logits.Where((_, i) => shares[i] == 0).ToArray();
        return kept.Contains(logits.Max()) && gone.All(g => g <= kept.Min());
    });

    [Fact]
    public void TighterFiltersKeepNoMoreTokens() => Holds((logits, options) =>
    {
        int Left(GenerationOptions its) => Shares(its, logits).Count(s => s > 0);
        return Left(options with { TopP = options.TopP / 2 }) <= Left(options)
            && Left(options with { MinP = (1 + options.MinP) / 2 }) <= Left(options)
            && (options.TopK < 2 || Left(options with { TopK = options.TopK - 1 }) <= Left(options));
    });

    [Fact]
    public void FiltersThatRemoveNothingChangeNoDraw() => Holds((logits, options) =>
    {
        var plain = new Sampler(new GenerationOptions { Temperature = options.Temperature, Seed = options.Seed });
        var filtered = new Sampler(new GenerationOptions
        {
            Temperature = options.Temperature,
            Seed = options.Seed,
            TopK = logits.Length - 1 + logits.Count(l => l == logits.Min()), // ties with the last token stay
            TopP = 1 - 1e-12,
            MinP = 1e-12,
            RepetitionPenalty = 1.5,
            RepetitionWindow = 0,
        });
        return Enumerable.Range(0, 20).All(i => plain.Next(logits, [], i) == filtered.Next(logits, [], i));
    });

    [Fact]
    public void TopKOfOneAndATinyTemperatureAreGreedy() => Holds((logits, options) =>
    {
        var greedy = new Sampler(options with { Temperature = 0 }).Next(logits, [], 0);
        return logits[new Sampler(options with { TopK = 1 }).Next(logits, [], 0)] == logits[greedy]
            && logits[new Sampler(options with { Temperature = 1e-300 }).Next(logits, [], 0)] == logits[greedy];
    });

    [Theory]
    [InlineData(100)]
    [InlineData(50_000)]
    public void NothingIsAllocatedAfterTheFirstToken(int vocabulary)
    {
        var random = new Random(3);
        float[] logits = [.. Enumerable.Range(0, vocabulary).Select(_ => (float)random.NextDouble() * 10)];
        int[] tokens = [.. Enumerable.Range(0, 64)];
        GenerationOptions[] all =
        [
            new(), s_drawing, s_drawing with { TopK = 40 }, s_drawing with { TopP = 0.9 }, s_drawing with { MinP = 0.05 },
            s_drawing with { TopK = 40, TopP = 0.9, MinP = 0.05, RepetitionPenalty = 1.1, RepetitionWindow = 32 },
        ];
        foreach (var options in all)
        {
            var sampler = new Sampler(options);
            sampler.Next(logits, tokens, 0);
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 1; i <= 20; i++) sampler.Next(logits, tokens, i);
            Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        }
    }

    [Fact]
    public void InvalidLogitsAreRefused()
    {
        foreach (var bad in new[] { float.NaN, float.PositiveInfinity })
        {
            foreach (var options in new[] { new GenerationOptions(), s_drawing })
            {
                var e = Assert.Throws<DecodingException>(() => new Sampler(options).Next([0, bad, 1], [], 0));
                Assert.Contains(float.IsNaN(bad) ? "logit of token 1 is not a number" : "logit of token 1 is infinite",
                    e.Message, StringComparison.Ordinal);
            }
        }

        float[] nothing = [float.NegativeInfinity, float.NegativeInfinity];
        Assert.Contains(
            "all minus infinity", Assert.Throws<DecodingException>(() => new Sampler(s_drawing).Next(nothing, [], 0)).Message,
            StringComparison.Ordinal);
        Assert.Equal(1, new Sampler(s_drawing).Next([float.NegativeInfinity, -1000], [], 0));
    }

    [Theory]
    [InlineData("Temperature is -1; it must be 0 or more")]
    [InlineData("Temperature is NaN")]
    [InlineData("TopK is -1; it must be 0 (for all tokens) or more")]
    [InlineData("TopP is 0; it must be above 0, at most 1")]
    [InlineData("TopP is 1.1")]
    [InlineData("TopP is NaN")]
    [InlineData("MinP is 1.5; it must be within 0")]
    [InlineData("MinP is NaN")]
    [InlineData("RepetitionPenalty is 0; it must be more than 0")]
    [InlineData("RepetitionPenalty is Infinity")]
    [InlineData("RepetitionWindow is -1")]
    [InlineData("FrequencyPenalty is NaN; it must be a finite number")]
    [InlineData("PresencePenalty is Infinity")]
    [InlineData("TopLogProbabilities is -1; it must be 0 or more")]
    [InlineData("LogitBias is for token 256; it must be for tokens within 0 and 255")]
    [InlineData("Tokens is -1; it must be 0 or more")]
    [InlineData("StopStrings is empty in one place")]
    [InlineData("StopStrings is half a character in one place")]
    [InlineData("StopStrings is default")]
    [InlineData("Tokenizer is null")]
    public void InvalidOptionsAreRefused(string says)
    {
        var options = new GenerationOptions();
        var value = says.Split(" is ")[1].Split(';')[0];
        var number = double.TryParse(value, System.Globalization.CultureInfo.InvariantCulture, out var parsed) ? parsed : double.NaN;
        options = says.Split(' ')[0] switch
        {
            "Temperature" => options with { Temperature = number },
            "TopK" => options with { TopK = (int)number },
            "TopP" => options with { TopP = number },
            "MinP" => options with { MinP = number },
            "RepetitionPenalty" => options with { RepetitionPenalty = number },
            "RepetitionWindow" => options with { RepetitionWindow = (int)number },
            "FrequencyPenalty" => options with { FrequencyPenalty = number },
            "PresencePenalty" => options with { PresencePenalty = number },
            "TopLogProbabilities" => options with { TopLogProbabilities = (int)number },
            "LogitBias" => options with { LogitBias = options.LogitBias.Add(256, 1) },
            "Tokens" => options with { Tokens = (int)number },
            "Tokenizer" => options with { Tokenizer = null! },
            _ => options with { StopStrings = value[0] switch { 'e' => ["a", ""], 'h' => ["\ud83d"], _ => default } },
        };
        var e = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(new ScriptedModel("a"), "a", options));
        Assert.Contains("The generation option " + says, e.Message, StringComparison.Ordinal);
    }
}
