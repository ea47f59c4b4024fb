#include "kernels_common.h"

namespace mf::kernels {

void forward(const mf_linear& p) {
    const Timed timed("linear.forward");
    const Scratch scratch;
    const Element element = element_of(p);
    project(element, p.x, p.count, p.ins, p.weight, p.outs, rounded(scratch, p.bias, p.outs, element), p.y);
}

void backward(const mf_linear& p) {
    const Timed timed("linear.backward");
    const Element element = element_of(p);
    const Matrix x = rows_of(p.x, element, p.ins), dy = rows_of(p.dy, element, p.outs);
    if (p.dx != nullptr) multiply(element, {{dy, p.count, {p.dx, element, p.ins}}}, matrix(p.weight), p.outs, p.ins);
    if (p.weight.gradient != nullptr) {
        multiply(element, {{turned(dy), p.outs, gradient_of(p.weight)}}, x, p.count, p.ins);
        clear_rest(p.weight, p.outs, p.ins);
    }
    give_column_sums(p.bias, p.dy, element, p.count, p.outs);
}

}  // namespace mf::kernels
