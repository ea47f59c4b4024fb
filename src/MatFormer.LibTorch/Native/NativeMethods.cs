using System.Runtime.InteropServices;

namespace MatFormer.Torch;

/// <summary>The exports of libmatformer_torch, in the order of native/*.cpp. All arguments are blittable.</summary>
internal static unsafe partial class NativeMethods
{
    private const string Library = "matformer_torch";

    // ---- tensor.cpp ----

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial nint mf_last_error();

    [LibraryImport(Library)]
    internal static partial void mf_tensor_free(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_alias(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_empty(long* size, long count, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_zeros(long* size, long count, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_ones(long* size, long count, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_full(long* size, long count, Number value, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_arange(Number start, Number stop, Number step, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_linspace(double start, double end, long steps, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_eye(long rows, long columns, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_rand(long* size, long count, nint g, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_randn(long* size, long count, nint g, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_randint(long low, long high, long* size, long count, nint g, int dtype, int dev, int index,
        int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_randperm(long n, nint g, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_from_data(nint data, long* size, long count, int source_dtype, int dtype, int dev, int index,
        int requires_grad);

    [LibraryImport(Library)]
    internal static partial nint mf_from_blob(nint data, long* size, long count, int dtype, delegate* unmanaged<nint, void> release,
        nint context);

    [LibraryImport(Library)]
    internal static partial nint mf_empty_like(nint t, int dtype, int dev, int index, int requires_grad);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial long mf_dim(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial long mf_numel(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial long mf_element_size(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial int mf_dtype(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial int mf_device_type(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial int mf_device_index(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_is_contiguous(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_is_sparse(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial int mf_is_leaf(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial int mf_requires_grad(nint t);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial void mf_sizes(nint t, long* into);

    [LibraryImport(Library)]
    internal static partial int mf_strides(nint t, long* into);

    [LibraryImport(Library)]
    internal static partial int mf_size(nint t, long dim, long* into);

    [LibraryImport(Library)]
    internal static partial int mf_stride(nint t, long dim, long* into);

    [LibraryImport(Library)]
    internal static partial int mf_storage_offset(nint t, long* into);

    [LibraryImport(Library)]
    internal static partial int mf_data_ptr(nint t, nint* into);

    [LibraryImport(Library)]
    internal static partial int mf_item(nint t, Number* into);

    [LibraryImport(Library)]
    internal static partial nint mf_clone(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_contiguous(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_cpu(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_to(nint t, int dtype, int dev, int index, int non_blocking, int copy);

    [LibraryImport(Library)]
    internal static partial int mf_copy_(nint t, nint source, int non_blocking);

    [LibraryImport(Library)]
    internal static partial int mf_set_(nint t, nint source);

    [LibraryImport(Library)]
    internal static partial nint mf_view(nint t, long* size, long count);

    [LibraryImport(Library)]
    internal static partial nint mf_reshape(nint t, long* size, long count);

    [LibraryImport(Library)]
    internal static partial nint mf_expand(nint t, long* size, long count, int is_implicit);

    [LibraryImport(Library)]
    internal static partial nint mf_repeat(nint t, long* size, long count);

    [LibraryImport(Library)]
    internal static partial nint mf_permute(nint t, long* order, long count);

    [LibraryImport(Library)]
    internal static partial nint mf_flip(nint t, long* axes, long count);

    [LibraryImport(Library)]
    internal static partial nint mf_transpose(nint t, long a, long b);

    [LibraryImport(Library)]
    internal static partial nint mf_t(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_narrow(nint t, long dim, long start, long length);

    [LibraryImport(Library)]
    internal static partial nint mf_slice(nint t, long dim, long start, long finish, long step);

    [LibraryImport(Library)]
    internal static partial nint mf_select(nint t, long dim, long index);

    [LibraryImport(Library)]
    internal static partial nint mf_unsqueeze(nint t, long dim);

    [LibraryImport(Library)]
    internal static partial nint mf_squeeze(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_squeeze_dim(nint t, long dim);

    [LibraryImport(Library)]
    internal static partial nint mf_flatten(nint t, long start, long end);

    [LibraryImport(Library)]
    internal static partial nint mf_diagonal(nint t, long offset, long dim1, long dim2);

    [LibraryImport(Library)]
    internal static partial nint mf_unfold(nint t, long dim, long size, long step);

    [LibraryImport(Library)]
    internal static partial nint mf_as_strided(nint t, long* size, long count, long* strides, long stride_count, long offset);

    [LibraryImport(Library)]
    internal static partial long mf_chunk(nint t, long chunks, long dim, nint* into, long room);

    [LibraryImport(Library)]
    internal static partial long mf_split(nint t, long size, long dim, nint* into, long room);

    [LibraryImport(Library)]
    internal static partial long mf_split_sizes(nint t, long* sizes, long count, long dim, nint* into, long room);

    [LibraryImport(Library)]
    internal static partial long mf_unbind(nint t, long dim, nint* into, long room);

    [LibraryImport(Library)]
    internal static partial nint mf_cat(nint* tensors, long count, long dim);

    [LibraryImport(Library)]
    internal static partial nint mf_stack(nint* tensors, long count, long dim);


    // ---- ops.cpp ----

    [LibraryImport(Library)]
    internal static partial nint mf_abs(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_abs_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_neg(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_neg_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_sqrt(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_sqrt_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_rsqrt(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_rsqrt_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_exp(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_exp_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_log(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_log_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_sin(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_sin_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_cos(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_cos_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_tanh(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_tanh_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_sigmoid(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_sigmoid_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_silu(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_silu_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_relu(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_relu_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_square(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_square_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_floor(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_floor_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_ceil(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_ceil_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_reciprocal(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_reciprocal_(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_log1p(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_erf(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_sign(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_isnan(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_isinf(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_isfinite(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_logical_not(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_nonzero(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_all(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_any(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_max(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_min(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_gelu(nint t, int use_tanh);

    [LibraryImport(Library)]
    internal static partial nint mf_round(nint t, long decimals);

    [LibraryImport(Library)]
    internal static partial int mf_zero_(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_fill_(nint t, Number value);

    [LibraryImport(Library)]
    internal static partial int mf_normal_(nint t, double mean, double std, nint g);

    [LibraryImport(Library)]
    internal static partial int mf_uniform_(nint t, double from, double to, nint g);

    [LibraryImport(Library)]
    internal static partial int mf_bernoulli_(nint t, double p, nint g);

    [LibraryImport(Library)]
    internal static partial nint mf_add(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_add_alpha(nint a, nint b, Number alpha);

    [LibraryImport(Library)]
    internal static partial nint mf_add_scalar(nint a, Number b, Number alpha);

    [LibraryImport(Library)]
    internal static partial int mf_add_(nint a, nint b, Number alpha);

    [LibraryImport(Library)]
    internal static partial int mf_add_scalar_(nint a, Number b, Number alpha);

    [LibraryImport(Library)]
    internal static partial nint mf_sub(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_sub_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial int mf_sub_(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial int mf_sub_scalar_(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_mul(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_mul_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial int mf_mul_(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial int mf_mul_scalar_(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_pow(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_pow_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial int mf_pow_(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial int mf_pow_scalar_(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_remainder(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_remainder_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial int mf_remainder_(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial int mf_remainder_scalar_(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_eq(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_eq_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_ne(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_ne_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_lt(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_lt_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_le(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_le_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_gt(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_gt_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_ge(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_ge_scalar(nint a, Number b);

    [LibraryImport(Library)]
    internal static partial nint mf_div(nint a, nint b, int rounding);

    [LibraryImport(Library)]
    internal static partial nint mf_div_scalar(nint a, Number b, int rounding);

    [LibraryImport(Library)]
    internal static partial int mf_div_(nint a, nint b, int rounding);

    [LibraryImport(Library)]
    internal static partial int mf_div_scalar_(nint a, Number b, int rounding);

    [LibraryImport(Library)]
    internal static partial nint mf_rsub(nint t, Number number);

    [LibraryImport(Library)]
    internal static partial nint mf_rdiv(nint t, Number number);

    [LibraryImport(Library)]
    internal static partial nint mf_maximum(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_minimum(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_logical_and(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_logical_or(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_bitwise_and(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_bitwise_or(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_bitwise_xor(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_outer(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_dot(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_mv(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_mm(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_bmm(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_matmul(nint a, nint b);

    [LibraryImport(Library)]
    internal static partial nint mf_bitwise_not(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_addcmul(nint t, nint a, nint b, Number value);

    [LibraryImport(Library)]
    internal static partial int mf_addcmul_(nint t, nint a, nint b, Number value);

    [LibraryImport(Library)]
    internal static partial nint mf_addcdiv(nint t, nint a, nint b, Number value);

    [LibraryImport(Library)]
    internal static partial int mf_addcdiv_(nint t, nint a, nint b, Number value);

    [LibraryImport(Library)]
    internal static partial nint mf_lerp(nint t, nint end, nint weight);

    [LibraryImport(Library)]
    internal static partial int mf_lerp_(nint t, nint end, nint weight);

    [LibraryImport(Library)]
    internal static partial nint mf_clamp(nint t, Number min, Number max);

    [LibraryImport(Library)]
    internal static partial int mf_clamp_(nint t, Number min, Number max);

    [LibraryImport(Library)]
    internal static partial nint mf_where(nint condition, nint x, nint y);

    [LibraryImport(Library)]
    internal static partial int mf_equal(nint a, nint b, int* into);

    [LibraryImport(Library)]
    internal static partial int mf_allclose(nint a, nint b, double rtol, double atol, int equal_nan, int* into);

    [LibraryImport(Library)]
    internal static partial nint mf_sum(nint t, int dtype);

    [LibraryImport(Library)]
    internal static partial nint mf_sum_dims(nint t, long* axes, long count, int keepdim, int dtype);

    [LibraryImport(Library)]
    internal static partial nint mf_mean(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_mean_dims(nint t, long* axes, long count, int keepdim, int dtype);

    [LibraryImport(Library)]
    internal static partial nint mf_var(nint t, long* axes, long count, int unbiased, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_std(nint t, long* axes, long count, int unbiased, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_norm(nint t, double p);

    [LibraryImport(Library)]
    internal static partial nint mf_norm_dim(nint t, double p, long dim, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_amax(nint t, long* axes, long count, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_amin(nint t, long* axes, long count, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_all_dim(nint t, long dim, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_any_dim(nint t, long dim, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_logsumexp(nint t, long dim, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_cumsum(nint t, long dim, int dtype);

    [LibraryImport(Library)]
    internal static partial nint mf_softmax(nint t, long dim, int dtype);

    [LibraryImport(Library)]
    internal static partial nint mf_log_softmax(nint t, long dim, int dtype);

    [LibraryImport(Library)]
    internal static partial nint mf_argmax(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_argmax_dim(nint t, long dim, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_argmin(nint t);

    [LibraryImport(Library)]
    internal static partial nint mf_argmin_dim(nint t, long dim, int keepdim);

    [LibraryImport(Library)]
    internal static partial nint mf_argsort(nint t, long dim, int descending);

    [LibraryImport(Library)]
    internal static partial int mf_max_dim(nint t, long dim, int keepdim, nint* into);

    [LibraryImport(Library)]
    internal static partial int mf_min_dim(nint t, long dim, int keepdim, nint* into);

    [LibraryImport(Library)]
    internal static partial int mf_sort(nint t, long dim, int descending, int stable, nint* into);

    [LibraryImport(Library)]
    internal static partial int mf_topk(nint t, long k, long dim, int largest, int sorted, nint* into);

    [LibraryImport(Library)]
    internal static partial nint mf_multinomial(nint t, long samples, int replacement, nint g);

    [LibraryImport(Library)]
    internal static partial nint mf_addmm(nint t, nint a, nint b, double beta, double alpha);

    [LibraryImport(Library)]
    internal static partial int mf_addmm_(nint t, nint a, nint b, double beta, double alpha);

    [LibraryImport(Library)]
    internal static partial nint mf_baddbmm(nint t, nint a, nint b, double beta, double alpha);

    [LibraryImport(Library)]
    internal static partial nint mf_tril(nint t, long diagonal);

    [LibraryImport(Library)]
    internal static partial nint mf_triu(nint t, long diagonal);

    [LibraryImport(Library)]
    internal static partial int mf_tril_(nint t, long diagonal);

    [LibraryImport(Library)]
    internal static partial int mf_triu_(nint t, long diagonal);

    [LibraryImport(Library)]
    internal static partial nint mf_einsum(byte* equation, nint* tensors, long count);

    [LibraryImport(Library)]
    internal static partial nint mf_linear(nint input, nint weight, nint bias);

    [LibraryImport(Library)]
    internal static partial nint mf_layer_norm(nint input, long* shape, long count, nint weight, nint bias, double eps);

    [LibraryImport(Library)]
    internal static partial nint mf_dropout(nint input, double p, int training);

    [LibraryImport(Library)]
    internal static partial int mf_dropout_(nint input, double p, int training);

    [LibraryImport(Library)]
    internal static partial nint mf_one_hot(nint input, long classes);

    [LibraryImport(Library)]
    internal static partial nint mf_cross_entropy(nint input, nint target, nint weight, long reduction, long ignore_index,
        double label_smoothing);

    [LibraryImport(Library)]
    internal static partial nint mf_nll_loss(nint input, nint target, nint weight, long reduction, long ignore_index);

    [LibraryImport(Library)]
    internal static partial nint mf_mse_loss(nint input, nint target, long reduction);

    [LibraryImport(Library)]
    internal static partial nint mf_kl_div(nint input, nint target, long reduction, int log_target);

    [LibraryImport(Library)]
    internal static partial nint mf_scaled_dot_product_attention(nint query, nint key, nint value, nint mask, double p, int is_causal);

    [LibraryImport(Library)]
    internal static partial nint mf_index_select(nint t, long dim, nint index);

    [LibraryImport(Library)]
    internal static partial nint mf_gather(nint t, long dim, nint index);

    [LibraryImport(Library)]
    internal static partial nint mf_scatter(nint t, long dim, nint index, nint source);

    [LibraryImport(Library)]
    internal static partial int mf_scatter_(nint t, long dim, nint index, nint source);

    [LibraryImport(Library)]
    internal static partial nint mf_scatter_add(nint t, long dim, nint index, nint source);

    [LibraryImport(Library)]
    internal static partial int mf_scatter_add_(nint t, long dim, nint index, nint source);

    [LibraryImport(Library)]
    internal static partial nint mf_index_add(nint t, long dim, nint index, nint source, Number alpha);

    [LibraryImport(Library)]
    internal static partial int mf_index_add_(nint t, long dim, nint index, nint source, Number alpha);

    [LibraryImport(Library)]
    internal static partial nint mf_index_copy(nint t, long dim, nint index, nint source);

    [LibraryImport(Library)]
    internal static partial int mf_index_copy_(nint t, long dim, nint index, nint source);

    [LibraryImport(Library)]
    internal static partial nint mf_masked_fill(nint t, nint mask, Number value);

    [LibraryImport(Library)]
    internal static partial int mf_masked_fill_(nint t, nint mask, Number value);

    [LibraryImport(Library)]
    internal static partial nint mf_masked_select(nint t, nint mask);

    [LibraryImport(Library)]
    internal static partial nint mf_index(nint t, nint* indices, long count);

    [LibraryImport(Library)]
    internal static partial int mf_index_put_(nint t, nint* indices, long count, nint value, int accumulate);


    // ---- autograd.cpp ----

    [LibraryImport(Library)]
    internal static partial int mf_set_requires_grad(nint t, int value);

    [LibraryImport(Library)]
    internal static partial int mf_retain_grad(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_grad(nint t, nint* into);

    [LibraryImport(Library)]
    internal static partial int mf_set_grad(nint t, nint grad);

    [LibraryImport(Library)]
    internal static partial nint mf_detach(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_detach_(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_backward(nint t);

    [LibraryImport(Library)]
    internal static partial int mf_backward_all(nint* tensors, long count, nint* grads, long grad_count, int retain_graph,
        int create_graph, nint* inputs, long input_count);

    [LibraryImport(Library)]
    internal static partial int mf_autograd_grad(nint* outputs, long count, nint* inputs, long input_count, nint* grads,
        long grad_count, int retain_graph, int create_graph, int allow_unused, nint* into);

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial int mf_grad_mode();

    [LibraryImport(Library)]
    [SuppressGCTransition]
    internal static partial void mf_set_grad_mode(int enabled);

    [LibraryImport(Library)]
    internal static partial int mf_inference_mode();

    [LibraryImport(Library)]
    internal static partial nint mf_inference_mode_enter(int enabled);

    [LibraryImport(Library)]
    internal static partial void mf_inference_mode_leave(nint guard);

    [LibraryImport(Library)]
    internal static partial int mf_manual_seed(long seed);

    [LibraryImport(Library)]
    internal static partial int mf_cuda_manual_seed(long seed);

    [LibraryImport(Library)]
    internal static partial nint mf_default_generator();

    [LibraryImport(Library)]
    internal static partial nint mf_new_generator(ulong seed, int dev, int index);

    [LibraryImport(Library)]
    internal static partial void mf_generator_free(nint g);

    [LibraryImport(Library)]
    internal static partial int mf_generator_device(nint g, int* index);

    [LibraryImport(Library)]
    internal static partial int mf_generator_manual_seed(nint g, long seed);

    [LibraryImport(Library)]
    internal static partial int mf_generator_seed(nint g, long* into);

    [LibraryImport(Library)]
    internal static partial int mf_generator_current_seed(nint g, long* into);

    [LibraryImport(Library)]
    internal static partial nint mf_generator_get_state(nint g);

    [LibraryImport(Library)]
    internal static partial int mf_generator_set_state(nint g, nint state);

    [LibraryImport(Library)]
    internal static partial int mf_set_num_threads(int count);

    [LibraryImport(Library)]
    internal static partial int mf_get_num_threads();

    [LibraryImport(Library)]
    internal static partial int mf_set_num_interop_threads(int count);

    [LibraryImport(Library)]
    internal static partial int mf_get_num_interop_threads();

    [LibraryImport(Library)]
    internal static partial int mf_cuda_device_count();

    [LibraryImport(Library)]
    internal static partial int mf_cudnn_is_available();

    [LibraryImport(Library)]
    internal static partial int mf_cuda_synchronize(int index);

    [LibraryImport(Library)]
    internal static partial nint mf_version();
}
