// The CPU's inner loops, compiled once per instruction set (kernels_cpu_*.cpp) and chosen at run time.
//
// It uses only plain pointers. A header with inline functions, compiled with AVX-512 flags, would leave copies of them for the linker to
// pick, and the copies would be illegal instructions on older machines.
#pragma once

#include <cstdint>

namespace mf::cpu {

// The element types of activations; the values index the arrays of the table.
enum Element { Float = 0, BFloat16 = 1 };

// A matrix with any strides: element (i, j) is data[i * row + j * column].
struct Matrix {
    const void* data;
    Element element;
    int64_t row;
    int64_t column;
};

// (rows, columns) <- scale * product + bias, or the same added to the old content. Rows are contiguous.
struct Target {
    void* data;
    Element element;
    int64_t row;
    bool accumulate = false;
    const float* bias = nullptr;
    float scale = 1;
};

// One term of a product: a left operand, and a right operand that pack_right packed, with its stride. If pack_left packed the left operand,
// it is at `left`, and `a` is not read.
struct Term {
    Matrix a;
    int64_t depth;
    const void* packed;
    int64_t stride;
    const void* left = nullptr;
    int64_t left_stride = 0;
    int64_t ahead = 0;  // rows of `a` after the multiplied ones, to prefetch because they are likely to be next
};

// The heads of attention. Element (b, t, h, d) of a tensor is data[b * batch + t * time + h * head + d].
struct Heads {
    const void* data;
    int64_t batch, time, head;
};

struct Attention {
    int64_t batch, heads, key_heads, queries, keys, depth;
    int64_t window;  // a query sees this many keys, the last one its own; at most `keys`
    float scale;
    Heads query, key, value;
    bool causal = true;  // otherwise all queries see all keys, or the first lengths[b % length_count]
    const int64_t* lengths = nullptr;
    int64_t length_count = 0;
};

// Gradients to which another is added: `blocks` sets of rows of the same shape, `stride` elements apart. Nothing if there are no blocks.
struct Added {
    const void* data = nullptr;
    int64_t blocks = 0, stride = 0;
};

struct AdamW {
    float decay;  // 1 - learning rate * weight decay
    float beta1, beta2;
    float one_minus_beta1, one_minus_beta2;
    float step_size;  // learning rate / (1 - beta1^step)
    float correction;  // sqrt(1 - beta2^step)
    float epsilon;
};

constexpr int64_t panel = 32;  // columns of a packed block of the right operand
constexpr int64_t tile = 12;  // rows of the inner product
constexpr int64_t depth_unit = 32;  // parts of a product's depth are multiples of this
constexpr int64_t panels_of(int64_t columns) { return (columns + panel - 1) / panel; }
constexpr int64_t tiles_of(int64_t rows) { return (rows + tile - 1) / tile; }
constexpr int most_terms = 3;
// The words from tile to tile of a packed left operand. Without a gap, many tiles would fall into few sets of the cache.
constexpr int64_t tile_stride(int64_t words) { return words * tile + 16; }
constexpr int64_t tile_words(int64_t stride) { return (stride - 16) / tile; }
constexpr int64_t query_block = 48;  // queries that attention processes at once with vectors
constexpr int64_t most_queries = 64;  // and with the tile matrix unit

struct Table {
    const char* name;

    // Products. `compute` is the type to which operands are rounded; sums are float32. A packed right operand consists of panels of `panel`
    // columns. Each panel has word_count(compute, depth) rows of 4-byte words. A packed left operand consists of tiles of `tile` rows with
    // as many words; each table has its own order of words. Consecutive panels are `stride` times `panel` words apart, consecutive tiles
    // `stride` = tile_stride(word_count) words. A part of the depth that starts at a multiple of `depth_unit` is packed at its place in the
    // whole: from word_count(compute, its start) on.
    int64_t (*word_count)(Element compute, int64_t depth);
    void (*pack_right)(Element compute, const Matrix& b, int64_t depth, int64_t columns, void* packed, int64_t stride);
    void (*pack_left)(Element compute, const Matrix& a, int64_t rows, int64_t depth, void* packed, int64_t stride, int64_t word);
    // Computes rows first..first + rows and columns 0..columns of the sum of up to `most_terms` products. The scratch holds packed left
    // rows of each term.
    void (*multiply)(Element compute, const Term* terms, int count, int64_t first, int64_t rows, int64_t columns, const Target& c,
                     void* scratch);
    // y (rows, outs) = x (rows, width) w (outs, width)^T for a few rows, or the same added to y. w is float32; it is rounded to `compute`
    // and read once.
    void (*few_rows)(Element compute, const void* x, int64_t rows, int64_t width, const float* w, int64_t w_row, const float* bias,
                     int64_t first, int64_t last, void* y, int64_t y_row, bool accumulate);

    // Norms of rows first..last. `statistics` holds rsqrt(mean square), or mean and rsqrt(variance), for each row. y may be x. dx is the
    // sum of the gradient and `added`; it may be dy, or null.
    void (*rms_forward[2])(const void* x, const float* weight, void* y, float* statistics, int64_t first, int64_t last, int64_t width,
                           float epsilon);
    void (*rms_backward[2])(const void* dy, const void* x, const float* weight, const float* statistics, const Added& added, void* dx,
                            float* dweight, int64_t first, int64_t last, int64_t width);
    void (*layer_forward[2])(const void* x, const float* weight, const float* bias, void* y, float* statistics, int64_t first, int64_t last,
                             int64_t width, float epsilon);
    void (*layer_backward[2])(const void* dy, const void* x, const float* weight, const float* statistics, const Added& added, void* dx,
                              float* dweight, float* dbias, int64_t first, int64_t last, int64_t width);

    // Rotates rows first..last of (B*T, H, D). `direction` is 1, or -1 for the gradient. y may be x.
    void (*rotary[2])(const void* x, const float* cos, const float* sin, void* y, int64_t first, int64_t last, int64_t time, int64_t heads,
                      int64_t depth, float direction);

    void (*attention_forward[2])(const Attention& a, int64_t b, int64_t h, void* out, float* log_sum, void* scratch);
    void (*attention_backward[2])(const Attention& a, int64_t b, int64_t key_head, const void* out, const void* dout, const float* log_sum,
                                  void* dquery, void* dkey, void* dvalue, void* scratch);

    // kind: 0 gelu, 1 squared relu, 2 silu. gate is null if there is none.
    void (*activate[2])(int kind, const void* gate, const void* up, void* h, int64_t count);
    void (*activate_backward[2])(int kind, const void* gate, const void* up, const void* dh, void* dgate, void* dup, void* h,
                                 int64_t count);

    // Adds the column sums of rows first..last to `sums`.
    void (*column_sums[2])(const void* x, float* sums, int64_t first, int64_t last, int64_t width);
    // y = x + weight, for rows of (B*T). weight is (T, W) with rows `weight_row` apart.
    void (*add_rows[2])(const void* x, const float* weight, int64_t weight_row, void* y, int64_t first, int64_t last, int64_t time,
                        int64_t width);
    void (*to_narrow)(const float* x, void* y, int64_t count);
    void (*to_wide)(const void* x, float* y, int64_t count);
    // Sums `n` blocks that are `stride` elements apart, in float32.
    void (*sum_blocks[2])(const void* x, void* y, int64_t n, int64_t stride, int64_t first, int64_t last);

    // logits (rows, classes) float32 -> the summed loss, and softmax minus one-hot in `derivative` unless it is null.
    double (*cross_entropy[2])(const float* logits, const int64_t* targets, void* derivative, int64_t rows, int64_t classes);
    // Teacher's and student's logits (rows, classes), multiplied by `inverse` -> KL(teacher || student) of each row in `losses`, and
    // `factor` times (the student's softmax minus the teacher's) in `derivative`. Either may be null.
    void (*divergence[2])(const float* teacher, const float* student, double* losses, void* derivative, int64_t rows, int64_t classes,
                          float inverse, float factor);

    double (*sum_squares)(const float* x, int64_t count);
    void (*scale)(float* x, float factor, int64_t count);
    void (*adamw)(const AdamW& s, float* parameter, const float* gradient, float* first, float* second, int64_t count);
};

// Return the bytes of scratch that one call needs.
int64_t attention_forward_scratch(const Attention& a);
int64_t attention_backward_scratch(const Attention& a);

extern const Table table_portable;
#if defined(__x86_64__)
extern const Table table_avx2;
extern const Table table_avx512;
extern const Table table_avx512_bf16;
// Like table_avx512_bf16, except that the tile matrix unit, or a software emulation of it, computes bfloat16 products.
const Table& table_amx_bf16();
const Table& table_amx_emulated();
// Returns whether the CPU has a tile matrix unit and the system lets this process use it.
bool allows_amx();
#endif

// Returns the table in use: the best one for this machine, unless a test has chosen another.
const Table& table();

}  // namespace mf::cpu
