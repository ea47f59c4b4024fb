using System.Collections.Immutable;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests of granularities that keep a part of the residual stream, beside those of all slices.</summary>
public sealed class WidthTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-width-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AProfileKnowsItsWidth()
    {
        Assert.Equal([12, 12, 20, 24], OracleNarrow.Granularities.Select(g => g.Width));
        Assert.Equal(12, OracleNarrow.Profile.Mixed.Width);
        Assert.True(OracleNarrow.Spec.ElasticWidth);
        Assert.False(OracleLlama.Spec.ElasticWidth);
    }

    [Fact]
    public void WidthsAreNotMixed()
    {
#pragma warning disable MFD0103 // The text is wrong on purpose.
        var error = Assert.Throws<ArgumentException>(() => Profile<OracleNarrow>.Parse("M L"));
#pragma warning restore MFD0103
        Assert.Contains("keeps 20 channels of the residual stream in layer 1, but 12", error.Message, StringComparison.Ordinal);
        ImmutableArray<LayerSlice> mixed = [OracleNarrow.Profile.M.Layers[0], OracleNarrow.Profile.L.Layers[1]];
        Assert.Contains(
            "choose granularities of one Width", Assert.Throws<ArgumentException>(() => new Profile<OracleNarrow>("P", mixed)).Message,
            StringComparison.Ordinal);
    }

    /// <summary>The costs that the run-time spec computes are those of the extracted weights.</summary>
    [Fact]
    public void AFileSaysItsWidthAndLoadsOnlyWhereItFits()
    {
        using var model = DrawnModel.New<OracleNarrow>();
        var path = Path.Combine(_folder, "s.safetensors");
        using (var slice = model.Extract<OracleNarrow.S>()) slice.Save(path);
        using (var reader = SafetensorsReader.Open(path))
        {
            Assert.Equal("12", reader.Metadata["matformer.width"]);
            Assert.Equal(OracleNarrow.Profile.S.Layers.AsSpan(), CheckpointHeader.Read(reader, OracleNarrow.Spec).Layers.AsSpan());
        }

        using var loaded = Checkpoint.Open<OracleNarrow>(path);
        Assert.Equal(OracleNarrow.S.ParameterCount, loaded.parameters().Sum(parameter => parameter.numel()));

        // The file of a whole stream says nothing of it, as before.
        var whole = Path.Combine(_folder, "whole.safetensors");
        model.Save(whole);
        using (var reader = SafetensorsReader.Open(whole)) Assert.False(reader.Metadata.ContainsKey("matformer.width"));
        using var engine = DecodingEngine.Open<OracleNarrow>(path);
        Assert.Throws<ArgumentException>(() => engine.Use(0, OracleNarrow.Profile.L));
    }

    [Fact]
    public void AnEnginesHiddenStatesAreAsWideAsTheStream()
    {
        using var model = DrawnModel.New<OracleNarrow>();
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Sequences = 2, HiddenStates = true });
        engine.Use(1, OracleNarrow.Profile.S);
        engine.Append(0, [1, 2, 3]);
        engine.Append(1, [1, 2, 3]);
        engine.Run();
        using var slice = model.Extract(OracleNarrow.Profile.S);
        using var alone = DecodingEngine.Create(slice, new DecodingOptions { HiddenStates = true });
        alone.Append(0, [1, 2, 3]);
        alone.Run();
        Assert.Equal((24, 12), (engine.HiddenStates(0).Length, engine.HiddenStates(1).Length));
        Assert.Equal(alone.HiddenStates(0).ToArray(), engine.HiddenStates(1).ToArray());
    }

    /// <summary>S drafts in a narrower stream than that of XL, whose text it is.</summary>
    [Fact]
    public void ANarrowDraftDoesNotChangeTheText()
    {
        using var corpus = TestCorpus.Open(_folder);
        manual_seed(1);
        using var model = DrawnModel.New<NarrowBytes>();
        var training = new TrainerOptions { Objective = Objective.Joint, Steps = 60, Batch = 8 };
        using (var trainer = new Trainer<NarrowBytes>(model, training)) trainer.Fit(corpus);
        using var engine = DecodingEngine.Create(model);
        var options = new GenerationOptions { Tokens = 40, Temperature = 0 };
        var plain = TextGenerator.Generate(engine, "the model", options);
        var drafted = TextGenerator.Generate(engine, "the model", options with { Draft = NarrowBytes.Profile.S.Layers });
        Assert.Equal(plain.Text, drafted.Text);
        Assert.True(drafted.Drafts!.Drafted > 0);
    }

    [Theory]
    [InlineData(Objective.Sampled)]
    [InlineData(Objective.Split)]
    [InlineData(Objective.Joint)]
    [InlineData(Objective.SampledPerLayer)]
    [InlineData(Objective.Sandwich)]
    [InlineData(Objective.Branching)]
    public void EveryStepTrainsStreamsOfItsWidths(Objective objective)
    {
        var planner = new Planner<OracleNarrow>(new() { Objective = objective, Batch = 8 });
        var widths = new HashSet<int>();
        for (var step = 1; step <= 40; step++)
        {
            var plan = planner.At(step);
            Assert.Equal(plan.Names.Length, plan.Streams.Count);
            Assert.Equal(plan.Names.Length, plan.Names.Distinct().Count());
            foreach (var group in plan.Streams.Groups) widths.Add(group.Width ?? 24);
            if (objective == Objective.Branching) Assert.Single(plan.Streams.Groups);
        }

        Assert.Equal([12, 20, 24], widths.Order());
    }

    [Fact]
    public void ObjectivesThatNeedMixesRefuseModelsThatHaveNone()
    {
        Assert.False(Objectives.CanMix(NarrowClassic.Spec));
        Assert.True(Objectives.CanMix(OracleNarrow.Spec));
    }

    /// <summary>Planning puts the mixes of all widths together.</summary>
    [Fact]
    public void EachWidthIsPlannedByItself()
    {
        var spaces = MixSpace.OfEachWidth(OracleNarrow.Spec);
        Assert.Equal([12, 20, 24], spaces.Select(space => space.Width));
        Assert.Equal([3, 1, 1], spaces.Select(space => (int)space.IncreasingCount));
        foreach (var space in spaces)
        {
            var table = MixTable.OfSizes(space, layers => OracleNarrow.Spec.ParameterCount(layers));
            space.Increasing(table, (mix, cost) =>
            {
                var layers = space.LayersOf(mix);
                Assert.Equal(OracleNarrow.Spec.ParameterCount(layers.AsSpan()), cost.Parameters);
                Assert.Equal(OracleNarrow.Spec.Flops(layers.AsSpan()), cost.Flops);
            });
        }

        Assert.All(Mixes.Sweep<OracleNarrow>(3), mix => Assert.Equal(12, mix.Width));
        Assert.Empty(Mixes.Sweep<NarrowClassic>(3));
    }
}
