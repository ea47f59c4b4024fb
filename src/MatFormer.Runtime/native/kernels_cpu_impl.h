// The inner loops. One source file for each instruction set includes them, defines MF_TABLE, and has its own compiler flags.
#include "kernels_cpu_attention.h"

namespace mf::cpu {
namespace {

// e^x, relative error 1e-7: e^(n ln 2 + r) with a polynomial, fitted on |r| <= ln 2 / 2, for e^r.
inline F exponential(F x) {
    x = minimum(maximum(x, splat(-87.3f)), splat(88.3f));
    F shifted = x * 1.44269504f + 12582912.0f;
    F n = shifted - 12582912.0f;
    F r = x - n * 0.693359375f + n * 2.12194440e-4f;
    F p = r * 1.39505e-3f + 8.36889e-3f;
    p = p * r + 4.166621e-2f;
    p = p * r + 1.6666519e-1f;
    p = p * r + 5.0000001e-1f;
    p = p * r * r + r + 1.0f;
#if defined(__AVX512F__)
    return reinterpret_cast<F>(_mm512_scalef_ps(reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
    I exponent = (reinterpret_cast<I>(shifted) - 0x4b400000) << 23;
    return reinterpret_cast<F>(reinterpret_cast<I>(p) + exponent);
#endif
}

// erf(x) and e^(-x^2): erfc(|x|) = t P(t) e^(-x^2), t = 1 / (1 + 0.48 |x|), P fitted to 1e-8 absolute
// (the form is Hastings', as in Abramowitz and Stegun 7.1.26).
inline F error_function(F x, F& gauss) {
    F size = select(x < 0.0f, -x, x);
    gauss = exponential(-x * x);
    F t = 1.0f / (size * 0.48f + 1.0f);
    F p = t * 0.07825416f - 0.34844309f;
    p = p * t + 0.42723552f;
    p = p * t + 0.04529436f;
    p = p * t + 0.25010296f;
    p = p * t + 0.27845131f;
    p = p * t + 0.26910479f;
    F y = 1.0f - p * t * gauss;
    return select(x < 0.0f, -y, y);
}

// ---- Products ----
// C (rows, columns) += A B over words.

// Adds to one tile of sums in registers. Element (i, k) of the left operand is a[i * a_row + k * a_column].
template <class Words, int rows, int vectors>
inline __attribute__((always_inline)) void accumulate(int64_t words, const float* a, int64_t a_row, int64_t a_column, const float* b,
                                                      int64_t b_row, F (&sums)[rows][vectors]) {
    for (int64_t k = 0; k < words; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) sums[i][j] = Words::step(sums[i][j], a + i * a_row, b + j * lanes);
        }
        a += a_column;
        b += b_row;
    }
}

// Every loop over `sums` is unrolled; otherwise `sums` would be in memory instead of registers.
template <class T, int rows, int vectors>
inline __attribute__((always_inline)) void store_tile(const Target& c, int64_t i, int64_t n, int64_t columns, F (&sums)[rows][vectors]) {
    T* out = static_cast<T*>(c.data) + i * c.row + n;
    if (columns >= vectors * lanes && c.bias == nullptr && c.scale == 1 && !c.accumulate) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++, out += c.row) {
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) store(out + j * lanes, sums[r][j]);
        }
        return;
    }
    if (columns >= vectors * lanes && c.bias == nullptr && c.scale == 1) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++, out += c.row) {
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) store(out + j * lanes, load(out + j * lanes) + sums[r][j]);
        }
        return;
    }

    F copy[rows][vectors];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) copy[r][j] = sums[r][j] * c.scale;
    }
    for (int r = 0; r < rows; r++, out += c.row) {
        for (int64_t j = 0; j * lanes < columns && j < vectors; j++) {
            const int64_t left = columns - j * lanes;
            F v = copy[r][j];
            if (c.accumulate) v += load(out + j * lanes, left);
            if (c.bias != nullptr) v += load(c.bias + n + j * lanes, left);
            store(out + j * lanes, v, left);
        }
    }
}

// The words of a left operand in place, and the panel that they are multiplied with.
struct Operands {
    int64_t words;
    const float* a;
    int64_t a_row, a_column;
    const float* b;
    int64_t b_row;
};

// Multiplies by the columns of a panel from `skip` on, which become the columns of the result from n on.
template <class Words, int rows, int vectors>
void tile_product(const Operands* terms, int count, int64_t first, int64_t skip, const Target& c, int64_t i, int64_t n, int64_t columns) {
    F sums[rows][vectors];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) sums[r][j] = F{};
    }
    for (int t = 0; t < count; t++) {
        const Operands& x = terms[t];
        const float *a = x.a + first * x.a_row, *b = x.b + skip;
        // A constant stride lets the compiler fold it into the addresses.
        if (x.a_column == 1) {
            accumulate<Words, rows, vectors>(x.words, a, x.a_row, 1, b, x.b_row, sums);
        } else if (x.a_row == 1) {
            accumulate<Words, rows, vectors>(x.words, a, 1, x.a_column, b, x.b_row, sums);
        } else {
            accumulate<Words, rows, vectors>(x.words, a, x.a_row, x.a_column, b, x.b_row, sums);
        }
    }
    if (c.element == Float) {
        store_tile<float>(c, i, n, columns, sums);
    } else {
        store_tile<Narrow>(c, i, n, columns, sums);
    }
}

// The largest tile of sums, in rows and vectors, that fits in the registers. There are 32 or 16 registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_rows = 12, most_vectors = 2;
#else
constexpr int most_rows = 6, most_vectors = 2;
#endif

// Computes the rows from `done` on, in tiles as tall as possible.
template <class Words, int at_once, int vectors>
void tile_rows(const Operands* terms, int count, int64_t done, int64_t skip, const Target& c, int64_t i, int64_t rows, int64_t n,
               int64_t columns) {
    for (; done + at_once <= rows; done += at_once) {
        tile_product<Words, at_once, vectors>(terms, count, done, skip, c, i + done, n, columns);
    }
    if constexpr (at_once > 1) {
        constexpr int fewer = at_once > 8 ? 8 : at_once > 4 ? 4 : at_once > 2 ? 2 : 1;
        tile_rows<Words, fewer, vectors>(terms, count, done, skip, c, i, rows, n, columns);
    }
}

// Computes any number of rows, and up to `panel` columns.
template <class Words>
void tile_rows(const Operands* terms, int count, const Target& c, int64_t i, int64_t rows, int64_t n, int64_t columns) {
    for (int64_t j = 0; j < columns && j < panel; j += most_vectors * lanes) {
        if (columns - j > lanes) {
            tile_rows<Words, most_rows, most_vectors>(terms, count, 0, j, c, i, rows, n + j, columns - j);
        } else {
            tile_rows<Words, most_rows, 1>(terms, count, 0, j, c, i, rows, n + j, columns - j);
        }
    }
}

template <class Words, class T>
void pack_right_of(const T* b, int64_t b_row, int64_t b_column, int64_t depth, int64_t columns, bool round, float* packed, int64_t stride) {
    const int64_t words = (depth + Words::per_word - 1) / Words::per_word;
    for (int64_t n = 0; n < columns; n += panel, packed += stride * panel) {
        const int64_t width = columns - n < panel ? columns - n : panel;
        if (b_column == 1) {
            for (int64_t w = 0; w < words; w++) {
                const int64_t k = w * Words::per_word;
                const T* p = b + k * b_row + n;
                const bool pair = k + 1 < depth;
#if defined(__AVX512BF16__)
                if constexpr (Words::per_word == 2 && element_of<T> == BFloat16) {
                    if (pair && width == panel) {
                        store(packed + w * panel, interleave<0>(p, p + b_row));
                        store(packed + w * panel + lanes, interleave<16>(p, p + b_row));
                        continue;
                    }
                }
#endif
                for (int64_t j = 0; j < panel; j += lanes) {
                    store(packed + w * panel + j, j < width ? words_of<Words>(p + j, b_row, pair, round, width - j) : F{});
                }
            }
        } else if (b_row == 1) {
            for (int64_t part = 0; part < panel; part += lanes) {
                for (int64_t w = 0; w < words; w += lanes) {
                    const int64_t k = w * Words::per_word, left = words - w < lanes ? words - w : lanes;
                    F block[lanes];
                    const T* p = b + (n + part) * b_column + k;
                    if (part + lanes <= width && k + lanes * Words::per_word <= depth) {
#pragma GCC unroll 16
                        for (int64_t j = 0; j < lanes; j++) block[j] = words_along<Words>(p + j * b_column, lanes * Words::per_word, round);
                        transpose(block);
#pragma GCC unroll 16
                        for (int64_t i = 0; i < lanes; i++) store(packed + (w + i) * panel + part, block[i]);
                        continue;
                    }
                    for (int64_t j = 0; j < lanes; j++) {
                        block[j] = part + j < width ? words_along<Words>(p + j * b_column, depth - k, round) : F{};
                    }
                    transpose(block);
                    for (int64_t i = 0; i < left; i++) store(packed + (w + i) * panel + part, block[i]);
                }
            }
        } else {
            for (int64_t j = 0; j < width; j++) {
                const T* p = b + (n + j) * b_column;
                for (int64_t w = 0; w < words; w++) {
                    const int64_t k = w * Words::per_word;
                    packed[w * panel + j] = word_of<Words>(p + k * b_row, b_row, k + 1 < depth, round);
                }
            }
            for (int64_t j = width; j < panel; j++) {
                for (int64_t w = 0; w < words; w++) packed[w * panel + j] = 0;
            }
        }
    }
}

// Word (i, w) of a tile is packed[w * tile + i].
template <class Words, class T>
void pack_left_of(const T* a, int64_t a_row, int64_t a_column, int64_t rows, int64_t depth, bool round, float* packed, int64_t stride) {
    const int64_t words = (depth + Words::per_word - 1) / Words::per_word;
    if (a_row == 1) {
        // All tiles are packed together, because each step down a column reaches another cache line, and the lines of wide matrices fall
        // into the same few sets.
        for (int64_t w = 0; w < words; w++) {
            const int64_t k = w * Words::per_word;
            const bool pair = k + 1 < depth;
            const T* p = a + k * a_column;
            float* out = packed + w * tile;
            int64_t i = 0;
#if defined(__AVX512BF16__)
            if constexpr (Words::per_word == 2 && element_of<T> == BFloat16) {
                for (; pair && i + 2 * lanes <= rows; i += 2 * tile, out += 2 * stride) {
                    store(out, interleave<0>(p + i, p + i + a_column), tile);
                    store(out + stride, interleave<tile>(p + i, p + i + a_column), tile);
                }
            }
#endif
            for (; i < rows; i += tile, out += stride) {
                for (int64_t j = 0; j < tile && i + j < rows; j += lanes) {
                    store(out + j, words_of<Words>(p + i + j, a_column, pair, round, rows - i - j), tile - j);
                }
            }
        }
        return;
    }
    for (int64_t i = 0; i < rows; i += tile, packed += stride) {
        const int64_t height = rows - i < tile ? rows - i : tile;
        for (int64_t r = 0; r < height; r++) {
            const T* p = a + (i + r) * a_row;
            for (int64_t w = 0; w < words; w++) {
                const int64_t k = w * Words::per_word;
                packed[w * tile + r] = word_of<Words>(p + k * a_column, a_column, k + 1 < depth, round);
            }
        }
    }
}

int64_t word_count(Element compute, int64_t depth) {
    return compute == BFloat16 ? (depth + NarrowWords::per_word - 1) / NarrowWords::per_word : depth;
}

// Calls body(words, elements, round) with the words that are multiplied, the elements of an operand, and whether to round them.
template <class Body>
void with_words(Element compute, const Matrix& x, const Body& body) {
    const auto* wide = static_cast<const float*>(x.data);
    const auto* thin = static_cast<const Narrow*>(x.data);
    if (compute == BFloat16) {
        if (x.element == Float) {
            body(NarrowWords{}, wide, true);
        } else {
            body(NarrowWords{}, thin, false);
        }
    } else if (x.element == Float) {
        body(WideWords{}, wide, false);
    } else {
        body(WideWords{}, thin, false);
    }
}

void pack_right(Element compute, const Matrix& b, int64_t depth, int64_t columns, void* packed, int64_t stride) {
    with_words(compute, b, [&](auto words, const auto* data, bool round) {
        pack_right_of<decltype(words)>(data, b.row, b.column, depth, columns, round, static_cast<float*>(packed), stride);
    });
}

void pack_left(Element compute, const Matrix& a, int64_t rows, int64_t depth, void* packed, int64_t stride, int64_t word) {
    with_words(compute, a, [&](auto words, const auto* data, bool round) {
        pack_left_of<decltype(words)>(data, a.row, a.column, rows, depth, round, static_cast<float*>(packed) + word * tile, stride);
    });
}

template <class Words>
void multiply_of(Element compute, const Term* terms, int count, int64_t first, int64_t rows, int64_t columns, const Target& c,
                 float* scratch) {
    Operands operands[most_terms];
    int64_t next[most_terms];
    bool in_place[most_terms] = {};
    for (int t = 0; t < count; t++) {
        Matrix a = terms[t].a;
        const int64_t depth = terms[t].depth, words = (depth + Words::per_word - 1) / Words::per_word;
        const auto* right = static_cast<const float*>(terms[t].packed);
        if (terms[t].left != nullptr) {
            const auto* left = static_cast<const float*>(terms[t].left) + first / tile * terms[t].left_stride;
            operands[t] = {words, left, 1, tile, right, panel};
            next[t] = terms[t].left_stride;
            continue;
        }

        a.data = static_cast<const char*>(a.data) + first * a.row * (a.element == Float ? 4 : 2);
        // The operand can be read in place if its rows already consist of words.
        in_place[t] =
            a.column == 1
            && (Words::per_word == 1 ? a.element == Float && compute == Float : a.element == BFloat16 && a.row % 2 == 0 && depth % 2 == 0);
        if (in_place[t]) {
            operands[t] = {words, static_cast<const float*>(a.data), a.row / Words::per_word, 1, right, panel};
            next[t] = a.row / Words::per_word * tile;
            continue;
        }
        const int64_t stride = tile_stride(words);
        pack_left(compute, a, rows, depth, scratch, stride, 0);
        operands[t] = {words, scratch, 1, tile, right, panel};
        next[t] = stride;
        scratch += tiles_of(rows) * stride + lanes;
    }

    for (int64_t j = 0; j < columns; j += panel) {
        const int64_t width = columns - j < panel ? columns - j : panel;
        for (int t = 0; t < count; t++) {
            const Operands& x = operands[t];
            if (in_place[t]) foresee_ahead(terms[t], x.a, x.a_row, x.words, rows, j, columns);
        }
        for (int64_t i = 0; i < rows; i += tile) {
            const int64_t height = rows - i < tile ? rows - i : tile;
            Operands here[most_terms];
            for (int t = 0; t < count; t++) {
                here[t] = operands[t];
                here[t].a += i / tile * next[t];
                here[t].b += j / panel * terms[t].stride * panel;
            }
            if (c.element == Float) {
                foresee<true>(static_cast<float*>(c.data) + (first + i) * c.row + j, c.row, height, width);
            } else {
                foresee<true>(static_cast<Narrow*>(c.data) + (first + i) * c.row + j, c.row, height, width);
            }
            tile_rows<Words>(here, count, c, first + i, height, j, width);
        }
    }
}

void multiply(Element compute, const Term* terms, int count, int64_t first, int64_t rows, int64_t columns, const Target& c, void* scratch) {
    if (compute == BFloat16) {
        multiply_of<NarrowWords>(compute, terms, count, first, rows, columns, c, static_cast<float*>(scratch));
    } else {
        multiply_of<WideWords>(compute, terms, count, first, rows, columns, c, static_cast<float*>(scratch));
    }
}

// Computes the products of `count` rows of x and a row of w. Each has two sums, so that additions do not wait for each other.
template <int count, class T>
inline void few_dots(const T* x, int64_t width, const float* w, float* dots) {
    F sums[2][count] = {};
    const auto step = [&](F (&to)[count], int64_t k) {
        F v = load(w + k, width - k);
        if constexpr (element_of<T> == BFloat16) v = widen(narrow(v));
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) to[i] += v * load(x + i * width + k, width - k);
    };
    for (int64_t k = 0; k < width; k += 2 * lanes) {
        step(sums[0], k);
        if (k + lanes < width) step(sums[1], k + lanes);
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) dots[i] = sum(sums[0][i] + sums[1][i]);
}

template <class T>
void few_rows_of(const T* x, int64_t rows, int64_t width, const float* w, int64_t w_row, const float* bias, int64_t first, int64_t last,
                 T* y, int64_t y_row, bool accumulate) {
    constexpr int64_t most = 4;
    for (int64_t n = first; n < last; n++) {
        const float* row = w + n * w_row;
        for (int64_t r = 0; r < rows; r += most) {
            const int64_t count = rows - r < most ? rows - r : most;
            const T* in = x + r * width;
            float dots[most];
            if (count == 4) {
                few_dots<4>(in, width, row, dots);
            } else if (count == 3) {
                few_dots<3>(in, width, row, dots);
            } else if (count == 2) {
                few_dots<2>(in, width, row, dots);
            } else {
                few_dots<1>(in, width, row, dots);
            }
            for (int64_t i = 0; i < count; i++) {
                float value = dots[i];
                if (accumulate) value += to_float(y[(r + i) * y_row + n]);
                if (bias != nullptr) value += bias[n];
                if constexpr (element_of<T> == BFloat16) {
                    y[(r + i) * y_row + n] = to_narrow_one(value);
                } else {
                    y[(r + i) * y_row + n] = value;
                }
            }
        }
    }
}

void few_rows(Element compute, const void* x, int64_t rows, int64_t width, const float* w, int64_t w_row, const float* bias, int64_t first,
              int64_t last, void* y, int64_t y_row, bool accumulate) {
    if (compute == Float) {
        few_rows_of(static_cast<const float*>(x), rows, width, w, w_row, bias, first, last, static_cast<float*>(y), y_row, accumulate);
    } else {
        few_rows_of(static_cast<const Narrow*>(x), rows, width, w, w_row, bias, first, last, static_cast<Narrow*>(y), y_row, accumulate);
    }
}

// ---- Norms ----

template <class T>
void rms_forward(const void* x, const float* weight, void* y, float* statistics, int64_t first, int64_t last, int64_t width,
                 float epsilon) {
    for (int64_t r = first; r < last; r++) {
        const T* in = static_cast<const T*>(x) + r * width;
        T* out = static_cast<T*>(y) + r * width;
        F squares{};
        for (int64_t i = 0; i < width; i += lanes) {
            F v = load(in + i, width - i);
            squares += v * v;
        }
        const float scale = 1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + epsilon);
        statistics[r] = scale;
        for (int64_t i = 0; i < width; i += lanes) {
            const int64_t n = width - i;
            store(out + i, load(in + i, n) * scale * load(weight + i, n), n);
        }
    }
}

// Returns row r, from column i on, of the sum of the gradients in `added`.
template <class T>
inline F added_at(const Added& added, int64_t r, int64_t i, int64_t width) {
    const T* p = static_cast<const T*>(added.data) + r * width + i;
    F total{};
    for (int64_t b = 0; b < added.blocks; b++) total += load(p + b * added.stride, width - i);
    return total;
}

// With n = x s: dx = s (w dy - n mean(w dy n)), dw = sum over rows of dy n.
template <class T>
void rms_backward(const void* dy, const void* x, const float* weight, const float* statistics, const Added& added, void* dx, float* dweight,
                  int64_t first, int64_t last, int64_t width) {
    for (int64_t r = first; r < last; r++) {
        const T* grad = static_cast<const T*>(dy) + r * width;
        const T* in = static_cast<const T*>(x) + r * width;
        T* out = static_cast<T*>(dx) + r * width;
        const float scale = statistics[r];
        F dots{};
        for (int64_t i = 0; i < width; i += lanes) {
            const int64_t n = width - i;
            F d = load(grad + i, n), v = load(in + i, n) * scale;
            dots += d * load(weight + i, n) * v;
            store(dweight + i, load(dweight + i, n) + d * v, n);
        }
        if (dx == nullptr) continue;
        const float mean = sum(dots) / static_cast<float>(width);
        for (int64_t i = 0; i < width; i += lanes) {
            const int64_t n = width - i;
            F d = load(grad + i, n), v = load(in + i, n) * scale;
            store(out + i, added_at<T>(added, r, i, width) + (d * load(weight + i, n) - v * mean) * scale, n);
        }
    }
}

template <class T>
void layer_forward(const void* x, const float* weight, const float* bias, void* y, float* statistics, int64_t first, int64_t last,
                   int64_t width, float epsilon) {
    for (int64_t r = first; r < last; r++) {
        const T* in = static_cast<const T*>(x) + r * width;
        T* out = static_cast<T*>(y) + r * width;
        F total{};
        for (int64_t i = 0; i < width; i += lanes) total += load(in + i, width - i);
        const float mean = sum(total) / static_cast<float>(width);
        float squares = 0;
        F sums{};
        for (int64_t i = 0; i < width; i += lanes) {
            if (width - i >= lanes) {
                F v = load(in + i) - mean;
                sums += v * v;
            } else {
                for (int64_t j = i; j < width; j++) {
                    const float v = to_float(in[j]) - mean;
                    squares += v * v;
                }
            }
        }
        const float scale = 1.0f / std::sqrt((sum(sums) + squares) / static_cast<float>(width) + epsilon);
        statistics[2 * r] = mean;
        statistics[2 * r + 1] = scale;
        for (int64_t i = 0; i < width; i += lanes) {
            const int64_t n = width - i;
            store(out + i, (load(in + i, n) - mean) * scale * load(weight + i, n) + load(bias + i, n), n);
        }
    }
}

// With n = (x - mean) s: dx = s (w dy - mean(w dy) - n mean(w dy n)).
template <class T>
void layer_backward(const void* dy, const void* x, const float* weight, const float* statistics, const Added& added, void* dx,
                    float* dweight, float* dbias, int64_t first, int64_t last, int64_t width) {
    for (int64_t r = first; r < last; r++) {
        const T* grad = static_cast<const T*>(dy) + r * width;
        const T* in = static_cast<const T*>(x) + r * width;
        T* out = static_cast<T*>(dx) + r * width;
        const float mean = statistics[2 * r], scale = statistics[2 * r + 1];
        F dots{}, total{};
        for (int64_t i = 0; i < width; i += lanes) {
            const int64_t n = width - i;
            F d = load(grad + i, n), v = (load(in + i, n) - mean) * scale, g = d * load(weight + i, n);
            dots += g * v;
            total += g;
            store(dweight + i, load(dweight + i, n) + d * v, n);
            store(dbias + i, load(dbias + i, n) + d, n);
        }
        if (dx == nullptr) continue;
        const float mean_dot = sum(dots) / static_cast<float>(width), mean_gradient = sum(total) / static_cast<float>(width);
        for (int64_t i = 0; i < width; i += lanes) {
            const int64_t n = width - i;
            F d = load(grad + i, n), v = (load(in + i, n) - mean) * scale;
            store(out + i, added_at<T>(added, r, i, width) + (d * load(weight + i, n) - mean_gradient - v * mean_dot) * scale, n);
        }
    }
}

template <class T>
void rotary(const void* x, const float* cos, const float* sin, void* y, int64_t first, int64_t last, int64_t time, int64_t heads,
            int64_t depth, float direction) {
    const int64_t half = depth / 2;
    for (int64_t r = first; r < last; r++) {
        const float *c = cos + r % time * half, *s = sin + r % time * half;
        for (int64_t h = 0; h < heads; h++) {
            const T* in = static_cast<const T*>(x) + (r * heads + h) * depth;
            T* out = static_cast<T*>(y) + (r * heads + h) * depth;
            for (int64_t i = 0; i < half; i += lanes) {
                const int64_t n = half - i;
                F a = load(in + i, n), b = load(in + half + i, n), cv = load(c + i, n), sv = load(s + i, n) * direction;
                store(out + i, a * cv - b * sv, n);
                store(out + half + i, b * cv + a * sv, n);
            }
        }
    }
}

// ---- Attention ----

// Returns rows of a head as a left operand: in place if possible, otherwise copied to `space`, followed by zeros up to `until`.
template <class T>
Operands left_of(const T* in, int64_t stride, int64_t rows, int64_t depth, float* space, int64_t until = 0) {
    using Words = WordsOf<T>;
    const int64_t words = words_in<Words>(depth);
    if (until <= rows && (element_of<T> == Float || (Words::per_word == 2 && stride % 2 == 0 && depth % 2 == 0))) {
        return {words, reinterpret_cast<const float*>(in), stride / Words::per_word, 1, nullptr, 0};
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t w = 0; w < words; w++) {
            const int64_t d = w * Words::per_word;
            space[r * words + w] = word_of<Words>(in + r * stride + d, 1, d + 1 < depth, false);
        }
    }
    for (int64_t i = rows * words; i < until * words; i++) space[i] = 0;
    return {words, space, words, 1, nullptr, 0};
}

// scores (rows, keys) = left times packed keys, for the keys that each tile of rows sees.
template <class Words>
void score(const Attention& a, int64_t rows, const Sight& seen, Operands left, const float* packed, float* scores, int64_t row) {
    const Target target{scores, Float, row};
    for (int64_t i = 0; i < rows; i += tile) {
        const int64_t height = rows - i < tile ? rows - i : tile;
        Operands x = left;
        x.a += i * left.a_row;
        x.b_row = panel;
        for (int64_t n = lowest_panel(a, seen(i) - 1); n < seen(i + height - 1); n += panel) {
            x.b = packed + n * left.words;
            tile_rows<Words>(&x, 1, target, i, height, n, panel);
        }
    }
}

// c (rows, columns) = or += the words of x.a times rows of x.b, which are padded to whole vectors.
template <class Words>
void mix(int64_t rows, int64_t columns, Operands x, float* c, int64_t c_row, bool accumulate) {
    const Target target{c, Float, c_row, accumulate};
    const float* b = x.b;
    for (int64_t n = 0; n < columns; n += panel) {
        x.b = b + n;
        tile_rows<Words>(&x, 1, target, 0, rows, n, columns - n);
    }
}

// Attention for one query or a few. Nothing is packed, and each key and value is read once.
template <class T>
void attention_rows(const Attention& a, int64_t b, int64_t h, T* out, float* log_sum, float* scores) {
    const int64_t kh = h / (a.heads / a.key_heads), depth = a.depth;
    const float scale = a.scale * log2_of_e;
    const T *query = head_of<T>(a.query, b, h), *key = head_of<T>(a.key, b, kh), *value = head_of<T>(a.value, b, kh);
    for (int64_t t = 0; t < a.queries; t++) {
        const int64_t visible = Sight(a, b, t)(0), low = lowest(a, visible - 1);
        const T* q = query + t * a.query.time;
        float top = -INFINITY;
        for (int64_t s = low; s < visible; s++) {
            F dots{};
            for (int64_t i = 0; i < depth; i += lanes) dots += load(q + i, depth - i) * load(key + s * a.key.time + i, depth - i);
            scores[s] = sum(dots) * scale;
            top = top > scores[s] ? top : scores[s];
        }
        F totals{};
        for (int64_t s = low; s < visible; s += lanes) {
            F e = select(lanes_below(visible - s), power_of_two(load(scores + s, visible - s) - top), F{});
            store(scores + s, e, visible - s);
            totals += e;
        }
        const float total = sum(totals);
        if (log_sum != nullptr) log_sum[(b * a.heads + h) * a.queries + t] = top + std::log2(total);
        T* y = out + ((b * a.queries + t) * a.heads + h) * depth;
        for (int64_t i = 0; i < depth; i += lanes) {
            F mixed{};
            for (int64_t s = low; s < visible; s++) mixed += load(value + s * a.value.time + i, depth - i) * scores[s];
            store(y + i, mixed * (1.0f / total), depth - i);
        }
    }
}

template <class T>
struct VectorProducts {
    using Words = WordsOf<T>;
    static constexpr int64_t block = query_block, group = tile;

    static void pack_columns(const T* in, int64_t stride, int64_t columns, int64_t depth, float* out) {
        pack_right_of<Words>(in, 1, stride, depth, columns, false, out, words_in<Words>(depth));
    }
    static void pack_rows(const T* in, int64_t stride, int64_t rows, int64_t depth, float* out, int64_t row) {
        cpu::pack_rows(in, stride, rows, depth, out, row);
    }
    static void score(const Attention& a, int64_t rows, const Sight& seen, const T* q, float* space, const float* keys, float* scores,
                      int64_t row) {
        cpu::score<Words>(a, rows, seen, left_of(q, a.query.time, rows, a.depth, space), keys, scores, row);
    }
    static void mix(int64_t rows, int64_t columns, int64_t words, const float* x, int64_t x_row, const float* y, float* c) {
        cpu::mix<Words>(rows, columns, {words, x, x_row, 1, y, columns}, c, columns, false);
    }
};

template <class T>
void attention_forward(const Attention& a, int64_t b, int64_t h, void* out, float* log_sum, void* scratch) {
    if (a.queries < 8) return attention_rows<T>(a, b, h, static_cast<T*>(out), log_sum, static_cast<float*>(scratch));
    attend<T, VectorProducts<T>>(a, b, h, out, log_sum, scratch);
}

// The numbers of rows and of vectors of keys for which S and dP are computed together. Their sums fill the registers.
constexpr int64_t slope_tile = 6, slope_vectors = most_rows * most_vectors / (2 * slope_tile);
static_assert(panel % (slope_vectors * lanes) == 0);

template <class Words>
inline __attribute__((always_inline)) void score_and_slope(const Operands& q, const Operands& dy, const float* keys, const float* values,
                                                           F (&s)[slope_tile][slope_vectors], F (&d)[slope_tile][slope_vectors]) {
#pragma GCC unroll 16
    for (int r = 0; r < slope_tile; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < slope_vectors; j++) s[r][j] = d[r][j] = F{};
    }
    const float *left = q.a, *right = dy.a;
    for (int64_t k = 0; k < q.words; k++, left++, right++, keys += panel, values += panel) {
#pragma GCC unroll 16
        for (int r = 0; r < slope_tile; r++) {
#pragma GCC unroll 4
            for (int j = 0; j < slope_vectors; j++) s[r][j] = Words::step(s[r][j], left + r * q.a_row, keys + j * lanes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < slope_tile; r++) {
#pragma GCC unroll 4
            for (int j = 0; j < slope_vectors; j++) d[r][j] = Words::step(d[r][j], right + r * dy.a_row, values + j * lanes);
        }
    }
}

// Computes P and dS for `height` rows of a block of queries, from r on, and the vectors of keys from n on. With `whole`, all these rows see
// all these keys.
template <class Words, bool whole>
inline void slopes_of(const Attention& a, const Sight& seen, const Operands& q, const Operands& dy, const float* keys, const float* values,
                      int64_t r, int64_t height, int64_t n, const float* logs, const float* dots, const Slopes& to) {
    F s[slope_tile][slope_vectors], d[slope_tile][slope_vectors];
    score_and_slope<Words>(q, dy, keys, values, s, d);
#pragma GCC unroll 16
    for (int64_t i = 0; i < slope_tile; i += Words::per_word) {
#pragma GCC unroll 4
        for (int64_t j = 0; j < slope_vectors; j++) {
            F scores[Words::per_word], gradients[Words::per_word];
#pragma GCC unroll 2
            for (int64_t w = 0; w < Words::per_word; w++) {
                scores[w] = s[i + w][j];
                gradients[w] = d[i + w][j];
            }
            put_slopes<Words, whole>(a, seen, scores, gradients, r + i, r + height, n + j * lanes, logs, dots, to);
        }
    }
}

// P = exp(S - log sum), dP = dO V^T, dS = P (dP - sum(dO O)); dQ = dS K, dK = dS^T Q, dV = P^T dO.
template <class T>
void attention_backward(const Attention& a, int64_t b, int64_t key_head, const void* out, const void* dout, const float* log_sum,
                        void* dquery, void* dkey, void* dvalue, void* scratch) {
    using Words = WordsOf<T>;
    const int64_t groups = a.heads / a.key_heads, depth = a.depth, row = padded(depth, lanes), length = padded(a.keys, panel);
    float* keys = static_cast<float*>(scratch);  // keys packed for scores
    float* values = keys + length * (depth + 1);
    float* key_rows = values + length * (depth + 1);  // keys as rows, for the gradient of the queries
    float* key_sums = key_rows + a.keys * row;
    float* value_sums = key_sums + a.keys * row;
    float* query = value_sums + a.keys * row;
    float* query_rows = query + query_block * row;
    float* gradient = query_rows + query_block * row;
    float* gradient_rows = gradient + query_block * row;
    float* mixed = gradient_rows + query_block * row;
    float* slopes = mixed + query_block * row;
    float* chance_columns = slopes + query_block * length;
    const Slopes to{slopes, Words::per_word == 2 ? slopes + query_block * length / 2 : slopes, chance_columns, length};
    const float *slope_rows = to.rows, *slope_columns = to.columns;

    const T *key = head_of<T>(a.key, b, key_head), *value = head_of<T>(a.value, b, key_head);
    pack_right_of<Words>(key, 1, a.key.time, depth, a.keys, false, keys, words_in<Words>(depth));
    pack_right_of<Words>(value, 1, a.value.time, depth, a.keys, false, values, words_in<Words>(depth));
    pack_rows(key, a.key.time, a.keys, depth, key_rows, row);
    std::memset(key_sums, 0, static_cast<size_t>(2 * a.keys * row) * sizeof(float));

    for (int64_t h = key_head * groups; h < (key_head + 1) * groups; h++) {
        for (int64_t t = 0; t < a.queries; t += query_block) {
            const int64_t rows = a.queries - t < query_block ? a.queries - t : query_block;
            const int64_t next_rows = a.queries - t - rows < query_block ? a.queries - t - rows : query_block;
            const Sight seen(a, b, t);
            const int64_t base = (b * a.queries + t) * a.heads + h, first = seen.first;
            const int64_t visible = seen(rows - 1), columns = padded(visible, lanes), start = lowest_panel(a, seen(0) - 1);
            const T* q = head_of<T>(a.query, b, h) + t * a.query.time;
            const T *y = static_cast<const T*>(out) + base * depth, *dy = static_cast<const T*>(dout) + base * depth;
            const int64_t stride = a.heads * depth;
            foresee(q + rows * a.query.time, a.query.time, next_rows, depth);
            foresee(y + rows * stride, stride, next_rows, depth);
            foresee(dy + rows * stride, stride, next_rows, depth);
            foresee<true>(static_cast<T*>(dquery) + base * depth, stride, rows, depth);
            if (h + 1 == (key_head + 1) * groups) {
                const int64_t at = ((b * a.keys + t) * a.key_heads + key_head) * depth;
                foresee<true>(static_cast<T*>(dkey) + at, a.key_heads * depth, rows, depth);
                foresee<true>(static_cast<T*>(dvalue) + at, a.key_heads * depth, rows, depth);
                if (key_head + 1 < a.key_heads) {
                    foresee(key + a.key.head + t * a.key.time, a.key.time, rows, depth);
                    foresee(value + a.value.head + t * a.value.time, a.value.time, rows, depth);
                }
            }
            pack_rows(q, a.query.time, rows, depth, query_rows, row);
            pack_rows(dy, stride, rows, depth, gradient_rows, row);
            const int64_t until = padded(rows, slope_tile);
            const Operands left = left_of(q, a.query.time, rows, depth, query, until);
            const Operands right = left_of(dy, stride, rows, depth, gradient, until);
            float logs[query_block] = {}, dots[query_block] = {};
            row_terms(a, b, h, t, rows, y, dy, log_sum, logs, dots);
            for (int64_t r = 0; r < rows; r += slope_tile) {
                const int64_t height = rows - r < slope_tile ? rows - r : slope_tile;
                const int64_t low = lowest_panel(a, seen(r) - 1), high = seen(r + height - 1);
                const int64_t inner = height == slope_tile ? seen(r) : 0, outer = lowest(a, high - 1);
                Operands x = left, dx = right;
                x.a += r * left.a_row;
                dx.a += r * right.a_row;
                for (int64_t n = start; n < columns; n += panel) {
                    const float *k = keys + n * left.words, *v = values + n * left.words;
                    if (n < low || n >= high) {
                        const F none[2] = {};
                        for (int64_t i = 0; i < slope_tile; i += Words::per_word) {
                            for (int64_t j = 0; j < panel; j += lanes) to.put<Words>(r + i, n + j, none, none);
                        }
                        continue;
                    }
                    for (int64_t j = 0; j < panel; j += slope_vectors * lanes) {
                        if (n + panel <= inner && n >= outer) {
                            slopes_of<Words, true>(a, seen, x, dx, k + j, v + j, r, height, n + j, logs, dots, to);
                        } else {
                            slopes_of<Words, false>(a, seen, x, dx, k + j, v + j, r, height, n + j, logs, dots, to);
                        }
                    }
                }
            }

            for (int64_t i = 0; i < rows; i += tile) {
                const int64_t height = rows - i < tile ? rows - i : tile;
                const int64_t skipped = lowest_panel(a, seen(i) - 1) / Words::per_word;
                const float* s = slope_rows + i * (length / Words::per_word) + skipped;
                mix<Words>(height, row,
                           {words_in<Words>(seen(i + height - 1)) - skipped, s, length / Words::per_word, 1, key_rows + skipped * row, row},
                           mixed + i * row, row, false);
            }
            for (int64_t r = 0; r < rows; r++) {
                T* dq = static_cast<T*>(dquery) + (base + r * a.heads) * depth;
                for (int64_t i = 0; i < depth; i += lanes) store(dq + i, load(mixed + r * row + i), depth - i);
            }
            // Causal: keys from s on are seen by the queries from s - first on, until the window has passed. Otherwise all queries see
            // them.
            for (int64_t s = start; s < visible; s += tile) {
                const int64_t height = visible - s < tile ? visible - s : tile;
                const int64_t from = a.causal && s > first ? (s - first) / Words::per_word : 0;
                const int64_t until = a.causal ? s + height - 1 - first + a.window : rows;
                if (until <= 0) continue;
                const int64_t words = words_in<Words>(rows < until ? rows : until);
                mix<Words>(height, row, {words - from, chance_columns + from * length + s, 1, length, gradient_rows + from * row, row},
                           value_sums + s * row, row, true);
                mix<Words>(height, row, {words - from, slope_columns + from * length + s, 1, length, query_rows + from * row, row},
                           key_sums + s * row, row, true);
            }
        }
    }

    for (int64_t s = 0; s < a.keys; s++) {
        const int64_t at = ((b * a.keys + s) * a.key_heads + key_head) * depth;
        for (int64_t i = 0; i < depth; i += lanes) {
            store(static_cast<T*>(dkey) + at + i, load(key_sums + s * row + i), depth - i);
            store(static_cast<T*>(dvalue) + at + i, load(value_sums + s * row + i), depth - i);
        }
    }
}

// ---- Feed-forward ----

constexpr float inverse_root_two = 0.70710678f, inverse_root_two_pi = 0.39894228f;

inline F activation(int kind, F x) {
    if (kind == 2) return x / (1.0f + exponential(-x));
    if (kind == 1) {
        F positive = select(x > 0.0f, x, F{});
        return positive * positive;
    }
    F gauss;
    return x * 0.5f * (1.0f + error_function(x * inverse_root_two, gauss));
}

// Returns the activation and its derivative.
inline F activation(int kind, F x, F& slope) {
    if (kind == 2) {
        F s = 1.0f / (1.0f + exponential(-x));
        slope = s * (1.0f + x * (1.0f - s));
        return x * s;
    }
    if (kind == 1) {
        F positive = select(x > 0.0f, x, F{});
        slope = positive * 2.0f;
        return positive * positive;
    }
    F gauss, cdf = 0.5f * (1.0f + error_function(x * inverse_root_two, gauss));
    slope = cdf + x * gauss * inverse_root_two_pi;
    return x * cdf;
}

template <class T>
void activate(int kind, const void* gate, const void* up, void* h, int64_t count) {
    const T *g = static_cast<const T*>(gate), *u = static_cast<const T*>(up);
    T* out = static_cast<T*>(h);
    for (int64_t i = 0; i < count; i += lanes) {
        const int64_t n = count - i;
        F v = load(u + i, n);
        store(out + i, g == nullptr ? activation(kind, v) : activation(kind, load(g + i, n)) * v, n);
    }
}

template <class T>
void activate_backward(int kind, const void* gate, const void* up, const void* dh, void* dgate, void* dup, void* h, int64_t count) {
    const T *g = static_cast<const T*>(gate), *u = static_cast<const T*>(up), *d = static_cast<const T*>(dh);
    T *dg = static_cast<T*>(dgate), *du = static_cast<T*>(dup), *out = static_cast<T*>(h);
    for (int64_t i = 0; i < count; i += lanes) {
        const int64_t n = count - i;
        F v = load(u + i, n), grad = load(d + i, n), slope;
        if (g == nullptr) {
            F y = activation(kind, v, slope);
            store(out + i, y, n);
            store(du + i, grad * slope, n);
        } else {
            F y = activation(kind, load(g + i, n), slope);
            store(out + i, y * v, n);
            store(du + i, grad * y, n);
            store(dg + i, grad * v * slope, n);
        }
    }
}

// ---- The rest ----

template <class T>
void column_sums(const void* x, float* sums, int64_t first, int64_t last, int64_t width) {
    for (int64_t r = first; r < last; r++) {
        const T* in = static_cast<const T*>(x) + r * width;
        for (int64_t i = 0; i < width; i += lanes) store(sums + i, load(sums + i, width - i) + load(in + i, width - i), width - i);
    }
}

template <class T>
void add_rows(const void* x, const float* weight, int64_t weight_row, void* y, int64_t first, int64_t last, int64_t time, int64_t width) {
    for (int64_t r = first; r < last; r++) {
        const T* in = static_cast<const T*>(x) + r * width;
        const float* w = weight + r % time * weight_row;
        T* out = static_cast<T*>(y) + r * width;
        for (int64_t i = 0; i < width; i += lanes) store(out + i, load(in + i, width - i) + load(w + i, width - i), width - i);
    }
}

void to_narrow(const float* x, void* y, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) store(static_cast<Narrow*>(y) + i, load(x + i, count - i), count - i);
}

void to_wide(const void* x, float* y, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) store(y + i, load(static_cast<const Narrow*>(x) + i, count - i), count - i);
}

template <class T>
void sum_blocks(const void* x, void* y, int64_t n, int64_t stride, int64_t first, int64_t last) {
    const T* in = static_cast<const T*>(x);
    for (int64_t i = first; i < last; i += lanes) {
        F total = load(in + i, last - i);
        for (int64_t b = 1; b < n; b++) total += load(in + b * stride + i, last - i);
        store(static_cast<T*>(y) + i, total, last - i);
    }
}

template <class T>
double cross_entropy(const float* logits, const int64_t* targets, void* derivative, int64_t rows, int64_t classes) {
    double loss = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float* x = logits + r * classes;
        float top = -INFINITY;
        F tops = splat(-INFINITY);
        int64_t i = 0;
        for (; i + lanes <= classes; i += lanes) tops = maximum(tops, load(x + i));
        for (; i < classes; i++) top = top > x[i] ? top : x[i];
        const float vector_top = largest(tops);
        top = top > vector_top ? top : vector_top;

        F totals{};
        float rest = 0;
        for (i = 0; i + lanes <= classes; i += lanes) totals += exponential(load(x + i) - top);
        if (i < classes) {
            float part[lanes];
            store(part, exponential(load(x + i, classes - i) - top));
            for (int64_t j = 0; j < classes - i; j++) rest += part[j];
        }
        const float total = sum(totals) + rest;
        const float log_sum = top + std::log(total);
        loss += static_cast<double>(log_sum) - static_cast<double>(x[targets[r]]);
        if (derivative == nullptr) continue;
        T* out = static_cast<T*>(derivative) + r * classes;
        const float inverse = 1.0f / total;
        for (i = 0; i < classes; i += lanes) store(out + i, exponential(load(x + i, classes - i) - top) * inverse, classes - i);
        const float hit = std::exp(x[targets[r]] - top) * inverse - 1.0f;
        if constexpr (element_of<T> == BFloat16) {
            out[targets[r]] = to_narrow_one(hit);
        } else {
            out[targets[r]] = hit;
        }
    }
    return loss;
}

template <class T>
void divergence(const float* teacher, const float* student, double* losses, void* derivative, int64_t rows, int64_t classes, float inverse,
                float factor) {
    // Returns the logarithm of the sum of e^(x / temperature) over a row.
    const auto log_sum = [&](const float* x) {
        F tops = splat(-INFINITY), totals{};
        for (int64_t i = 0; i < classes; i += lanes) {
            tops = maximum(tops, select(lanes_below(classes - i), load(x + i, classes - i), splat(-INFINITY)));
        }
        const float top = largest(tops) * inverse;
        for (int64_t i = 0; i < classes; i += lanes) {
            totals += select(lanes_below(classes - i), exponential(load(x + i, classes - i) * inverse - top), F{});
        }
        return top + std::log(sum(totals));
    };
    for (int64_t r = 0; r < rows; r++, teacher += classes, student += classes) {
        const float known_sum = log_sum(teacher), learnt_sum = log_sum(student);
        double loss = 0;
        for (int64_t i = 0; i < classes; i += lanes) {
            const int64_t n = classes - i;
            const F known = load(teacher + i, n) * inverse - known_sum, learnt = load(student + i, n) * inverse - learnt_sum;
            const F chance = exponential(known);
            if (losses != nullptr) loss += static_cast<double>(sum(select(lanes_below(n), chance * (known - learnt), F{})));
            if (derivative != nullptr) {
                store(static_cast<T*>(derivative) + r * classes + i, (exponential(learnt) - chance) * factor, n);
            }
        }
        if (losses != nullptr) losses[r] = loss;
    }
}

double sum_squares(const float* x, int64_t count) {
    double total = 0;
    for (int64_t i = 0; i < count; i += 4096) {
        const int64_t end = count < i + 4096 ? count : i + 4096;
        F squares{};
        for (int64_t j = i; j < end; j += lanes) {
            F v = load(x + j, end - j);
            squares += v * v;
        }
        total += static_cast<double>(sum(squares));
    }
    return total;
}

void scale(float* x, float factor, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) store(x + i, load(x + i, count - i) * factor, count - i);
}

inline F square_root(F x) {
    F y;
    for (int i = 0; i < lanes; i++) y[i] = std::sqrt(x[i]);
    return y;
}

void adamw(const AdamW& s, float* parameter, const float* gradient, float* first, float* second, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) {
        const int64_t n = count - i;
        F g = load(gradient + i, n);
        F m = load(first + i, n) * s.beta1 + g * s.one_minus_beta1;
        F v = load(second + i, n) * s.beta2 + g * g * s.one_minus_beta2;
        F denominator = square_root(v) / s.correction + s.epsilon;
        store(parameter + i, load(parameter + i, n) * s.decay - m / denominator * s.step_size, n);
        store(first + i, m, n);
        store(second + i, v, n);
    }
}

}  // namespace

extern const Table MF_TABLE;
const Table MF_TABLE = {
    MF_NAME,
    word_count,
    pack_right,
    pack_left,
    multiply,
    few_rows,
    {rms_forward<float>, rms_forward<Narrow>},
    {rms_backward<float>, rms_backward<Narrow>},
    {layer_forward<float>, layer_forward<Narrow>},
    {layer_backward<float>, layer_backward<Narrow>},
    {rotary<float>, rotary<Narrow>},
    {attention_forward<float>, attention_forward<Narrow>},
    {attention_backward<float>, attention_backward<Narrow>},
    {activate<float>, activate<Narrow>},
    {activate_backward<float>, activate_backward<Narrow>},
    {column_sums<float>, column_sums<Narrow>},
    {add_rows<float>, add_rows<Narrow>},
    to_narrow,
    to_wide,
    {sum_blocks<float>, sum_blocks<Narrow>},
    {cross_entropy<float>, cross_entropy<Narrow>},
    {divergence<float>, divergence<Narrow>},
    sum_squares,
    scale,
    adamw,
};

}  // namespace mf::cpu
