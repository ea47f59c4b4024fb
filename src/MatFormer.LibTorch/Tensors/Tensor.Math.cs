using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    // Arithmetic, comparison, reduction, linear algebra and indexing. Each is libtorch's operation of that name.
    public partial class Tensor
    {
        // ---- of one tensor ----

        public Tensor abs() => Take(mf_abs(Handle), this);

        public Tensor abs_() => Done(mf_abs_(Handle));

        public Tensor neg() => Take(mf_neg(Handle), this);

        public Tensor neg_() => Done(mf_neg_(Handle));

        public Tensor sqrt() => Take(mf_sqrt(Handle), this);

        public Tensor sqrt_() => Done(mf_sqrt_(Handle));

        public Tensor rsqrt() => Take(mf_rsqrt(Handle), this);

        public Tensor rsqrt_() => Done(mf_rsqrt_(Handle));

        public Tensor exp() => Take(mf_exp(Handle), this);

        public Tensor exp_() => Done(mf_exp_(Handle));

        public Tensor log() => Take(mf_log(Handle), this);

        public Tensor log_() => Done(mf_log_(Handle));

        public Tensor sin() => Take(mf_sin(Handle), this);

        public Tensor sin_() => Done(mf_sin_(Handle));

        public Tensor cos() => Take(mf_cos(Handle), this);

        public Tensor cos_() => Done(mf_cos_(Handle));

        public Tensor tanh() => Take(mf_tanh(Handle), this);

        public Tensor tanh_() => Done(mf_tanh_(Handle));

        public Tensor sigmoid() => Take(mf_sigmoid(Handle), this);

        public Tensor sigmoid_() => Done(mf_sigmoid_(Handle));

        public Tensor silu() => Take(mf_silu(Handle), this);

        public Tensor silu_() => Done(mf_silu_(Handle));

        public Tensor relu() => Take(mf_relu(Handle), this);

        public Tensor relu_() => Done(mf_relu_(Handle));

        public Tensor floor() => Take(mf_floor(Handle), this);

        public Tensor floor_() => Done(mf_floor_(Handle));

        public Tensor ceil() => Take(mf_ceil(Handle), this);

        public Tensor ceil_() => Done(mf_ceil_(Handle));

        public Tensor reciprocal() => Take(mf_reciprocal(Handle), this);

        public Tensor reciprocal_() => Done(mf_reciprocal_(Handle));

        public Tensor square() => Take(mf_square(Handle), this);

        public Tensor log1p() => Take(mf_log1p(Handle), this);

        public Tensor erf() => Take(mf_erf(Handle), this);

        public Tensor sign() => Take(mf_sign(Handle), this);

        public Tensor isnan() => Take(mf_isnan(Handle), this);

        public Tensor isinf() => Take(mf_isinf(Handle), this);

        public Tensor isfinite() => Take(mf_isfinite(Handle), this);

        public Tensor logical_not() => Take(mf_logical_not(Handle), this);

        public Tensor nonzero() => Take(mf_nonzero(Handle), this);

        public Tensor all() => Take(mf_all(Handle), this);

        public Tensor any() => Take(mf_any(Handle), this);

        public Tensor max() => Take(mf_max(Handle), this);

        public Tensor min() => Take(mf_min(Handle), this);

        public Tensor bitwise_not() => Take(mf_bitwise_not(Handle), this);

        public Tensor negative() => neg();

        public Tensor round(long decimals = 0) => Take(mf_round(Handle, decimals), this);

        public Tensor gelu() => Take(mf_gelu(Handle, 0), this);

        public Tensor gelu(Modules.GELU.Approximate approximate) =>
            Take(mf_gelu(Handle, approximate == Modules.GELU.Approximate.tanh ? 1 : 0), this);

        // ---- filling ----

        public Tensor zero_() => Done(mf_zero_(Handle));

        public Tensor fill_(Scalar value) => Done(mf_fill_(Handle, N(value)));

        public Tensor normal_(double mean = 0, double std = 1, Generator? generator = null) =>
            Done(mf_normal_(Handle, mean, std, Generator.HandleOf(generator)));

        public Tensor uniform_(double from, double to, Generator? generator = null) =>
            Done(mf_uniform_(Handle, from, to, Generator.HandleOf(generator)));

        public Tensor bernoulli_(double p = 0.5, Generator? generator = null) =>
            Done(mf_bernoulli_(Handle, p, Generator.HandleOf(generator)));

        // ---- two tensors, or a tensor and a number ----

        public Tensor add(Tensor target) => Take(mf_add(Handle, H(target)), this, target);

        public Tensor add(Tensor target, Scalar alpha) => Take(mf_add_alpha(Handle, H(target), N(alpha)), this, target);

        public Tensor add(Scalar scalar) => Take(mf_add_scalar(Handle, N(scalar), Number.One), this);

        public Tensor add(Scalar scalar, Scalar alpha) => Take(mf_add_scalar(Handle, N(scalar), N(alpha)), this);

        public Tensor add_(Tensor target) => Done(mf_add_(Handle, H(target), Number.One), target);

        public Tensor add_(Tensor target, Scalar alpha) => Done(mf_add_(Handle, H(target), N(alpha)), target);

        public Tensor add_(Scalar scalar) => Done(mf_add_scalar_(Handle, N(scalar), Number.One));

        public Tensor add_(Scalar scalar, Scalar alpha) => Done(mf_add_scalar_(Handle, N(scalar), N(alpha)));

        public Tensor sub(Tensor target) => Take(mf_sub(Handle, H(target)), this, target);

        public Tensor sub(Scalar target) => Take(mf_sub_scalar(Handle, N(target)), this);

        public Tensor sub_(Tensor target) => Done(mf_sub_(Handle, H(target)), target);

        public Tensor sub_(Scalar target) => Done(mf_sub_scalar_(Handle, N(target)));

        public Tensor mul(Tensor target) => Take(mf_mul(Handle, H(target)), this, target);

        public Tensor mul(Scalar target) => Take(mf_mul_scalar(Handle, N(target)), this);

        public Tensor mul_(Tensor target) => Done(mf_mul_(Handle, H(target)), target);

        public Tensor mul_(Scalar target) => Done(mf_mul_scalar_(Handle, N(target)));

        public Tensor pow(Tensor exponent) => Take(mf_pow(Handle, H(exponent)), this, exponent);

        public Tensor pow(Scalar exponent) => Take(mf_pow_scalar(Handle, N(exponent)), this);

        public Tensor pow_(Tensor exponent) => Done(mf_pow_(Handle, H(exponent)), exponent);

        public Tensor pow_(Scalar exponent) => Done(mf_pow_scalar_(Handle, N(exponent)));

        public Tensor remainder(Tensor target) => Take(mf_remainder(Handle, H(target)), this, target);

        public Tensor remainder(Scalar scalar) => Take(mf_remainder_scalar(Handle, N(scalar)), this);

        public Tensor remainder_(Tensor target) => Done(mf_remainder_(Handle, H(target)), target);

        public Tensor remainder_(Scalar scalar) => Done(mf_remainder_scalar_(Handle, N(scalar)));

        public Tensor div(Tensor target, RoundingMode rounding_mode = RoundingMode.None) =>
            Take(mf_div(Handle, H(target), (int)rounding_mode), this, target);

        public Tensor div(Scalar target, RoundingMode rounding_mode = RoundingMode.None) =>
            Take(mf_div_scalar(Handle, N(target), (int)rounding_mode), this);

        public Tensor div_(Tensor target, RoundingMode rounding_mode = RoundingMode.None) =>
            Done(mf_div_(Handle, H(target), (int)rounding_mode), target);

        public Tensor div_(Scalar target, RoundingMode rounding_mode = RoundingMode.None) =>
            Done(mf_div_scalar_(Handle, N(target), (int)rounding_mode));

        public Tensor eq(Tensor target) => Take(mf_eq(Handle, H(target)), this, target);

        public Tensor eq(Scalar target) => Take(mf_eq_scalar(Handle, N(target)), this);

        public Tensor ne(Tensor target) => Take(mf_ne(Handle, H(target)), this, target);

        public Tensor ne(Scalar target) => Take(mf_ne_scalar(Handle, N(target)), this);

        public Tensor lt(Tensor target) => Take(mf_lt(Handle, H(target)), this, target);

        public Tensor lt(Scalar target) => Take(mf_lt_scalar(Handle, N(target)), this);

        public Tensor le(Tensor target) => Take(mf_le(Handle, H(target)), this, target);

        public Tensor le(Scalar target) => Take(mf_le_scalar(Handle, N(target)), this);

        public Tensor gt(Tensor target) => Take(mf_gt(Handle, H(target)), this, target);

        public Tensor gt(Scalar target) => Take(mf_gt_scalar(Handle, N(target)), this);

        public Tensor ge(Tensor target) => Take(mf_ge(Handle, H(target)), this, target);

        public Tensor ge(Scalar target) => Take(mf_ge_scalar(Handle, N(target)), this);

        /// <summary>Element by element, as <see cref="eq(Tensor)"/>: TorchSharp's meaning, not PyTorch's.</summary>
        public Tensor equal(Tensor target) => eq(target);

        public unsafe bool allclose(Tensor target, double rtol = 1E-05, double atol = 1E-08, bool equal_nan = false)
        {
            int result;
            Done(mf_allclose(Handle, H(target), rtol, atol, equal_nan ? 1 : 0, &result), target);
            return result != 0;
        }

        public Tensor maximum(Tensor other) => Take(mf_maximum(Handle, H(other)), this, other);

        public Tensor minimum(Tensor other) => Take(mf_minimum(Handle, H(other)), this, other);

        public Tensor logical_and(Tensor other) => Take(mf_logical_and(Handle, H(other)), this, other);

        public Tensor logical_or(Tensor other) => Take(mf_logical_or(Handle, H(other)), this, other);

        public Tensor bitwise_and(Tensor other) => Take(mf_bitwise_and(Handle, H(other)), this, other);

        public Tensor bitwise_or(Tensor other) => Take(mf_bitwise_or(Handle, H(other)), this, other);

        public Tensor bitwise_xor(Tensor other) => Take(mf_bitwise_xor(Handle, H(other)), this, other);

        public Tensor max(Tensor other) => maximum(other);

        public Tensor min(Tensor other) => minimum(other);

        public Tensor addcmul(Tensor tensor1, Tensor tensor2, Scalar value) =>
            Take(mf_addcmul(Handle, H(tensor1), H(tensor2), N(value)), this, tensor1, tensor2);

        public Tensor addcmul_(Tensor tensor1, Tensor tensor2, Scalar value) =>
            Done(mf_addcmul_(Handle, H(tensor1), H(tensor2), N(value)), tensor1, tensor2);

        public Tensor addcdiv(Tensor tensor1, Tensor tensor2, Scalar value) =>
            Take(mf_addcdiv(Handle, H(tensor1), H(tensor2), N(value)), this, tensor1, tensor2);

        public Tensor addcdiv_(Tensor tensor1, Tensor tensor2, Scalar value) =>
            Done(mf_addcdiv_(Handle, H(tensor1), H(tensor2), N(value)), tensor1, tensor2);

        public Tensor addcdiv(Tensor tensor1, Tensor tensor2) => addcdiv(tensor1, tensor2, 1);

        public Tensor addcdiv_(Tensor tensor1, Tensor tensor2) => addcdiv_(tensor1, tensor2, 1);

        public Tensor lerp(Tensor end, Tensor weight) => Take(mf_lerp(Handle, H(end), H(weight)), this, end, weight);

        public Tensor lerp_(Tensor end, Tensor weight) => Done(mf_lerp_(Handle, H(end), H(weight)), end, weight);

        public Tensor clamp(Scalar? min = null, Scalar? max = null) => Take(mf_clamp(Handle, Number.Of(min), Number.Of(max)), this);

        public Tensor clamp_(Scalar? min = null, Scalar? max = null) => Done(mf_clamp_(Handle, Number.Of(min), Number.Of(max)));

        public Tensor clamp_min(Scalar min) => clamp(min, null);

        public Tensor clamp_max(Scalar max) => clamp(null, max);

        /// <summary>This where <paramref name="condition"/>, <paramref name="y"/> elsewhere.</summary>
        public Tensor where(Tensor condition, Tensor y) => Take(mf_where(H(condition), Handle, H(y)), this, condition, y);

        // ---- reductions ----

        public Tensor sum(ScalarType? type = null) => Take(mf_sum(Handle, D(type)), this);

        public unsafe Tensor sum(long dim, bool keepdim = false, ScalarType? type = null) =>
            Take(mf_sum_dims(Handle, &dim, 1, keepdim ? 1 : 0, D(type)), this);

        public Tensor sum(long[] dim, bool keepdim = false, ScalarType? type = null) => sum((ReadOnlySpan<long>)dim, keepdim, type);

        public unsafe Tensor sum(ReadOnlySpan<long> dim, bool keepdim = false, ScalarType? type = null)
        {
            fixed (long* axes = dim)
            {
                return Take(mf_sum_dims(Handle, axes, dim.Length, keepdim ? 1 : 0, D(type)), this);
            }
        }

        public Tensor mean() => Take(mf_mean(Handle), this);

        public unsafe Tensor mean(long[] dimensions, bool keepdim = false, ScalarType? type = null)
        {
            fixed (long* axes = dimensions)
            {
                return Take(mf_mean_dims(Handle, axes, dimensions.Length, keepdim ? 1 : 0, D(type)), this);
            }
        }

        public unsafe Tensor var(bool unbiased = true) => Take(mf_var(Handle, null, 0, unbiased ? 1 : 0, 0), this);

        public unsafe Tensor var(long[] dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null)
        {
            fixed (long* axes = dimensions)
            {
                return As(type, Take(mf_var(Handle, axes, dimensions.Length, unbiased ? 1 : 0, keepdim ? 1 : 0), this));
            }
        }

        public Tensor var(long dim, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            var([dim], unbiased, keepdim, type);

        public unsafe Tensor std(bool unbiased = true) => Take(mf_std(Handle, null, 0, unbiased ? 1 : 0, 0), this);

        public unsafe Tensor std(long[] dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null)
        {
            fixed (long* axes = dimensions)
            {
                return As(type, Take(mf_std(Handle, axes, dimensions.Length, unbiased ? 1 : 0, keepdim ? 1 : 0), this));
            }
        }

        public Tensor std(long dim, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            std([dim], unbiased, keepdim, type);

        public Tensor norm(float p = 2) => Take(mf_norm(Handle, p), this);

        public Tensor norm(int dim, bool keepdim = false, float p = 2) => Take(mf_norm_dim(Handle, p, dim, keepdim ? 1 : 0), this);

        public unsafe Tensor amax(params long[] dims)
        {
            fixed (long* axes = dims)
            {
                return Take(mf_amax(Handle, axes, dims.Length, 0), this);
            }
        }

        public unsafe Tensor amin(params long[] dims)
        {
            fixed (long* axes = dims)
            {
                return Take(mf_amin(Handle, axes, dims.Length, 0), this);
            }
        }

        public Tensor all(long dim, bool keepdim = false) => Take(mf_all_dim(Handle, dim, keepdim ? 1 : 0), this);

        public Tensor any(long dim, bool keepdim = false) => Take(mf_any_dim(Handle, dim, keepdim ? 1 : 0), this);

        public Tensor argmax() => Take(mf_argmax(Handle), this);

        public Tensor argmax(long dim, bool keepdim = false) => Take(mf_argmax_dim(Handle, dim, keepdim ? 1 : 0), this);

        public Tensor argmin() => Take(mf_argmin(Handle), this);

        public Tensor argmin(long dim, bool keepdim = false) => Take(mf_argmin_dim(Handle, dim, keepdim ? 1 : 0), this);

        public Tensor logsumexp(long dim, bool keepdim = false) => Take(mf_logsumexp(Handle, dim, keepdim ? 1 : 0), this);

        public Tensor cumsum(long dim, ScalarType? type = null) => Take(mf_cumsum(Handle, dim, D(type)), this);

        public Tensor softmax(long dim, ScalarType? dtype = null) => Take(mf_softmax(Handle, dim, D(dtype)), this);

        public Tensor log_softmax(long dim, ScalarType? dtype = null) => Take(mf_log_softmax(Handle, dim, D(dtype)), this);

        public Tensor argsort(long dim = -1, bool descending = false) => Take(mf_argsort(Handle, dim, descending ? 1 : 0), this);

        public unsafe (Tensor values, Tensor indexes) max(long dim, bool keepdim = false)
        {
            var made = stackalloc nint[2];
            return Two(mf_max_dim(Handle, dim, keepdim ? 1 : 0, made), made);
        }

        public unsafe (Tensor values, Tensor indexes) min(long dim, bool keepdim = false)
        {
            var made = stackalloc nint[2];
            return Two(mf_min_dim(Handle, dim, keepdim ? 1 : 0, made), made);
        }

        public unsafe (Tensor Values, Tensor Indices) sort(long dim = -1, bool descending = false, bool stable = false)
        {
            var made = stackalloc nint[2];
            return Two(mf_sort(Handle, dim, descending ? 1 : 0, stable ? 1 : 0, made), made);
        }

        public unsafe (Tensor values, Tensor indexes) topk(int k, int dim = -1, bool largest = true, bool sorted = true)
        {
            var made = stackalloc nint[2];
            return Two(mf_topk(Handle, k, dim, largest ? 1 : 0, sorted ? 1 : 0, made), made);
        }

        public Tensor multinomial(long num_samples, bool replacement = false, Generator? generator = null) =>
            Take(mf_multinomial(Handle, num_samples, replacement ? 1 : 0, Generator.HandleOf(generator)), this);

        // ---- linear algebra ----

        public Tensor matmul(Tensor target) => Take(mf_matmul(Handle, H(target)), this, target);

        public Tensor mm(Tensor target) => Take(mf_mm(Handle, H(target)), this, target);

        public Tensor bmm(Tensor batch2) => Take(mf_bmm(Handle, H(batch2)), this, batch2);

        public Tensor mv(Tensor target) => Take(mf_mv(Handle, H(target)), this, target);

        public Tensor dot(Tensor target) => Take(mf_dot(Handle, H(target)), this, target);

        public Tensor outer(Tensor vec2) => Take(mf_outer(Handle, H(vec2)), this, vec2);

        public Tensor addmm(Tensor mat1, Tensor mat2, float beta = 1, float alpha = 1) =>
            Take(mf_addmm(Handle, H(mat1), H(mat2), beta, alpha), this, mat1, mat2);

        public Tensor addmm_(Tensor mat1, Tensor mat2, float beta = 1, float alpha = 1) =>
            Done(mf_addmm_(Handle, H(mat1), H(mat2), beta, alpha), mat1, mat2);

        public Tensor baddbmm(Tensor batch1, Tensor batch2, float beta = 1, float alpha = 1) =>
            Take(mf_baddbmm(Handle, H(batch1), H(batch2), beta, alpha), this, batch1, batch2);

        public Tensor tril(long diagonal = 0) => Take(mf_tril(Handle, diagonal), this);

        public Tensor tril_(long diagonal = 0) => Done(mf_tril_(Handle, diagonal));

        public Tensor triu(long diagonal = 0) => Take(mf_triu(Handle, diagonal), this);

        public Tensor triu_(long diagonal = 0) => Done(mf_triu_(Handle, diagonal));

        // ---- picking and placing by index ----

        public Tensor index_select(long dim, Tensor index) => Take(mf_index_select(Handle, dim, H(index)), this, index);

        public Tensor gather(long dim, Tensor index) => Take(mf_gather(Handle, dim, H(index)), this, index);

        public Tensor scatter(long dim, Tensor index, Tensor src) =>
            Take(mf_scatter(Handle, dim, H(index), H(src)), this, index, src);

        public Tensor scatter_(long dim, Tensor index, Tensor src) => Done(mf_scatter_(Handle, dim, H(index), H(src)), index, src);

        public Tensor scatter_add(long dim, Tensor index, Tensor src) =>
            Take(mf_scatter_add(Handle, dim, H(index), H(src)), this, index, src);

        public Tensor scatter_add_(long dim, Tensor index, Tensor src) => Done(mf_scatter_add_(Handle, dim, H(index), H(src)), index, src);

        public Tensor index_add(long dim, Tensor index, Tensor source, Scalar alpha) =>
            Take(mf_index_add(Handle, dim, H(index), H(source), N(alpha)), this, index, source);

        public Tensor index_add_(long dim, Tensor index, Tensor source, Scalar alpha) =>
            Done(mf_index_add_(Handle, dim, H(index), H(source), N(alpha)), index, source);

        public Tensor index_copy(long dim, Tensor index, Tensor source) =>
            Take(mf_index_copy(Handle, dim, H(index), H(source)), this, index, source);

        public Tensor index_copy_(long dim, Tensor index, Tensor source) =>
            Done(mf_index_copy_(Handle, dim, H(index), H(source)), index, source);

        public Tensor masked_fill(Tensor mask, Scalar value) => Take(mf_masked_fill(Handle, H(mask), N(value)), this, mask);

        public Tensor masked_fill_(Tensor mask, Scalar value) => Done(mf_masked_fill_(Handle, H(mask), N(value)), mask);

        public Tensor masked_select(Tensor mask) => Take(mf_masked_select(Handle, H(mask)), this, mask);

        private static Tensor As(ScalarType? type, Tensor made)
        {
            if (type is not { } wanted || made.dtype == wanted)
            {
                return made;
            }

            using (made)
            {
                return made.to(wanted);
            }
        }

        private unsafe (Tensor, Tensor) Two(int status, nint* made)
        {
            Done(status);
            return (new Tensor(made[0]), new Tensor(made[1]));
        }
    }
}
