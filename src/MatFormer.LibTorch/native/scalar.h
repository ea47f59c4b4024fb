// How numbers cross the C ABI.
#pragma once

#include "abi.h"

#include <torch/version.h>

#include <cstdint>
#include <cstring>
#include <vector>

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
#include <optional>
namespace mf {
template <class T> using Maybe = std::optional<T>;
}
#else
namespace mf {
template <class T> using Maybe = c10::optional<T>;
}
#endif

// A number by value: `bits` holds a double or an int64 as `kind` says.
struct MfScalar {
    int64_t bits;
    int64_t kind;  // 0: none, 1: double, 2: int64, 3: bool
};

namespace mf {

inline bool has(MfScalar s) { return s.kind != 0; }

inline at::Scalar scalar(MfScalar s) {
    switch (s.kind) {
        case 1: {
            double value;
            std::memcpy(&value, &s.bits, sizeof value);
            return value;
        }
        case 2: return s.bits;
        case 3: return s.bits != 0;
        default: TORCH_CHECK(false, "a number is required here");
    }
}

inline Maybe<at::Scalar> optional_scalar(MfScalar s) {
    return has(s) ? Maybe<at::Scalar>(scalar(s)) : Maybe<at::Scalar>();
}

// -1 stands for "not given".
inline Maybe<at::ScalarType> optional_dtype(int dtype) {
    return dtype < 0 ? Maybe<at::ScalarType>() : Maybe<at::ScalarType>(static_cast<at::ScalarType>(dtype));
}

inline at::Device device(int type, int index) {
    return at::Device(static_cast<at::DeviceType>(type), static_cast<at::DeviceIndex>(index));
}

inline Maybe<at::Device> optional_device(int type, int index) {
    return type < 0 ? Maybe<at::Device>() : Maybe<at::Device>(device(type, index));
}

inline at::IntArrayRef dims(const int64_t* data, int64_t count) {
    return at::IntArrayRef(data, static_cast<size_t>(count));
}

inline std::vector<at::Tensor> list(const Handle* data, int64_t count) {
    std::vector<at::Tensor> result;
    result.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; i++) result.push_back(optional(data[i]));
    return result;
}

inline Maybe<at::Generator> generator(at::Generator* g) {
    return g == nullptr ? Maybe<at::Generator>() : Maybe<at::Generator>(*g);
}

}  // namespace mf
