// Products of matrices.
#pragma once

#include <initializer_list>
#include <limits>
#include <vector>

#include "kernels_cpu.h"
#include "matformer_cpu.h"
#include "memory.h"
#include "threads.h"

namespace mf::kernels {

using cpu::Element;
using cpu::Matrix;
using cpu::Target;
using cpu::Term;

constexpr int64_t size_of(Element element) { return element == cpu::Float ? 4 : 2; }

// Element `count` of memory, which may be null.
inline const void* at(const void* data, Element element, int64_t count) {
    return data == nullptr ? nullptr : static_cast<const char*>(data) + count * size_of(element);
}
inline void* at(void* data, Element element, int64_t count) {
    return data == nullptr ? nullptr : static_cast<char*>(data) + count * size_of(element);
}

// Contiguous rows, and the same with its rows as columns.
inline Matrix rows_of(const void* data, Element element, int64_t width) { return {data, element, width, 1}; }
inline Matrix turned(const Matrix& x) { return {x.data, x.element, x.column, x.row}; }
// From that row and column on.
inline Matrix from(const Matrix& x, int64_t row, int64_t column = 0) {
    return {at(x.data, x.element, row * x.row + column * x.column), x.element, x.row, x.column};
}

inline Matrix matrix(const mf_weight& weight) { return {weight.data, cpu::Float, weight.row, 1}; }
// Where a weight's gradient goes, from that column on.
inline Target gradient_of(const mf_weight& weight, int64_t column = 0) {
    return {weight.gradient + column, cpu::Float, weight.columns, weight.add != 0};
}

// The right operand of a product, (depth, columns), rounded to `compute` and laid out for the loops. Its first rows and first columns serve
// as a right operand too.
class Packed {
public:
    Packed(const Scratch& scratch, Element compute, const Matrix& b, int64_t depth, int64_t columns);
    Term term(const Matrix& a, int64_t depth) const { return {a, depth, memory_, words_}; }

private:
    int64_t words_;
    void* memory_;
};

// Bytes of scratch for `rows` of the left operands of products of this depth in all.
int64_t left_scratch(int64_t rows, int64_t depth);

// Rows 0..rows and columns 0..columns of the sum of the terms, in parallel. A single term may go by steps of its depth,
// multiples of cpu::depth_unit.
void run(Element compute, std::initializer_list<Term> terms, int64_t rows, int64_t columns, const Target& target,
         int64_t step = std::numeric_limits<int64_t>::max());

// A product of packed operands, rows 0..rows and columns 0..columns of it.
struct Task {
    Term term;
    int64_t rows, columns;
    Target target;
};

// Several of them, of about as much work, in parallel.
void run(Element compute, const std::vector<Task>& tasks);

// A left operand, as many rows of it, and where its product goes.
struct Left {
    Matrix a;
    int64_t rows;
    Target target;
};

// The products of each of the left operands and b, (depth, columns).
void multiply(Element compute, const std::vector<Left>& lefts, const Matrix& b, int64_t depth, int64_t columns);

// y (rows, outs) = x (rows, ins) times the transpose of weight's first outs rows and ins columns, plus bias; or that added to y. x and y
// are contiguous, of `element`.
void project(Element element, const void* x, int64_t rows, int64_t ins, const mf_weight& weight, int64_t outs, const float* bias, void* y,
             bool accumulate = false);

// At most this many rows are worth reading the weights as they lie.
constexpr int64_t few = 16;

}  // namespace mf::kernels
