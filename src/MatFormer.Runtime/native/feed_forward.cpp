// The feed-forward half of a layer: norm, nested feed-forward and residual.
#include <cstring>

#include "norm.h"

namespace mf::kernels {

namespace {

// The number of rows that one thread takes through the whole layer at a time, so that they stay in its cache.
constexpr int64_t chunk = 96;
static_assert(chunk % cpu::depth_unit == 0);
// The number of rows whose hidden values are kept for the gradients of the weights.
constexpr int64_t span = 1024;

// Hidden units first..last, and how many streams of a group have them. These are the group's first, widest streams.
struct Slab {
    int64_t first, last;
    int64_t streams;
    int64_t size() const { return last - first; }
};

// Streams over the same rows of x, which are multiplied once for all of them: one stream, or all streams where they part. Slab after slab
// is added to the results of the streams that have it, so a stream is done after its last slab. In the backward pass, a slab's gradients
// come from the sum of these streams' gradients.
struct Group {
    int64_t first, rows;  // rows of x and of the first stream's result, in tokens; the other results follow
    int64_t width, offset;  // the number of hidden units, and where the group's hidden values start
    std::vector<Slab> slabs;  // the narrowest stream's slab comes first

    bool alone() const { return slabs[0].streams == 1; }
    // Returns the first stream that is done after a slab. The last such stream is the last that has the slab.
    int64_t done(size_t slab) const { return slab + 1 < slabs.size() ? slabs[slab + 1].streams : 0; }
};

struct FeedForwardShape {
    Element element;
    int64_t size;  // the bytes of an element
    std::vector<Group> groups;  // the widest group comes first
    int64_t streams;
    int64_t most_rows = 0;  // the largest number of rows in a group
    int64_t width, widest;
    int64_t hidden = 0;  // the number of hidden values of all groups
    bool gated;
    int activation;

    explicit FeedForwardShape(const mf_feed_forward& p)
        : element(element_of(p)),
          size(size_of(element)),
          streams(p.streams),
          width(p.width),
          widest(p.widths[0]),
          gated(p.activation == MF_SWIGLU || p.activation == MF_GEGLU),
          activation(p.activation == MF_SQUARED_RELU ? 1
                     : p.activation == MF_SWIGLU     ? 2
                                                     : 0) {
        if (p.parting != 0) {
            Group all{0, p.batch * p.time, widest, 0, {}};
            int64_t first = 0;
            for (int64_t r = streams; r-- > 0; first = p.widths[r]) {
                if (p.widths[r] > first) all.slabs.push_back({first, p.widths[r], r + 1});
            }
            groups.push_back(all);
            hidden = all.rows * all.width;
        } else {
            const Segments segments(p.batch, streams, p.rows);
            for (size_t r = 0; r < segments.first.size(); r++) {
                groups.push_back({segments.first[r] * p.time, segments.count[r] * p.time, p.widths[r], hidden, {{0, p.widths[r], 1}}});
                hidden += groups[r].rows * p.widths[r];
            }
        }
        for (const Group& group : groups) most_rows = std::max(most_rows, group.rows);
    }

    // Returns the packed operand of each slab of the widest group. Other groups have only one slab, which is a beginning of that operand.
    std::vector<Packed> packed(const Scratch& scratch, const mf_weight& down, bool backward) const {
        std::vector<Packed> slabs;
        for (const Slab& slab : groups[0].slabs) {
            const Matrix part = from(matrix(down), 0, slab.first);
            if (backward) {
                slabs.emplace_back(scratch, element, part, width, slab.size());
            } else {
                slabs.emplace_back(scratch, element, turned(part), slab.size(), width);
            }
        }
        return slabs;
    }
};

// The inputs of the activation, which a backward call needs besides x. The norm of x is computed again.
struct Kept {
    Kept(const FeedForwardShape& s, void* memory) {
        Layout layout(memory);
        up = layout.take(s.hidden * s.size);
        gate = s.gated ? layout.take(s.hidden * s.size) : nullptr;
        bytes = layout.bytes();
    }

    void *up, *gate;
    int64_t bytes;
};

struct Biases {
    Biases(const Scratch& scratch, const mf_feed_forward& p, const FeedForwardShape& s)
        : gate(rounded(scratch, p.gate_bias, s.widest, s.element)),
          up(rounded(scratch, p.up_bias, s.widest, s.element)),
          down(rounded(scratch, p.down_bias, s.width, s.element)) {}

    const float *gate, *up, *down;
};

// Computes a few rows of streams that do not part.
void forward_few(const mf_feed_forward& p, const FeedForwardShape& s, const Kept& keep, const Biases& biases) {
    const Scratch scratch;
    const Norm norm(p.norm);
    const int64_t rows = p.batch * p.time;
    void *normed = scratch.bytes(rows * s.width * s.size), *h = scratch.bytes(s.most_rows * s.widest * s.size);
    norm.forward(s.element, p.x, normed, scratch.floats(rows * norm.statistics()), rows, s.width);
    copy(p.x, p.y, rows * s.width * s.size);
    for (const Group& group : s.groups) {
        const int64_t m = group.width;
        const void* in = at(normed, s.element, group.first * s.width);
        void *a = at(keep.gate, s.element, group.offset), *b = at(keep.up, s.element, group.offset);
        project(s.element, in, group.rows, s.width, p.up, m, biases.up, b);
        if (s.gated) project(s.element, in, group.rows, s.width, p.gate, m, biases.gate, a);
        share(group.rows * m, grain, [&](int64_t first, int64_t last) {
            cpu::table().activate[s.element](s.activation, at(a, s.element, first), at(b, s.element, first), at(h, s.element, first),
                                             last - first);
        });
        project(s.element, h, group.rows, m, p.down, s.width, biases.down, at(p.y, s.element, group.first * s.width), true);
    }
}

// Takes chunk after chunk through the whole layer. If nothing is kept, the memory of `keep` is null.
void forward_chunks(const mf_feed_forward& p, const FeedForwardShape& s, const Kept& keep, const Biases& biases) {
    const cpu::Table& table = cpu::table();
    const Element type = s.element;
    const Scratch scratch;
    const Norm norm(p.norm);
    const Packed up(scratch, type, turned(matrix(p.up)), s.width, s.widest);
    const Packed gate = s.gated ? Packed(scratch, type, turned(matrix(p.gate)), s.width, s.widest) : up;
    const std::vector<Packed> down = s.packed(scratch, p.down, false);
    std::vector<std::pair<size_t, int64_t>> chunks;  // the group, and the row within the group
    for (size_t i = 0; i < s.groups.size(); i++) {
        for (int64_t row = 0; row < s.groups[i].rows; row += chunk) chunks.emplace_back(i, row);
    }

    share(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end) {
        const Scratch own;
        void *space = own.bytes(left_scratch(chunk, std::max(s.widest, s.width))), *normed = own.bytes(chunk * s.width * s.size);
        void *own_a = own.bytes(chunk * s.widest * s.size), *own_b = own.bytes(chunk * s.widest * s.size);
        void* h = own.bytes(chunk * s.widest * s.size);
        float *statistics = own.floats(chunk * norm.statistics()), *sums = own.floats(s.groups[0].alone() ? 0 : chunk * s.width);
        for (int64_t c = begin; c < end; c++) {
            const auto [i, row] = chunks[static_cast<size_t>(c)];
            const Group& group = s.groups[i];
            const int64_t m = group.width, offset = group.offset + row * m;
            const int64_t rows = std::min(chunk, group.rows - row), first = group.first + row;
            const void* x = at(p.x, type, first * s.width);
            void* a = !s.gated ? nullptr : keep.gate != nullptr ? at(keep.gate, type, offset) : own_a;
            void* b = keep.up != nullptr ? at(keep.up, type, offset) : own_b;
            norm.forward(type, x, normed, statistics, 0, rows, s.width);
            const Term up_term = up.term(rows_of(normed, type, s.width), s.width);
            table.multiply(type, &up_term, 1, 0, rows, m, {b, type, m, false, biases.up}, space);
            if (s.gated) {
                const Term gate_term = gate.term(rows_of(normed, type, s.width), s.width);
                table.multiply(type, &gate_term, 1, 0, rows, m, {a, type, m, false, biases.gate}, space);
            }
            table.activate[type](s.activation, a, b, h, rows * m);

            const auto result = [&](int64_t stream) { return at(p.y, type, (first + stream * group.rows) * s.width); };
            if (group.alone()) {
                std::memcpy(result(0), x, static_cast<size_t>(rows * s.width * s.size));
                const Term term = down[0].term(rows_of(h, type, m), m);
                table.multiply(type, &term, 1, 0, rows, s.width, {result(0), type, s.width, true, biases.down}, space);
                continue;
            }
            const auto bytes = static_cast<size_t>(rows * s.width * s.size);
            if (type == cpu::Float) {
                std::memcpy(sums, x, bytes);
            } else {
                table.to_wide(x, sums, rows * s.width);
            }
            for (size_t k = 0; k < group.slabs.size(); k++) {
                const Slab& slab = group.slabs[k];
                const Term term = down[k].term(from(rows_of(h, type, m), 0, slab.first), slab.size());
                table.multiply(type, &term, 1, 0, rows, s.width, {sums, cpu::Float, s.width, true, k == 0 ? biases.down : nullptr}, space);
                for (int64_t r = group.done(k); r < slab.streams; r++) {
                    if (type == cpu::Float) {
                        std::memcpy(result(r), sums, bytes);
                    } else {
                        table.to_narrow(sums, result(r), rows * s.width);
                    }
                }
            }
        }
    });
}

// Column sums over all spans. Each chunk of a span adds up its own part.
struct Sums {
    Sums(const Scratch& scratch, bool wanted, int64_t width)
        : width(width), total(wanted ? scratch.zeros(width) : nullptr), parts(wanted ? scratch.floats(most * width) : nullptr) {}

    // Returns the zeroed sums of chunk c of a span.
    float* part(int64_t c) const {
        std::fill_n(parts + c * width, width, 0.0f);
        return parts + c * width;
    }
    void add(int64_t chunks, int64_t used) const {
        if (total != nullptr) add_parts(parts, chunks, width, used, total);
    }

    static constexpr int64_t most = (span + chunk - 1) / chunk;
    int64_t width;
    float *total, *parts;
};

}  // namespace

int64_t kept(const mf_feed_forward& p) { return Kept(FeedForwardShape(p), nullptr).bytes; }

void forward(const mf_feed_forward& p) {
    const Timed timed("feed_forward.forward");
    const FeedForwardShape s(p);
    const Scratch scratch;
    const Biases biases(scratch, p, s);
    if (s.groups[0].alone() && s.most_rows <= few) {
        forward_few(p, s, Kept(s, p.kept != nullptr ? p.kept : scratch.bytes(kept(p))), biases);
    } else {
        forward_chunks(p, s, Kept(s, p.kept), biases);
    }
}

// Works on spans of rows, in two passes. The first pass takes chunk after chunk through the layer, and packs the operands of the weights'
// gradients while they are in the cache. The second pass multiplies these operands.
void backward(const mf_feed_forward& p) {
    const Timed timed("feed_forward.backward");
    const cpu::Table& table = cpu::table();
    const FeedForwardShape s(p);
    const Kept keep(s, p.kept);
    const Element type = s.element;
    const int64_t size = s.size, most = std::min(span, s.most_rows);
    const Scratch scratch;
    const Norm norm(p.norm);
    const bool wants_x = p.dx != nullptr || norm.wants_gradients();
    const bool wants_up = p.up.gradient != nullptr, wants_gate = s.gated && p.gate.gradient != nullptr;
    const bool wants_down = p.down.gradient != nullptr;

    const Packed up(scratch, type, matrix(p.up), s.widest, s.width);
    const Packed gate = s.gated ? Packed(scratch, type, matrix(p.gate), s.widest, s.width) : up;
    const std::vector<Packed> down = s.packed(scratch, p.down, true);
    const auto slabs = static_cast<int64_t>(down.size());
    const int64_t deepest = table.word_count(type, most);
    const auto left_space = [&](int64_t rows) { return scratch.bytes(cpu::tiles_of(rows) * cpu::tile_stride(deepest) * 4); };
    const auto right_space = [&](int64_t count) { return static_cast<char*>(scratch.bytes(count * cpu::panel * deepest * 4)); };
    void *du_left = wants_up ? left_space(s.widest) : nullptr, *dg_left = wants_gate ? left_space(s.widest) : nullptr;
    void* normed_right = wants_up || wants_gate ? right_space(cpu::panels_of(s.width)) : nullptr;
    char* h_right = wants_down ? right_space(cpu::panels_of(s.widest) + slabs) : nullptr;
    std::vector<void*> dy_left;  // one for each slab
    for (int64_t k = 0; k < slabs && wants_down; k++) dy_left.push_back(left_space(s.width));
    const Sums up_sums(scratch, p.up_bias.data != nullptr && p.up_bias.gradient != nullptr, s.widest);
    const Sums gate_sums(scratch, p.gate_bias.data != nullptr && p.gate_bias.gradient != nullptr, s.widest);
    const Sums norm_sums(scratch, wants_x, 2 * s.width);

    bool more = false;
    for (const Group& group : s.groups) {
        const int64_t m = group.width;
        for (int64_t row = 0; row < group.rows; row += span) {
            const int64_t total = std::min(span, group.rows - row), first = group.first + row, start = group.offset + row * m;
            const int64_t words = table.word_count(type, total), stride = cpu::tile_stride(words), chunks = (total + chunk - 1) / chunk;
            std::vector<char*> right_of;  // each slab's part of h_right
            char* right = h_right;
            for (size_t k = 0; k < group.slabs.size() && wants_down; k++) {
                right_of.push_back(right);
                right += cpu::panels_of(group.slabs[k].size()) * cpu::panel * words * 4;
            }
            share(chunks, 1, [&](int64_t begin, int64_t end) {
                const Scratch own;
                void* space = own.bytes(left_scratch(chunk, std::max(2 * s.widest, s.width)));
                const auto rows_space = [&](int64_t width) { return own.bytes(chunk * width * size); };
                void *h = rows_space(s.widest), *du = rows_space(s.widest), *dg = s.gated ? rows_space(s.widest) : nullptr;
                void *normed = rows_space(s.width), *dnormed = rows_space(s.width);
                void* slopes = group.alone() ? nullptr : rows_space(slabs * s.width);
                float* statistics = own.floats(chunk * norm.statistics());
                for (int64_t c = begin; c < end; c++) {
                    const int64_t begin_row = c * chunk, rows = std::min(chunk, total - begin_row), here = (first + begin_row) * s.width;
                    const int64_t word = table.word_count(type, begin_row), hidden = start + begin_row * m;
                    const auto pack_left = [&](const Matrix& a, int64_t columns, void* to) {
                        table.pack_left(type, turned(a), columns, rows, to, stride, word);
                    };
                    const auto pack_right = [&](const Matrix& b, int64_t columns, void* to) {
                        table.pack_right(type, b, rows, columns, static_cast<char*>(to) + word * cpu::panel * 4, words);
                    };

                    // The gradient of `up` overwrites the gradient of the hidden values.
                    for (size_t k = 0; k < group.slabs.size(); k++) {
                        const Slab& slab = group.slabs[k];
                        Matrix slope = rows_of(at(p.dy, type, here), type, s.width);
                        if (slab.streams > 1) {
                            void* sum = at(slopes, type, static_cast<int64_t>(k) * chunk * s.width);
                            table.sum_blocks[type](slope.data, sum, slab.streams, group.rows * s.width, 0, rows * s.width);
                            slope.data = sum;
                        }
                        Term back = down[k].term(slope, s.width);
                        if (slab.streams == 1) back.ahead = total - begin_row - rows;
                        table.multiply(type, &back, 1, 0, rows, slab.size(), {at(du, type, slab.first), type, m}, space);
                        if (wants_down) pack_left(slope, s.width, dy_left[k]);
                    }
                    table.activate_backward[type](s.activation, at(keep.gate, type, hidden), at(keep.up, type, hidden), du, dg, du, h,
                                                  rows * m);
                    const Matrix du_rows = rows_of(du, type, m), dg_rows = rows_of(dg, type, m), h_rows = rows_of(h, type, m);
                    norm.forward(type, at(p.x, type, here), normed, statistics, 0, rows, s.width);
                    if (wants_x) {
                        const Term terms[2] = {up.term(du_rows, m), gate.term(dg_rows, m)};
                        table.multiply(type, terms, s.gated ? 2 : 1, 0, rows, s.width, {dnormed, type, s.width}, space);
                        const cpu::Added residual{at(p.dy, type, here), group.alone() ? 1 : s.streams, group.rows * s.width};
                        norm.backward(type, dnormed, at(p.x, type, here), statistics, residual, at(p.dx, type, here), norm_sums.part(c), 0,
                                      rows, s.width);
                    }

                    if (wants_up || wants_gate) pack_right(rows_of(normed, type, s.width), s.width, normed_right);
                    if (wants_up) pack_left(du_rows, m, du_left);
                    if (wants_gate) pack_left(dg_rows, m, dg_left);
                    for (size_t k = 0; k < group.slabs.size() && wants_down; k++) {
                        pack_right(from(h_rows, 0, group.slabs[k].first), group.slabs[k].size(), right_of[k]);
                    }
                    if (up_sums.total != nullptr) table.column_sums[type](du, up_sums.part(c), 0, rows, m);
                    if (gate_sums.total != nullptr) table.column_sums[type](dg, gate_sums.part(c), 0, rows, m);
                }
            });
            up_sums.add(chunks, m);
            gate_sums.add(chunks, m);
            norm_sums.add(chunks, norm_sums.width);

            const auto term = [&](const void* left, const void* packed) { return Term{{}, total, packed, words, left, stride}; };
            const auto target = [&](const mf_weight& weight, int64_t column) {
                Target to = gradient_of(weight, column);
                to.accumulate |= more;
                return to;
            };
            std::vector<Task> tasks;
            if (wants_up) tasks.push_back({term(du_left, normed_right), m, s.width, target(p.up, 0)});
            if (wants_gate) tasks.push_back({term(dg_left, normed_right), m, s.width, target(p.gate, 0)});
            for (size_t k = 0; k < group.slabs.size() && wants_down; k++) {
                const Slab& slab = group.slabs[k];
                tasks.push_back({term(dy_left[k], right_of[k]), s.width, slab.size(), target(p.down, slab.first)});
            }
            run(type, tasks);
            more = true;
        }
    }

    clear_rest(p.up, s.widest, s.width);
    if (s.gated) clear_rest(p.gate, s.widest, s.width);
    clear_rest(p.down, s.width, s.widest);
    if (up_sums.total != nullptr) give(p.up_bias, up_sums.total, s.widest);
    if (gate_sums.total != nullptr) give(p.gate_bias, gate_sums.total, s.widest);
    if (wants_x) norm.give_gradients(norm_sums.total, s.width);
    const int64_t streams = s.groups[0].alone() ? 1 : s.streams;
    give_column_sums(p.down_bias, p.dy, type, streams * p.batch * p.time, s.width);
}

}  // namespace mf::kernels
