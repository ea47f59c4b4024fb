// What attention does between its products, and attention forward over any kind of products.
#pragma once

#include <cmath>
#include <type_traits>

#include "kernels_cpu_vectors.h"

namespace mf::cpu {
namespace {

constexpr float log2_of_e = 1.44269504f;

// 2^x, relative error 1e-7: 2^(n + r) with a polynomial, fitted on |r| <= 1/2, for 2^r.
inline F power_of_two(F x) {
#if defined(__AVX512F__)
    F n = reinterpret_cast<F>(_mm512_roundscale_ps(reinterpret_cast<__m512>(x), 0));
#else
    x = minimum(maximum(x, splat(-126.0f)), splat(126.0f));
    F shifted = x + 12582912.0f;
    F n = shifted - 12582912.0f;
#endif
    F r = x - n;
    F p = r * 1.326472632e-3f + 9.671512991e-3f;
    p = p * r + 5.550733581e-2f;
    p = p * r + 2.4022242427e-1f;
    p = p * r + 6.9314700365e-1f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    return reinterpret_cast<F>(_mm512_scalef_ps(reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
    I exponent = (reinterpret_cast<I>(shifted) - 0x4b400000) << 23;
    return reinterpret_cast<F>(reinterpret_cast<I>(p) + exponent);
#endif
}

// log2(x) of positive normal numbers, absolute error 1e-7: x = 2^n m with m near 1, and the series of atanh((m - 1) / (m + 1)).
inline F log_two(F x) {
    const I bits = reinterpret_cast<I>(x) - 0x3f3504f3;  // the bits of sqrt(1/2)
    const F n = __builtin_convertvector(bits >> 23, F), m = reinterpret_cast<F>((bits & 0x7fffff) + 0x3f3504f3);
    const F t = (m - 1.0f) / (m + 1.0f), u = t * t;
    F p = u * 0.320598898f + 0.412198583f;
    p = p * u + 0.577078016f;
    p = p * u + 0.961796694f;
    return n + (p * u + 2.885390082f) * t;
}

// Each head is computed separately, in blocks of queries, so that scores stay in the cache. Scores are computed again for the gradient (as
// in FlashAttention, arXiv 2205.14135). Only the logarithm of each row's sum is kept, to the base 2, because exponentials are powers of 2.
// Bfloat16 heads are multiplied without conversion, with float32 sums. Probabilities and their gradients are rounded to bfloat16 before
// they are multiplied.

template <class T>
using WordsOf = std::conditional_t<element_of<T> == BFloat16, NarrowWords, WideWords>;

template <class T>
inline const T* head_of(const Heads& x, int64_t b, int64_t h) {
    return static_cast<const T*>(x.data) + b * x.batch + h * x.head;
}

template <class Words>
inline int64_t words_in(int64_t n) {
    return (n + Words::per_word - 1) / Words::per_word;
}

// Packs rows (or pairs of rows) of a head as words, `row` words each, padded with zeros.
template <class T>
void pack_rows(const T* in, int64_t stride, int64_t rows, int64_t depth, float* out, int64_t row) {
    using Words = WordsOf<T>;
    for (int64_t s = 0; s < rows; s += Words::per_word, out += row) {
        for (int64_t i = 0; i < depth; i += lanes) {
            store(out + i, words_of<Words>(in + s * stride + i, stride, s + 1 < rows, false, depth - i));
        }
    }
}

// Return the first key that the query at key `last` sees, and the start of that key's panel. The tile that begins with this query starts
// there.
inline int64_t lowest(const Attention& a, int64_t last) { return last < a.window ? 0 : last + 1 - a.window; }
inline int64_t lowest_panel(const Attention& a, int64_t last) { return lowest(a, last) / panel * panel; }

// The number of keys, counted from the first, that each row of a block of queries sees.
struct Sight {
    bool causal;
    int64_t first, length;

    Sight(const Attention& a, int64_t b, int64_t t)
        : causal(a.causal), first(a.keys - a.queries + t), length(a.lengths == nullptr ? a.keys : a.lengths[b % a.length_count]) {}

    int64_t operator()(int64_t r) const { return causal ? first + r + 1 : length; }
};

// The targets of P and dS. dS is stored by rows, and both are stored by columns, where words join neighbouring queries. With float words
// the two layouts are the same.
struct Slopes {
    float *rows, *columns, *chances;
    int64_t length;

    template <class Words>
    void put(int64_t r, int64_t i, const F* p, const F* s) const {
        if constexpr (Words::per_word == 2) {
            auto* even = reinterpret_cast<Narrow*>(rows) + r * length + i;
            store(even, s[0]);
            store(even + length, s[1]);
            const auto join = [](F low, F high) {
                return reinterpret_cast<F>(extend(narrow(low)) | (extend(narrow(high)) << 16));
            };
            store(chances + r / 2 * length + i, join(p[0], p[1]));
            store(columns + r / 2 * length + i, join(s[0], s[1]));
        } else {
            store(chances + r * length + i, p[0]);
            store(rows + r * length + i, s[0]);
        }
    }
};

// Finds what dS needs of each row of a block of queries: the logarithm of its sum, and the product of its output and that gradient.
template <class T>
void row_terms(const Attention& a, int64_t b, int64_t h, int64_t t, int64_t rows, const T* y, const T* dy, const float* log_sum,
               float* logs, float* dots) {
    const int64_t depth = a.depth, stride = a.heads * depth;
    for (int64_t r = 0; r < rows; r++) {
        logs[r] = log_sum[(b * a.heads + h) * a.queries + t + r];
        F products{};
        for (int64_t i = 0; i < depth; i += lanes) products += load(dy + r * stride + i, depth - i) * load(y + r * stride + i, depth - i);
        dots[r] = sum(products);
    }
}

// Stores P and dS of one row, or of two that a word joins, and of a vector of keys from n on. With `whole`, these rows see all these keys.
template <class Words, bool whole>
inline __attribute__((always_inline)) void put_slopes(const Attention& a, const Sight& seen, const F (&s)[Words::per_word],
                                                      const F (&d)[Words::per_word], int64_t r, int64_t rows, int64_t n, const float* logs,
                                                      const float* dots, const Slopes& to) {
    F p[Words::per_word], slope[Words::per_word];
#pragma GCC unroll 2
    for (int64_t w = 0; w < Words::per_word; w++) {
        p[w] = power_of_two(s[w] * (a.scale * log2_of_e) - logs[r + w]);
        slope[w] = p[w] * (d[w] - dots[r + w]) * a.scale;
        if constexpr (!whole) {
            const int64_t visible = r + w < rows ? seen(r + w) : 0;
            const I inside = lanes_below(visible - n) & ~lanes_below(lowest(a, visible - 1) - n);
            p[w] = select(inside, p[w], F{});
            slope[w] = select(inside, slope[w], F{});
        }
    }
    to.put<Words>(r, n, p, slope);
}

// Attention of a head. `Products` packs keys and values, and computes the scores of a block of queries and the mixed values of a group of
// its rows.
template <class T, class Products>
void attend(const Attention& a, int64_t b, int64_t h, void* out, float* log_sum, void* scratch) {
    using Words = WordsOf<T>;
    constexpr int64_t block = Products::block, group = Products::group;
    // The type to which probabilities are rounded.
    using P = std::conditional_t<Words::per_word == 2, Narrow, float>;
    const int64_t groups = a.heads / a.key_heads, kh = h / groups, depth = a.depth;
    const int64_t row = padded(depth, lanes), length = padded(a.keys, panel);
    auto* keys = static_cast<float*>(scratch);
    float* values = keys + length * (row + 1);
    float* query = values + length * row;
    float* mixed = query + block * row;
    float* scores = mixed + block * row;
    auto* chances = reinterpret_cast<P*>(Words::per_word == 2 ? scores + block * length : scores);
    Products products;
    products.pack_columns(head_of<T>(a.key, b, kh), a.key.time, a.keys, depth, keys);
    products.pack_rows(head_of<T>(a.value, b, kh), a.value.time, a.keys, depth, values, row);

    for (int64_t t = 0; t < a.queries; t += block) {
        const int64_t rows = a.queries - t < block ? a.queries - t : block;
        const int64_t next_rows = a.queries - t - rows < block ? a.queries - t - rows : block;
        const Sight seen(a, b, t);
        const T* q = head_of<T>(a.query, b, h) + t * a.query.time;
        T* y = static_cast<T*>(out) + ((b * a.queries + t) * a.heads + h) * depth;
        foresee(q + rows * a.query.time, a.query.time, next_rows, depth);
        foresee<true>(y, a.heads * depth, rows, depth);
        if ((h + 1) % groups == 0 && kh + 1 < a.key_heads) {
            foresee(head_of<T>(a.key, b, kh + 1) + t * a.key.time, a.key.time, rows, depth);
            foresee(head_of<T>(a.value, b, kh + 1) + t * a.value.time, a.value.time, rows, depth);
        }
        products.score(a, rows, seen, q, query, keys, scores, length);

        const float scale = a.scale * log2_of_e;
        float tops_of[block] = {}, totals_of[block] = {}, inverse[block];
        for (int64_t r = 0; r < rows; r++) {
            const int64_t count = seen(r), whole = count / lanes * lanes, end = padded(seen(padded(r + 1, group) - 1), panel);
            const float* x = scores + r * length;
            P* p = chances + r * length;
            // The first seen key is `low`, the tile starts at `start`, and from `inner` on all lanes are seen.
            const int64_t low = lowest(a, count - 1), start = lowest_panel(a, seen(r / group * group) - 1), inner = padded(low, lanes);
            const int64_t edge = inner - lanes;
            const I above = ~lanes_below(low - edge);
            const I rest = inner > whole ? lanes_below(count - whole) & above : lanes_below(count - whole);
            F tops = select(rest, load(x + whole), splat(-INFINITY));
            if (inner > low && edge < whole) tops = maximum(tops, select(above, load(x + edge), splat(-INFINITY)));
            for (int64_t i = inner; i < whole; i += lanes) tops = maximum(tops, load(x + i));
            const float top = largest(tops) * scale;
            F totals{};
            int64_t i = start;
            for (; i < low / lanes * lanes; i += lanes) store(p + i, F{});
            if (i < inner && i < whole) {
                F e = select(above, power_of_two(load(x + i) * scale - top), F{});
                totals += e;
                store(p + i, e);
                i += lanes;
            }
            for (; i < whole; i += lanes) {
                F e = power_of_two(load(x + i) * scale - top);
                totals += e;
                store(p + i, e);
            }
            if (i < count) {
                F e = select(rest, power_of_two(load(x + i) * scale - top), F{});
                totals += e;
                store(p + i, e);
                i += lanes;
            }
            for (; i < end && i < length; i += lanes) store(p + i, F{});
            tops_of[r] = top;
            totals_of[r] = sum(totals);
        }
        for (int64_t r = 0; r < rows; r += lanes) {
            const F total = load(totals_of + r);
            store(inverse + r, 1.0f / total);
            if (log_sum != nullptr) store(log_sum + (b * a.heads + h) * a.queries + t + r, load(tops_of + r) + log_two(total), rows - r);
        }

        for (int64_t i = 0; i < rows; i += group) {
            const int64_t height = rows - i < group ? rows - i : group;
            const int64_t start = lowest_panel(a, seen(i) - 1), skipped = start / Words::per_word;
            const auto* p = reinterpret_cast<const float*>(chances + i * length) + skipped;
            products.mix(height, row, words_in<Words>(seen(i + height - 1)) - skipped, p, length / Words::per_word, values + skipped * row,
                         mixed + i * row);
        }
        for (int64_t r = 0; r < rows; r++, y += a.heads * depth) {
            for (int64_t i = 0; i < depth; i += lanes) store(y + i, load(mixed + r * row + i) * inverse[r], depth - i);
        }
    }
}

}  // namespace
}  // namespace mf::cpu
