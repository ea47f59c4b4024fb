#include "kernels_product.h"

#include <algorithm>

namespace mf::kernels {

namespace {

// With fewer multiplications than this, another thread costs more than it saves.
constexpr int64_t worth_threads = 1 << 19;
// The number of tiles in a part of the rows. The right operand is read again for each part.
constexpr int64_t tiles_at_once = 8;
// The depth of the operands in one step.
constexpr int64_t product_step = 512;
// Like worth_threads, for weights that are read once: there the slower memory limits the speed.
constexpr int64_t worth_threads_once = 1 << 16;

int64_t block_rows(int64_t depth) { return std::clamp<int64_t>(131072 / std::max<int64_t>(depth, 1), 24, 240) / cpu::tile * cpu::tile; }

}  // namespace

int64_t left_scratch(int64_t rows, int64_t depth) {
    // Each term may be padded to the unit of depth. It leaves a gap of 16 words after each tile and at its end.
    const int64_t tiles = cpu::tiles_of(rows);
    return 4 * (tiles * cpu::tile * (depth + cpu::depth_unit * cpu::most_terms) + 16 * (tiles + 1) * cpu::most_terms);
}

Packed::Packed(const Scratch& scratch, Element compute, const Matrix& b, int64_t depth, int64_t columns) {
    const cpu::Table& table = cpu::table();
    const int64_t panels = cpu::panels_of(columns);
    words_ = table.word_count(compute, depth);
    const int64_t bytes = words_ * cpu::panel * 4;
    memory_ = scratch.bytes(panels * bytes);
    auto* packed = static_cast<char*>(memory_);
    share(panels, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, depth * cpu::panel)), [&](int64_t first, int64_t last) {
        const int64_t width = std::min(columns, last * cpu::panel) - first * cpu::panel;
        table.pack_right(compute, from(b, 0, first * cpu::panel), depth, width, packed + first * bytes, words_);
    });
}

void run(Element compute, std::initializer_list<Term> terms, int64_t rows, int64_t columns, const Target& target, int64_t step) {
    const cpu::Table& table = cpu::table();
    const int count = static_cast<int>(terms.size());
    int64_t depth = 0;
    for (const Term& term : terms) depth += term.depth;
    const int64_t tiles = cpu::tiles_of(rows), panels = cpu::panels_of(columns);
    const int64_t most = block_rows(std::min(depth, step)), space_size = left_scratch(most, std::min(depth, step));
    const auto multiply = [&](const Term* parts, int64_t first, int64_t height, int64_t width, Target part, void* space) {
        Term here[cpu::most_terms];
        for (int t = 0; t < count; t++) {
            here[t] = parts[t];
            here[t].ahead = rows - first - height;
        }
        if (depth <= step) {
            table.multiply(compute, here, count, first, height, width, part, space);
            return;
        }
        for (int64_t k = 0; k < depth; k += step) {
            Term term = here[0];
            term.depth = std::min(step, depth - k);
            term.a = from(term.a, 0, k);
            term.packed = static_cast<const char*>(term.packed) + table.word_count(compute, k) * cpu::panel * 4;
            table.multiply(compute, &term, 1, first, height, width, part, space);
            part.accumulate = true;
            part.bias = nullptr;
        }
    };
    if (tiles >= 2 * threads::count() || panels == 1) {
        const int64_t threads = threads::count(), parts = threads * std::max<int64_t>(1, tiles / (threads * tiles_at_once));
        const int64_t grain = std::max((tiles + parts - 1) / parts, worth_threads / std::max<int64_t>(1, cpu::tile * columns * depth));
        share(tiles, grain, [&](int64_t first, int64_t last) {
            const Scratch scratch;
            void* space = scratch.bytes(space_size);
            const int64_t end = std::min(rows, last * cpu::tile);
            for (int64_t i = first * cpu::tile; i < end; i += most) {
                multiply(terms.begin(), i, std::min(most, end - i), columns, target, space);
            }
        });
        return;
    }

    const int64_t grain = std::max<int64_t>(1, worth_threads / std::max<int64_t>(1, cpu::panel * rows * depth));
    share(panels, grain, [&](int64_t first, int64_t last) {
        const Scratch scratch;
        void* space = scratch.bytes(space_size);
        Term parts[cpu::most_terms];
        for (int t = 0; t < count; t++) {
            parts[t] = terms.begin()[t];
            parts[t].packed = static_cast<const char*>(parts[t].packed) + first * parts[t].stride * cpu::panel * 4;
        }
        Target part = target;
        part.data = at(target.data, target.element, first * cpu::panel);
        if (part.bias != nullptr) part.bias += first * cpu::panel;
        const int64_t width = std::min(columns, last * cpu::panel) - first * cpu::panel;
        for (int64_t i = 0; i < rows; i += most) multiply(parts, i, std::min(most, rows - i), width, part, space);
    });
}

void run(Element compute, const std::vector<Task>& tasks) {
    if (tasks.empty()) return;
    // Each task is divided into as many parts as there are threads, or several times as many if the parts stay tall enough to be worth
    // reading the right operand.
    const int64_t threads = threads::count(), count = static_cast<int64_t>(tasks.size());
    int64_t least = tasks[0].rows;
    for (const Task& task : tasks) least = std::min(least, task.rows);
    const int64_t parts = threads * std::clamp<int64_t>(least / cpu::tile / (threads * tiles_at_once), 1, 4);
    share(count * parts, 1, [&](int64_t first, int64_t last) {
        for (int64_t p = first; p < last; p++) {
            const Task& task = tasks[static_cast<size_t>(p / parts)];
            const int64_t tiles = cpu::tiles_of(task.rows), each = (tiles + parts - 1) / parts * cpu::tile;
            const int64_t most = block_rows(task.term.depth), begin = p % parts * each, end = std::min(task.rows, begin + each);
            for (int64_t i = begin; i < end; i += most) {
                cpu::table().multiply(compute, &task.term, 1, i, std::min(most, end - i), task.columns, task.target, nullptr);
            }
        }
    });
}

// If the intermediate sums can be kept in float32, deep products are computed in steps that stay in the cache, and b is packed many steps
// at a time.
void multiply(Element compute, const std::vector<Left>& lefts, const Matrix& b, int64_t depth, int64_t columns) {
    if (lefts.empty()) return;
    const bool steps = std::all_of(lefts.begin(), lefts.end(), [](const Left& x) { return x.target.element == cpu::Float; });
    const int64_t most = steps ? 16 * product_step : depth;
    for (int64_t k = 0; k < depth; k += most) {
        const int64_t part = std::min(most, depth - k);
        const Scratch scratch;
        const Packed packed(scratch, compute, from(b, k), part, columns);
        for (const Left& x : lefts) {
            Target target = x.target;
            if (k > 0) {
                target.accumulate = true;
                target.bias = nullptr;
            }
            run(compute, {packed.term(from(x.a, 0, k), part)}, x.rows, columns, target, steps ? product_step : depth);
        }
    }
}

void project(Element element, const void* x, int64_t rows, int64_t ins, const mf_weight& weight, int64_t outs, const float* bias, void* y,
             bool accumulate) {
    if (rows > few) {
        multiply(element, {{rows_of(x, element, ins), rows, {y, element, outs, accumulate, bias}}}, turned(matrix(weight)), ins, outs);
        return;
    }
    share(outs, std::max<int64_t>(1, worth_threads_once / std::max<int64_t>(1, rows * ins)), [&](int64_t first, int64_t last) {
        cpu::table().few_rows(element, x, rows, ins, weight.data, weight.row, bias, first, last, y, outs, accumulate);
    });
}

}  // namespace mf::kernels
