// Token embeddings and learned positions.
#include <stdexcept>

#include "kernels_common.h"

namespace mf::kernels {

void forward(const mf_embedding& p) {
    const Timed timed("embedding.forward");
    const Element element = element_of(p);
    const int64_t width = p.width;
    for (int64_t i = 0; i < p.count; i++) {
        if (p.tokens[i] < 0 || p.tokens[i] >= p.weight.rows) {
            throw std::out_of_range("Embedding: token " + std::to_string(p.tokens[i]) + " is outside 0.."
                                    + std::to_string(p.weight.rows - 1));
        }
    }
    share(p.count, row_grain(width), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i++) {
            const float* row = p.weight.data + p.tokens[i] * p.weight.row;
            if (element == cpu::Float) {
                std::copy_n(row, width, static_cast<float*>(p.y) + i * width);
            } else {
                cpu::table().to_narrow(row, at(p.y, element, i * width), width);
            }
        }
    });
}

void backward(const mf_embedding& p) {
    const Timed timed("embedding.backward");
    if (p.weight.gradient == nullptr) return;
    const Element element = element_of(p);
    const int64_t width = p.width;
    clear_rest(p.weight, 0, 0);
    // Threads divide the columns, so that each sum is computed in the order of the tokens.
    share(width, std::max<int64_t>(16, grain / std::max<int64_t>(1, p.count)), [&](int64_t first, int64_t last) {
        for (int64_t i = 0; i < p.count; i++) {
            float* row = p.weight.gradient + p.tokens[i] * p.weight.columns;
            cpu::table().column_sums[element](at(p.dy, element, i * width + first), row + first, 0, 1, last - first);
        }
    });
}

void forward(const mf_positions& p) {
    const Timed timed("positions.forward");
    const int64_t width = p.width;
    const float* weight = p.weight.data + p.position * p.weight.row;
    share(p.batch * p.time, row_grain(width), [&](int64_t first, int64_t last) {
        cpu::table().add_rows[element_of(p)](p.x, weight, p.weight.row, p.y, first, last, p.time, width);
    });
}

void backward(const mf_positions& p) {
    const Timed timed("positions.backward");
    if (p.weight.gradient == nullptr) return;
    const Element element = element_of(p);
    const int64_t width = p.width;
    clear_rest(p.weight, 0, 0);
    share(p.time, row_grain(p.batch * width), [&](int64_t first, int64_t last) {
        for (int64_t t = first; t < last; t++) {
            float* row = p.weight.gradient + (p.position + t) * p.weight.columns;
            for (int64_t b = 0; b < p.batch; b++) {
                cpu::table().column_sums[element](at(p.dy, element, (b * p.time + t) * width), row, 0, 1, width);
            }
        }
    });
}

}  // namespace mf::kernels
