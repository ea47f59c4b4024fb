namespace MatFormer;

/// <summary>
/// The frontier of the offered mixes, from the fastest to the best. A mix is on it if no other mix is both as fast and as good.
/// </summary>
internal sealed class MixFrontier
{
    private readonly List<(int[] Mix, MixCost Cost)> _mixes = [];

    public int Count => _mixes.Count;

    public (int[] Mix, MixCost Cost) this[int index] => _mixes[index];

    /// <summary>Offers a mix. Of mixes with equal time and loss, the first one stays.</summary>
    /// <returns>Whether the mix is on the frontier now.</returns>
    public bool Offer(ReadOnlySpan<int> mix, in MixCost cost)
    {
        var (at, end) = (0, _mixes.Count);
        while (at < end)
        {
            var middle = (at + end) / 2;
            if (_mixes[middle].Cost.Milliseconds < cost.Milliseconds) at = middle + 1;
            else end = middle;
        }

        if (at > 0 && _mixes[at - 1].Cost.Loss <= cost.Loss) return false;
        if (at < _mixes.Count && _mixes[at].Cost.Milliseconds == cost.Milliseconds
            && _mixes[at].Cost.Loss <= cost.Loss) return false;
        var beaten = at;
        while (beaten < _mixes.Count && _mixes[beaten].Cost.Loss >= cost.Loss) beaten++;
        _mixes.RemoveRange(at, beaten - at);
        _mixes.Insert(at, (mix.ToArray(), cost));
        return true;
    }

    /// <summary>Returns the index of the best mix within a time limit, or -1.</summary>
    public int BestWithin(double? milliseconds) =>
        _mixes.FindLastIndex(m => !(m.Cost.Milliseconds > milliseconds));

    /// <summary>
    /// Returns the indices of some mixes, from the fastest to the best: both ends, the best mix within the time limit and its neighbours,
    /// and others that are spread evenly over the time.
    /// </summary>
    public IReadOnlyList<int> Spread(int points, double? milliseconds)
    {
        var taken = new SortedSet<int>();
        var best = BestWithin(milliseconds);
        foreach (var index in (ReadOnlySpan<int>)[best, 0, Count - 1, best - 1, best + 1])
        {
            if (taken.Count < points && index >= 0 && index < Count) taken.Add(index);
        }

        var (fastest, slowest) = (_mixes[0].Cost.Milliseconds, _mixes[^1].Cost.Milliseconds);
        for (var i = 1; i < points && taken.Count < Math.Min(points, Count); i++)
        {
            var wanted = fastest + ((slowest - fastest) * i / points);
            var others = Enumerable.Range(0, Count).Where(m => !taken.Contains(m));
            taken.Add(others.MinBy(m => Math.Abs(_mixes[m].Cost.Milliseconds - wanted)));
        }

        return [.. taken];
    }
}
