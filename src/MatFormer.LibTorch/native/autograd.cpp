// Gradients, random numbers, threads and devices.
#include "scalar.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/cuda.h>
#include <torch/csrc/autograd/autograd.h>

using namespace mf;

namespace {

std::vector<at::Tensor> gradients_of_roots(const std::vector<at::Tensor>& roots, const Handle* grads, int64_t grad_count) {
    auto result = list(grads, grad_count);
    result.resize(roots.size());
    return result;
}

}  // namespace

// ---- gradients ----

MF_API int mf_set_requires_grad(Handle t, int value) {
    return status([&] { t->set_requires_grad(value != 0); });
}

MF_API int mf_retain_grad(Handle t) {
    return status([&] { t->retain_grad(); });
}

// Null when there is none.
MF_API int mf_grad(Handle t, Handle* into) {
    *into = nullptr;
    return status([&] {
        auto grad = t->grad();
        if (grad.defined()) *into = new at::Tensor(std::move(grad));
    });
}

MF_API int mf_set_grad(Handle t, Handle grad) {
    return status([&] {
        if (grad != nullptr) {
            TORCH_CHECK(grad->sizes() == t->sizes(), "assigned grad has data of a different size: ", grad->sizes(), " instead of ",
                        t->sizes());
            TORCH_CHECK(grad->scalar_type() == t->scalar_type(), "assigned grad has data of a different type");
            TORCH_CHECK(grad->device() == t->device(), "assigned grad has data located on a different device");
            TORCH_CHECK(!grad->is_same(*t), "can't assign a tensor as its own grad");
        }
        t->mutable_grad() = optional(grad);
    });
}

MF_API Handle mf_detach(Handle t) { return tensor([&] { return t->detach(); }); }
MF_API int mf_detach_(Handle t) {
    return status([&] { t->detach_(); });
}

MF_API int mf_backward(Handle t) {
    return status([&] { t->backward(); });
}

MF_API int mf_backward_all(const Handle* tensors, int64_t count, const Handle* grads, int64_t grad_count, int retain_graph,
                           int create_graph, const Handle* inputs, int64_t input_count) {
    return status([&] {
        auto roots = list(tensors, count);
        torch::autograd::backward(roots, gradients_of_roots(roots, grads, grad_count), retain_graph != 0, create_graph != 0,
                                  list(inputs, input_count));
    });
}

// `into` has room for `input_count` handles; null for an input that no output depends on.
MF_API int mf_autograd_grad(const Handle* outputs, int64_t count, const Handle* inputs, int64_t input_count, const Handle* grads,
                            int64_t grad_count, int retain_graph, int create_graph, int allow_unused, Handle* into) {
    return status([&] {
        auto roots = list(outputs, count);
        auto made = torch::autograd::grad(roots, list(inputs, input_count), gradients_of_roots(roots, grads, grad_count),
                                          retain_graph != 0, create_graph != 0, allow_unused != 0);
        for (size_t i = 0; i < made.size(); i++) into[i] = made[i].defined() ? new at::Tensor(std::move(made[i])) : nullptr;
    });
}

MF_API int mf_grad_mode() { return c10::GradMode::is_enabled(); }
MF_API void mf_set_grad_mode(int enabled) { c10::GradMode::set_enabled(enabled != 0); }

MF_API int mf_inference_mode() { return c10::InferenceMode::is_enabled(); }
MF_API c10::InferenceMode* mf_inference_mode_enter(int enabled) {
    c10::InferenceMode* guard = nullptr;
    guarded([&] { guard = new c10::InferenceMode(enabled != 0); });
    return guard;
}
MF_API void mf_inference_mode_leave(c10::InferenceMode* guard) { delete guard; }

// ---- random numbers ----

MF_API int mf_manual_seed(int64_t seed) {
    return status([&] { at::manual_seed(static_cast<uint64_t>(seed)); });
}

MF_API int mf_cuda_manual_seed(int64_t seed) {
    return status([&] { torch::cuda::manual_seed_all(static_cast<uint64_t>(seed)); });
}

MF_API at::Generator* mf_default_generator() {
    at::Generator* made = nullptr;
    guarded([&] { made = new at::Generator(at::detail::getDefaultCPUGenerator()); });
    return made;
}

MF_API at::Generator* mf_new_generator(uint64_t seed, int dev, int index) {
    at::Generator* made = nullptr;
    guarded([&] {
        auto where = device(dev, index);
        if (where.is_cpu()) {
            made = new at::Generator(at::make_generator<at::CPUGeneratorImpl>(seed));
        } else {
            auto generator = at::globalContext().defaultGenerator(where).clone();
            generator.set_current_seed(seed);
            made = new at::Generator(generator);
        }
    });
    return made;
}

MF_API void mf_generator_free(at::Generator* g) { delete g; }

MF_API int mf_generator_device(at::Generator* g, int* index) {
    *index = g->device().index();
    return static_cast<int>(g->device().type());
}

MF_API int mf_generator_manual_seed(at::Generator* g, int64_t seed) {
    return status([&] {
        std::lock_guard<std::mutex> lock(g->mutex());
        g->set_current_seed(static_cast<uint64_t>(seed));
    });
}

// Seeds it from the machine's randomness.
MF_API int mf_generator_seed(at::Generator* g, int64_t* into) {
    return status([&] {
        std::lock_guard<std::mutex> lock(g->mutex());
        *into = static_cast<int64_t>(g->seed());
    });
}

MF_API int mf_generator_current_seed(at::Generator* g, int64_t* into) {
    return status([&] {
        std::lock_guard<std::mutex> lock(g->mutex());
        *into = static_cast<int64_t>(g->current_seed());
    });
}

MF_API Handle mf_generator_get_state(at::Generator* g) {
    return tensor([&] {
        std::lock_guard<std::mutex> lock(g->mutex());
        return g->get_state();
    });
}

MF_API int mf_generator_set_state(at::Generator* g, Handle state) {
    return status([&] {
        std::lock_guard<std::mutex> lock(g->mutex());
        g->set_state(*state);
    });
}

// ---- threads and devices ----

MF_API int mf_set_num_threads(int count) {
    return status([&] { at::set_num_threads(count); });
}
MF_API int mf_get_num_threads() { return at::get_num_threads(); }
MF_API int mf_set_num_interop_threads(int count) {
    return status([&] { at::set_num_interop_threads(count); });
}
MF_API int mf_get_num_interop_threads() { return at::get_num_interop_threads(); }

MF_API int mf_cuda_device_count() {
    int count = 0;
    guarded([&] { count = static_cast<int>(torch::cuda::device_count()); });
    return count;
}
MF_API int mf_cudnn_is_available() {
    int available = 0;
    guarded([&] { available = torch::cuda::cudnn_is_available(); });
    return available;
}
MF_API int mf_cuda_synchronize(int index) {
    return status([&] { torch::cuda::synchronize(index); });
}

MF_API const char* mf_version() { return TORCH_VERSION; }
