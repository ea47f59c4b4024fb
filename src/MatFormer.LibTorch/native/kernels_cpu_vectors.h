// Vectors of 16 numbers, and the words that products multiply: GCC's and Clang's 16-lane extension, one register with AVX-512, two with
// AVX2, four with SSE2 or NEON. Included by sources that have flags of their own, and hidden in each.
#pragma once

#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels_cpu.h"

namespace mf::cpu {
namespace {

typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef uint16_t H __attribute__((vector_size(32)));

constexpr int64_t lanes = 16;

struct Narrow {
    uint16_t bits;
};

template <class T>
constexpr Element element_of = Float;
template <>
constexpr Element element_of<Narrow> = BFloat16;

inline int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
inline F splat(float x) { return F{} + x; }
inline F select(I mask, F yes, F no) { return mask ? yes : no; }

#if defined(__AVX512F__)
inline F maximum(F a, F b) { return reinterpret_cast<F>(_mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b))); }
inline F minimum(F a, F b) { return reinterpret_cast<F>(_mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b))); }
#else
inline F maximum(F a, F b) { return a > b ? a : b; }
inline F minimum(F a, F b) { return a < b ? a : b; }
#endif

// The lanes below n.
inline I lanes_below(int64_t n) {
    const I index = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return index < static_cast<int32_t>(n);
}

inline F load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// Each lane as it is, in twice the bits. GCC would do it by halves.
inline U extend(H h) {
#if defined(__AVX512F__)
    return reinterpret_cast<U>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(h)));
#else
    return __builtin_convertvector(h, U);
#endif
}

inline F widen(H h) { return reinterpret_cast<F>(extend(h) << 16); }

// Round to nearest, ties to even; a NaN stays one.
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

// The first n lanes, the others being 0.
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

typedef float F8 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));

inline float sum(F v) {
    F8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    F4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    b += __builtin_shufflevector(b, b, 2, 3, 0, 1);
    return b[0] + b[1];
}

inline float largest(F v) {
    const auto greater = [](auto a, auto b) { return a > b ? a : b; };
    F8 a = greater(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
    F4 b = greater(__builtin_shufflevector(a, a, 0, 1, 2, 3), __builtin_shufflevector(a, a, 4, 5, 6, 7));
    b = greater(b, __builtin_shufflevector(b, b, 2, 3, 0, 1));
    return b[0] > b[1] ? b[0] : b[1];
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
// Fetches a part of some rows, or makes ready to write it: rows that lie apart are what the CPU does not foresee itself.
template <bool writing = false, class T>
inline void foresee(const T* first, int64_t stride, int64_t rows, int64_t width) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(first + r * stride + i, writing, 2);
    }
}

// The rows ahead of a left operand's first `rows`: with the panel at column j that part of their words which falls to it.
inline void foresee_ahead(const Term& term, const float* a, int64_t a_row, int64_t words, int64_t rows, int64_t j, int64_t columns) {
    if (term.ahead <= 0) return;
    const int64_t p = j / panel, panels = panels_of(columns), begin = p * words / panels, end = (p + 1) * words / panels;
    foresee(a + rows * a_row + begin, a_row, term.ahead < rows ? term.ahead : rows, end - begin);
}

// ---- Words ----
// Of 4 bytes: one float each, or two bfloat16 of neighbouring k.

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

// The value at p rounded to the words' precision.
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

// Sixteen words of one k (pair): elements 0..n of p and, for pairs, of p + next.
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

// Sixteen words that lie side by side: elements 0..n of p, 0 after them.
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
// Thirty-two numbers of each of two rows as words: those from `first` on, sixteen of them.
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

// Rows become columns: by halves, quarters and so on of a block that trade places.
inline void transpose(F (&x)[lanes]) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++) {
        if ((i & 8) != 0) continue;
        F a = x[i], b = x[i + 8];
        x[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        x[i + 8] = __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++) {
        if ((i & 4) != 0) continue;
        F a = x[i], b = x[i + 4];
        x[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        x[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++) {
        if ((i & 2) != 0) continue;
        F a = x[i], b = x[i + 2];
        x[i] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        x[i + 2] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++) {
        if ((i & 1) != 0) continue;
        F a = x[i], b = x[i + 1];
        x[i] = __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        x[i + 1] = __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
}
}  // namespace
}  // namespace mf::cpu
