using System.ComponentModel;

namespace MatFormer;

/// <summary>
/// The steps of a pass. Generated code calls them in order, and every thread computes its share of each step. A step ends when all threads
/// have finished their shares.
/// </summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed unsafe class DecodingThread
{
    private const int Lanes = PackedMatrix.Lanes;

    // The number of panels of a product that are computed together.
    private const int Tile = 4;

    // Up to this many rows, each thread norms all rows itself, which is faster than waiting for other threads.
    private const int OwnRows = 2;

    private enum Role
    {
        Query,
        Key,
        Value,
    }

    private readonly DecodingPass _pass;
    private readonly DecodingKernels _kernels;
    private readonly int _index;
    private readonly float* _ownNormed;
    private readonly float* _scores;
    private readonly float* _tile;
    private readonly float* _heads;
    private readonly int _headsStride;
    private readonly float* _ownRounded;
    private readonly float* _joined;

    // The neighbouring rows of a product that multiply the same columns, and the hidden units and factor of each row of a routed layer.
    private readonly Part[] _parts = new Part[DecodingPass.MaxRows];
    private readonly int[] _hidden = new int[DecodingPass.MaxRows];
    private readonly float[] _factors = new float[DecodingPass.MaxRows];
    private int _partCount;
    private bool _isRouted;
    private float* _normed;
    private RoundedRows _rounded;
    private bool _logitsOnly;

    internal DecodingThread(DecodingPass pass, int index)
    {
        (_pass, _kernels, _index) = (pass, pass.Kernels, index);
        _ownNormed = pass.Allocate(OwnRows * pass.Stride);
        _scores = pass.Allocate(pass.Capacity);
        _tile = pass.Allocate(DecodingPass.MaxRows * Tile * Lanes);
        _headsStride = Math.Max(Tile * Lanes, pass.HeadStride);
        _heads = pass.Allocate(DecodingPass.MaxRows * _headsStride);
        if (pass.Nested is null) return;
        _ownRounded = pass.Allocate(RoundedRows.Floats(OwnRows, pass.WidestInput));
        _joined = pass.Allocate(pass.HeadsStride);
    }

    /// <summary>Computes the embeddings of the rows' tokens, plus the embeddings of their positions if positions are learned.</summary>
    public void Embed(PackedMatrix table, PackedTable? positions = null)
    {
        _logitsOnly = false;
        var (first, end) = Share(_pass.Rows);
        for (var row = first; row < end; row++)
        {
            var x = _pass.X + (row * _pass.Stride);
            table.CopyRow(_pass.Tokens[row], x, _pass.Runs[_pass.RunOf[row]].Weights);
            if (positions is not null) _kernels.Add(x, positions.Row(_pass.Positions[row]), _pass.Stride);
        }

        _pass.Team.Wait(_index);
    }

    /// <summary>Returns true if no row keeps the layer.</summary>
    public bool Skips(int layer)
    {
        for (var run = 0; run < _pass.RunCount; run++)
        {
            if (!_pass.Runs[run].Layers[layer].IsSkipped) return false;
        }

        return true;
    }

    /// <summary>Norms all rows, or only the rows whose logits are wanted after <see cref="KeepLogitRows"/>.</summary>
    public void RmsNorm(PackedTable weight, double epsilon) => Norm(weight, null, epsilon);

    /// <inheritdoc cref="RmsNorm"/>
    public void LayerNorm(PackedTable weight, PackedTable bias, double epsilon) => Norm(weight, bias, epsilon);

    /// <summary>
    /// Computes the queries, keys and values of the normed rows, and writes the keys and values into the rows' caches. Queries and keys are
    /// normed head by head and rotated by their positions if the model does so.
    /// </summary>
    public void Heads(
        int layer, PackedMatrix query, PackedMatrix key, PackedMatrix value, PackedTable? cos = null,
        PackedTable? sin = null, PackedTable? queryNorm = null, PackedTable? keyNorm = null, double epsilon = 0)
    {
        var (first, end) = OwnKeyHeads(layer);
        var perKey = _pass.Spec.Blocks[layer].Heads / _pass.Spec.Blocks[layer].KeyValueHeads;
        var headPanels = _pass.HeadStride / Lanes;
        if (end > 0)
        {
            Project(query, queryNorm, first * perKey, end * perKey, Role.Query);
            Project(key, keyNorm, first, end, Role.Key);
            Project(value, null, first, end, Role.Value);
            return;
        }

        var (heads, keyHeads) = (query.Panels / headPanels, key.Panels / headPanels);
        (first, end) = Share(heads + (2 * keyHeads));
        Project(query, queryNorm, first, Math.Min(end, heads), Role.Query);
        Project(key, keyNorm, Math.Max(0, first - heads), Math.Min(end - heads, keyHeads), Role.Key);
        Project(value, null, Math.Max(0, first - heads - keyHeads), end - heads - keyHeads, Role.Value);
        _pass.Team.Wait(_index);

        void Project(PackedMatrix matrix, PackedTable? norm, int first, int end, Role role)
        {
            for (var head = first; head < end;)
            {
                // Narrow heads are computed together, because a core needs several independent sums to be busy.
                var together = Math.Min(Math.Max(1, Tile / headPanels), end - head);
                for (var r = 0; r < _pass.RunCount; r++)
                {
                    var run = _pass.Runs[r];
                    var slice = run.Layers[layer];
                    var heads = role == Role.Query ? slice.Heads : _pass.Spec.Blocks[layer].KeyValueHeadsOf(slice);
                    var count = Math.Min(together, heads - head);
                    if (count <= 0) continue;
                    Multiply(
                        matrix, head * headPanels, count * headPanels, run.Width, _normed, _pass.Stride, run.First, run.Count,
                        run.Weights, _heads, _headsStride);
                    for (var i = 0; i < run.Count; i++)
                    {
                        var row = run.First + i;
                        var x = _heads + (i * _headsStride);
                        Finish(x, matrix, head * headPanels, count * headPanels);
                        for (var h = head; h < head + count; h++, x += _pass.HeadStride)
                        {
                            if (role != Role.Value)
                            {
                                var position = _pass.Positions[row];
                                if (norm is not null) _kernels.RmsNorm(x, norm.Row(0), _pass.Spec.HeadWidth, (float)epsilon, x);
                                if (cos is not null) _kernels.Rotate(x, cos.Row(position), sin!.Row(position), _pass.Spec.HeadWidth / 2);
                            }

                            if (role == Role.Query)
                                Copy(x, _pass.Queries + (row * _pass.HeadsStride) + (h * _pass.HeadStride), _pass.HeadStride);
                            else if (role == Role.Key) KeepKey(x, layer, h, row);
                            else KeepValue(x, layer, h, row);
                        }
                    }
                }

                head += together;
            }
        }
    }

    /// <summary>
    /// Computes the attention of the rows' queries over their caches, up to the rows' own positions. With a window, it covers only the last
    /// tokens.
    /// </summary>
    public void Attend(int layer, int window = 0)
    {
        var block = _pass.Spec.Blocks[layer];
        var scale = 1 / MathF.Sqrt(_pass.Spec.HeadWidth);
        var (first, end) = OwnKeyHeads(layer);
        if (end > 0)
        {
            var perKey = block.Heads / block.KeyValueHeads * _pass.Rows;
            (first, end) = (first * perKey, end * perKey);
        }
        else
        {
            var heads = 0;
            for (var run = 0; run < _pass.RunCount; run++) heads = Math.Max(heads, _pass.Runs[run].Layers[layer].Heads);
            (first, end) = Share(heads * _pass.Rows);
        }

        for (var item = first; item < end; item++)
        {
            var (head, row) = Math.DivRem(item, _pass.Rows);
            if (head >= _pass.Runs[_pass.RunOf[row]].Layers[layer].Heads) continue;
            var position = _pass.Positions[row];
            var keys = Cache(layer, head / (block.Heads / block.KeyValueHeads), row);
            var place = (row * _pass.HeadsStride) + (head * _pass.HeadStride);
            _kernels.Attend(
                _pass.Queries + place, keys, keys + ValuesOffset, _pass.Spec.HeadWidth, _pass.HeadStride, _pass.Capacity,
                window > 0 ? Math.Max(0, position - window + 1) : 0, position, scale, _scores, _pass.Attended + place);
        }

        _pass.Team.Wait(_index);
    }

    /// <summary>Adds the projection of the attention's output to the rows.</summary>
    public void AddAttended(int layer, PackedMatrix output) =>
        AddProduct(layer, output, _pass.Attended, _pass.HeadsStride, isHidden: false);

    /// <summary>
    /// Lets the router of the layer choose the hidden units of each row whose sequence has a budget. Every thread chooses for all rows,
    /// which is faster than waiting for other threads.
    /// </summary>
    public void Route(int layer, PackedRouter? router)
    {
        if (router is null) return;
        for (var row = 0; row < _pass.Rows; row++)
        {
            var run = _pass.Runs[_pass.RunOf[row]];
            (_hidden[row], _factors[row]) = (run.Layers[layer].HiddenWidth, 1);
            if (run.Budget < 0) continue;
            _isRouted = true;
            (var granularity, _factors[row]) = router.Choose(_kernels, _pass.X + (row * _pass.Stride), run.Budget);
            _hidden[row] = _pass.Spec.Granularities[granularity].Layers[layer].HiddenWidth;
        }
    }

    /// <summary>Computes the hidden units of the normed rows, as many as each row keeps.</summary>
    public void Expand(int layer, PackedMatrix matrix, FeedForwardKind kind)
    {
        var isGated = kind is FeedForwardKind.SwiGlu or FeedForwardKind.GeGlu;
        var perUnits = isGated ? 2 : 1; // the number of panels for 16 units
        Divide(layer, isNested: false, isHidden: true);
        var most = 0;
        for (var p = 0; p < _partCount; p++) most = Math.Max(most, UnitPanels(_parts[p]));
        var (first, end) = Share(most);
        for (var units = first; units < end;)
        {
            var together = Math.Min(Tile / perUnits, end - units);
            for (var p = 0; p < _partCount; p++)
            {
                var part = _parts[p];
                var run = _pass.Runs[part.Run];
                var count = Math.Min(together, UnitPanels(part) - units);
                if (count <= 0) continue;
                Multiply(
                    matrix, units * perUnits, count * perUnits, run.Width, _normed, _pass.Stride, part.First, part.Count, run.Weights,
                    _tile, Tile * Lanes);
                for (var i = 0; i < part.Count; i++)
                {
                    var products = _tile + (i * Tile * Lanes);
                    Finish(products, matrix, units * perUnits, count * perUnits);
                    var hidden = _pass.Hidden + ((part.First + i) * (nint)_pass.HiddenStride) + (units * Lanes);
                    for (var u = 0; u < count; u++, products += perUnits * Lanes)
                        _kernels.Activate(kind, isGated ? products : null, isGated ? products + Lanes : products, hidden + (u * Lanes));
                }
            }

            units += together;
        }

        _pass.Team.Wait(_index);
    }

    /// <summary>Adds the projection of the hidden units to the rows.</summary>
    public void AddHidden(int layer, PackedMatrix down)
    {
        AddProduct(layer, down, _pass.Hidden, _pass.HiddenStride, isHidden: true);
        _isRouted = false;
    }

    /// <summary>Restricts the following steps to the rows whose logits are wanted. Returns false if there are none.</summary>
    public bool KeepLogitRows()
    {
        _logitsOnly = true;
        return _pass.LogitCount > 0;
    }

    /// <summary>
    /// Computes the logits of the normed rows. This is the last step, so it does not wait: the team waits at the end of the pass.
    /// </summary>
    public void Logits(PackedMatrix head)
    {
        var (first, end) = Share(head.Panels);
        if (end > first)
        {
            var logits = _pass.Logits + (first * Lanes);
            for (var row = 0; row < _pass.LogitCount;)
            {
                // Rows in the same bits, of streams of the same width, are multiplied together.
                var (weights, width) = KindOf(row);
                var rows = 1;
                while (row + rows < _pass.LogitCount && KindOf(row + rows) == (weights, width)) rows++;
                Multiply(
                    head, first, end - first, width, _normed, _pass.Stride, row, rows, weights,
                    logits + (row * (nint)_pass.LogitsStride), _pass.LogitsStride);
                row += rows;
            }

            for (var i = 0; i < _pass.LogitCount; i++) Finish(logits + (i * (nint)_pass.LogitsStride), head, first, end - first);
        }

        if (_index == 0 && _pass.HiddenStates is not null) Copy(_normed, _pass.HiddenStates, _pass.LogitCount * _pass.Stride);

        (DecodingWeights Weights, int Width) KindOf(int row)
        {
            var run = _pass.Runs[_pass.RunOf[_pass.LogitRows[row]]];
            return (run.Weights, run.Width);
        }
    }

    private nint ValuesOffset => (nint)_pass.Spec.HeadWidth * _pass.Capacity * _kernels.CacheSize;

    private static void Copy(float* source, float* target, int count) =>
        new ReadOnlySpan<float>(source, count).CopyTo(new Span<float>(target, count));

    private static int UnitPanels(in Part part) => PackedMatrix.RoundUp(part.Columns) / Lanes;

    // Returns this thread's key/value heads if they divide evenly among the threads, else (0, 0). If they do, the thread that computes a
    // head's queries, keys and values also attends with them, so no wait is needed between the two steps.
    private (int First, int End) OwnKeyHeads(int layer)
    {
        var heads = 0;
        for (var run = 0; run < _pass.RunCount; run++)
            heads = Math.Max(heads, _pass.Spec.Blocks[layer].KeyValueHeadsOf(_pass.Runs[run].Layers[layer]));
        return heads % _pass.Team.Active == 0 ? Share(heads) : (0, 0);
    }

    // Returns this thread's share of a number of pieces of work.
    private (int First, int End) Share(int pieces)
    {
        var threads = _pass.Team.Active;
        return ((int)((long)pieces * _index / threads), (int)((long)pieces * (_index + 1) / threads));
    }

    private void Norm(PackedTable weight, PackedTable? bias, double epsilon)
    {
        var rows = _logitsOnly ? _pass.LogitCount : _pass.Rows;
        var isOwn = rows <= OwnRows;
        _normed = isOwn ? _ownNormed : _pass.Normed;
        var (first, end) = isOwn ? (0, rows) : Share(rows);
        BeginRounding(rows);
        for (var i = first; i < end; i++)
        {
            var row = _logitsOnly ? _pass.LogitRows[i] : i;
            var x = _pass.X + (row * _pass.Stride);
            var result = _normed + (i * _pass.Stride);
            var width = _pass.WidthOf(row);

            // The kernels read whole vectors. Beyond the width, a wider network leaves numbers of other channels, which must not count.
            if (width < _pass.Spec.Width) new Span<float>(x + width, PackedMatrix.RoundUp(width) - width).Clear();
            if (bias is null) _kernels.RmsNorm(x, weight.Row(0), width, (float)epsilon, result);
            else _kernels.LayerNorm(x, weight.Row(0), bias.Row(0), width, (float)epsilon, result);
            if (_pass.Nested is not null) _rounded.Round(result, width, i);
        }

        if (!isOwn) _pass.Team.Wait(_index);
    }

    private void AddProduct(int layer, PackedMatrix matrix, float* source, int stride, bool isHidden)
    {
        if (matrix.Nested is not null) RoundSource(layer, source, stride, isHidden);
        Divide(layer, matrix.Nested is not null, isHidden);
        var (first, end) = Share(matrix.Panels);
        for (var panel = first; panel < end; panel += Tile)
        {
            var together = Math.Min(Tile, end - panel);
            for (var p = 0; p < _partCount; p++)
            {
                var part = _parts[p];
                var run = _pass.Runs[part.Run];

                // The last panel may have rows beyond the stream's width. Nothing reads what they write.
                var count = Math.Min(together, (PackedMatrix.RoundUp(run.Width) / Lanes) - panel);
                if (part.Columns == 0 || count <= 0) continue;
                Multiply(
                    matrix, panel, count, part.Columns, source, stride, part.First, part.Count, run.Weights, _tile, Tile * Lanes);
                for (var i = 0; i < part.Count; i++)
                {
                    var products = _tile + (i * Tile * Lanes);
                    Finish(products, matrix, panel, count);
                    if (_isRouted && isHidden) Scale(products, count * Lanes, _factors[part.First + i]);
                    _kernels.Add(_pass.X + ((part.First + i) * _pass.Stride) + (panel * Lanes), products, count * Lanes);
                }
            }
        }

        _pass.Team.Wait(_index);
    }

    private static void Scale(float* x, int count, float factor)
    {
        for (var i = 0; i < count; i++) x[i] *= factor;
    }

    // Divides the rows of each run into neighbours that have as many columns: all rows of the run, but for the hidden units of a routed
    // layer.
    private void Divide(int layer, bool isNested, bool isHidden)
    {
        _partCount = 0;
        for (var r = 0; r < _pass.RunCount; r++)
        {
            var run = _pass.Runs[r];
            for (var (first, end) = (run.First, run.First + run.Count); first < end;)
            {
                var columns = ColumnsOf(layer, first, isNested, isHidden);
                var next = first + 1;
                if (!_isRouted || !isHidden) next = end;
                while (next < end && _hidden[next] == columns) next++;
                _parts[_partCount++] = new Part(r, first, next - first, columns);
                first = next;
            }
        }
    }

    // Nested weights have no columns between the heads. A layer that is left out has none.
    private int ColumnsOf(int layer, int row, bool isNested, bool isHidden)
    {
        if (_isRouted && isHidden) return _hidden[row];
        var slice = _pass.Runs[_pass.RunOf[row]].Layers[layer];
        return isHidden ? slice.HiddenWidth : slice.Heads * (isNested ? _pass.Spec.HeadWidth : _pass.HeadStride);
    }

    // Up to OwnRows rows, each thread rounds all rows itself, as in Norm.
    private void BeginRounding(int rows)
    {
        if (_pass.Nested is not null) _rounded = new RoundedRows(rows <= OwnRows ? _ownRounded : _pass.Rounded, rows, _pass.WidestInput);
    }

    private void RoundSource(int layer, float* source, int stride, bool isHidden)
    {
        var isOwn = _pass.Rows <= OwnRows;
        BeginRounding(_pass.Rows);
        var (first, end) = isOwn ? (0, _pass.Rows) : Share(_pass.Rows);
        for (var row = first; row < end; row++)
        {
            var slice = _pass.Runs[_pass.RunOf[row]].Layers[layer];
            var x = source + (row * (nint)stride);
            if (!isHidden && _pass.HeadStride != _pass.Spec.HeadWidth)
            {
                for (var head = 0; head < slice.Heads; head++)
                    Copy(x + (head * _pass.HeadStride), _joined + (head * _pass.Spec.HeadWidth), _pass.Spec.HeadWidth);
                x = _joined;
            }

            _rounded.Round(x, ColumnsOf(layer, row, isNested: true, isHidden), row);
        }

        if (!isOwn) _pass.Team.Wait(_index);
    }

    // Multiplies rows of x, or of the rounded rows, with panels of a matrix.
    private void Multiply(
        PackedMatrix matrix, int panel, int count, int columns, float* x, int stride, int first, int rows, DecodingWeights weights,
        float* result, nint resultStride)
    {
        if (matrix.Nested is { } nested)
        {
            _pass.Nested!.Multiply(nested, weights.NestedBits, panel, count, columns, _rounded, first, rows, result, resultStride);
        }
        else
        {
            _kernels.Multiply(
                matrix.Panel(panel), matrix.PanelBytes, count, columns, x + (first * (nint)stride), stride, rows, result, resultStride);
        }
    }

    private void Finish(float* products, PackedMatrix matrix, int panel, int count)
    {
        if (matrix.Scales(panel) is null && !matrix.HasBias) return;
        for (var p = 0; p < count; p++) _kernels.Finish(products + (p * Lanes), matrix.Scales(panel + p), matrix.Bias(panel + p));
    }

    private byte* Cache(int layer, int head, int row) => (byte*)_pass.Caches[row] + _pass.LayerOffsets[layer] + (head * _pass.HeadBytes);

    private void KeepKey(float* key, int layer, int head, int row)
    {
        var target = Cache(layer, head, row) + ((nint)_pass.Positions[row] * _kernels.CacheSize);
        _kernels.Keep(key, target, _pass.Spec.HeadWidth, (nint)_pass.Capacity * _kernels.CacheSize);
    }

    private void KeepValue(float* value, int layer, int head, int row)
    {
        var target = Cache(layer, head, row) + ValuesOffset + ((nint)_pass.Positions[row] * _pass.HeadStride * _kernels.CacheSize);
        _kernels.Keep(value, target, _pass.HeadStride, _kernels.CacheSize);
    }

    // Neighbouring rows of a run that have as many columns.
    private readonly record struct Part(int Run, int First, int Count, int Columns);
}
