using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The first half of a layer, one stream after the other. Within a stream, scores are computed for a block of queries of a few sequences at
/// a time. For the gradients it keeps its input, queries, keys, values and the output of attention; scores are computed again.
/// </summary>
internal sealed class AttentionInBlocks : KernelCall
{
    private readonly AttentionWeights _weights;
    private readonly (Tensor Cos, Tensor Sin)? _angles;
    private readonly Tensor? _lengths;
    private readonly int[] _heads;
    private readonly int[] _rows;
    private Rotation? _rotation;
    private Tensor _x;
    private Tensor? _mask; // (N, 1, 1, S)
    private Tensor? _kept; // queries, keys, values and the output of attention, part after part

    public AttentionInBlocks(
        Tensor x, AttentionWeights weights, Tensor? cos, Tensor? sin, Tensor? lengths, int[] heads, int[] rows)
        : base([x], weights.All)
    {
        (_x, _weights, _lengths, _heads, _rows) = (Dense(x), weights, lengths, heads, rows);
        _angles = cos is null ? null : (cos, sin!);
    }

    private double Scale => 1 / Math.Sqrt(_weights.HeadWidth);

    public override Tensor Forward(bool isRecorded)
    {
        using var scope = NewDisposeScope();
        if (isRecorded) _x = Keep(_x);
        if (_angles is var (cos, sin)) _rotation = isRecorded ? Rotation.Of(cos, sin).Kept(Keep) : Rotation.Of(cos, sin);
        if (_lengths is not null) _mask = Masks.OfLengths(_lengths, _x.shape[0], _x.shape[1], _x.dtype);
        if (isRecorded && _mask is not null) _mask = Keep(_mask);
        long time = _x.shape[1], width = _x.shape[2], depth = _weights.HeadWidth;
        var y = empty_like(_x);
        var (input, output) = (_x.view(-1, width), y.view(-1, width));
        var w = new Cast(_weights, _x.shape[2], _x.dtype);
        if (isRecorded) _kept = Keep(empty([Parts().Sum(part => Numbers(part.Batch, part.Heads))], _x.dtype, _x.device));
        var place = 0L;
        foreach (var (first, batch, heads) in Parts())
        {
            using var inner = NewDisposeScope();
            var keyHeads = heads / _weights.Group;
            var rows = input.narrow(0, first * time, batch * time);
            var normed = Kernels.Composite.Norm(rows, _weights.Norm);
            Tensor Project(Tensor weight, Tensor? bias, long count) =>
                nn.functional.linear(normed, weight.narrow(0, 0, count * depth), bias?.narrow(0, 0, count * depth))
                    .view(batch, time, count, depth);
            var rawQuery = Project(w.Query, w.QueryBias, heads); // (B, T, H, D)
            var rawKey = Project(w.Key, w.KeyBias, keyHeads); // (B, T, Hkv, D)
            var query = Queries(rawQuery);
            var (k, v) = (Merged(Turned(rawKey, _weights.KeyNorm)), Merged(Project(w.Value, w.ValueBias, keyHeads)));
            var kept = isRecorded ? Kept(ref place, batch, heads, keyHeads) : null;
            var attended = kept?.Attended ?? empty([batch, time, heads, depth], _x.dtype, _x.device);
            Attend(query, k, v, attended, first, batch, keyHeads);
            var block = output.narrow(0, first * time, batch * time).copy_(rows);
            if (w.OutputBias is not null) block.add_(w.OutputBias, One);
            block.addmm_(attended.view(-1, heads * depth), w.Output.narrow(1, 0, heads * depth).t());
            if (kept is null) continue;

            // If queries or keys have a norm, they are kept as they were before it: the norm's backward pass needs them.
            kept.Query.copy_(_weights.QueryNorm is null ? query.view(kept.Query.shape) : rawQuery.view(kept.Query.shape));
            kept.Key.copy_(_weights.KeyNorm is null ? k.view(kept.Key.shape) : rawKey.view(kept.Key.shape));
            kept.Value.copy_(v);
        }

        return y.MoveToOuterDisposeScope();
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        using var scope = NewDisposeScope();
        long time = _x.shape[1], width = _x.shape[2], depth = _weights.HeadWidth;
        var dx = empty_like(_x);
        var (input, outer, result) = (_x.view(-1, width), gradient.view(-1, width), dx.view(-1, width));
        var w = new Cast(_weights, _x.shape[2], _x.dtype);
        var place = 0L;
        foreach (var (first, batch, heads) in Parts())
        {
            using var inner = NewDisposeScope();
            var keyHeads = heads / _weights.Group;
            var (rows, dy) = (input.narrow(0, first * time, batch * time), outer.narrow(0, first * time, batch * time));
            var normed = Kernels.Composite.Norm(rows, _weights.Norm);
            var its = Kept(ref place, batch, heads, keyHeads);
            WeightGradients.AddProduct(_weights.Output, dy, its.Attended.view(-1, heads * depth));
            WeightGradients.AddRows(_weights.OutputBias, dy);
            var dAttended = dy.mm(w.Output.narrow(1, 0, heads * depth)).view(batch, time, heads, depth);
            var query = _weights.QueryNorm is null ? its.Query : Queries(its.Query);
            var key = _weights.KeyNorm is null ? its.Key : Merged(Turned(its.Key, _weights.KeyNorm));
            var (dq, dk, dv) = Differentiated(query, key, its.Value, dAttended, first, batch, keyHeads);
            var dQuery = TurnedBack(dq, its.Query, _weights.QueryNorm); // (B*T, H*D)
            var dKey = TurnedBack(dk, its.Key, _weights.KeyNorm); // (B*T, Hkv*D)
            var dValue = dv.to(_x.dtype).view(-1, keyHeads * depth);
            Tensor? dNormed = null;
            foreach (var (weight, bias, cast, change) in (ReadOnlySpan<(Tensor, Tensor?, Tensor, Tensor)>)
                [(_weights.Query, _weights.QueryBias, w.Query, dQuery), (_weights.Key, _weights.KeyBias, w.Key, dKey),
                    (_weights.Value, _weights.ValueBias, w.Value, dValue)])
            {
                WeightGradients.AddProduct(weight, change, normed);
                WeightGradients.AddRows(bias, change);
                var used = cast.narrow(0, 0, change.shape[1]);
                dNormed = dNormed is null ? change.mm(used) : dNormed.addmm_(change, used);
            }

            result.narrow(0, first * time, batch * time).copy_(
                Kernels.Composite.NormBackward(rows, _weights.Norm, dNormed!).add_(dy, One));
        }

        into.Add(dx.MoveToOuterDisposeScope());
    }

    // Returns parts of the batch: a few sequences of one stream each, and the stream's number of heads.
    private IEnumerable<(long First, long Batch, long Heads)> Parts()
    {
        var first = 0L;
        var most = Math.Max(Kernels.Composite.BlockNumbers / (4 * _x.shape[1] * _x.shape[2]), 1);
        for (var r = 0; r < _heads.Length; first += _rows[r++])
        {
            for (var at = 0L; at < _rows[r]; at += most) yield return (first + at, Math.Min(most, _rows[r] - at), _heads[r]);
        }
    }

    // Returns how many numbers are kept of a part.
    private long Numbers(long batch, long heads) =>
        2 * batch * _x.shape[1] * _weights.HeadWidth * (heads + (heads / _weights.Group));

    // Returns what is kept of the next part. All parts share one allocation, because many small ones among short-lived allocations would
    // leave gaps.
    private Part Kept(ref long place, long batch, long heads, long keyHeads)
    {
        long time = _x.shape[1], depth = _weights.HeadWidth;
        Tensor Next(ref long first, params long[] shape)
        {
            var count = shape.Aggregate((a, b) => a * b);
            first += count;
            return _kept!.narrow(0, first - count, count).view(shape);
        }

        return new Part(
            _weights.QueryNorm is null
                ? Next(ref place, batch, keyHeads, _weights.Group, time, depth)
                : Next(ref place, batch, time, heads, depth),
            _weights.KeyNorm is null ? Next(ref place, batch * keyHeads, time, depth) : Next(ref place, batch, time, keyHeads, depth),
            Next(ref place, batch * keyHeads, time, depth), Next(ref place, batch, time, heads, depth));
    }

    // Returns the queries that are multiplied with keys: normed, rotated, and scaled before rounding. (B, T, H, D) to (B, Hkv, H/Hkv, T,
    // D).
    private Tensor Queries(Tensor raw)
    {
        using var scope = NewDisposeScope();
        long batch = raw.shape[0], time = raw.shape[1], depth = raw.shape[3];
        var normed = _weights.QueryNorm is { } norm ? Kernels.Composite.Norm(raw, norm) : raw;
        var wide = normed.to(ScalarType.Float32);
        var scaled = (_rotation is null ? wide.mul(Number(Scale)) : _rotation.TurnWide(wide, false).mul_(Number(Scale))).to(raw.dtype);
        return scaled.view(batch, time, -1, _weights.Group, depth).permute(0, 2, 3, 1, 4).contiguous().MoveToOuterDisposeScope();
    }

    private Tensor Turned(Tensor raw, NormWeights? norm)
    {
        using var scope = NewDisposeScope();
        var normed = norm is { } there ? Kernels.Composite.Norm(raw, there) : raw;
        return (_rotation?.Turn(normed) ?? normed.alias()).MoveToOuterDisposeScope();
    }

    // Returns the gradient of a projection, (B*T, H*D) in the dtype of activations, given the gradient after norm and rotation, (B, T, H,
    // D) float32.
    private Tensor TurnedBack(Tensor gradient, Tensor raw, NormWeights? norm)
    {
        using var scope = NewDisposeScope();
        long heads = gradient.shape[2], depth = gradient.shape[3];
        var back = _rotation?.TurnWide(gradient, true) ?? gradient;
        if (norm is { } there) back = Kernels.Composite.NormBackward(raw.view(-1, depth), there, back.view(-1, depth));
        return back.view(-1, heads * depth).to(_x.dtype).MoveToOuterDisposeScope();
    }

    // Makes each head a batch entry: (B, S, H, D) to (B*H, S, D).
    private static Tensor Merged(Tensor x) => x.transpose(1, 2).reshape(x.shape[0] * x.shape[2], x.shape[1], x.shape[3]);

    // query (B, Hkv, G, T, D), key and value (B*Hkv, S, D) to result (B, T, H, D).
    private void Attend(Tensor query, Tensor key, Tensor value, Tensor result, long first, long batch, long keyHeads)
    {
        using var scope = NewDisposeScope();
        long groups = query.shape[2], time = query.shape[3], depth = query.shape[4];
        var heads = result.view(batch, time, keyHeads, groups, depth).permute(0, 2, 3, 1, 4); // (B, Hkv, G, T, D)
        foreach (var block in Blocks(batch, keyHeads, groups, time))
        {
            using var inner = NewDisposeScope();
            var chances = Chances(block.Queries(query), block.Keys(key), block, first);
            heads.narrow(0, block.Sequence, block.Sequences).narrow(3, block.Query, block.Count)
                .copy_(chances.bmm(block.Keys(value)).view(block.Sequences, keyHeads, groups, block.Count, depth));
        }
    }

    // Returns the gradients of queries, keys and values, each (B, T, heads, D) float32.
    private (Tensor Query, Tensor Key, Tensor Value) Differentiated(
        Tensor query, Tensor key, Tensor value, Tensor gradient, long first, long batch, long keyHeads)
    {
        using var scope = NewDisposeScope();
        long groups = query.shape[2], time = query.shape[3], depth = query.shape[4];
        var dq = empty([batch, time, keyHeads * groups, depth], ScalarType.Float32, _x.device);
        var dk = zeros([batch, keyHeads, time, depth], ScalarType.Float32, _x.device);
        var dv = zeros([batch, keyHeads, time, depth], ScalarType.Float32, _x.device);
        var dHeads = dq.view(batch, time, keyHeads, groups, depth).permute(0, 2, 3, 1, 4); // (B, Hkv, G, T, D)
        var (keys, values) = (dk.view(-1, time, depth), dv.view(-1, time, depth));
        var outer = gradient.view(batch, time, keyHeads, groups, depth).permute(0, 2, 3, 1, 4);
        foreach (var block in Blocks(batch, keyHeads, groups, time))
        {
            using var inner = NewDisposeScope();
            var (q, k, dy) = (block.Queries(query), block.Keys(key), block.Queries(outer));
            var chances = Chances(q, k, block, first);
            block.Keys(values).add_(chances.transpose(1, 2).bmm(dy), One);
            var change = TorchScript.SoftmaxBackward(dy.bmm(block.Keys(value).transpose(1, 2)), chances);
            block.Keys(keys).add_(change.transpose(1, 2).bmm(q), One);
            dHeads.narrow(0, block.Sequence, block.Sequences).narrow(3, block.Query, block.Count)
                .copy_(change.bmm(k).view(block.Sequences, keyHeads, groups, block.Count, depth));
        }

        return (dq.mul_(Number(Scale)).MoveToOuterDisposeScope(), dk.transpose(1, 2).contiguous().MoveToOuterDisposeScope(),
            dv.transpose(1, 2).contiguous().MoveToOuterDisposeScope());
    }

    // Returns the attention probabilities: (n, G*t, D) and (n, s, D) to (n, G*t, s).
    private Tensor Chances(Tensor query, Tensor key, Block block, long first)
    {
        using var scope = NewDisposeScope();
        var scores = query.bmm(key.transpose(1, 2));
        var all = scores.view(block.Sequences, -1, _weights.Group, block.Count, block.Length); // (B, Hkv, G, t, s)
        if (_mask is not null)
        {
            all.add_(_mask.narrow(0, first + block.Sequence, block.Sequences).unsqueeze(1), One);
        }
        else if (_weights.IsCausal && block.Count > 1)
        {
            // Without a window, all queries see the keys before the block's own.
            var seen = _weights.Window > 0 ? 0 : block.Length - block.Count;
            all.narrow(4, seen, block.Length - seen).add_(Masks.Causal(
                block.Count, block.Length - seen, block.Offset - seen, _weights.Window, scores.dtype, scores.device), One);
        }

        return scores.softmax(-1).MoveToOuterDisposeScope();
    }

    private IEnumerable<Block> Blocks(long batch, long keyHeads, long groups, long time)
    {
        var queries = Math.Min(time, Kernels.Composite.BlockQueries);
        var sequences = Math.Clamp(Kernels.Composite.BlockNumbers / (keyHeads * groups * queries * time), 1, batch);
        for (var sequence = 0L; sequence < batch; sequence += sequences)
        {
            for (var query = 0L; query < time; query += queries)
            {
                var count = Math.Min(queries, time - query);
                var end = _weights.IsCausal ? query + count : time;
                var start = _weights.IsCausal && _weights.Window > 0 ? Math.Max(query - _weights.Window + 1, 0) : 0;
                yield return new Block(
                    sequence, Math.Min(sequences, batch - sequence), keyHeads, query, count, start, end - start, query - start);
            }
        }
    }

    // Some queries of some sequences, the keys that they may see, and the position of the first query among these keys.
    private readonly record struct Block(
        long Sequence, long Sequences, long KeyHeads, long Query, long Count, long Start, long Length, long Offset)
    {
        // The block's queries: (B, Hkv, G, T, D) to (n, G*t, D).
        public Tensor Queries(Tensor all) => all.narrow(0, Sequence, Sequences).narrow(3, Query, Count)
            .reshape(-1, all.shape[2] * Count, all.shape[4]);

        // The block's keys: (B*Hkv, S, D) to (n, s, D).
        public Tensor Keys(Tensor all) => all.narrow(0, Sequence * KeyHeads, Sequences * KeyHeads).narrow(1, Start, Length);
    }

    private sealed record Part(Tensor Query, Tensor Key, Tensor Value, Tensor Attended);

    // The weights of the first channels in the dtype of activations.
    private readonly struct Cast(AttentionWeights weights, long width, ScalarType dtype)
    {
        public Tensor Query { get; } = Kernels.Composite.First(weights.Query.detach(), width).to(dtype);

        public Tensor Key { get; } = Kernels.Composite.First(weights.Key.detach(), width).to(dtype);

        public Tensor Value { get; } = Kernels.Composite.First(weights.Value.detach(), width).to(dtype);

        public Tensor Output { get; } = weights.Output.detach().narrow(0, 0, width).to(dtype);

        public Tensor? QueryBias { get; } = weights.QueryBias?.detach().to(dtype);

        public Tensor? KeyBias { get; } = weights.KeyBias?.detach().to(dtype);

        public Tensor? ValueBias { get; } = weights.ValueBias?.detach().to(dtype);

        public Tensor? OutputBias { get; } = weights.OutputBias?.detach().narrow(0, 0, width).to(dtype);
    }
}
