// The fused operations of MatFormer.Kernels. Each is differentiable; errors are c10::Error and name the operand.
// On the CPU the loops are our own (kernels_cpu.h); elsewhere ATen's operations compose them (kernels_composite.cpp).
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <string>
#include <vector>

namespace mf::kernels {

enum class FeedForwardKind : int32_t { Gelu, SquaredRelu, SwiGlu, GeGlu };

inline bool gated(FeedForwardKind kind) { return kind == FeedForwardKind::SwiGlu || kind == FeedForwardKind::GeGlu; }

struct FeedForwardWeights {
    at::Tensor gate, gate_bias, up, up_bias, down, down_bias;  // undefined when absent
};

// Where the streams of a stack lie along the batch. `rows` is how many of the batch each has, one after the other; if it is empty, all have
// as many, and run over the same batch.
struct Segments {
    std::vector<int64_t> first, count;
    bool shared;

    // Of x (N, ...).
    Segments(const char* operation, const at::Tensor& x, int64_t streams, at::IntArrayRef rows);
    // Where a stream begins in what is given once for all streams, such as targets.
    int64_t source(size_t stream) const { return shared ? 0 : first[stream]; }
};

// Of queries, keys and values: matrices, or biases, all undefined when absent.
using ProjectionWeights = std::array<at::Tensor, 3>;

struct AdamWOptions {
    double learning_rate, beta1, beta2, epsilon;
    int64_t step;
};

at::Tensor embedding(const at::Tensor& weight, const at::Tensor& tokens, at::ScalarType dtype);
at::Tensor add_positions(const at::Tensor& x, const at::Tensor& weight, int64_t position);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon);
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
std::vector<at::Tensor> projections(const at::Tensor& x, const ProjectionWeights& weights, const ProjectionWeights& biases);
at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, int64_t rows);
at::Tensor linear_columns(const at::Tensor& x, const at::Tensor& weight, int64_t columns);
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor causal_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, int64_t window);
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& lengths);
at::Tensor feed_forward(const at::Tensor& x, const FeedForwardWeights& weights, FeedForwardKind kind, at::IntArrayRef widths,
                        at::IntArrayRef rows, bool parting);
at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& head, const at::Tensor& targets, int64_t streams,
                                at::IntArrayRef rows);
at::Tensor linear_divergence(const at::Tensor& x, const at::Tensor& teacher, const at::Tensor& head, int64_t streams, at::IntArrayRef rows,
                             int64_t student, double temperature);
at::Tensor fork(const at::Tensor& x, int64_t n);
void adamw(at::TensorList parameters, at::TensorList first, at::TensorList second, at::ArrayRef<double> decay, const AdamWOptions& options);
double clip_gradient_norm(at::TensorList parameters, double max);

// The instruction sets that this machine can run, best first. For tests and measurements.
std::vector<std::string> instruction_sets();
// One of them; or `aten`: then the CPU computes as other devices do.
void use_instruction_set(const std::string& name);

// Whether ATen's operations compose what is computed from x.
bool composed(const at::Tensor& x);

// The same operations out of ATen's, for any device.
namespace composite {
at::Tensor embedding(const at::Tensor& weight, const at::Tensor& tokens, at::ScalarType dtype);
at::Tensor add_positions(const at::Tensor& x, const at::Tensor& weight, int64_t position);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon);
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor causal_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, int64_t window);
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& lengths);
at::Tensor feed_forward(const at::Tensor& x, const FeedForwardWeights& weights, FeedForwardKind kind, at::IntArrayRef widths,
                        at::IntArrayRef rows, bool parting);
at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& head, const at::Tensor& targets, int64_t streams,
                                at::IntArrayRef rows);
at::Tensor fork(const at::Tensor& x, int64_t n);
void adamw(at::TensorList parameters, at::TensorList first, at::TensorList second, at::ArrayRef<double> decay, const AdamWOptions& options);
double clip_gradient_norm(at::TensorList parameters, double max);
}  // namespace composite

}  // namespace mf::kernels
