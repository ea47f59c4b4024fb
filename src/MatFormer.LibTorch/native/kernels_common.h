// What the operations share: checks of arguments, and loops over rows.
#pragma once

#include <torch/csrc/autograd/custom_function.h>
#include <torch/version.h>

#include <algorithm>

#include "kernels.h"
#include "kernels_product.h"
#include "profile.h"
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 5)
#include <optional>
#endif

namespace mf::kernels {

using at::Tensor;
using profile::Timed;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 5)
using Optional = std::optional<Tensor>;
#else
using Optional = c10::optional<Tensor>;
#endif

// An undefined tensor may not be an argument of a Function.
inline Optional optional(const Tensor& x) { return x.defined() ? Optional(x) : Optional(); }
inline Tensor value(const Optional& x) { return x.has_value() ? *x : Tensor(); }

inline void check_activation(const char* operation, const char* name, const Tensor& x) {
    TORCH_CHECK(x.defined(), operation, ": ", name, " is missing");
    TORCH_CHECK(!x.is_cpu() || x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, operation, ": ", name, " is ",
                x.scalar_type(), ", but must be float32 or bfloat16");
}

inline void check_weight(const char* operation, const char* name, const Tensor& weight, const Tensor& x, at::IntArrayRef shape) {
    TORCH_CHECK(weight.defined(), operation, ": ", name, " is missing");
    TORCH_CHECK(weight.scalar_type() == at::kFloat, operation, ": ", name, " is ", weight.scalar_type(), ", but must be float32");
    TORCH_CHECK(weight.sizes() == shape, operation, ": ", name, " is ", weight.sizes(), ", but must be ", shape);
    TORCH_CHECK(weight.device() == x.device(), operation, ": ", name, " is on ", weight.device(), ", but x is on ", x.device());
}

inline void check_rank(const char* operation, const char* name, const Tensor& x, int64_t rank, const char* shape) {
    TORCH_CHECK(x.dim() == rank, operation, ": ", name, " is ", x.sizes(), ", but must be ", shape);
}

inline void check_integers(const char* operation, const char* name, const Tensor& x, const Tensor& beside) {
    TORCH_CHECK(x.defined() && x.scalar_type() == at::kLong, operation, ": ", name, " must be int64");
    TORCH_CHECK(x.device() == beside.device(), operation, ": ", name, " is on ", x.device(), ", but the rest is on ", beside.device());
}

inline bool differentiable(std::initializer_list<Tensor> inputs) {
    if (!at::GradMode::is_enabled()) return false;
    return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.defined() && x.requires_grad(); });
}

inline Tensor rows_of(const Tensor& x) { return x.contiguous().view({-1, x.size(-1)}); }

inline Tensor floats(at::IntArrayRef sizes) { return at::empty(sizes, at::kFloat); }

// Elements of a pass over memory that make a second thread worth while.
constexpr int64_t grain = 16384;

inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, grain / std::max<int64_t>(1, width)); }

// Sums that each thread takes over its rows and that are then added in order: the same for the same number of threads.
template <class Body>
inline void sum_rows(int64_t rows, int64_t width, std::initializer_list<Tensor> totals, const Body& body) {
    const int64_t parts = std::clamp<int64_t>(rows / row_grain(width), 1, at::get_num_threads());
    const int64_t count = static_cast<int64_t>(totals.size()), each = (rows + parts - 1) / parts;
    Tensor sums = at::zeros({parts, count, width}, at::kFloat);
    auto* data = sums.data_ptr<float>();
    share(parts, 1, [&](int64_t first, int64_t last) {
        for (int64_t p = first; p < last; p++) body(p * each, std::min(rows, (p + 1) * each), data + p * count * width);
    });
    for (int64_t i = 0; i < count; i++) {
        Tensor total = totals.begin()[i];
        auto* out = total.data_ptr<float>();
        cpu::table().sum_blocks[cpu::Float](data + i * width, out, parts, count * width, 0, width);
    }
}

inline Tensor column_sums(const Tensor& x) {
    Tensor total = floats({x.size(1)});
    sum_rows(x.size(0), x.size(1), {total}, [&](int64_t first, int64_t last, float* sums) {
        cpu::table().column_sums[element(x)](x.data_ptr(), sums, first, last, x.size(1));
    });
    return total;
}

// A bias as the operation sees it: rounded to the dtype of the activations.
inline Tensor rounded(const Tensor& bias, at::ScalarType dtype) {
    if (!bias.defined()) return bias;
    return dtype == at::kFloat ? bias.contiguous() : bias.to(dtype).to(at::kFloat);
}

}  // namespace mf::kernels
