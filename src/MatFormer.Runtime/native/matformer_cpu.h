// The C ABI of libmatformer_cpu: the forward and backward passes of MatFormer.Kernels on a CPU, over plain memory.
//
// Activations are float32 or bfloat16, contiguous, in the shapes given below; weights and their gradients are float32. A function returns 0
// on success and 1 on failure. After a failure, mf_last_error() returns the reason until the same thread's next failure. No exception
// crosses this boundary. The caller checks shapes; this library checks what only the data can tell, such as a token outside the vocabulary.
//
// A backward call gets the same description as the forward call, with `kept` as the forward call filled it, and the fields marked
// "backward".
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define MF_API __declspec(dllexport)
#else
#define MF_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Raise it with each change of a signature or a structure here.
#define MF_ABI_VERSION 2

enum mf_element { MF_FLOAT32 = 0, MF_BFLOAT16 = 1 };
enum mf_activation { MF_GELU = 0, MF_SQUARED_RELU = 1, MF_SWIGLU = 2, MF_GEGLU = 3 };

// (rows, columns), or a vector of `columns` with rows = 1. Consecutive rows of `data` are `row` numbers apart. The weight is absent if data
// is null. Backward: `gradient` is (rows, columns), contiguous, or null if it is not wanted. All of it is written, even if the operation
// uses only the first rows or columns of the weight, as for an x that is narrower than the weight. With `add`, the gradient is added to
// its old content instead.
typedef struct mf_weight {
    const float* data;
    float* gradient;
    int64_t rows, columns, row;
    int64_t add;
} mf_weight;

// LayerNorm if there is a bias, otherwise RMSNorm.
typedef struct mf_norm {
    mf_weight weight, bias;
    double epsilon;
} mf_norm;

MF_API int32_t mf_abi_version(void);
MF_API const char* mf_last_error(void);

// Sets how many threads compute, including the calling thread; 1 or more. They sleep while there is nothing to do.
MF_API int32_t mf_set_threads(int32_t count);

// Returns the instruction sets with which this machine can run the loops, best first, separated by commas.
MF_API const char* mf_instruction_sets(void);
// Switches to one of them, or to "amx_emulated". For tests.
MF_API int32_t mf_use_instruction_set(const char* name);

// Measures the seconds spent in each operation while it is on. The result has one line "name seconds" for each operation.
MF_API void mf_profile(int32_t on);
MF_API const char* mf_profile_read(void);

// y (count, width) of `element`: the first `width` numbers of rows tokens[i] of weight (vocabulary, width or more).
typedef struct mf_embedding {
    int64_t element, count, width;
    mf_weight weight;
    const int64_t* tokens;
    void* y;
    const void* dy;  // backward
} mf_embedding;
MF_API int32_t mf_embedding_forward(const mf_embedding* p);
MF_API int32_t mf_embedding_backward(const mf_embedding* p);

// y = x + rows position..position + time of weight (context, width or more). x and y are (batch, time, width). The gradient of x is dy.
typedef struct mf_positions {
    int64_t element, batch, time, width, position;
    mf_weight weight;
    const void* x;
    void* y;
    const void* dy;  // backward
} mf_positions;
MF_API int32_t mf_positions_forward(const mf_positions* p);
MF_API int32_t mf_positions_backward(const mf_positions* p);

// x and y (count, width).
typedef struct mf_norm_call {
    int64_t element, count, width;
    mf_norm norm;
    const void* x;
    void* y;
    void* kept;  // mf_norm_kept bytes, or null if no backward call follows
    const void* dy;  // backward, like dx
    void* dx;
} mf_norm_call;
MF_API int64_t mf_norm_kept(const mf_norm_call* p);
MF_API int32_t mf_norm_forward(const mf_norm_call* p);
MF_API int32_t mf_norm_backward(const mf_norm_call* p);

// y (count, outs) = x (count, ins) times the transpose of the first outs rows and ins columns of weight, plus the first outs of bias.
typedef struct mf_linear {
    int64_t element, count, ins, outs;
    mf_weight weight, bias;
    const void* x;
    void* y;
    const void* dy;  // backward
    void* dx;  // backward; null if it is not wanted
} mf_linear;
MF_API int32_t mf_linear_forward(const mf_linear* p);
MF_API int32_t mf_linear_backward(const mf_linear* p);

// y = x + attention(norm(x)). x and y are (batch, time, width). Attention uses the first `heads` heads of `depth` numbers of query (rows)
// and output (columns), and the first `key_heads` heads of key and value. Queries and keys are normed head by head if query_norm and
// key_norm have weights. They are rotated by cos and sin (time, depth / 2) unless these are null. If attention is causal, a query sees the
// last `window` keys up to its own; otherwise it sees the first lengths[b % length_count] keys, or all keys.
typedef struct mf_attention {
    int64_t element, batch, time, width, heads, key_heads, depth;
    mf_norm norm;
    mf_weight query, key, value, output, query_bias, key_bias, value_bias, output_bias;
    mf_norm query_norm, key_norm;
    const float *cos, *sin;
    int64_t causal, window;  // window: 0 for all
    const int64_t* lengths;
    int64_t length_count;
    const void* x;
    void* y;
    void* kept;  // mf_attention_kept bytes, or null if no backward call follows
    // The keys and values of `past` earlier tokens, (batch, capacity, key_heads, depth) each. The new ones are appended. They are null and
    // past is 0 without a cache; then only the tokens of this call are seen. With a cache, kept must be null.
    void *key_cache, *value_cache;
    int64_t capacity, past;
    const void* dy;  // backward, like dx
    void* dx;
} mf_attention;
MF_API int64_t mf_attention_kept(const mf_attention* p);
MF_API int32_t mf_attention_forward(const mf_attention* p);
MF_API int32_t mf_attention_backward(const mf_attention* p);

// y = x + feed_forward(norm(x)) of stacked streams. Stream r uses the first widths[r] hidden units. x and y are (batch, time, width). The
// streams, widest first, have rows[r] rows of the batch each, or all the same number if rows is null. Where the streams part, x is
// (batch, time, width) for all of them, y is (streams * batch, time, width), and rows is null.
typedef struct mf_feed_forward {
    int64_t element, batch, time, width, activation, streams, parting;
    const int32_t *widths, *rows;
    mf_norm norm;
    mf_weight gate, up, down, gate_bias, up_bias, down_bias;
    const void* x;
    void* y;
    void* kept;  // mf_feed_forward_kept bytes, or null if no backward call follows
    const void* dy;  // backward, like dx
    void* dx;
} mf_feed_forward;
MF_API int64_t mf_feed_forward_kept(const mf_feed_forward* p);
MF_API int32_t mf_feed_forward_forward(const mf_feed_forward* p);
MF_API int32_t mf_feed_forward_backward(const mf_feed_forward* p);

// losses (streams): the mean cross-entropy of each stream of x (batch, time, width). Logits are x times the transpose of head (classes,
// width), which is rounded to x's element. targets are (batch, time); or, if rows is null, one stream's targets, which all streams share.
typedef struct mf_cross_entropy {
    int64_t element, batch, time, width, streams;
    const int32_t* rows;
    mf_weight head;
    const void* x;
    const int64_t* targets;
    float* losses;
    void* kept;  // mf_cross_entropy_kept bytes, or null if no backward call follows
    const float* dlosses;  // backward, like dx
    void* dx;
} mf_cross_entropy;
MF_API int64_t mf_cross_entropy_kept(const mf_cross_entropy* p);
MF_API int32_t mf_cross_entropy_forward(const mf_cross_entropy* p);
MF_API int32_t mf_cross_entropy_backward(const mf_cross_entropy* p);

// losses (streams): temperature^2 KL(teacher || stream), where both are softmax(logits / temperature), averaged over a stream's tokens.
// They are 0 before the stream `student`. teacher is (batch, time, teacher_width) of one stream if rows is null; otherwise it has the rows
// of the streams from the student on.
typedef struct mf_divergence {
    int64_t element, batch, time, width, teacher_width, streams, student;
    double temperature;
    const int32_t* rows;
    mf_weight head;
    const void *x, *teacher;
    float* losses;
    const float* dlosses;  // backward, like dx
    void* dx;
} mf_divergence;
MF_API int32_t mf_divergence_forward(const mf_divergence* p);
MF_API int32_t mf_divergence_backward(const mf_divergence* p);

// One AdamW step over `count` numbers.
typedef struct mf_adamw {
    float* parameters;
    const float* gradients;
    float *first, *second;
    int64_t count;
    double decay, learning_rate, beta1, beta2, epsilon;
    int64_t step;  // starts at 1
} mf_adamw;
MF_API int32_t mf_adamw_step(const mf_adamw* p);

// mf_sum_squares computes the sum of squares, which is the same for any number of threads. mf_scale multiplies numbers in place.
MF_API int32_t mf_sum_squares(const float* x, int64_t count, double* sum);
MF_API int32_t mf_scale(float* x, int64_t count, float factor);

#ifdef __cplusplus
}
#endif
