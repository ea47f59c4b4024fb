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

// Returns the address of element `count`, or null if the memory is null.
inline const void* at(const void* data, Element element, int64_t count) {
    return data == nullptr ? nullptr : static_cast<const char*>(data) + count * size_of(element);
}
inline void* at(void* data, Element element, int64_t count) {
    return data == nullptr ? nullptr : static_cast<char*>(data) + count * size_of(element);
}

// Describe a matrix with contiguous rows, and the transpose of a matrix.
inline Matrix rows_of(const void* data, Element element, int64_t width) { return {data, element, width, 1}; }
inline Matrix turned(const Matrix& x) { return {x.data, x.element, x.column, x.row}; }
// Returns the part of a matrix from a row and a column on.
inline Matrix from(const Matrix& x, int64_t row, int64_t column = 0) {
    return {at(x.data, x.element, row * x.row + column * x.column), x.element, x.row, x.column};
}

inline Matrix matrix(const mf_weight& weight) { return {weight.data, cpu::Float, weight.row, 1}; }
// Returns a weight's gradient, from a column on, as the target of a product.
inline Target gradient_of(const mf_weight& weight, int64_t column = 0) {
    return {weight.gradient + column, cpu::Float, weight.columns, weight.add != 0};
}

// The right operand of a product, (depth, columns), rounded to `compute` and packed for the loops. Its first rows or columns can also serve
// as a right operand.
class Packed {
public:
    Packed(const Scratch& scratch, Element compute, const Matrix& b, int64_t depth, int64_t columns);
    Term term(const Matrix& a, int64_t depth) const { return {a, depth, memory_, words_}; }

private:
    int64_t words_;
    void* memory_;
};

// Returns the bytes of scratch for `rows` rows of the left operands of terms with this total depth.
int64_t left_scratch(int64_t rows, int64_t depth);

// Computes rows 0..rows and columns 0..columns of the sum of the terms, in parallel. A single term may be computed in steps of its depth,
// which must be multiples of cpu::depth_unit.
void run(Element compute, std::initializer_list<Term> terms, int64_t rows, int64_t columns, const Target& target,
         int64_t step = std::numeric_limits<int64_t>::max());

// Rows 0..rows and columns 0..columns of a product of packed operands.
struct Task {
    Term term;
    int64_t rows, columns;
    Target target;
};

// Runs several tasks of similar size in parallel.
void run(Element compute, const std::vector<Task>& tasks);

// A left operand, its number of rows, and the target of its product.
struct Left {
    Matrix a;
    int64_t rows;
    Target target;
};

// Multiplies each of the left operands by b, (depth, columns).
void multiply(Element compute, const std::vector<Left>& lefts, const Matrix& b, int64_t depth, int64_t columns);

// y (rows, outs) = x (rows, ins) times the transpose of weight's first outs rows and ins columns, plus bias; or the same added to y. x and
// y are contiguous and have the type `element`.
void project(Element element, const void* x, int64_t rows, int64_t ins, const mf_weight& weight, int64_t outs, const float* bias, void* y,
             bool accumulate = false);

// Up to this many rows, weights are read in place instead of being packed.
constexpr int64_t few = 16;

}  // namespace mf::kernels
