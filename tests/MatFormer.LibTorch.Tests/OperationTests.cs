using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.LibTorch.Tests;

/// <summary>Each binding calls what its name says, with its arguments in their places.</summary>
public class OperationTests
{
    private static readonly float[] Six = [1, 2, 3, 4, 5, 6];

    [Fact]
    public void Arithmetic()
    {
        using var scope = NewDisposeScope();
        var x = T(2, 4);
        var y = T(8, 3);
        Same([10, 7], x + y, x.add(y));
        Same([18, 10], x.add(y, 2), x.clone().add_(y, 2));
        Same([5, 7], x + 3, 3 + x, x.add(1.5, 2), x.clone().add_(3));
        Same([-6, 1], x - y, x.sub(y), x.clone().sub_(y));
        Same([-1, 1], x - 3);
        Same([1, -1], 3 - x, 3.0 - x);
        Same([16, 12], x * y, x.mul(y), x.clone().mul_(y));
        Same([4, 8], x * 2, 2L * x, x.clone().mul_(2));
        Same([4, 0.75f], y / x, y.div(x), y.clone().div_(x));
        Same([0.5f, 0.25f], 1 / x, x.reciprocal());
        Same([4, 0], y.div(x, RoundingMode.floor), y.div(x, RoundingMode.trunc));
        Same([-2, -4], -x, x.neg());
        Same([0, 1], y % 2);
        Same([4, 16], x.pow(2), x.square(), pow(x, 2));
        Same([256, 64], x.pow(y));
        Same([2, 3], minimum(x, y), x.min(y), min(x, y));
        Same([8, 4], maximum(x, y), x.max(y));
        Same([34, 28], x.addcmul(x, y, 2), x.clone().addcmul_(x, y, 2));
        Same([2.5f, 20f / 3], x.addcdiv(x, y, 2), x.clone().addcdiv_(x, y, 2));
        Same([5, 3.5f], x.lerp(y, full(2, 0.5)), x.clone().lerp_(y, full(2, 0.5)));
        Same([3, 4], x.clamp(3, 5), x.clamp_min(3), x.clone().clamp_(min: 3));
        Same([2, 3], x.clamp(max: 3), x.clamp_max(3));
        Same([2, 3], where(tensor(new[] { true, false }), x, y), x.where(tensor(new[] { true, false }), y));
    }

    [Fact]
    public void ElementFunctions()
    {
        using var scope = NewDisposeScope();
        var x = tensor(new[] { 0.5, 2 });
        Check(Math.Sqrt, x.sqrt(), sqrt(x), x.clone().sqrt_());
        Check(static v => 1 / Math.Sqrt(v), x.rsqrt(), rsqrt(x), x.clone().rsqrt_());
        Check(Math.Exp, x.exp(), exp(x), x.clone().exp_());
        Check(Math.Log, x.log(), log(x), x.clone().log_());
        Check(Math.Sin, x.sin(), sin(x));
        Check(Math.Cos, x.cos(), cos(x));
        Check(Math.Tanh, x.tanh(), nn.functional.tanh(x));
        Check(static v => 1 / (1 + Math.Exp(-v)), x.sigmoid(), nn.functional.sigmoid(x));
        Check(static v => v / (1 + Math.Exp(-v)), x.silu(), nn.functional.silu(x), nn.functional.silu(x.clone(), inplace: true));
        Check(static v => Math.Max(v - 1, 0) + 1, (x - 1).relu() + 1, nn.functional.relu(x - 1) + 1);
        Check(
            static v => 0.5 * v * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (v + (0.044715 * v * v * v)))),
            x.gelu(TorchSharp.Modules.GELU.Approximate.tanh),
            nn.functional.gelu(x, TorchSharp.Modules.GELU.Approximate.tanh));
        Assert.True(x.gelu().allclose(x * 0.5 * ((x / Math.Sqrt(2)).erf() + 1)));
        Same([1, 3], T(1.4f, 2.6f).round());
        Same([1, 2], T(1.4f, 2.6f).floor());
        Same([2, 3], T(1.4f, 2.6f).ceil());
        Same([1.4f, 2.6f], T(-1.4f, 2.6f).abs());

        void Check(Func<double, double> expected, params Tensor[] actual)
        {
            foreach (var tensor in actual)
            {
                var values = tensor.data<double>().ToArray();
                Assert.Equal(expected(0.5), values[0], 12);
                Assert.Equal(expected(2), values[1], 12);
            }
        }
    }

    [Fact]
    public void Comparisons()
    {
        using var scope = NewDisposeScope();
        var x = T(1, 2, 3);
        var y = T(2, 2, 2);
        Truth([false, true, false], x == y, x.eq(y), x == 2, x.equal(y));
        Truth([true, false, true], x != y, x.ne(2));
        Truth([true, false, false], x < y, x.lt(2), x < 2, y > x);
        Truth([true, true, false], x <= y, x.le(2));
        Truth([false, false, true], x > y, x.gt(2), (Scalar)2 < x);
        Truth([false, true, true], x >= y, x.ge(2));
        Truth([false, true, false], (x >= y) & (x <= y), (x >= y).logical_and(x <= y));
        Truth([true, false, true], ~(x == y), (x == y).logical_not(), (x > y) | (x < y), (x > y) ^ (x < y));
        Truth([true, false, false], tensor(new[] { float.NaN, 1, float.PositiveInfinity }).isnan());
        Truth([false, true, false], tensor(new[] { float.NaN, 1, float.PositiveInfinity }).isfinite());
        Assert.True(x.allclose(x + 1e-7));
        Assert.False(allclose(x, y));
        Assert.True((bool)(x == x.alias()).all());
        Assert.False((x == y).all().ToBoolean());
        Assert.True((x == y).any().item<bool>());
    }

    [Fact]
    public void Reductions()
    {
        using var scope = NewDisposeScope();
        var x = tensor(Six, [2, 3]);
        Assert.Equal(21, x.sum().item<float>());
        Assert.Equal(float64, x.sum(float64).dtype);
        // A literal 0 alone would be taken for a ScalarType, as in TorchSharp.
        Same([5, 7, 9], x.sum(dim: 0), x.sum([0L]), sum(x, dim: 0));
        Assert.Equal([2L, 1L], x.sum(1, keepdim: true).shape);
        Assert.Equal(21, x.sum([0L, 1L]).ToSingle());
        Assert.Equal(3.5f, x.mean().ToSingle());
        Same([2, 5], x.mean([1L]), mean(x, [-1L]));
        Assert.Equal([2L, 1L], x.mean([1L], keepdim: true).shape);
        Assert.Equal(float64, x.mean([1L], type: float64).dtype);
        Same([1, 1], x.var(1), x.std(1), x.std([1L]));
        Assert.Equal(2f / 3, x.var([1L], unbiased: false)[0].ToSingle(), 5);
        Assert.Equal(6, x.max().ToSingle());
        Assert.Equal(1, min(x).ToSingle());
        var (values, indices) = x.max(1);
        Same([3, 6], values);
        Assert.Equal([2L, 2L], indices.data<long>().ToArray());
        Same([1, 4], x.min(1).values);
        Assert.Equal([2L, 2L], x.argmax(1).data<long>().ToArray());
        Assert.Equal(5, argmax(x).ToInt64());
        Assert.Equal([0L, 0L], x.argmin(1).data<long>().ToArray());
        Same([4, 5, 6], x.amax(0));
        Same([1, 2, 3], x.amin(0));
        Same([1, 3, 6, 4, 9, 15], x.cumsum(1).flatten());
        Assert.Equal(Math.Sqrt(91), x.norm().ToDouble(), 5);
        Assert.Equal(21, x.norm(1f).ToDouble(), 5);
        Assert.Equal(5, tensor(new float[] { 3, 4 }).norm(0).ToDouble(), 5);
        Assert.True(x.softmax(1).allclose(x.exp() / x.exp().sum(1, keepdim: true)));
        Assert.True(x.log_softmax(1).allclose(nn.functional.softmax(x, 1).log()));
        Assert.True(x.logsumexp(1).allclose(x.exp().sum(1).log()));
        var (sorted, order) = tensor(new float[] { 2, 3, 1 }).sort(descending: true);
        Same([3, 2, 1], sorted);
        Assert.Equal([1L, 0L, 2L], order.data<long>().ToArray());
        Same([6, 5], x.flatten().topk(2).values);
        Same([1, 2], x.flatten().topk(2, largest: false).values);
        Assert.Equal([2L, 0L, 1L], tensor(new float[] { 2, 3, 1 }).argsort().data<long>().ToArray());
    }

    [Fact]
    public void LinearAlgebra()
    {
        using var scope = NewDisposeScope();
        var a = tensor(Six, [2, 3]);
        var b = tensor(Six, [3, 2]);
        var product = T(22, 28, 49, 64).view(2, 2);
        foreach (var result in new[] { a.mm(b), matmul(a, b), a.matmul(b), bmm(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0) })
        {
            Assert.True(result.allclose(product));
        }

        Assert.True(nn.functional.linear(a, b.t(), T(1, 1)).allclose(product + 1));
        Assert.True(product.addmm(a, b, beta: 2, alpha: 3).allclose(product * 5));
        Assert.True(product.clone().addmm_(a, b, 1, -1).allclose(zeros(2, 2)));
        Assert.True(einsum("ij,jk->ik", a, b).allclose(product));
        Assert.Equal(32, T(1, 2, 3).dot(T(4, 5, 6)).ToSingle());
        Same([4, 5, 8, 10], outer(T(1, 2), T(4, 5)).flatten());
        Same([22, 0, 49, 64], product.tril().flatten());
        Same([22, 28, 0, 64], triu(product).flatten());
        Same([0, 28, 0, 0], product.clone().triu_(1).flatten());
    }

    [Fact]
    public void AttentionIsItsDefinition()
    {
        manual_seed(1);
        using var scope = NewDisposeScope();
        var (q, k, v) = (randn([2L, 3, 4, 8], float64), randn([2L, 3, 4, 8], float64), randn([2L, 3, 4, 8], float64));
        var scores = q.matmul(k.transpose(-2, -1)) / Math.Sqrt(8);
        var later = ones(4, 4, dtype: ScalarType.Bool).triu(1);
        Assert.True(Attention().allclose(scores.softmax(-1).matmul(v)));
        Assert.True(nn.functional.scaled_dot_product_attention(q, k, v, is_casual: true)
            .allclose(scores.masked_fill(later, double.NegativeInfinity).softmax(-1).matmul(v)));
        Assert.True(Attention(later.logical_not())
            .allclose(scores.masked_fill(later, double.NegativeInfinity).softmax(-1).matmul(v)));
        var added = randn([4L, 4], float64);
        Assert.True(Attention(added).allclose((scores + added).softmax(-1).matmul(v)));
        Assert.Throws<ArgumentException>(() => nn.functional.scaled_dot_product_attention(q, k, v, later, is_casual: true));

        Tensor Attention(Tensor? mask = null) => nn.functional.scaled_dot_product_attention(q, k, v, mask);
    }

    [Fact]
    public void Losses()
    {
        using var scope = NewDisposeScope();
        var logits = tensor(Six, [3, 2]);
        var target = tensor(new long[] { 0, 1, -100 });
        var logs = logits.log_softmax(1);
        Assert.Equal(-(logs[0, 0] + logs[1, 1]).ToDouble() / 2, nn.functional.cross_entropy(logits, target).ToDouble(), 5);
        Assert.Equal([3L], nn.functional.cross_entropy(logits, target, reduction: nn.Reduction.None).shape);
        Assert.Equal(
            -(logs[0, 0] + logs[1, 1]).ToDouble(),
            nn.functional.cross_entropy(logits, target, reduction: nn.Reduction.Sum).ToDouble(),
            5);
        Assert.Equal(4, nn.functional.mse_loss(T(1, 2), T(3, 4)).ToDouble(), 5);
        var p = tensor(new[] { 0.25, 0.75 });
        var q = tensor(new[] { 0.5, 0.5 });
        var divergence = (0.25 * Math.Log(0.5)) + (0.75 * Math.Log(1.5));
        Assert.Equal(divergence, nn.functional.kl_div(q.log(), p, log_target: false, nn.Reduction.Sum).ToDouble(), 9);
        Assert.Equal(divergence, nn.functional.kl_div(q.log(), p.log(), reduction: nn.Reduction.Sum).ToDouble(), 9);
        var x = tensor(Six, [2, 3]);
        var normed = nn.functional.layer_norm(x, [3], T(2, 2, 2), T(1, 1, 1), eps: 0);
        Assert.True(normed.allclose(((x - x.mean([1L], true)) / x.var([1L], false, true).sqrt() * 2) + 1));
        Same([0, 1, 0, 0], nn.functional.one_hot(tensor(new long[] { 1 }), 4).flatten().to(float32));
    }

    [Fact]
    public void Dropout()
    {
        using var scope = NewDisposeScope();
        var x = ones(1000);
        Assert.True(nn.functional.dropout(x, 0.5, training: false).allclose(x));
        var dropped = nn.functional.dropout(x, 0.25);
        var values = dropped.data<float>().ToArray();
        Assert.All(values, static v => Assert.True(v == 0 || Math.Abs(v - (1 / 0.75f)) < 1e-5));
        Assert.InRange(values.Count(static v => v == 0), 150, 350);
    }

    [Fact]
    public void Views()
    {
        using var scope = NewDisposeScope();
        var x = arange(24, dtype: float32).view(2, 3, 4);
        Assert.Equal([2L, 3, 4], x.shape);
        Assert.Equal((3L, 24L, 4L), (x.ndim, x.numel(), x.size(-1)));
        Assert.Equal([12L, 4, 1], x.stride());
        Assert.Equal([4L, 6], x.reshape(4, -1).shape);
        Assert.Equal([6L, 4], x.flatten(0, 1).shape);
        Assert.Equal([2L, 4, 3], x.transpose(1, 2).shape);
        Assert.False(x.transpose(1, 2).is_contiguous());
        Assert.True(x.transpose(1, 2).contiguous().is_contiguous());
        Assert.Equal([4L, 2, 3], x.permute(2, 0, 1).shape);
        Assert.Equal([2L, 1, 4], x.narrow(1, 2, 1).shape);
        Assert.Equal(8, x.narrow(1, 2, 1).storage_offset());
        Assert.Equal([2L, 3, 2], x.slice(2, 0, 4, 2).shape);
        Assert.Equal([3L, 4], x.select(0, 1).shape);
        Assert.Equal([2L, 1, 3, 4], x.unsqueeze(1).shape);
        Assert.Equal([2L, 3, 4], x.unsqueeze(1).squeeze(1).shape);
        Assert.Equal([3L], ones(1, 3, 1).squeeze().shape);
        Assert.Equal([5L, 3, 4], ones(1, 3, 4).expand(5, -1, -1).shape);
        Assert.Equal([2L, 6, 4], x.repeat(1, 2, 1).shape);
        Assert.Equal([3L, 2L], ones(2, 3).t().shape);
        Assert.Equal([23f, 22f], x.flatten().flip(0).slice(0, 0, 2, 1).data<float>().ToArray());
        Assert.Equal([[2L, 3, 2], [2L, 3, 2]], x.chunk(2, 2).Select(static p => p.shape));
        Assert.Equal([3L, 1], x.split(3, 2).Select(static p => p.size(2)));
        Assert.Equal([1L, 2], x.split([1L, 2L], 1).Select(static p => p.size(1)));
        Assert.Equal(3, x.unbind(1).Length);
        Assert.Equal([4L, 4], cat([ones(1, 4), ones(3, 4)]).shape);
        Assert.Equal([4L, 2], stack([ones(4), ones(4)], 1).shape);
        Assert.Equal([0f, 5, 10], arange(12, dtype: float32).as_strided([3], [5]).data<float>().ToArray());
        x.select(0, 0).fill_(-1);
        Assert.Equal(-12, x[0].sum().ToSingle());
        using var same = x.alias();
        same.zero_();
        Assert.Equal(0, x.sum().ToSingle());
    }

    [Fact]
    public void PickingAndPlacing()
    {
        using var scope = NewDisposeScope();
        var x = tensor(Six, [3, 2]);
        var index = tensor(new long[] { 2, 0 });
        Same([5, 6, 1, 2], x.index_select(0, index).flatten());
        Same([2, 3], x.gather(1, tensor(new long[,] { { 1 }, { 0 } })).flatten());
        Same([0, 0, 0, 9], zeros(2, 2).scatter_(1, tensor(new long[,] { { 0 }, { 1 } }), tensor(new float[,] { { 0 }, { 9 } })).flatten());
        Same([0, 2, 0], zeros(3).scatter_add_(0, tensor(new long[] { 1, 1 }), ones(2)));
        Same([2, 0, 2], zeros(3).index_add_(0, index, ones(2), 2));
        Same([8, 0, 7], zeros(3).index_copy_(0, index, T(7, 8)));
        Same([1, -5, 3], T(1, 2, 3).masked_fill(tensor(new[] { false, true, false }), -5));
        Same([2, 3], T(1, 2, 3).masked_select(T(1, 2, 3) > 1));
        Assert.Equal([1L, 2], T(0, 2, 3).nonzero().flatten().data<long>().ToArray());
    }

    [Fact]
    public void IndexersFollowPython()
    {
        using var scope = NewDisposeScope();
        var x = arange(24, dtype: float32).view(2, 3, 4);
        Assert.Equal(23, x[1, 2, 3].item<float>());
        Assert.Equal(23, x[-1, -1, -1].ToSingle());
        Same([4, 5, 6, 7], x[0, 1]);
        Same([1, 5, 9], x[0, TensorIndex.Colon, 1]);
        Same([22, 23], x[1, ^1, 2..]);
        Same([20, 21], x[1, 2, ..^2]);
        Same([0, 2], x[0, 0, TensorIndex.Slice(step: 2)]);
        Assert.Equal([2L, 3, 1], x[TensorIndex.Ellipsis, 1..2].shape);
        Assert.Equal([1L, 3, 4], x[TensorIndex.None, 0].shape);
        Assert.Equal([2L, 2, 4], x[TensorIndex.Colon, TensorIndex.Tensor(tensor(new long[] { 0, 2 }))].shape);
        Same([12, 23], x[tensor(new long[] { 1, 1 }), tensor(new long[] { 0, 2 }), tensor(new long[] { 0, 3 })]);
        Same([23], x[TensorIndex.Tensor(x > 22)]);
        Same([11, 23], x[TensorIndex.Colon, 2, 3]);
        x[0, 0] = zeros(4);
        x[0, 1, 2..] = tensor(9f);
        Same([0, 0, 0, 0, 4, 5, 9, 9], x[0, ..2].flatten());
        x[x > 10] = tensor(-1f);
        Assert.Equal((10, -1), (x.max().ToSingle(), x.min().ToSingle()));
        x.index_put_((Scalar)7, 1, 1);
        Same([7, 7, 7, 7], x[1, 1]);
        Assert.Equal(4, zeros(2).index_put_(ones(4), [tensor(new long[] { 0, 0, 0, 0 })], accumulate: true)[0].ToSingle());
        Assert.Throws<ArgumentException>(() => x[0, 0, 0, 0]);
        Assert.Throws<ArgumentException>(() => TensorIndex.Slice(step: -1));
    }

    [Fact]
    public void FillingAndCopying()
    {
        using var scope = NewDisposeScope();
        var x = empty(2, 2);
        Assert.Same(x, x.fill_(3));
        Assert.Same(x, x.copy_(ones(2)));
        Assert.Same(x, x.zero_());
        Same([0, 0, 0, 0], x.flatten());
        var copy = x.clone();
        copy.fill_(1);
        Assert.Equal(0, x.sum().ToSingle());
        x.set_(copy);
        Assert.Equal(4, x.sum().ToSingle());
        Assert.False(ones(2, requires_grad: true).detach().requires_grad);
    }

    [Fact]
    public void ConversionsGiveNewHandlesOnTheSameMemoryWhenNothingChanges()
    {
        using var scope = NewDisposeScope();
        var x = ones(2);
        var same = x.to(float32);
        Assert.NotSame(x, same);
        same.add_(1);
        Assert.Equal(4, x.sum().ToSingle());
        x.to(float32, copy: true).zero_();
        x.cpu().add_(1);
        Assert.Equal(6, x.sum().ToSingle());
        Assert.Equal(bfloat16, x.to(bfloat16).dtype);
        Assert.Equal(float64, x.to(ones(1, dtype: float64)).dtype);
        Assert.Equal([int64, int32, float16, ScalarType.Bool], [x.@long().dtype, x.@int().dtype, x.half().dtype, x.@bool().dtype]);
        var gone = ones(2);
        gone.to(float64, disposeAfter: true);
        Assert.True(gone.IsInvalid);
    }

    [Fact]
    public void BytesAreTheElements()
    {
        using var x = tensor(new float[] { 1, -2 });
        Assert.Equal(BitConverter.GetBytes(1f), x.bytes[..4].ToArray());
        x.bytes[4..].Clear();
        Assert.Equal(0, x[1].ToSingle());
        x.bytes = new byte[8];
        Assert.Equal(0, x[0].ToSingle());
    }

    [Fact]
    public void AccessorsFollowStrides()
    {
        using var x = tensor(Six, [2, 3]);
        using var transposed = x.t();
        Assert.Equal([1f, 4, 2, 5, 3, 6], transposed.data<float>().ToArray());
        Assert.Equal([1f, 4, 2, 5, 3, 6], transposed.data<float>());
        Assert.Equal(5, transposed.data<float>()[1, 1]);
        transposed.data<float>()[2, 0] = 30;
        Assert.Equal(30, x[0, 2].ToSingle());
        var part = new float[3];
        transposed.data<float>().CopyTo(part, 1, 4);
        Assert.Equal([0f, 30, 6], part);
        x.data<float>().CopyFrom([7, 8], 0, 4);
        Assert.Equal([7f, 8], x[1, 1..].data<float>().ToArray());
        Assert.Throws<IndexOutOfRangeException>(() => x.data<float>()[6]);
        Assert.Throws<IndexOutOfRangeException>(() => x.data<float>()[0, 3]);
        using var brain = tensor(new[] { 1.00390625f }).to(bfloat16);
        Assert.Equal(1f, brain.data<BFloat16>()[0].ToSingle());
        Assert.Equal(new BFloat16(1.01171875f).ToSingle(), tensor(1.01171875f).to(bfloat16).ToSingle());
    }

    private static Tensor T(params float[] values) => tensor(values);

    private static void Same(float[] expected, params Tensor[] actual)
    {
        foreach (var tensor in actual)
        {
            Assert.Equal(expected, tensor.to(float32).data<float>().ToArray(), static (e, a) => Math.Abs(e - a) <= 1e-6f * Math.Abs(e));
        }
    }

    private static void Truth(bool[] expected, params Tensor[] actual)
    {
        foreach (var tensor in actual)
        {
            Assert.Equal(expected, tensor.data<bool>().ToArray());
        }
    }
}
