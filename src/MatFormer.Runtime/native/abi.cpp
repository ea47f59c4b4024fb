// The C ABI. Exceptions of the operations become a status and a message.
#include <exception>
#include <stdexcept>

#include "kernels_common.h"

namespace {

std::string& last_error() {
    static thread_local std::string text;
    return text;
}

template <class Body>
int32_t guarded(const Body& body) {
    try {
        body();
        return 0;
    } catch (const std::exception& e) {
        last_error() = e.what();
    } catch (...) {
        last_error() = "an unknown error";
    }
    return 1;
}

template <class Call>
int32_t forwards(const Call* p) {
    return guarded([&] { mf::kernels::forward(*p); });
}

template <class Call>
int32_t backwards(const Call* p) {
    return guarded([&] { mf::kernels::backward(*p); });
}

}  // namespace

extern "C" {

int32_t mf_abi_version(void) { return MF_ABI_VERSION; }

const char* mf_last_error(void) { return last_error().c_str(); }

int32_t mf_set_threads(int32_t count) {
    return guarded([&] {
        if (count < 1) throw std::invalid_argument("threads are " + std::to_string(count) + ", but must be 1 or more");
        mf::threads::set_count(count);
    });
}

const char* mf_instruction_sets(void) {
    static const auto& names = *new std::string(mf::cpu::instruction_sets());
    return names.c_str();
}

int32_t mf_use_instruction_set(const char* name) {
    return guarded([&] { mf::cpu::use_instruction_set(name); });
}

void mf_profile(int32_t on) {
    if (on != 0) {
        mf::profile::start();
    } else {
        mf::profile::stop();
    }
}

const char* mf_profile_read(void) {
    static thread_local std::string text;
    text = mf::profile::read();
    return text.c_str();
}

int32_t mf_embedding_forward(const mf_embedding* p) { return forwards(p); }
int32_t mf_embedding_backward(const mf_embedding* p) { return backwards(p); }

int32_t mf_positions_forward(const mf_positions* p) { return forwards(p); }
int32_t mf_positions_backward(const mf_positions* p) { return backwards(p); }

int64_t mf_norm_kept(const mf_norm_call* p) { return mf::kernels::kept(*p); }
int32_t mf_norm_forward(const mf_norm_call* p) { return forwards(p); }
int32_t mf_norm_backward(const mf_norm_call* p) { return backwards(p); }

int32_t mf_linear_forward(const mf_linear* p) { return forwards(p); }
int32_t mf_linear_backward(const mf_linear* p) { return backwards(p); }

int64_t mf_attention_kept(const mf_attention* p) { return mf::kernels::kept(*p); }
int32_t mf_attention_forward(const mf_attention* p) { return forwards(p); }
int32_t mf_attention_backward(const mf_attention* p) { return backwards(p); }

int64_t mf_feed_forward_kept(const mf_feed_forward* p) { return mf::kernels::kept(*p); }
int32_t mf_feed_forward_forward(const mf_feed_forward* p) { return forwards(p); }
int32_t mf_feed_forward_backward(const mf_feed_forward* p) { return backwards(p); }

int64_t mf_cross_entropy_kept(const mf_cross_entropy* p) { return mf::kernels::kept(*p); }
int32_t mf_cross_entropy_forward(const mf_cross_entropy* p) { return forwards(p); }
int32_t mf_cross_entropy_backward(const mf_cross_entropy* p) { return backwards(p); }

int32_t mf_divergence_forward(const mf_divergence* p) { return forwards(p); }
int32_t mf_divergence_backward(const mf_divergence* p) { return backwards(p); }

int32_t mf_adamw_step(const mf_adamw* p) {
    return guarded([&] { mf::kernels::step(*p); });
}

int32_t mf_sum_squares(const float* x, int64_t count, double* sum) {
    return guarded([&] { *sum = mf::kernels::sum_squares(x, count); });
}

int32_t mf_scale(float* x, int64_t count, float factor) {
    return guarded([&] { mf::kernels::scale(x, count, factor); });
}

}  // extern "C"
