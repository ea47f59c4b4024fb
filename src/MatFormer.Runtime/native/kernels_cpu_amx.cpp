// bfloat16 products and attention with the CPU's tile matrix unit, AMX (Intel 64 and IA-32 Architectures Software Developer's Manual,
// volume 1, chapter 18). build.sh names the compiler flags of this file. Everything else comes from the AVX-512 table.
#include "kernels_cpu.h"

#if defined(__x86_64__)
#include <algorithm>
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels_cpu_attention.h"

namespace mf::cpu {
namespace {

// A tile register has up to sixteen rows of sixteen words.
constexpr int64_t side = 16;

// The memory that ldtilecfg reads: the format, and for each register the bytes of a row and the number of rows.
struct alignas(64) Shapes {
    uint8_t format = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
static_assert(sizeof(Shapes) == 64);

// The hardware unit. Assembly is used because intrinsics require literal register numbers.
struct Hardware {
    static void configure(const Shapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory"); }
    static void configuration(Shapes& shapes) { asm volatile("sttilecfg %0" : "=m"(shapes) : : "memory"); }
    static void release() { asm volatile("tilerelease" : : : "memory"); }

    template <int to>
    static void zero() {
        asm volatile("tilezero %%tmm%c0" : : "i"(to));
    }
    template <int to>
    static void load(const float* from, int64_t bytes) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(bytes), "i"(to) : "memory");
    }
    template <int from>
    static void store(float* to, int64_t bytes) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(bytes), "i"(from) : "memory");
    }
    template <int sum, int left, int right>
    static void multiply() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(left), "i"(right));
    }
};

// A software emulation of the unit, so that the code around it can be tested on any machine that has the AVX-512 table.
struct Emulated {
    struct State {
        Shapes shapes{0};
        float words[8][side][side];
    };
    static State& state() {
        static thread_local State one;
        return one;
    }

    static void configure(const Shapes& shapes) {
        state().shapes = shapes;
        std::memset(state().words, 0, sizeof state().words);
    }
    static void configuration(Shapes& shapes) { shapes = state().shapes; }
    static void release() { configure(Shapes{0}); }

    template <int to>
    static void zero() {
        std::memset(state().words[to], 0, sizeof state().words[to]);
    }
    template <int to>
    static void load(const float* from, int64_t bytes) {
        zero<to>();
        const State& s = state();
        for (int r = 0; r < s.shapes.rows[to]; r++) {
            std::memcpy(state().words[to][r], reinterpret_cast<const char*>(from) + r * bytes, s.shapes.row_bytes[to]);
        }
    }
    template <int from>
    static void store(float* to, int64_t bytes) {
        const State& s = state();
        for (int r = 0; r < s.shapes.rows[from]; r++) {
            std::memcpy(reinterpret_cast<char*>(to) + r * bytes, s.words[from][r], s.shapes.row_bytes[from]);
        }
    }
    template <int sum, int left, int right>
    static void multiply() {
        State& s = state();
        const auto low = [](F x) { return reinterpret_cast<F>(reinterpret_cast<U>(x) << 16); };
        const auto high = [](F x) { return reinterpret_cast<F>(reinterpret_cast<U>(x) & 0xffff0000); };
        for (int r = 0; r < s.shapes.rows[sum]; r++) {
            F total = cpu::load(s.words[sum][r]);
            for (int k = 0; k < s.shapes.row_bytes[left] / 4; k++) {
                const F a = splat(s.words[left][r][k]), b = cpu::load(s.words[right][k]);
                total += low(a) * low(b);
                total += high(a) * high(b);
            }
            cpu::store(s.words[sum][r], total);
        }
    }
};

// The registers: 0 to 3 hold two by two tiles of sums, 4 and 5 the left operand, one above the other, 6 and 7 the right operand, side by
// side. The destructor restores the thread's earlier configuration, because another library may use it.
template <class Unit>
class Registers {
public:
    Registers() { Unit::configuration(before_); }
    ~Registers() {
        if (before_.format == 0) {
            Unit::release();
        } else {
            Unit::configure(before_);
        }
    }
    Registers(const Registers&) = delete;
    Registers& operator=(const Registers&) = delete;

    void shape(int64_t upper, int64_t lower) {
        if (upper == upper_ && lower == lower_) return;
        upper_ = upper;
        lower_ = lower;
        Shapes shapes;
        const int64_t heights[8] = {upper, upper, lower, lower, upper, lower, side, side};
        for (int i = 0; i < 8; i++) {
            shapes.row_bytes[i] = 4 * side;
            shapes.rows[i] = static_cast<uint8_t>(heights[i]);
        }
        Unit::configure(shapes);
    }

private:
    Shapes before_;
    int64_t upper_ = 0, lower_ = 0;
};

// The words of a depth, padded to whole tiles.
int64_t padded_words(int64_t depth) { return padded((depth + 1) / 2, side); }

int64_t word_count(Element compute, int64_t depth) {
    return compute == BFloat16 ? padded_words(depth) : table_avx512_bf16.word_count(compute, depth);
}

// Packs in the layout of the AVX-512 table. Words that pad the depth are 0.
void pack_right(Element compute, const Matrix& b, int64_t depth, int64_t columns, void* packed, int64_t stride) {
    table_avx512_bf16.pack_right(compute, b, depth, columns, packed, stride);
    if (compute == Float) return;
    const int64_t words = (depth + 1) / 2, filled = padded(words, side) - words;
    auto* out = static_cast<float*>(packed) + words * panel;
    for (int64_t n = 0; n < columns; n += panel, out += stride * panel) std::memset(out, 0, static_cast<size_t>(filled * panel) * 4);
}

// Packs the words of row i to place(i). Words that pad the depth are 0.
template <class T, class Place>
void pack_left_of(const T* a, int64_t a_row, int64_t a_column, int64_t rows, int64_t depth, bool round, const Place& place) {
    const int64_t words = padded_words(depth);
    if (a_row == 1) {
        // Two adjacent blocks are read together: a cache line holds both, and the lines of wide matrices fall into the same few sets.
        for (int64_t w = 0; w < words; w += side) {
            for (int64_t i = 0; i < rows; i += 2 * side) {
                F blocks[2][lanes];
#pragma GCC unroll 16
                for (int64_t j = 0; j < side; j++) {
                    const int64_t k = 2 * (w + j), left = rows - i;
                    const bool pair = k + 1 < depth;
                    const T* p = a + i + k * a_column;
                    if constexpr (element_of<T> == BFloat16) {
                        if (pair && left >= 2 * side) {
                            blocks[0][j] = interleave<0>(p, p + a_column);
                            blocks[1][j] = interleave<side>(p, p + a_column);
                            continue;
                        }
                    }
                    blocks[0][j] = k < depth ? words_of<NarrowWords>(p, a_column, pair, round, left) : F{};
                    blocks[1][j] = k < depth && left > side ? words_of<NarrowWords>(p + side, a_column, pair, round, left - side) : F{};
                }
#pragma GCC unroll 2
                for (int64_t half = 0; half < 2; half++) {
                    transpose(blocks[half]);
                    const int64_t first = i + half * side;
#pragma GCC unroll 16
                    for (int64_t j = 0; j < side; j++) {
                        if (first + j < rows) store(place(first + j) + w, blocks[half][j]);
                    }
                }
            }
        }
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        const T* p = a + i * a_row;
        float* out = place(i);
        for (int64_t w = 0; w < words; w += side) {
            const int64_t k = 2 * w;
            if (a_column == 1) {
                store(out + w, words_along<NarrowWords>(p + k, depth - k, round));
                continue;
            }
            for (int64_t j = w; j < w + side; j++) {
                out[j] = 2 * j < depth ? word_of<NarrowWords>(p + 2 * j * a_column, a_column, 2 * j + 1 < depth, round) : 0;
            }
        }
    }
}

void pack_left(Element compute, const Matrix& a, int64_t rows, int64_t depth, void* packed, int64_t stride, int64_t word) {
    if (compute == Float) {
        table_avx512_bf16.pack_left(compute, a, rows, depth, packed, stride, word);
        return;
    }
    // Word (i, w) of a tile is packed[i * tile_words(stride) + w].
    const int64_t row = tile_words(stride);
    const auto place = [&](int64_t i) { return static_cast<float*>(packed) + word + i / tile * stride + i % tile * row; };
    if (a.element == Float) {
        pack_left_of(static_cast<const float*>(a.data), a.row, a.column, rows, depth, true, place);
    } else {
        pack_left_of(static_cast<const Narrow*>(a.data), a.row, a.column, rows, depth, false, place);
    }
}

// Rows of words of a left operand. Rows of a tile are `row` words apart, tiles `tile` words.
struct Rows {
    const float* data;
    int64_t row, tile;
};

// Computes sums (one or two tiles of rows, one or two of columns) = or += the product of `words` words of both operands. Rows of the right
// operand and of the sums are b_row and sums_row words apart.
template <class Unit, bool tall, bool wide>
inline __attribute__((always_inline)) void accumulate(int64_t words, const float* upper, const float* lower, int64_t row, const float* b,
                                                      int64_t b_row, float* sums, float* below, int64_t sums_row, bool more) {
    if (more) {
        Unit::template load<0>(sums, sums_row * 4);
        if (wide) Unit::template load<1>(sums + side, sums_row * 4);
        if (tall) Unit::template load<2>(below, sums_row * 4);
        if (tall && wide) Unit::template load<3>(below + side, sums_row * 4);
    } else {
        Unit::template zero<0>();
        if (wide) Unit::template zero<1>();
        if (tall) Unit::template zero<2>();
        if (tall && wide) Unit::template zero<3>();
    }
    for (int64_t w = 0; w < words; w += side, b += side * b_row) {
        Unit::template load<6>(b, b_row * 4);
        Unit::template load<4>(upper + w, row * 4);
        Unit::template multiply<0, 4, 6>();
        if (wide) Unit::template load<7>(b + side, b_row * 4);
        if (wide) Unit::template multiply<1, 4, 7>();
        if (tall) Unit::template load<5>(lower + w, row * 4);
        if (tall) Unit::template multiply<2, 5, 6>();
        if (tall && wide) Unit::template multiply<3, 5, 7>();
    }
    Unit::template store<0>(sums, sums_row * 4);
    if (wide) Unit::template store<1>(sums + side, sums_row * 4);
    if (tall) Unit::template store<2>(below, sums_row * 4);
    if (tall && wide) Unit::template store<3>(below + side, sums_row * 4);
}

template <class T>
void deliver(const Target& c, int64_t i, int64_t rows, int64_t n, int64_t columns, const float* sums) {
    for (int64_t r = 0; r < rows; r++, sums += panel) {
        T* out = static_cast<T*>(c.data) + (i + r) * c.row + n;
        for (int64_t j = 0; j < columns; j += lanes) {
            const int64_t left = columns - j;
            F v = load(sums + j) * c.scale;
            if (c.accumulate) v += load(out + j, left);
            if (c.bias != nullptr) v += load(c.bias + n + j, left);
            store(out + j, v, left);
        }
    }
}

// The number of words of depth for which a panel stays in the first-level cache beside the rows it is multiplied with.
constexpr int64_t most_words = 192;
// The number of rows whose sums are kept meanwhile.
constexpr int64_t most_rows = 20 * tile;

template <class Unit>
void multiply(Element compute, const Term* terms, int count, int64_t first, int64_t rows, int64_t columns, const Target& c, void* scratch) {
    if (compute == Float) {
        table_avx512_bf16.multiply(compute, terms, count, first, rows, columns, c, scratch);
        return;
    }

    Rows left[most_terms];
    int64_t words[most_terms];
    bool in_place[most_terms] = {};
    auto* space = static_cast<float*>(scratch);
    for (int t = 0; t < count; t++) {
        const Term& term = terms[t];
        words[t] = word_count(compute, term.depth);
        if (term.left != nullptr) {
            const auto* data = static_cast<const float*>(term.left) + first / tile * term.left_stride;
            left[t] = {data, tile_words(term.left_stride), term.left_stride};
            continue;
        }

        Matrix a = term.a;
        a.data = static_cast<const char*>(a.data) + first * a.row * (a.element == Float ? 4 : 2);
        in_place[t] = a.element == BFloat16 && a.column == 1 && a.row % 2 == 0 && term.depth % (2 * side) == 0;
        if (in_place[t]) {
            left[t] = {static_cast<const float*>(a.data), a.row / 2, a.row / 2 * tile};
            continue;
        }
        const int64_t stride = tile_stride(words[t]);
        pack_left(compute, a, rows, term.depth, space, stride, 0);
        left[t] = {space, words[t], stride};
        space += tiles_of(rows) * stride;
    }

    Registers<Unit> registers;
    alignas(64) float sums[most_rows * panel];
    for (int64_t i = 0; i < rows; i += most_rows) {
        const int64_t height = std::min(most_rows, rows - i);
        for (int64_t j = 0; j < columns; j += panel) {
            const int64_t width = std::min(panel, columns - j);
            bool more = false;
            for (int t = 0; t < count; t++) {
                const auto* b = static_cast<const float*>(terms[t].packed) + j / panel * terms[t].stride * panel;
                if (in_place[t] && i == 0) foresee_ahead(terms[t], left[t].data, left[t].row, words[t], rows, j, columns);
                const int64_t parts = (words[t] + most_words - 1) / most_words, each = padded((words[t] + parts - 1) / parts, side);
                for (int64_t w = 0; w < words[t]; w += each, more = true) {
                    const int64_t here = std::min(each, words[t] - w);
                    for (int64_t r = 0; r < height; r += 2 * tile) {
                        const int64_t upper = std::min(tile, height - r), lower = std::min(tile, height - r - upper);
                        const float* a = left[t].data + (i + r) / tile * left[t].tile + w;
                        registers.shape(upper, lower == 0 ? upper : lower);
                        float *above = sums + r * panel, *below = above + tile * panel;
                        if (lower > 0) {
                            accumulate<Unit, true, true>(here, a, a + left[t].tile, left[t].row, b + w * panel, panel, above, below, panel,
                                                         more);
                        } else {
                            accumulate<Unit, false, true>(here, a, nullptr, left[t].row, b + w * panel, panel, above, below, panel, more);
                        }
                    }
                }
            }
            if (c.element == Float) {
                deliver<float>(c, first + i, height, j, width, sums);
            } else {
                deliver<Narrow>(c, first + i, height, j, width, sums);
            }
        }
    }
}

// ---- Attention ----
// It multiplies as the products above do, in two by two tiles of up to sixteen rows. Depths are padded with zeros to whole tiles.

// Rows of words.
struct Left {
    const float* data;
    int64_t row;
};

// c (rows, columns) = or += x times y, of `words` words. Columns are padded to whole tiles in y and c, and words in both operands.
template <class Unit>
void product(Registers<Unit>& registers, int64_t rows, int64_t columns, int64_t words, Left x, const float* y, int64_t y_row, float* c,
             int64_t c_row, bool more) {
    for (int64_t i = 0; i < rows; i += 2 * side) {
        const int64_t upper = std::min(side, rows - i), lower = std::min(side, rows - i - upper);
        registers.shape(upper, lower == 0 ? upper : lower);
        const float *a = x.data + i * x.row, *under = a + side * x.row;
        for (int64_t n = 0; n < columns; n += 2 * side) {
            float *above = c + i * c_row + n, *below = above + side * c_row;
            const bool wide = columns - n > side;
            if (lower > 0 && wide) {
                accumulate<Unit, true, true>(words, a, under, x.row, y + n, y_row, above, below, c_row, more);
            } else if (lower > 0) {
                accumulate<Unit, true, false>(words, a, under, x.row, y + n, y_row, above, below, c_row, more);
            } else if (wide) {
                accumulate<Unit, false, true>(words, a, under, x.row, y + n, y_row, above, below, c_row, more);
            } else {
                accumulate<Unit, false, false>(words, a, under, x.row, y + n, y_row, above, below, c_row, more);
            }
        }
    }
}

// Packs a head's columns as rows of `row` words, which join neighbouring rows of the head.
void pack_turned(const Narrow* in, int64_t stride, int64_t rows, int64_t depth, float* out, int64_t row) {
    pack_left_of(in, 1, stride, depth, rows, false, [&](int64_t i) { return out + i * row; });
}

// Returns rows of a head as a left operand: in place if they consist of whole tiles, otherwise copied to `space`.
Left left_of(const Narrow* in, int64_t stride, int64_t rows, int64_t depth, float* space) {
    if (depth % (2 * side) == 0 && stride % 2 == 0) return {reinterpret_cast<const float*>(in), stride / 2};
    const int64_t words = padded_words(depth);
    pack_left_of(in, stride, 1, rows, depth, false, [&](int64_t i) { return space + i * words; });
    return {space, words};
}

template <class Unit>
struct TileProducts {
    static constexpr int64_t block = most_queries, group = 2 * side;
    Registers<Unit> registers;

    // Packs the columns of a head, each a row in memory, as panels.
    static void pack_columns(const Narrow* in, int64_t stride, int64_t columns, int64_t depth, float* out) {
        pack_right(BFloat16, {in, BFloat16, 1, stride}, depth, columns, out, padded_words(depth));
    }
    // Packs pairs of rows of a head, followed by zeros.
    static void pack_rows(const Narrow* in, int64_t stride, int64_t rows, int64_t depth, float* out, int64_t row) {
        cpu::pack_rows(in, stride, rows, depth, out, row);
        std::fill(out + (rows + 1) / 2 * row, out + padded_words(rows) * row, 0.0f);
    }
    void score(const Attention& a, int64_t rows, const Sight& seen, const Narrow* q, float* space, const float* keys, float* scores,
               int64_t row) {
        const Left left = left_of(q, a.query.time, rows, a.depth, space);
        const int64_t words = padded_words(a.depth);
        for (int64_t i = 0; i < rows; i += group) {
            const int64_t height = std::min(group, rows - i);
            for (int64_t n = lowest_panel(a, seen(i) - 1); n < seen(i + height - 1); n += panel) {
                product(registers, height, panel, words, {left.data + i * left.row, left.row}, keys + n * words, panel,
                        scores + i * row + n, row, false);
            }
        }
    }
    void mix(int64_t rows, int64_t columns, int64_t words, const float* x, int64_t x_row, const float* y, float* c) {
        product(registers, rows, columns, padded(words, side), {x, x_row}, y, columns, c, columns, false);
    }
};

template <class Unit>
void attention_forward(const Attention& a, int64_t b, int64_t h, void* out, float* log_sum, void* scratch) {
    if (a.queries < 8) return table_avx512_bf16.attention_forward[BFloat16](a, b, h, out, log_sum, scratch);
    attend<Narrow, TileProducts<Unit>>(a, b, h, out, log_sum, scratch);
}

// The formulas are those of the other tables. dK and dV are computed turned, as dK^T = Q^T dS and dV^T = dO^T P, because P and dS then are
// right operands as they are stored.
template <class Unit>
void attention_backward(const Attention& a, int64_t b, int64_t key_head, const void* out, const void* dout, const float* log_sum,
                        void* dquery, void* dkey, void* dvalue, void* scratch) {
    using Products = TileProducts<Unit>;
    constexpr int64_t block = Products::block, group = Products::group;
    const int64_t groups = a.heads / a.key_heads, depth = a.depth, words = padded_words(depth);
    const int64_t row = padded(depth, lanes), length = padded(a.keys, panel);
    float* keys = static_cast<float*>(scratch);  // panels, for scores
    float* values = keys + length * words;
    float* key_pairs = values + length * words;  // for the gradient of the queries
    float* key_sums = key_pairs + length / 2 * row;  // (depth, keys), as value_sums
    float* value_sums = key_sums + row * length;
    float* query = value_sums + row * length;
    float* query_turned = query + block * words;
    float* gradient = query_turned + row * block / 2;
    float* gradient_turned = gradient + block * words;
    float* mixed = gradient_turned + row * block / 2;
    float* slopes = mixed + block * row;
    const Slopes to{slopes, slopes + block * length / 2, slopes + block * length, length};

    const auto *key = head_of<Narrow>(a.key, b, key_head), *value = head_of<Narrow>(a.value, b, key_head);
    Products::pack_columns(key, a.key.time, a.keys, depth, keys);
    Products::pack_columns(value, a.value.time, a.keys, depth, values);
    Products::pack_rows(key, a.key.time, a.keys, depth, key_pairs, row);
    std::fill(key_sums, query, 0.0f);

    Registers<Unit> registers;
    for (int64_t h = key_head * groups; h < (key_head + 1) * groups; h++) {
        for (int64_t t = 0; t < a.queries; t += block) {
            const int64_t rows = std::min(block, a.queries - t), next_rows = std::min(block, a.queries - t - rows);
            const Sight seen(a, b, t);
            const int64_t base = (b * a.queries + t) * a.heads + h, first = seen.first, stride = a.heads * depth;
            const int64_t visible = seen(rows - 1), columns = padded(visible, panel), start = lowest_panel(a, seen(0) - 1);
            const Narrow* q = head_of<Narrow>(a.query, b, h) + t * a.query.time;
            const Narrow *y = static_cast<const Narrow*>(out) + base * depth, *dy = static_cast<const Narrow*>(dout) + base * depth;
            foresee(q + rows * a.query.time, a.query.time, next_rows, depth);
            foresee(y + rows * stride, stride, next_rows, depth);
            foresee(dy + rows * stride, stride, next_rows, depth);
            const Left left = left_of(q, a.query.time, rows, depth, query), right = left_of(dy, stride, rows, depth, gradient);
            pack_turned(q, a.query.time, rows, depth, query_turned, block / 2);
            pack_turned(dy, stride, rows, depth, gradient_turned, block / 2);
            float logs[block] = {}, dots[block] = {};
            row_terms(a, b, h, t, rows, y, dy, log_sum, logs, dots);

            for (int64_t r = 0; r < rows; r += group) {
                const int64_t height = std::min(group, rows - r), low = lowest_panel(a, seen(r) - 1), high = seen(r + height - 1);
                const int64_t inner = height % 2 == 0 ? seen(r) : 0, outer = lowest(a, high - 1);
                for (int64_t n = start; n < columns; n += panel) {
                    const bool any = n >= low && n < high, whole = n + panel <= inner && n >= outer;
                    alignas(64) float s[group * panel], d[group * panel];
                    if (any) {
                        product(registers, height, panel, words, {left.data + r * left.row, left.row}, keys + n * words, panel, s, panel,
                                false);
                        product(registers, height, panel, words, {right.data + r * right.row, right.row}, values + n * words, panel, d,
                                panel, false);
                    }
                    for (int64_t i = 0; i < height; i += 2) {
                        for (int64_t j = 0; j < panel; j += lanes) {
                            const float *p = s + i * panel + j, *slope = d + i * panel + j;
                            if (!any) {
                                const F none[2] = {};
                                to.put<NarrowWords>(r + i, n + j, none, none);
                                continue;
                            }
                            const F scores[2] = {load(p), load(p + panel)}, gradients[2] = {load(slope), load(slope + panel)};
                            if (whole) {
                                put_slopes<NarrowWords, true>(a, seen, scores, gradients, r + i, rows, n + j, logs, dots, to);
                            } else {
                                put_slopes<NarrowWords, false>(a, seen, scores, gradients, r + i, rows, n + j, logs, dots, to);
                            }
                        }
                    }
                }
            }
            // Rows that pad the last queries to whole tiles are 0.
            for (int64_t w = (rows + 1) / 2; w < padded_words(rows); w++) {
                std::fill(to.chances + w * length + start, to.chances + w * length + columns, 0.0f);
                std::fill(to.columns + w * length + start, to.columns + w * length + columns, 0.0f);
            }

            for (int64_t i = 0; i < rows; i += group) {
                const int64_t height = std::min(group, rows - i), skipped = lowest_panel(a, seen(i) - 1) / 2;
                product(registers, height, row, padded_words(seen(i + height - 1)) - skipped,
                        {to.rows + i * (length / 2) + skipped, length / 2}, key_pairs + skipped * row, row, mixed + i * row, row, false);
            }
            for (int64_t r = 0; r < rows; r++) {
                Narrow* dq = static_cast<Narrow*>(dquery) + (base + r * a.heads) * depth;
                for (int64_t i = 0; i < depth; i += lanes) store(dq + i, load(mixed + r * row + i), depth - i);
            }
            // Causal: keys from s on are seen by the queries from s - first on, until the window has passed. Otherwise all queries see
            // them.
            for (int64_t s = start; s < visible; s += panel) {
                const int64_t from = a.causal && s > first ? (s - first) / panel * side : 0;
                const int64_t until = a.causal ? std::min(rows, s + panel - 1 - first + a.window) : rows;
                if (until <= 0) continue;
                const int64_t here = padded_words(until) - from;
                product(registers, depth, panel, here, {gradient_turned + from, block / 2}, to.chances + from * length + s, length,
                        value_sums + s, length, true);
                product(registers, depth, panel, here, {query_turned + from, block / 2}, to.columns + from * length + s, length,
                        key_sums + s, length, true);
            }
        }
    }

    const auto deliver_turned = [&](const float* sums, void* to) {
        for (int64_t s = 0; s < a.keys; s += side) {
            for (int64_t i = 0; i < depth; i += side) {
                F turned[lanes];
                for (int64_t j = 0; j < side; j++) turned[j] = load(sums + (i + j) * length + s);
                transpose(turned);
                for (int64_t j = 0; j < side && s + j < a.keys; j++) {
                    auto* out = static_cast<Narrow*>(to) + ((b * a.keys + s + j) * a.key_heads + key_head) * depth + i;
                    store(out, turned[j], depth - i);
                }
            }
        }
    };
    deliver_turned(key_sums, dkey);
    deliver_turned(value_sums, dvalue);
}

template <class Unit>
Table with(const char* name) {
    Table table = table_avx512_bf16;
    table.name = name;
    table.word_count = word_count;
    table.pack_right = pack_right;
    table.pack_left = pack_left;
    table.multiply = multiply<Unit>;
    table.attention_forward[BFloat16] = attention_forward<Unit>;
    table.attention_backward[BFloat16] = attention_backward<Unit>;
    return table;
}

}  // namespace

const Table& table_amx_bf16() {
    static const Table table = with<Hardware>("amx_bf16");
    return table;
}

const Table& table_amx_emulated() {
    static const Table table = with<Emulated>("amx_emulated");
    return table;
}

bool allows_amx() {
#if defined(__linux__)
    // CPUID leaf 7 reports AMX-BF16 and AMX-TILE. XCR0 tells whether the system saves tile configurations and tiles.
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & (1u << 22)) == 0 || (d & (1u << 24)) == 0) return false;
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & (3u << 17)) != 3u << 17) return false;
    // Linux allows tiles to a process that asks (Documentation/arch/x86/xstate.rst): ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA.
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

}  // namespace mf::cpu
#endif
