// Products of matrices on the CPU, by our own loops where they are fast and by ATen's elsewhere.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <initializer_list>

#include "kernels_cpu.h"

namespace mf::kernels {

inline cpu::Element element(at::ScalarType dtype) { return dtype == at::kFloat ? cpu::Float : cpu::BFloat16; }
inline cpu::Element element(const at::Tensor& x) { return element(x.scalar_type()); }

// A part of a tensor's memory for each thread of a parallel loop.
class Scratch {
public:
    explicit Scratch(int64_t bytes) : each_((bytes + 127) / 64 * 64), memory_(at::empty({each_ * at::get_num_threads()}, at::kByte)) {}
    void* mine() const { return static_cast<char*>(memory_.data_ptr()) + each_ * at::get_thread_num(); }

private:
    int64_t each_;
    at::Tensor memory_;
};

// Whether the CPU's own loops multiply; if not, `product` is ATen's and nothing may be packed.
bool own_product(at::ScalarType compute);

// The right operand of a product, (depth, columns), rounded to `compute` and laid out for the loops. Its first rows and first columns serve
// as a right operand too.
class Packed {
public:
    Packed(at::ScalarType compute, const at::Tensor& b);
    cpu::Term term(const cpu::Matrix& a, int64_t depth) const { return {a, depth, memory_.data_ptr(), words_}; }

private:
    int64_t words_;
    at::Tensor memory_;
};

cpu::Matrix matrix(const at::Tensor& x);

// Bytes of scratch for `rows` of the left operands of products of this depth in all.
int64_t left_scratch(int64_t rows, int64_t depth);

// Rows 0..rows and columns 0..columns of the sum of the terms, in parallel.
void run(at::ScalarType compute, std::initializer_list<cpu::Term> terms, int64_t rows, int64_t columns, const cpu::Target& target);

// c (rows, columns) = scale * a b (+ bias), or added to c. c's rows are contiguous.
void product(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, at::ScalarType compute, bool accumulate = false,
             const at::Tensor& bias = {}, double scale = 1);

// y = x w^T + bias for float32 w (outs, ins), or its first outs and ins; y and x of dtype `compute`, their rows contiguous.
void project(const at::Tensor& y, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);

// At most this many rows are worth reading the weights as they lie.
constexpr int64_t few = 16;

}  // namespace mf::kernels
