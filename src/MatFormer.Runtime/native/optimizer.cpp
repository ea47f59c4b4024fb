// The optimizer's step, and the norm of gradients.
#include <cmath>

#include "kernels_common.h"

namespace mf::kernels {

namespace {

// The largest number of numbers in a piece. Small pieces let the threads share the work evenly.
constexpr int64_t piece = 16384;

// Calls body(first, count, index) for each piece of 0..count.
template <class Body>
void pieces(int64_t count, int64_t at_once, const Body& body) {
    share((count + piece - 1) / piece, at_once, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) body(i * piece, std::min(piece, count - i * piece), i);
    });
}

}  // namespace

void step(const mf_adamw& p) {
    const Timed timed("adamw");
    const auto steps = static_cast<double>(p.step);
    const double correction1 = 1 - std::pow(p.beta1, steps), correction2 = std::sqrt(1 - std::pow(p.beta2, steps));
    const cpu::AdamW s{static_cast<float>(1 - p.learning_rate * p.decay),
                       static_cast<float>(p.beta1),
                       static_cast<float>(p.beta2),
                       static_cast<float>(1 - p.beta1),
                       static_cast<float>(1 - p.beta2),
                       static_cast<float>(p.learning_rate / correction1),
                       static_cast<float>(correction2),
                       static_cast<float>(p.epsilon)};
    pieces(p.count, 2, [&](int64_t first, int64_t count, int64_t) {
        cpu::table().adamw(s, p.parameters + first, p.gradients + first, p.first + first, p.second + first, count);
    });
}

double sum_squares(const float* x, int64_t count) {
    const Timed timed("sum_squares");
    std::vector<double> squares(static_cast<size_t>((count + piece - 1) / piece));
    pieces(count, 4, [&](int64_t first, int64_t n, int64_t i) {
        squares[static_cast<size_t>(i)] = cpu::table().sum_squares(x + first, n);
    });
    double sum = 0;
    for (double square : squares) sum += square;
    return sum;
}

void scale(float* x, int64_t count, float factor) {
    const Timed timed("scale");
    pieces(count, 4, [&](int64_t first, int64_t n, int64_t) { cpu::table().scale(x + first, factor, n); });
}

}  // namespace mf::kernels
