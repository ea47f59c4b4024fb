// The attention half of a layer: norm, projections, norms of the heads, rotary positions, attention, output projection and residual.
#include <cmath>
#include <stdexcept>

#include "norm.h"

namespace mf::kernels {

namespace {

struct AttentionShape {
    explicit AttentionShape(const mf_attention& p)
        : element(element_of(p)),
          rows(p.batch * p.time),
          query_width(p.heads * p.depth),
          key_width(p.key_heads * p.depth),
          keys(p.past + p.time) {}

    Element element;
    int64_t rows, query_width, key_width, keys;
};

// The memory that a backward call needs besides x. The norm of x is computed again.
struct Kept {
    Kept(const mf_attention& p, const AttentionShape& s, void* memory) {
        Layout layout(memory);
        const int64_t size = size_of(s.element);
        query = layout.take(s.rows * s.query_width * size);
        key = layout.take(s.rows * s.key_width * size);
        value = layout.take(s.rows * s.key_width * size);
        attended = layout.take(s.rows * s.query_width * size);
        log_sum = layout.take_floats(s.rows * p.heads);
        if (p.query_norm.weight.data != nullptr) {
            query_in = layout.take(s.rows * s.query_width * size);
            query_statistics = layout.take_floats(s.rows * p.heads * Norm(p.query_norm).statistics());
        }
        if (p.key_norm.weight.data != nullptr) {
            key_in = layout.take(s.rows * s.key_width * size);
            key_statistics = layout.take_floats(s.rows * p.key_heads * Norm(p.key_norm).statistics());
        }
        bytes = layout.bytes();
    }

    void *query, *key, *value, *attended;  // query and key after norms and rotation
    float* log_sum;  // log2 of the sum of exponentials of scores, for each query of each head
    void *query_in = nullptr, *key_in = nullptr;  // query and key before their norms, if there are any
    float *query_statistics = nullptr, *key_statistics = nullptr;
    int64_t bytes;
};

// Rotates x (rows, heads, depth) in place by the angles of cos and sin, or back.
void turn(const mf_attention& p, const AttentionShape& s, void* x, int64_t heads, float direction) {
    if (p.cos == nullptr) return;
    share(s.rows, row_grain(heads * p.depth), [&](int64_t first, int64_t last) {
        cpu::table().rotary[s.element](x, p.cos, p.sin, x, first, last, p.time, heads, p.depth, direction);
    });
}

// Appends the keys or values of these tokens to the cache.
void append(const mf_attention& p, const AttentionShape& s, const void* x, void* cache) {
    for (int64_t b = 0; b < p.batch; b++) {
        copy(at(x, s.element, b * p.time * s.key_width), at(cache, s.element, (b * p.capacity + p.past) * s.key_width),
             p.time * s.key_width * size_of(s.element));
    }
}

cpu::Attention heads_of(const mf_attention& p, const AttentionShape& s, const Kept& kept) {
    const int64_t window = p.causal != 0 && p.window > 0 ? std::min(p.window, s.keys) : s.keys;
    // Keys that lie before the windows of all queries are skipped.
    const int64_t left_out = p.causal != 0 ? std::max<int64_t>(0, s.keys - (p.time + window - 1)) : 0;
    const bool cached = p.key_cache != nullptr;
    const auto keys = [&](const void* own, const void* cache) {
        const int64_t time = cached ? p.capacity : p.time;
        return cpu::Heads{at(cached ? cache : own, s.element, left_out * s.key_width), time * s.key_width, s.key_width, p.depth};
    };
    return {p.batch,
            p.heads,
            p.key_heads,
            p.time,
            s.keys - left_out,
            p.depth,
            window,
            static_cast<float>(1.0 / std::sqrt(static_cast<double>(p.depth))),
            {kept.query, p.time * s.query_width, s.query_width, p.depth},
            keys(kept.key, p.key_cache),
            keys(kept.value, p.value_cache),
            p.causal != 0,
            p.lengths,
            p.length_count};
}

}  // namespace

int64_t kept(const mf_attention& p) { return Kept(p, AttentionShape(p), nullptr).bytes; }

void forward(const mf_attention& p) {
    const Timed timed("attention.forward");
    const AttentionShape s(p);
    for (int64_t i = 0; p.lengths != nullptr && i < p.length_count; i++) {
        if (p.lengths[i] < 1 || p.lengths[i] > s.keys) {
            throw std::out_of_range("Attention: length " + std::to_string(p.lengths[i]) + " is outside 1.." + std::to_string(s.keys));
        }
    }
    const Scratch scratch;
    const Kept keep(p, s, p.kept != nullptr ? p.kept : scratch.bytes(kept(p)));
    {
        const Scratch inner;
        const Norm norm(p.norm);
        void* normed = inner.bytes(s.rows * p.width * size_of(s.element));
        norm.forward(s.element, p.x, normed, inner.floats(s.rows * norm.statistics()), s.rows, p.width);
        const auto projected = [&](const mf_weight& weight, const mf_weight& bias, int64_t outs, void* y) {
            project(s.element, normed, s.rows, p.width, weight, outs, rounded(inner, bias, outs, s.element), y);
        };
        projected(p.query, p.query_bias, s.query_width, keep.query_in != nullptr ? keep.query_in : keep.query);
        projected(p.key, p.key_bias, s.key_width, keep.key_in != nullptr ? keep.key_in : keep.key);
        projected(p.value, p.value_bias, s.key_width, keep.value);
    }
    if (keep.query_in != nullptr) {
        Norm(p.query_norm).forward(s.element, keep.query_in, keep.query, keep.query_statistics, s.rows * p.heads, p.depth);
    }
    if (keep.key_in != nullptr) {
        Norm(p.key_norm).forward(s.element, keep.key_in, keep.key, keep.key_statistics, s.rows * p.key_heads, p.depth);
    }
    turn(p, s, keep.query, p.heads, 1);
    turn(p, s, keep.key, p.key_heads, 1);
    if (p.key_cache != nullptr) {
        append(p, s, keep.key, p.key_cache);
        append(p, s, keep.value, p.value_cache);
    }

    const cpu::Attention a = heads_of(p, s, keep);
    const int64_t each = std::max<int64_t>(1, a.queries * a.window * a.depth);
    share(a.batch * a.heads, std::max<int64_t>(1, grain * 4 / each), [&](int64_t first, int64_t last) {
        const Scratch inner;
        void* space = inner.bytes(cpu::attention_forward_scratch(a));
        for (int64_t i = first; i < last; i++) {
            cpu::table().attention_forward[s.element](a, i / a.heads, i % a.heads, keep.attended, keep.log_sum, space);
        }
    });
    copy(p.x, p.y, s.rows * p.width * size_of(s.element));
    project(s.element, keep.attended, s.rows, s.query_width, p.output, p.width, rounded(scratch, p.output_bias, p.width, s.element), p.y,
            true);
}

void backward(const mf_attention& p) {
    const Timed timed("attention.backward");
    const AttentionShape s(p);
    const Kept keep(p, s, p.kept);
    const Scratch scratch;
    const auto space = [&](int64_t width) { return scratch.bytes(s.rows * width * size_of(s.element)); };
    const Matrix dy = rows_of(p.dy, s.element, p.width);
    void *dquery = space(s.query_width), *dkey = space(s.key_width), *dvalue = space(s.key_width);
    {
        const Scratch inner;
        void* dattended = inner.bytes(s.rows * s.query_width * size_of(s.element));
        multiply(s.element, {{dy, s.rows, {dattended, s.element, s.query_width}}}, matrix(p.output), p.width, s.query_width);
        const cpu::Attention a = heads_of(p, s, keep);
        share(a.batch * a.key_heads, 1, [&](int64_t first, int64_t last) {
            const Scratch own;
            void* own_space = own.bytes(cpu::attention_backward_scratch(a));
            for (int64_t i = first; i < last; i++) {
                cpu::table().attention_backward[s.element](a, i / a.key_heads, i % a.key_heads, keep.attended, dattended, keep.log_sum,
                                                           dquery, dkey, dvalue, own_space);
            }
        });
    }
    if (p.output.gradient != nullptr) {
        multiply(s.element, {{turned(dy), p.width, gradient_of(p.output)}}, rows_of(keep.attended, s.element, s.query_width), s.rows,
                 s.query_width);
        clear_rest(p.output, p.width, s.query_width);
    }
    give_column_sums(p.output_bias, p.dy, s.element, s.rows, p.width);

    turn(p, s, dquery, p.heads, -1);
    turn(p, s, dkey, p.key_heads, -1);
    if (keep.query_in != nullptr) {
        Norm(p.query_norm).backward(s.element, dquery, keep.query_in, keep.query_statistics, {}, dquery, s.rows * p.heads, p.depth);
    }
    if (keep.key_in != nullptr) {
        Norm(p.key_norm).backward(s.element, dkey, keep.key_in, keep.key_statistics, {}, dkey, s.rows * p.key_heads, p.depth);
    }

    const Norm norm(p.norm);
    void* normed = space(p.width);
    float* statistics = scratch.floats(s.rows * norm.statistics());
    norm.forward(s.element, p.x, normed, statistics, s.rows, p.width);
    std::vector<Left> lefts;
    const auto give_gradients = [&](const mf_weight& weight, const mf_weight& bias, const void* gradient, int64_t outs) {
        if (weight.gradient != nullptr) {
            lefts.push_back({turned(rows_of(gradient, s.element, outs)), outs, gradient_of(weight)});
            clear_rest(weight, outs, p.width);
        }
        give_column_sums(bias, gradient, s.element, s.rows, outs);
    };
    give_gradients(p.query, p.query_bias, dquery, s.query_width);
    give_gradients(p.key, p.key_bias, dkey, s.key_width);
    give_gradients(p.value, p.value_bias, dvalue, s.key_width);
    multiply(s.element, lefts, rows_of(normed, s.element, p.width), s.rows, p.width);

    if (p.dx == nullptr && !norm.wants_gradients()) return;
    const Packed query(scratch, s.element, matrix(p.query), s.query_width, p.width);
    const Packed key(scratch, s.element, matrix(p.key), s.key_width, p.width);
    const Packed value(scratch, s.element, matrix(p.value), s.key_width, p.width);
    const auto term = [&](const Packed& packed, const void* gradient, int64_t outs) {
        return packed.term(rows_of(gradient, s.element, outs), outs);
    };
    // The normed x is no longer needed, so its gradient overwrites it.
    run(s.element, {term(query, dquery, s.query_width), term(key, dkey, s.key_width), term(value, dvalue, s.key_width)}, s.rows, p.width,
        {normed, s.element, p.width});
    norm.backward(s.element, normed, p.x, statistics, {p.dy, 1, 0}, p.dx, s.rows, p.width);
}

}  // namespace mf::kernels
