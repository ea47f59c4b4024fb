namespace MatFormer.Server.Tests;

/// <summary>Measures sizes by a clock that is made up.</summary>
public sealed class ProfileCatalogTests
{
    [Fact]
    public void ASizeThatIsSlowerThanALargerOneIsMeasuredAgain()
    {
        var asked = new List<(string, int)>();
        var measured = ProfileCatalog.Measured([Size("S", 1), Size("M", 2), Size("XL", 4)], 15, (profile, load) =>
        {
            asked.Add((profile.Name, load));
            var isDisturbed = profile.Name == "M" && asked.Count(a => a == ("M", load)) == 1;
            return isDisturbed ? 13 : profile.Flops * (1 + (0.1 * load));
        });
        Assert.Equal([1.1, 2.2, 4.4], measured.Select(size => size.Ms!.Value), (one, other) => Math.Abs(one - other) < 1e-9);
        Assert.Equal([0.1, 0.2, 0.4], measured.Select(size => size.MsPerFurther!.Value), (one, other) => Math.Abs(one - other) < 1e-9);
        Assert.Equal(8, asked.Count);
    }

    [Fact]
    public void WithoutRoomForASecondTokenEachFurtherOneTakesAPassOfItsOwn()
    {
        var measured = ProfileCatalog.Measured([Size("S", 1), Size("XL", 4)], 0, (profile, load) => profile.Flops * load);
        Assert.Equal([(1.0, 1.0), (4.0, 4.0)], measured.Select(size => (size.Ms!.Value, size.MsPerFurther!.Value)));
    }

    private static ServedProfile Size(string name, int width) => new(name, name, width, width)
    {
        Layers = [.. TinyLm.Spec.Blocks.Select(block => new LayerSlice(width, block.Heads))],
    };
}
