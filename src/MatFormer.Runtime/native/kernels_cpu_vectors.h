// Vectors (an extension of GCC and Clang), and the words that products multiply. Each including source has its own compiler flags, so
// everything here is local to it.
#pragma once

#include <cstring>
#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels_cpu.h"

namespace mf::cpu {
namespace {

// A vector has as many lanes as a register. Longer vectors would be in memory.
#if defined(__AVX512F__)
constexpr int64_t lanes = 16;
#elif defined(__AVX2__)
constexpr int64_t lanes = 8;
#else
constexpr int64_t lanes = 4;
#endif

typedef float F __attribute__((vector_size(4 * lanes)));
typedef int32_t I __attribute__((vector_size(4 * lanes)));
typedef uint32_t U __attribute__((vector_size(4 * lanes)));
typedef uint16_t H __attribute__((vector_size(2 * lanes)));

struct Narrow {
    uint16_t bits;
};

template <class T>
constexpr Element element_of = Float;
template <>
constexpr Element element_of<Narrow> = BFloat16;

inline int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
inline F splat(float x) { return x - F{}; }  // not x + F{}: adding 0 changes -0, and costs an addition
inline F select(I mask, F yes, F no) { return mask ? yes : no; }

#if defined(__AVX512F__)
inline F maximum(F a, F b) { return reinterpret_cast<F>(_mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b))); }
inline F minimum(F a, F b) { return reinterpret_cast<F>(_mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b))); }
#else
inline F maximum(F a, F b) { return a > b ? a : b; }
inline F minimum(F a, F b) { return a < b ? a : b; }
#endif

// Returns a mask of the lanes below n.
inline I lanes_below(int64_t n) {
    I index{};
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++) index[i] = i;
    return index < static_cast<int32_t>(n);
}

inline F load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// Zero-extends each lane to twice the bits. GCC's own conversion would do this in halves.
inline U extend(H h) {
#if defined(__AVX512F__)
    return reinterpret_cast<U>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(h)));
#else
    return __builtin_convertvector(h, U);
#endif
}

inline F widen(H h) { return reinterpret_cast<F>(extend(h) << 16); }

// Rounds to nearest, ties to even. A NaN stays a NaN.
inline H narrow(F v) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<H>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v)));
#else
    U u = reinterpret_cast<U>(v);
    U rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    U quiet = (u >> 16) | 0x40;
    I nan = v != v;
    return __builtin_convertvector((reinterpret_cast<U>(nan) & quiet) | (~reinterpret_cast<U>(nan) & rounded), H);
#endif
}

inline F load(const Narrow* p) {
    H h;
    std::memcpy(&h, p, sizeof h);
    return widen(h);
}

inline void store(float* p, F v) { std::memcpy(p, &v, sizeof v); }
inline void store(Narrow* p, F v) {
    H h = narrow(v);
    std::memcpy(p, &h, sizeof h);
}

// Load the first n lanes; the other lanes are 0.
#if defined(__AVX512F__)
inline __mmask16 mask_below(int64_t n) { return static_cast<__mmask16>((1 << n) - 1); }
inline H load_bits(const Narrow* p, int64_t n) {
    H h;
    if (n < lanes) return reinterpret_cast<H>(_mm256_maskz_loadu_epi16(mask_below(n), p));
    std::memcpy(&h, p, sizeof h);
    return h;
}
inline F load(const Narrow* p, int64_t n) { return widen(load_bits(p, n)); }
inline F load(const float* p, int64_t n) {
    return n < lanes ? reinterpret_cast<F>(_mm512_maskz_loadu_ps(mask_below(n), p)) : load(p);
}
inline void store(Narrow* p, F v, int64_t n) {
    if (n >= lanes) return store(p, v);
    _mm256_mask_storeu_epi16(p, mask_below(n), reinterpret_cast<__m256i>(narrow(v)));
}
inline void store(float* p, F v, int64_t n) {
    if (n >= lanes) return store(p, v);
    _mm512_mask_storeu_ps(p, mask_below(n), reinterpret_cast<__m512>(v));
}
#else
template <class T>
inline F load(const T* p, int64_t n) {
    if (n >= lanes) return load(p);
    T part[lanes] = {};
    std::memcpy(part, p, static_cast<size_t>(n) * sizeof(T));
    return load(part);
}

inline H load_bits(const Narrow* p, int64_t n) {
    H h = {};
    std::memcpy(&h, p, n >= lanes ? sizeof h : static_cast<size_t>(n) * sizeof(Narrow));
    return h;
}

template <class T>
inline void store(T* p, F v, int64_t n) {
    if (n >= lanes) return store(p, v);
    T part[lanes];
    store(part, v);
    std::memcpy(p, part, static_cast<size_t>(n) * sizeof(T));
}
#endif

template <int step, int... i>
inline F moved(F v, std::integer_sequence<int, i...>) {
    return __builtin_shufflevector(v, v, (i ^ step)...);
}

// Reduces all lanes to one by joining halves repeatedly.
template <int step = lanes / 2, class Join>
inline float folded(F v, const Join& join) {
    v = join(v, moved<step>(v, std::make_integer_sequence<int, lanes>()));
    if constexpr (step > 1) {
        return folded<step / 2>(v, join);
    } else {
        return v[0];
    }
}

inline float sum(F v) {
    return folded(v, [](F a, F b) { return a + b; });
}

inline float largest(F v) {
    return folded(v, [](F a, F b) { return maximum(a, b); });
}

inline float to_float(float x) { return x; }
inline float to_float(Narrow x) {
    uint32_t u = static_cast<uint32_t>(x.bits) << 16;
    float f;
    std::memcpy(&f, &u, sizeof f);
    return f;
}

inline uint32_t bits_of(float x) {
    uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    return u;
}

inline Narrow to_narrow_one(float x) {
    uint32_t u = bits_of(x);
    if (x != x) return {static_cast<uint16_t>((u >> 16) | 0x40)};
    return {static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}
inline Narrow to_narrow_one(Narrow x) { return x; }
// Prefetches a part of some rows for reading or writing. The CPU does not predict accesses to rows that lie apart.
template <bool writing = false, class T>
inline void foresee(const T* first, int64_t stride, int64_t rows, int64_t width) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(first + r * stride + i, writing, 2);
    }
}

// Prefetches the rows after a left operand's first `rows`. Each panel prefetches its share of their words; the panel is at column j.
inline void foresee_ahead(const Term& term, const float* a, int64_t a_row, int64_t words, int64_t rows, int64_t j, int64_t columns) {
    if (term.ahead <= 0) return;
    const int64_t p = j / panel, panels = panels_of(columns), begin = p * words / panels, end = (p + 1) * words / panels;
    foresee(a + rows * a_row + begin, a_row, term.ahead < rows ? term.ahead : rows, end - begin);
}

// ---- Words ----
// A word has 4 bytes: one float, or two bfloat16 of neighbouring k.

struct WideWords {
    static constexpr int64_t per_word = 1;
    static F step(F sum, const float* a, const float* b) { return sum + splat(*a) * load(b); }
};

#if defined(__AVX512BF16__)
struct NarrowWords {
    static constexpr int64_t per_word = 2;
    static F step(F sum, const float* a, const float* b) {
        const __m512i left = _mm512_set1_epi32(static_cast<int>(bits_of(*a)));
        return reinterpret_cast<F>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(left),
                                                    reinterpret_cast<__m512bh>(_mm512_loadu_si512(b))));
    }
};
constexpr bool narrow_words = true;
#else
using NarrowWords = WideWords;
constexpr bool narrow_words = false;
#endif

// Returns the word at p, rounded to the precision of its elements.
template <class Words, class T>
inline float word_of(const T* p, int64_t next, bool has_next, bool round) {
    if constexpr (Words::per_word == 2) {
        const uint32_t low = to_narrow_one(p[0]).bits, high = has_next ? to_narrow_one(p[next]).bits : 0;
        const uint32_t word = low | (high << 16);
        float f;
        std::memcpy(&f, &word, sizeof f);
        return f;
    } else {
        return round ? to_float(to_narrow_one(p[0])) : to_float(p[0]);
    }
}

// Returns a vector of words of one k, or of one pair of k: elements 0..n of p and, for pairs, of p + next.
template <class Words, class T>
inline F words_of(const T* p, int64_t next, bool has_next, bool round, int64_t n) {
    if constexpr (Words::per_word == 2 && element_of<T> == BFloat16) {
        U a = extend(load_bits(p, n));
        U b = has_next ? extend(load_bits(p + next, n)) : U{};
        return reinterpret_cast<F>(a | (b << 16));
    }
    F low = load(p, n);
    if constexpr (Words::per_word == 2) {
        F high = has_next ? load(p + next, n) : F{};
        U a = extend(narrow(low)), b = extend(narrow(high));
        return reinterpret_cast<F>(a | (b << 16));
    } else {
        return round ? widen(narrow(low)) : low;
    }
}

// Returns a vector of adjacent words: elements 0..n of p, followed by zeros.
template <class Words, class T>
inline F words_along(const T* p, int64_t n, bool round) {
    if constexpr (Words::per_word == 2) {
        H low, high;
        if constexpr (element_of<T> == BFloat16) {
            low = load_bits(p, n);
            high = n > lanes ? load_bits(p + lanes, n - lanes) : H{};
        } else {
            low = narrow(load(p, n));
            high = n > lanes ? narrow(load(p + lanes, n - lanes)) : H{};
        }
        F words;
        std::memcpy(&words, &low, sizeof low);
        std::memcpy(reinterpret_cast<char*>(&words) + sizeof low, &high, sizeof high);
        return words;
    } else {
        F words = load(p, n);
        return round ? widen(narrow(words)) : words;
    }
}

#if defined(__AVX512BF16__)
// Interleaves thirty-two numbers of each of two rows as words, and returns sixteen words from `first` on.
template <int first>
inline F interleave(const Narrow* p, const Narrow* q) {
    typedef uint16_t W __attribute__((vector_size(64)));
    W a, b;
    std::memcpy(&a, p, sizeof a);
    std::memcpy(&b, q, sizeof b);
    constexpr int i = first;
    return reinterpret_cast<F>(__builtin_shufflevector(a, b, i, i + 32, i + 1, i + 33, i + 2, i + 34, i + 3, i + 35, i + 4, i + 36, i + 5,
                                                       i + 37, i + 6, i + 38, i + 7, i + 39, i + 8, i + 40, i + 9, i + 41, i + 10, i + 42,
                                                       i + 11, i + 43, i + 12, i + 44, i + 13, i + 45, i + 14, i + 46, i + 15, i + 47));
}
#endif

// Transposes a block by exchanging its halves, quarters and so on.
template <int step, int... i>
inline void trade(F& a, F& b, std::integer_sequence<int, i...>) {
    constexpr int count = static_cast<int>(lanes);
    const F low = __builtin_shufflevector(a, b, ((i & step) == 0 ? i : i - step + count)...);
    b = __builtin_shufflevector(a, b, ((i & step) == 0 ? i + step : i + count)...);
    a = low;
}

template <int step = lanes / 2>
inline void transpose(F (&x)[lanes]) {
    if constexpr (step > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; i++) {
            if ((i & step) == 0) trade<step>(x[i], x[i + step], std::make_integer_sequence<int, lanes>());
        }
        transpose<step / 2>(x);
    }
}

}  // namespace
}  // namespace mf::cpu
