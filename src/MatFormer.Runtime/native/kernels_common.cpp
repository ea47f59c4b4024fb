#include "kernels_common.h"

#include <cstring>

namespace mf::kernels {

void copy(const void* from, void* to, int64_t bytes) {
    share(bytes, grain * 4, [&](int64_t first, int64_t last) {
        std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first, static_cast<size_t>(last - first));
    });
}

void clear_rest(const mf_weight& weight, int64_t rows, int64_t columns) {
    if (weight.gradient == nullptr || weight.add != 0 || (rows == weight.rows && columns == weight.columns)) return;
    share(weight.rows, row_grain(weight.columns), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; r++) {
            const int64_t used = r < rows ? columns : 0;
            std::fill_n(weight.gradient + r * weight.columns + used, weight.columns - used, 0.0f);
        }
    });
}

void give(const mf_weight& weight, const float* sums, int64_t count) {
    if (weight.gradient == nullptr) return;
    for (int64_t i = 0; i < count; i++) weight.gradient[i] = (weight.add != 0 ? weight.gradient[i] : 0) + sums[i];
    clear_rest(weight, 1, count);
}

void add_parts(const float* parts, int64_t count, int64_t stride, int64_t width, float* sums) {
    for (int64_t p = 0; p < count; p++) {
        for (int64_t i = 0; i < width; i++) sums[i] += parts[p * stride + i];
    }
}

void give_column_sums(const mf_weight& bias, const void* dy, Element element, int64_t rows, int64_t width) {
    if (bias.data == nullptr || bias.gradient == nullptr) return;
    const Scratch scratch;
    const float* sums = sum_rows(scratch, rows, width, [&](int64_t first, int64_t last, float* part) {
        cpu::table().column_sums[element](dy, part, first, last, width);
    });
    give(bias, sums, width);
}

const float* rounded(const Scratch& scratch, const mf_weight& bias, int64_t count, Element element) {
    if (bias.data == nullptr || element == cpu::Float) return bias.data;
    float* result = scratch.floats(count);
    void* narrow = scratch.bytes(count * size_of(element));
    cpu::table().to_narrow(bias.data, narrow, count);
    cpu::table().to_wide(narrow, result, count);
    return result;
}

Segments::Segments(int64_t batch, int64_t streams, const int32_t* rows) : shared(rows == nullptr) {
    int64_t sum = 0;
    for (int64_t r = 0; r < streams; r++) {
        first.push_back(sum);
        count.push_back(shared ? batch / streams : rows[r]);
        sum += count.back();
    }
}

}  // namespace mf::kernels
