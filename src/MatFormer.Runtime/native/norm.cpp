#include "norm.h"

namespace mf::kernels {

void Norm::forward(Element element, const void* x, void* y, float* statistics, int64_t first, int64_t last, int64_t width) const {
    const auto epsilon = static_cast<float>(norm.epsilon);
    if (layer) {
        cpu::table().layer_forward[element](x, norm.weight.data, norm.bias.data, y, statistics, first, last, width, epsilon);
    } else {
        cpu::table().rms_forward[element](x, norm.weight.data, y, statistics, first, last, width, epsilon);
    }
}

void Norm::backward(Element element, const void* dy, const void* x, const float* statistics, const cpu::Added& added, void* dx, float* sums,
                    int64_t first, int64_t last, int64_t width) const {
    if (layer) {
        cpu::table().layer_backward[element](dy, x, norm.weight.data, statistics, added, dx, sums, sums + width, first, last, width);
    } else {
        cpu::table().rms_backward[element](dy, x, norm.weight.data, statistics, added, dx, sums, first, last, width);
    }
}

void Norm::forward(Element element, const void* x, void* y, float* statistics, int64_t rows, int64_t width) const {
    share(rows, row_grain(width), [&](int64_t first, int64_t last) { forward(element, x, y, statistics, first, last, width); });
}

void Norm::backward(Element element, const void* dy, const void* x, const float* statistics, const cpu::Added& added, void* dx,
                    int64_t rows, int64_t width) const {
    const Scratch scratch;
    const float* sums = sum_rows(scratch, rows, 2 * width, [&](int64_t first, int64_t last, float* part) {
        backward(element, dy, x, statistics, added, dx, part, first, last, width);
    });
    give_gradients(sums, width);
}

void Norm::give_gradients(const float* sums, int64_t width) const {
    give(norm.weight, sums, width);
    if (layer) give(norm.bias, sums + width, width);
}

int64_t kept(const mf_norm_call& p) { return p.count * Norm(p.norm).statistics() * 4; }

void forward(const mf_norm_call& p) {
    const Timed timed("norm.forward");
    const Scratch scratch;
    auto* statistics = static_cast<float*>(p.kept != nullptr ? p.kept : scratch.bytes(kept(p)));
    Norm(p.norm).forward(element_of(p), p.x, p.y, statistics, p.count, p.width);
}

void backward(const mf_norm_call& p) {
    const Timed timed("norm.backward");
    Norm(p.norm).backward(element_of(p), p.dy, p.x, static_cast<const float*>(p.kept), {}, p.dx, p.count, p.width);
}

}  // namespace mf::kernels
