// RMSNorm and LayerNorm, alone and as parts of other operations.
#pragma once

#include "kernels_common.h"

namespace mf::kernels {

struct Norm {
    explicit Norm(const mf_norm& norm) : norm(norm), layer(norm.bias.data != nullptr) {}

    // The number of statistics kept for each row.
    int64_t statistics() const { return layer ? 2 : 1; }

    // Computes rows first..last of y, and their statistics. y may be x.
    void forward(Element element, const void* x, void* y, float* statistics, int64_t first, int64_t last, int64_t width) const;
    // Computes rows first..last of dx, the gradient plus `added`, unless dx is null. Adds these rows' part of the gradients of weight and
    // bias, `width` numbers each, to `sums`.
    void backward(Element element, const void* dy, const void* x, const float* statistics, const cpu::Added& added, void* dx, float* sums,
                  int64_t first, int64_t last, int64_t width) const;

    // Compute all rows in parallel. `backward` also writes the gradients of weight and bias.
    void forward(Element element, const void* x, void* y, float* statistics, int64_t rows, int64_t width) const;
    void backward(Element element, const void* dy, const void* x, const float* statistics, const cpu::Added& added, void* dx, int64_t rows,
                  int64_t width) const;
    void give_gradients(const float* sums, int64_t width) const;

    bool wants_gradients() const { return norm.weight.gradient != nullptr || norm.bias.gradient != nullptr; }

    const mf_norm& norm;
    const bool layer;
};

}  // namespace mf::kernels
