// Products of matrices on the CPU, by our own loops where they are fast and by ATen's elsewhere.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <limits>
#include <vector>

#include "kernels_cpu.h"

namespace mf::kernels {

inline cpu::Element element(at::ScalarType dtype) { return dtype == at::kFloat ? cpu::Float : cpu::BFloat16; }
inline cpu::Element element(const at::Tensor& x) { return element(x.scalar_type()); }

// body(first, last) for parts of 0..count, of `grain` or more, dealt to the threads as they come free: one core may be slower than
// another, and what waits for the slowest is the whole step.
template <class Body>
void share(int64_t count, int64_t grain, const Body& body) {
    const int64_t threads = std::min<int64_t>(at::get_num_threads(), (count + grain - 1) / grain);
    if (count <= 0) return;
    if (threads <= 1 || at::in_parallel_region()) return body(0, count);
    const int64_t each = std::max(grain, count / (threads * 8));
    std::atomic<int64_t> next{0};
    at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
        for (int64_t i = next.fetch_add(each); i < count; i = next.fetch_add(each)) body(i, std::min(count, i + each));
    });
}

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

// Rows 0..rows and columns 0..columns of the sum of the terms, in parallel. A single term may go by steps of its depth,
// multiples of cpu::depth_unit.
void run(at::ScalarType compute, std::initializer_list<cpu::Term> terms, int64_t rows, int64_t columns, const cpu::Target& target,
         int64_t step = std::numeric_limits<int64_t>::max());

// A product of packed operands, rows 0..rows and columns 0..columns of it.
struct Task {
    cpu::Term term;
    int64_t rows, columns;
    cpu::Target target;
};

// Several of them, of about as much work, in parallel.
void run(at::ScalarType compute, const std::vector<Task>& tasks);

// c (rows, columns) = scale * a b (+ bias), or added to c. c's rows are contiguous.
void product(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, at::ScalarType compute, bool accumulate = false,
             const at::Tensor& bias = {}, double scale = 1);

// c[i] (rows of a[i], columns of b) = a[i] b for float32 c.
void products(at::TensorList c, at::TensorList a, const at::Tensor& b, at::ScalarType compute);

// y = x w^T + bias for float32 w (outs, ins), or its first outs and ins; y and x of dtype `compute`, their rows contiguous.
void project(const at::Tensor& y, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);

// At most this many rows are worth reading the weights as they lie.
constexpr int64_t few = 16;

}  // namespace mf::kernels
