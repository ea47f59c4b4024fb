// Declarations that the operations share: the functions behind the C ABI, which throw, and loops over rows.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels_product.h"
#include "profile.h"

namespace mf::cpu {

// Returns the names of the instruction sets that this machine has, best first, separated by commas.
std::string instruction_sets();
void use_instruction_set(const std::string& name);

}  // namespace mf::cpu

namespace mf::kernels {

using profile::Timed;

// These functions match matformer_cpu.h. A `backward` needs the `kept` that the `forward` of the same operation has filled.
void forward(const mf_embedding& p);
void backward(const mf_embedding& p);
void forward(const mf_positions& p);
void backward(const mf_positions& p);
int64_t kept(const mf_norm_call& p);
void forward(const mf_norm_call& p);
void backward(const mf_norm_call& p);
void forward(const mf_linear& p);
void backward(const mf_linear& p);
int64_t kept(const mf_attention& p);
void forward(const mf_attention& p);
void backward(const mf_attention& p);
int64_t kept(const mf_feed_forward& p);
void forward(const mf_feed_forward& p);
void backward(const mf_feed_forward& p);
int64_t kept(const mf_cross_entropy& p);
void forward(const mf_cross_entropy& p);
void backward(const mf_cross_entropy& p);
void forward(const mf_divergence& p);
void backward(const mf_divergence& p);
void step(const mf_adamw& p);
double sum_squares(const float* x, int64_t count);
void scale(float* x, int64_t count, float factor);

template <class Call>
Element element_of(const Call& p) {
    return p.element == MF_FLOAT32 ? cpu::Float : cpu::BFloat16;
}

// The number of elements from which a pass over memory is worth a second thread.
constexpr int64_t grain = 16384;

inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, grain / std::max<int64_t>(1, width)); }

// Copies bytes.
void copy(const void* from, void* to, int64_t bytes);

// Clears a gradient beyond its first rows and columns, where the weight was not used. Does nothing if the gradient is added to.
void clear_rest(const mf_weight& weight, int64_t rows, int64_t columns);

// Writes sums as the gradient of the first `count` numbers of a vector, or adds them to it.
void give(const mf_weight& weight, const float* sums, int64_t count);

// sums[i] += the sum over `parts` of parts[p * stride + i].
void add_parts(const float* parts, int64_t count, int64_t stride, int64_t width, float* sums);

// Returns `width` sums over all rows. body(first, last, sums) adds up some rows. The result is the same for any number of threads.
template <class Body>
const float* sum_rows(const Scratch& scratch, int64_t rows, int64_t width, const Body& body) {
    constexpr int64_t most_parts = 64;
    const int64_t parts = std::clamp<int64_t>(rows / row_grain(width), 1, most_parts), each = (rows + parts - 1) / parts;
    float *total = scratch.zeros(width), *sums = scratch.zeros(parts * width);
    share(parts, 1, [&](int64_t first, int64_t last) {
        for (int64_t p = first; p < last; p++) body(p * each, std::min(rows, (p + 1) * each), sums + p * width);
    });
    add_parts(sums, parts, width, width, total);
    return total;
}

// Writes the gradient of the first `width` numbers of a bias, given the gradient of the sum that it is part of.
void give_column_sums(const mf_weight& bias, const void* dy, Element element, int64_t rows, int64_t width);

// Returns the first `count` numbers of a bias as float32, rounded to the element of the activations. Returns null if there is no bias.
const float* rounded(const Scratch& scratch, const mf_weight& bias, int64_t count, Element element);

// The places of the streams of a stack along the batch. `rows` holds the number of rows of each stream, in order. If it is null, all
// streams have the same number of rows and run over the same batch.
struct Segments {
    std::vector<int64_t> first, count;
    bool shared;

    Segments(int64_t batch, int64_t streams, const int32_t* rows);
    // Returns where a stream begins in data that all streams may share, such as targets.
    int64_t source(size_t stream) const { return shared ? 0 : first[stream]; }
};

}  // namespace mf::kernels
