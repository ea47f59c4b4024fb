#include "kernels_product.h"

#include <algorithm>

namespace mf::kernels {

using at::Tensor;
using cpu::Matrix;
using cpu::Target;
using cpu::Term;

namespace {

// Below this many multiplications another thread costs more than it brings.
constexpr int64_t worth_threads = 1 << 19;
// The right operand is read anew for each part of the rows, of which each thread has as many.
constexpr int64_t tiles_at_once = 8;
// How deep the operands of one step are.
constexpr int64_t product_step = 512;
// Where weights are read once, memory is what counts, and it is slower.
constexpr int64_t worth_threads_once = 1 << 16;

int64_t block_rows(int64_t depth) { return std::clamp<int64_t>(131072 / std::max<int64_t>(depth, 1), 24, 240) / cpu::tile * cpu::tile; }

}  // namespace

bool own_product(at::ScalarType compute) {
    const cpu::Table& table = cpu::table();
    return compute == at::kFloat ? table.fast_product : table.fast_narrow;
}

Matrix matrix(const Tensor& x) { return {x.data_ptr(), element(x), x.stride(0), x.stride(1)}; }

int64_t left_scratch(int64_t rows, int64_t depth) {
    // Each term may be filled up to the unit of depth, and leaves a gap of 16 words after each tile and after itself.
    const int64_t tiles = cpu::tiles_of(rows);
    return 4 * (tiles * cpu::tile * (depth + cpu::depth_unit * cpu::most_terms) + 16 * (tiles + 1) * cpu::most_terms);
}

Packed::Packed(at::ScalarType compute, const Tensor& b) {
    const cpu::Table& table = cpu::table();
    const int64_t depth = b.size(0), columns = b.size(1), panels = cpu::panels_of(columns);
    words_ = table.word_count(element(compute), depth);
    const int64_t bytes = words_ * cpu::panel * 4;
    memory_ = at::empty({panels * bytes}, at::kByte);
    auto* packed = static_cast<char*>(memory_.data_ptr());
    const Matrix whole = matrix(b);
    const int64_t size = b.element_size();
    share(panels, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, depth * cpu::panel)), [&](int64_t first, int64_t last) {
        Matrix part = whole;
        part.data = static_cast<const char*>(whole.data) + first * cpu::panel * whole.column * size;
        const int64_t width = std::min(columns, last * cpu::panel) - first * cpu::panel;
        table.pack_right(element(compute), part, depth, width, packed + first * bytes, words_);
    });
}

void run(at::ScalarType compute, std::initializer_list<Term> terms, int64_t rows, int64_t columns, const Target& target, int64_t step) {
    const cpu::Table& table = cpu::table();
    const int count = static_cast<int>(terms.size());
    int64_t depth = 0;
    for (const Term& term : terms) depth += term.depth;
    const int64_t tiles = cpu::tiles_of(rows), panels = cpu::panels_of(columns);
    const int64_t most = block_rows(std::min(depth, step));
    const Scratch scratch(left_scratch(most, std::min(depth, step)));
    const auto multiply = [&](const Term* parts, int64_t first, int64_t height, int64_t width, Target part) {
        Term here[cpu::most_terms];
        for (int t = 0; t < count; t++) {
            here[t] = parts[t];
            here[t].ahead = rows - first - height;
        }
        if (depth <= step) {
            table.multiply(element(compute), here, count, first, height, width, part, scratch.mine());
            return;
        }
        const int64_t size = parts->a.element == cpu::Float ? 4 : 2;
        for (int64_t k = 0; k < depth; k += step) {
            Term term = here[0];
            term.depth = std::min(step, depth - k);
            term.a.data = static_cast<const char*>(term.a.data) + k * term.a.column * size;
            term.packed = static_cast<const char*>(term.packed) + table.word_count(element(compute), k) * cpu::panel * 4;
            table.multiply(element(compute), &term, 1, first, height, width, part, scratch.mine());
            part.accumulate = true;
            part.bias = nullptr;
        }
    };
    if (tiles >= 2 * at::get_num_threads() || panels == 1) {
        const int64_t threads = at::get_num_threads(), parts = threads * std::max<int64_t>(1, tiles / (threads * tiles_at_once));
        const int64_t grain = std::max((tiles + parts - 1) / parts, worth_threads / std::max<int64_t>(1, cpu::tile * columns * depth));
        share(tiles, grain, [&](int64_t first, int64_t last) {
            const int64_t end = std::min(rows, last * cpu::tile);
            for (int64_t i = first * cpu::tile; i < end; i += most) multiply(terms.begin(), i, std::min(most, end - i), columns, target);
        });
        return;
    }

    const int64_t grain = std::max<int64_t>(1, worth_threads / std::max<int64_t>(1, cpu::panel * rows * depth));
    share(panels, grain, [&](int64_t first, int64_t last) {
        Term parts[cpu::most_terms];
        for (int t = 0; t < count; t++) {
            parts[t] = terms.begin()[t];
            parts[t].packed = static_cast<const char*>(parts[t].packed) + first * parts[t].stride * cpu::panel * 4;
        }
        Target part = target;
        part.data = static_cast<char*>(target.data) + first * cpu::panel * (target.element == cpu::Float ? 4 : 2);
        if (part.bias != nullptr) part.bias += first * cpu::panel;
        const int64_t width = std::min(columns, last * cpu::panel) - first * cpu::panel;
        for (int64_t i = 0; i < rows; i += most) multiply(parts, i, std::min(most, rows - i), width, part);
    });
}

void run(at::ScalarType compute, const std::vector<Task>& tasks) {
    // As many parts of each as there are threads, or several times as many where parts stay tall enough to be worth the right operand.
    const int64_t threads = at::get_num_threads(), count = static_cast<int64_t>(tasks.size());
    int64_t least = tasks[0].rows;
    for (const Task& task : tasks) least = std::min(least, task.rows);
    const int64_t parts = threads * std::clamp<int64_t>(least / cpu::tile / (threads * tiles_at_once), 1, 4);
    share(count * parts, 1, [&](int64_t first, int64_t last) {
        for (int64_t p = first; p < last; p++) {
            const Task& task = tasks[static_cast<size_t>(p / parts)];
            const int64_t tiles = cpu::tiles_of(task.rows), each = (tiles + parts - 1) / parts * cpu::tile;
            const int64_t most = block_rows(task.term.depth), begin = p % parts * each, end = std::min(task.rows, begin + each);
            for (int64_t i = begin; i < end; i += most) {
                cpu::table().multiply(element(compute), &task.term, 1, i, std::min(most, end - i), task.columns, task.target, nullptr);
            }
        }
    });
}

namespace {

// target[i] = a[i] b. Deep products go by steps that stay in the cache, where the sums between can be kept in float32, and b is packed many
// steps at a time.
void multiply(at::TensorList a, const Tensor& b, at::ScalarType compute, std::vector<Target> targets) {
    const int64_t depth = b.size(0);
    const bool steps = std::all_of(targets.begin(), targets.end(), [](const Target& t) { return t.element == cpu::Float; });
    const int64_t most = steps ? 16 * product_step : depth;
    for (int64_t k = 0; k < depth; k += most) {
        const int64_t part = std::min(most, depth - k);
        const Packed packed(compute, b.narrow(0, k, part));
        for (size_t i = 0; i < targets.size(); i++) {
            run(compute, {packed.term(matrix(a[i].narrow(1, k, part)), part)}, a[i].size(0), b.size(1), targets[i],
                steps ? product_step : depth);
            targets[i].accumulate = true;
            targets[i].bias = nullptr;
        }
    }
}

}  // namespace

void product(const Tensor& c, const Tensor& a, const Tensor& b, at::ScalarType compute, bool accumulate, const Tensor& bias, double scale) {
    if (!own_product(compute)) {
        // One layout for one product, whatever it was cut from: other strides may take other paths, and give other bits.
        const auto dense = [&](const Tensor& x) {
            const Tensor y = x.to(compute);
            if (y.is_contiguous() || y.t().is_contiguous()) return y;
            return y.stride(0) < y.stride(1) ? y.t().contiguous().t() : y.contiguous();
        };
        Tensor y = at::mm(dense(a), dense(b)).to(at::kFloat);
        if (scale != 1) y.mul_(scale);
        if (bias.defined()) y.add_(bias);
        if (accumulate) {
            Tensor(c).add_(y);
        } else {
            Tensor(c).copy_(y);
        }
        return;
    }

    multiply(a, b, compute, {{c.data_ptr(), element(c), c.stride(0), accumulate, bias.defined() ? bias.data_ptr<float>() : nullptr,
                              static_cast<float>(scale)}});
}

void products(at::TensorList c, at::TensorList a, const Tensor& b, at::ScalarType compute) {
    if (!own_product(compute)) {
        for (size_t i = 0; i < c.size(); i++) product(c[i], a[i], b, compute);
        return;
    }
    std::vector<Target> targets;
    for (const Tensor& t : c) targets.push_back({t.data_ptr(), element(t), t.stride(0)});
    multiply(a, b, compute, std::move(targets));
}

void project(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias) {
    const int64_t rows = x.size(0), outs = w.size(0), ins = w.size(1);
    if (rows > few || w.stride(1) != 1 || !x.is_contiguous()) {
        product(y, x, w.t(), x.scalar_type(), false, bias);
        return;
    }
    share(outs, std::max<int64_t>(1, worth_threads_once / std::max<int64_t>(1, rows * ins)),
                     [&](int64_t first, int64_t last) {
                         cpu::table().few_rows(element(x), x.data_ptr(), rows, ins, w.data_ptr<float>(), w.stride(0),
                                               bias.defined() ? bias.data_ptr<float>() : nullptr, first, last, y.data_ptr(), y.stride(0));
                     });
}

}  // namespace mf::kernels
