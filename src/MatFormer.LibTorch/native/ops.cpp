// The operations, one exported function each, in the order: of one tensor, of two, with numbers, reductions, linear algebra, indexing.
#include "scalar.h"

#include <cmath>
#include <limits>

using namespace mf;

// mf_NAME(t) -> t.NAME()
#define MF_UNARY(name) \
    MF_API Handle mf_##name(Handle t) { return tensor([&] { return at::name(*t); }); }
// mf_NAME_(t): in place
#define MF_UNARY_(name) \
    MF_API int mf_##name##_(Handle t) { return status([&] { at::name##_(*t); }); }
#define MF_UNARY_BOTH(name) MF_UNARY(name) MF_UNARY_(name)

MF_UNARY_BOTH(abs)
MF_UNARY_BOTH(neg)
MF_UNARY_BOTH(sqrt)
MF_UNARY_BOTH(rsqrt)
MF_UNARY_BOTH(exp)
MF_UNARY_BOTH(log)
MF_UNARY_BOTH(sin)
MF_UNARY_BOTH(cos)
MF_UNARY_BOTH(tanh)
MF_UNARY_BOTH(sigmoid)
MF_UNARY_BOTH(silu)
MF_UNARY_BOTH(relu)
MF_UNARY_BOTH(square)
MF_UNARY_BOTH(floor)
MF_UNARY_BOTH(ceil)
MF_UNARY_BOTH(reciprocal)
MF_UNARY(log1p)
MF_UNARY(erf)
MF_UNARY(sign)
MF_UNARY(isnan)
MF_UNARY(isinf)
MF_UNARY(isfinite)
MF_UNARY(logical_not)
MF_UNARY(nonzero)
MF_UNARY(all)
MF_UNARY(any)
MF_UNARY(max)
MF_UNARY(min)

MF_API Handle mf_gelu(Handle t, int use_tanh) {
    return tensor([&] { return at::gelu(*t, use_tanh != 0 ? "tanh" : "none"); });
}

MF_API Handle mf_round(Handle t, int64_t decimals) {
    return tensor([&] { return decimals == 0 ? at::round(*t) : at::round(*t, decimals); });
}

MF_API int mf_zero_(Handle t) { return status([&] { t->zero_(); }); }
MF_API int mf_fill_(Handle t, MfScalar value) { return status([&] { t->fill_(scalar(value)); }); }
MF_API int mf_normal_(Handle t, double mean, double std, at::Generator* g) {
    return status([&] { t->normal_(mean, std, generator(g)); });
}
MF_API int mf_uniform_(Handle t, double from, double to, at::Generator* g) {
    return status([&] { t->uniform_(from, to, generator(g)); });
}
MF_API int mf_bernoulli_(Handle t, double p, at::Generator* g) {
    return status([&] { t->bernoulli_(p, generator(g)); });
}

// ---- two tensors, or a tensor and a number ----

MF_API Handle mf_add(Handle a, Handle b) { return tensor([&] { return at::add(*a, *b); }); }
MF_API Handle mf_add_alpha(Handle a, Handle b, MfScalar alpha) { return tensor([&] { return at::add(*a, *b, scalar(alpha)); }); }
MF_API Handle mf_add_scalar(Handle a, MfScalar b, MfScalar alpha) {
    return tensor([&] { return at::add(*a, scalar(b), scalar(alpha)); });
}
MF_API int mf_add_(Handle a, Handle b, MfScalar alpha) { return status([&] { a->add_(*b, scalar(alpha)); }); }
MF_API int mf_add_scalar_(Handle a, MfScalar b, MfScalar alpha) { return status([&] { a->add_(scalar(b), scalar(alpha)); }); }

// mf_NAME(a, b), mf_NAME_scalar(a, number)
#define MF_BINARY(name) \
    MF_API Handle mf_##name(Handle a, Handle b) { return tensor([&] { return a->name(*b); }); } \
    MF_API Handle mf_##name##_scalar(Handle a, MfScalar b) { return tensor([&] { return a->name(scalar(b)); }); }
#define MF_BINARY_(name) \
    MF_API int mf_##name##_(Handle a, Handle b) { return status([&] { a->name##_(*b); }); } \
    MF_API int mf_##name##_scalar_(Handle a, MfScalar b) { return status([&] { a->name##_(scalar(b)); }); }
#define MF_BINARY_BOTH(name) MF_BINARY(name) MF_BINARY_(name)

MF_BINARY_BOTH(sub)
MF_BINARY_BOTH(mul)
MF_BINARY_BOTH(pow)
MF_BINARY_BOTH(remainder)
MF_BINARY(eq)
MF_BINARY(ne)
MF_BINARY(lt)
MF_BINARY(le)
MF_BINARY(gt)
MF_BINARY(ge)

// `rounding` is 0: none, 1: trunc, 2: floor
#define MF_ROUNDED(exact, rounded) (rounding == 0 ? (exact) : (rounded))
namespace {
const char* rounding_name(int rounding) { return rounding == 1 ? "trunc" : "floor"; }
}  // namespace
MF_API Handle mf_div(Handle a, Handle b, int rounding) {
    return tensor([&] { return MF_ROUNDED(a->div(*b), a->div(*b, rounding_name(rounding))); });
}
MF_API Handle mf_div_scalar(Handle a, MfScalar b, int rounding) {
    return tensor([&] { return MF_ROUNDED(a->div(scalar(b)), a->div(scalar(b), rounding_name(rounding))); });
}
MF_API int mf_div_(Handle a, Handle b, int rounding) {
    return status([&] { MF_ROUNDED(a->div_(*b), a->div_(*b, rounding_name(rounding))); });
}
MF_API int mf_div_scalar_(Handle a, MfScalar b, int rounding) {
    return status([&] { MF_ROUNDED(a->div_(scalar(b)), a->div_(scalar(b), rounding_name(rounding))); });
}

// number - t, number / t
MF_API Handle mf_rsub(Handle t, MfScalar number) { return tensor([&] { return at::rsub(*t, scalar(number)); }); }
MF_API Handle mf_rdiv(Handle t, MfScalar number) { return tensor([&] { return at::mul(at::reciprocal(*t), scalar(number)); }); }

#define MF_PAIR(name) \
    MF_API Handle mf_##name(Handle a, Handle b) { return tensor([&] { return a->name(*b); }); }

MF_PAIR(maximum)
MF_PAIR(minimum)
MF_PAIR(logical_and)
MF_PAIR(logical_or)
MF_PAIR(bitwise_and)
MF_PAIR(bitwise_or)
MF_PAIR(bitwise_xor)
MF_PAIR(outer)
MF_PAIR(dot)
MF_PAIR(mv)
MF_PAIR(mm)
MF_PAIR(bmm)
MF_PAIR(matmul)
MF_API Handle mf_bitwise_not(Handle t) { return tensor([&] { return t->bitwise_not(); }); }

MF_API Handle mf_addcmul(Handle t, Handle a, Handle b, MfScalar value) {
    return tensor([&] { return t->addcmul(*a, *b, scalar(value)); });
}
MF_API int mf_addcmul_(Handle t, Handle a, Handle b, MfScalar value) { return status([&] { t->addcmul_(*a, *b, scalar(value)); }); }
MF_API Handle mf_addcdiv(Handle t, Handle a, Handle b, MfScalar value) {
    return tensor([&] { return t->addcdiv(*a, *b, scalar(value)); });
}
MF_API int mf_addcdiv_(Handle t, Handle a, Handle b, MfScalar value) { return status([&] { t->addcdiv_(*a, *b, scalar(value)); }); }
MF_API Handle mf_lerp(Handle t, Handle end, Handle weight) { return tensor([&] { return t->lerp(*end, *weight); }); }
MF_API int mf_lerp_(Handle t, Handle end, Handle weight) { return status([&] { t->lerp_(*end, *weight); }); }
MF_API Handle mf_clamp(Handle t, MfScalar min, MfScalar max) {
    return tensor([&] { return t->clamp(optional_scalar(min), optional_scalar(max)); });
}
MF_API int mf_clamp_(Handle t, MfScalar min, MfScalar max) {
    return status([&] { t->clamp_(optional_scalar(min), optional_scalar(max)); });
}
MF_API Handle mf_where(Handle condition, Handle x, Handle y) { return tensor([&] { return at::where(*condition, *x, *y); }); }

MF_API int mf_equal(Handle a, Handle b, int* into) { return status([&] { *into = at::equal(*a, *b); }); }
MF_API int mf_allclose(Handle a, Handle b, double rtol, double atol, int equal_nan, int* into) {
    return status([&] { *into = at::allclose(*a, *b, rtol, atol, equal_nan != 0); });
}

// ---- reductions ----

MF_API Handle mf_sum(Handle t, int dtype) { return tensor([&] { return t->sum(optional_dtype(dtype)); }); }
MF_API Handle mf_sum_dims(Handle t, const int64_t* axes, int64_t count, int keepdim, int dtype) {
    return tensor([&] { return t->sum(dims(axes, count), keepdim != 0, optional_dtype(dtype)); });
}
MF_API Handle mf_mean(Handle t) { return tensor([&] { return t->mean(); }); }
MF_API Handle mf_mean_dims(Handle t, const int64_t* axes, int64_t count, int keepdim, int dtype) {
    return tensor([&] { return t->mean(dims(axes, count), keepdim != 0, optional_dtype(dtype)); });
}
MF_API Handle mf_var(Handle t, const int64_t* axes, int64_t count, int unbiased, int keepdim) {
    return tensor([&] { return count == 0 ? t->var(unbiased != 0) : t->var(dims(axes, count), unbiased != 0, keepdim != 0); });
}
MF_API Handle mf_std(Handle t, const int64_t* axes, int64_t count, int unbiased, int keepdim) {
    return tensor([&] { return count == 0 ? t->std(unbiased != 0) : t->std(dims(axes, count), unbiased != 0, keepdim != 0); });
}
MF_API Handle mf_norm(Handle t, double p) { return tensor([&] { return t->norm(p); }); }
MF_API Handle mf_norm_dim(Handle t, double p, int64_t dim, int keepdim) {
    return tensor([&] { return t->norm(p, at::IntArrayRef(dim), keepdim != 0); });
}
MF_API Handle mf_amax(Handle t, const int64_t* axes, int64_t count, int keepdim) {
    return tensor([&] { return t->amax(dims(axes, count), keepdim != 0); });
}
MF_API Handle mf_amin(Handle t, const int64_t* axes, int64_t count, int keepdim) {
    return tensor([&] { return t->amin(dims(axes, count), keepdim != 0); });
}
MF_API Handle mf_all_dim(Handle t, int64_t dim, int keepdim) { return tensor([&] { return t->all(dim, keepdim != 0); }); }
MF_API Handle mf_any_dim(Handle t, int64_t dim, int keepdim) { return tensor([&] { return t->any(dim, keepdim != 0); }); }
MF_API Handle mf_logsumexp(Handle t, int64_t dim, int keepdim) { return tensor([&] { return t->logsumexp(dim, keepdim != 0); }); }
MF_API Handle mf_cumsum(Handle t, int64_t dim, int dtype) { return tensor([&] { return t->cumsum(dim, optional_dtype(dtype)); }); }
MF_API Handle mf_softmax(Handle t, int64_t dim, int dtype) { return tensor([&] { return t->softmax(dim, optional_dtype(dtype)); }); }
MF_API Handle mf_log_softmax(Handle t, int64_t dim, int dtype) {
    return tensor([&] { return t->log_softmax(dim, optional_dtype(dtype)); });
}

MF_API Handle mf_argmax(Handle t) { return tensor([&] { return t->argmax(); }); }
MF_API Handle mf_argmax_dim(Handle t, int64_t dim, int keepdim) { return tensor([&] { return t->argmax(dim, keepdim != 0); }); }
MF_API Handle mf_argmin(Handle t) { return tensor([&] { return t->argmin(); }); }
MF_API Handle mf_argmin_dim(Handle t, int64_t dim, int keepdim) { return tensor([&] { return t->argmin(dim, keepdim != 0); }); }
MF_API Handle mf_argsort(Handle t, int64_t dim, int descending) { return tensor([&] { return t->argsort(dim, descending != 0); }); }

namespace {
// Two results: values and indices.
template <class Body>
int two(Handle* into, Body body) {
    return status([&] {
        auto made = body();
        auto first = new at::Tensor(std::move(std::get<0>(made)));
        into[0] = first;
        into[1] = new at::Tensor(std::move(std::get<1>(made)));
    });
}
}  // namespace

MF_API int mf_max_dim(Handle t, int64_t dim, int keepdim, Handle* into) {
    return two(into, [&] { return t->max(dim, keepdim != 0); });
}
MF_API int mf_min_dim(Handle t, int64_t dim, int keepdim, Handle* into) {
    return two(into, [&] { return t->min(dim, keepdim != 0); });
}
MF_API int mf_sort(Handle t, int64_t dim, int descending, int stable, Handle* into) {
    return two(into, [&] { return at::sort(*t, stable != 0, dim, descending != 0); });
}
MF_API int mf_topk(Handle t, int64_t k, int64_t dim, int largest, int sorted, Handle* into) {
    return two(into, [&] { return t->topk(k, dim, largest != 0, sorted != 0); });
}
MF_API Handle mf_multinomial(Handle t, int64_t samples, int replacement, at::Generator* g) {
    return tensor([&] { return t->multinomial(samples, replacement != 0, generator(g)); });
}

// ---- linear algebra and neural network functions ----

MF_API Handle mf_addmm(Handle t, Handle a, Handle b, double beta, double alpha) {
    return tensor([&] { return t->addmm(*a, *b, beta, alpha); });
}
MF_API int mf_addmm_(Handle t, Handle a, Handle b, double beta, double alpha) {
    return status([&] { t->addmm_(*a, *b, beta, alpha); });
}
MF_API Handle mf_baddbmm(Handle t, Handle a, Handle b, double beta, double alpha) {
    return tensor([&] { return t->baddbmm(*a, *b, beta, alpha); });
}
MF_API Handle mf_tril(Handle t, int64_t diagonal) { return tensor([&] { return t->tril(diagonal); }); }
MF_API Handle mf_triu(Handle t, int64_t diagonal) { return tensor([&] { return t->triu(diagonal); }); }
MF_API int mf_tril_(Handle t, int64_t diagonal) { return status([&] { t->tril_(diagonal); }); }
MF_API int mf_triu_(Handle t, int64_t diagonal) { return status([&] { t->triu_(diagonal); }); }

MF_API Handle mf_einsum(const char* equation, const Handle* tensors, int64_t count) {
    return tensor([&] { return at::einsum(equation, list(tensors, count)); });
}
MF_API Handle mf_linear(Handle input, Handle weight, Handle bias) {
    return tensor([&] { return bias == nullptr ? at::linear(*input, *weight) : at::linear(*input, *weight, *bias); });
}
MF_API Handle mf_layer_norm(Handle input, const int64_t* shape, int64_t count, Handle weight, Handle bias, double eps) {
    return tensor([&] { return at::layer_norm(*input, dims(shape, count), optional(weight), optional(bias), eps); });
}
MF_API Handle mf_dropout(Handle input, double p, int training) { return tensor([&] { return at::dropout(*input, p, training != 0); }); }
MF_API int mf_dropout_(Handle input, double p, int training) { return status([&] { at::dropout_(*input, p, training != 0); }); }
MF_API Handle mf_one_hot(Handle input, int64_t classes) { return tensor([&] { return at::one_hot(*input, classes); }); }
MF_API Handle mf_cross_entropy(Handle input, Handle target, Handle weight, int64_t reduction, int64_t ignore_index,
                               double label_smoothing) {
    return tensor([&] {
        return at::cross_entropy_loss(*input, *target, optional(weight), reduction, ignore_index, label_smoothing);
    });
}
MF_API Handle mf_nll_loss(Handle input, Handle target, Handle weight, int64_t reduction, int64_t ignore_index) {
    return tensor([&] { return at::nll_loss(*input, *target, optional(weight), reduction, ignore_index); });
}
MF_API Handle mf_mse_loss(Handle input, Handle target, int64_t reduction) {
    return tensor([&] { return at::mse_loss(*input, *target, reduction); });
}
MF_API Handle mf_kl_div(Handle input, Handle target, int64_t reduction, int log_target) {
    return tensor([&] { return at::kl_div(*input, *target, reduction, log_target != 0); });
}

// softmax(q k^T / sqrt(d) + mask) v
MF_API Handle mf_scaled_dot_product_attention(Handle query, Handle key, Handle value, Handle mask, double p, int is_causal) {
    return tensor([&] {
#if TORCH_VERSION_MAJOR >= 2
        Maybe<at::Tensor> given;
        if (mask != nullptr) given = *mask;
        return at::scaled_dot_product_attention(*query, *key, *value, given, p, is_causal != 0);
#else
        TORCH_CHECK(mask == nullptr || is_causal == 0, "scaled_dot_product_attention: give attn_mask or is_casual, not both");
        // Half of the scale on either side keeps the product in range for half types, as libtorch 2 does.
        double scale = std::sqrt(1.0 / std::sqrt(static_cast<double>(query->size(-1))));
        auto scores = at::matmul(*query * scale, key->transpose(-2, -1) * scale);
        if (is_causal != 0) {
            auto later = at::ones({query->size(-2), key->size(-2)}, query->options().dtype(at::kBool)).triu(1);
            scores = scores.masked_fill(later, -std::numeric_limits<double>::infinity());
        } else if (mask != nullptr && mask->scalar_type() == at::kBool) {
            scores = scores.masked_fill(mask->logical_not(), -std::numeric_limits<double>::infinity());
        } else if (mask != nullptr) {
            scores = scores + *mask;
        }
        auto weights = at::softmax(scores, -1);
        return at::matmul(p > 0 ? at::dropout(weights, p, true) : weights, *value);
#endif
    });
}

// ---- indexing ----

MF_API Handle mf_index_select(Handle t, int64_t dim, Handle index) { return tensor([&] { return t->index_select(dim, *index); }); }
MF_API Handle mf_gather(Handle t, int64_t dim, Handle index) { return tensor([&] { return t->gather(dim, *index); }); }
MF_API Handle mf_scatter(Handle t, int64_t dim, Handle index, Handle source) {
    return tensor([&] { return t->scatter(dim, *index, *source); });
}
MF_API int mf_scatter_(Handle t, int64_t dim, Handle index, Handle source) { return status([&] { t->scatter_(dim, *index, *source); }); }
MF_API Handle mf_scatter_add(Handle t, int64_t dim, Handle index, Handle source) {
    return tensor([&] { return t->scatter_add(dim, *index, *source); });
}
MF_API int mf_scatter_add_(Handle t, int64_t dim, Handle index, Handle source) {
    return status([&] { t->scatter_add_(dim, *index, *source); });
}
MF_API Handle mf_index_add(Handle t, int64_t dim, Handle index, Handle source, MfScalar alpha) {
    return tensor([&] { return t->index_add(dim, *index, *source, scalar(alpha)); });
}
MF_API int mf_index_add_(Handle t, int64_t dim, Handle index, Handle source, MfScalar alpha) {
    return status([&] { t->index_add_(dim, *index, *source, scalar(alpha)); });
}
MF_API Handle mf_index_copy(Handle t, int64_t dim, Handle index, Handle source) {
    return tensor([&] { return t->index_copy(dim, *index, *source); });
}
MF_API int mf_index_copy_(Handle t, int64_t dim, Handle index, Handle source) {
    return status([&] { t->index_copy_(dim, *index, *source); });
}
MF_API Handle mf_masked_fill(Handle t, Handle mask, MfScalar value) {
    return tensor([&] { return t->masked_fill(*mask, scalar(value)); });
}
MF_API int mf_masked_fill_(Handle t, Handle mask, MfScalar value) {
    return status([&] { t->masked_fill_(*mask, scalar(value)); });
}
MF_API Handle mf_masked_select(Handle t, Handle mask) { return tensor([&] { return t->masked_select(*mask); }); }

namespace {
c10::List<Maybe<at::Tensor>> index_list(const Handle* indices, int64_t count) {
    c10::List<Maybe<at::Tensor>> result;
    for (int64_t i = 0; i < count; i++) {
        result.push_back(indices[i] == nullptr ? Maybe<at::Tensor>() : Maybe<at::Tensor>(*indices[i]));
    }
    return result;
}
}  // namespace

// Advanced indexing; a null handle leaves its dimension whole.
MF_API Handle mf_index(Handle t, const Handle* indices, int64_t count) {
    return tensor([&] {
        return t->index(index_list(indices, count));
    });
}
MF_API int mf_index_put_(Handle t, const Handle* indices, int64_t count, Handle value, int accumulate) {
    return status([&] {
        t->index_put_(index_list(indices, count), *value, accumulate != 0);
    });
}
