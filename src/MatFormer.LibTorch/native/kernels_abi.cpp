// The C ABI of the fused operations. Null handles are absent operands.
#include <cstring>

#include "abi.h"
#include "kernels.h"
#include "profile.h"

using mf::Handle;
using mf::profile::Timed;
namespace kernels = mf::kernels;

namespace {

std::vector<at::Tensor> list(const Handle* handles, int64_t count) {
    std::vector<at::Tensor> tensors;
    tensors.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; i++) tensors.push_back(*handles[i]);
    return tensors;
}

// None if the pointer is null.
std::vector<int64_t> numbers(const int32_t* data, int64_t count) {
    return data == nullptr ? std::vector<int64_t>() : std::vector<int64_t>(data, data + count);
}

}  // namespace

MF_API Handle mf_kernel_embedding(Handle weight, Handle tokens, int32_t dtype) {
    return mf::tensor([&] {
        const Timed timed("embedding.forward");
        return kernels::embedding(*weight, *tokens, static_cast<at::ScalarType>(dtype));
    });
}

MF_API Handle mf_kernel_add_positions(Handle x, Handle weight, int64_t position) {
    return mf::tensor([&] {
        const Timed timed("positions.forward");
        return kernels::add_positions(*x, *weight, position);
    });
}

MF_API Handle mf_kernel_rms_norm(Handle x, Handle weight, double epsilon) {
    return mf::tensor([&] {
        const Timed timed("norm.forward");
        return kernels::rms_norm(*x, *weight, epsilon);
    });
}

MF_API Handle mf_kernel_layer_norm(Handle x, Handle weight, Handle bias, double epsilon) {
    return mf::tensor([&] {
        const Timed timed("norm.forward");
        return kernels::layer_norm(*x, *weight, *bias, epsilon);
    });
}

MF_API Handle mf_kernel_linear(Handle x, Handle weight, Handle bias) {
    return mf::tensor([&] {
        const Timed timed("linear.forward");
        return kernels::linear(*x, *weight, mf::optional(bias));
    });
}

// The biases are all null or none is; `into` has room for the three results.
MF_API int mf_kernel_projections(Handle x, Handle query, Handle key, Handle value, Handle query_bias, Handle key_bias, Handle value_bias,
                                 Handle* into) {
    return mf::status([&] {
        const Timed timed("linear.forward");
        auto made = kernels::projections(*x, {*query, *key, *value},
                                         {mf::optional(query_bias), mf::optional(key_bias), mf::optional(value_bias)});
        for (size_t i = 0; i < made.size(); i++) into[i] = new at::Tensor(std::move(made[i]));
    });
}

MF_API Handle mf_kernel_linear_rows(Handle x, Handle weight, int64_t rows) {
    return mf::tensor([&] {
        const Timed timed("linear.forward");
        return kernels::linear_rows(*x, *weight, rows);
    });
}

MF_API Handle mf_kernel_linear_columns(Handle x, Handle weight, int64_t columns) {
    return mf::tensor([&] {
        const Timed timed("linear.forward");
        return kernels::linear_columns(*x, *weight, columns);
    });
}

MF_API Handle mf_kernel_rotary(Handle x, Handle cos, Handle sin) {
    return mf::tensor([&] {
        const Timed timed("rotary.forward");
        return kernels::rotary(*x, *cos, *sin);
    });
}

MF_API Handle mf_kernel_attention(Handle query, Handle key, Handle value, Handle lengths) {
    return mf::tensor([&] {
        const Timed timed("attention.forward");
        return kernels::attention(*query, *key, *value, mf::optional(lengths));
    });
}

MF_API Handle mf_kernel_causal_attention(Handle query, Handle key, Handle value, int64_t window) {
    return mf::tensor([&] {
        const Timed timed("attention.forward");
        return kernels::causal_attention(*query, *key, *value, window);
    });
}

MF_API Handle mf_kernel_feed_forward(Handle x, Handle gate, Handle gate_bias, Handle up, Handle up_bias, Handle down, Handle down_bias,
                                     int32_t kind, const int32_t* widths, const int32_t* rows, int64_t streams, int32_t parting) {
    return mf::tensor([&] {
        const Timed timed("feed_forward.forward");
        const kernels::FeedForwardWeights weights{mf::optional(gate),     mf::optional(gate_bias), *up, mf::optional(up_bias), *down,
                                                  mf::optional(down_bias)};
        return kernels::feed_forward(*x, weights, static_cast<kernels::FeedForwardKind>(kind), numbers(widths, streams),
                                     numbers(rows, streams), parting != 0);
    });
}

MF_API Handle mf_kernel_linear_cross_entropy(Handle x, Handle head, Handle targets, const int32_t* rows, int64_t streams) {
    return mf::tensor([&] {
        const Timed timed("cross_entropy.forward");
        return kernels::linear_cross_entropy(*x, *head, *targets, streams, numbers(rows, streams));
    });
}

MF_API Handle mf_kernel_linear_divergence(Handle x, Handle teacher, Handle head, const int32_t* rows, int64_t streams, int64_t student,
                                          double temperature) {
    return mf::tensor([&] {
        const Timed timed("divergence.forward");
        return kernels::linear_divergence(*x, *teacher, *head, streams, numbers(rows, streams), student, temperature);
    });
}

MF_API Handle mf_kernel_fork(Handle x, int64_t n) {
    return mf::tensor([&] {
        const Timed timed("fork.forward");
        return kernels::fork(*x, n);
    });
}

MF_API int mf_kernel_adamw(const Handle* parameters, const Handle* first, const Handle* second, const double* decay, int64_t count,
                           double learning_rate, double beta1, double beta2, double epsilon, int64_t step) {
    return mf::status([&] {
        const Timed timed("adamw");
        kernels::adamw(list(parameters, count), list(first, count), list(second, count), {decay, static_cast<size_t>(count)},
                       {learning_rate, beta1, beta2, epsilon, step});
    });
}

MF_API int mf_kernel_clip_gradient_norm(const Handle* parameters, int64_t count, double max, double* norm) {
    return mf::status([&] {
        const Timed timed("clip_gradient_norm");
        *norm = kernels::clip_gradient_norm(list(parameters, count), max);
    });
}

// The names of the instruction sets that this machine runs, best first, separated by commas; valid for ever.
MF_API const char* mf_kernel_instruction_sets() {
    static const std::string names = [] {
        std::string joined;
        for (const std::string& name : kernels::instruction_sets()) joined += (joined.empty() ? "" : ",") + name;
        return joined;
    }();
    return names.c_str();
}

MF_API int mf_kernel_use_instruction_set(const char* name) {
    return mf::status([&] { kernels::use_instruction_set(name); });
}

// Starts measuring the time of each operation anew, or stops.
MF_API void mf_profile(int32_t on) { on != 0 ? mf::profile::start() : mf::profile::stop(); }

// "name seconds" a line; valid until this thread asks again.
MF_API const char* mf_profile_read() {
    thread_local std::string text;
    text = mf::profile::read();
    return text.c_str();
}
