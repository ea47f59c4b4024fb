// The flat C ABI between libmatformer_torch and the managed binding.
//
// No C++ exception crosses it. A function that makes a tensor returns a new `at::Tensor*` that the caller owns
// (freed with mf_tensor_free), or null; any other function returns 0, or 1 when it failed. After a failure
// mf_last_error() gives libtorch's message, per thread, valid until that thread's next failing call.
#pragma once

#include <ATen/ATen.h>

#include <exception>
#include <string>

#if defined(_WIN32)
#define MF_API extern "C" __declspec(dllexport)
#else
#define MF_API extern "C" __attribute__((visibility("default")))
#endif

namespace mf {

using Handle = at::Tensor*;

void set_error(std::string message) noexcept;

// Runs `body`, turning whatever it throws into false and a message.
template <class Body>
bool guarded(Body&& body) noexcept {
    try {
        body();
        return true;
    } catch (const c10::Error& e) {
        set_error(e.what_without_backtrace());
    } catch (const std::exception& e) {
        set_error(e.what());
    } catch (...) {
        set_error("an unknown C++ exception");
    }
    return false;
}

// For functions that make one tensor.
template <class Body>
Handle tensor(Body&& body) noexcept {
    Handle result = nullptr;
    return guarded([&] { result = new at::Tensor(body()); }) ? result : nullptr;
}

// For functions that return a status.
template <class Body>
int status(Body&& body) noexcept {
    return guarded(std::forward<Body>(body)) ? 0 : 1;
}

// A null handle is an undefined tensor: optional arguments are passed so.
inline at::Tensor optional(Handle handle) { return handle == nullptr ? at::Tensor() : *handle; }

}  // namespace mf
