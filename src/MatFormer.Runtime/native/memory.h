// Memory for the intermediate results of operations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mf::kernels {

constexpr int64_t alignment = 64;
constexpr int64_t aligned(int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// Uninitialized memory of this thread, valid until the end of the enclosing block. The thread keeps the memory for later use, so that its
// pages are already mapped. If a thread has two Scratch objects, the later one must end first, and nothing may be taken from the earlier
// one before that.
class Scratch {
public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    void* bytes(int64_t count) const;
    float* floats(int64_t count) const { return static_cast<float*>(bytes(count * 4)); }
    float* zeros(int64_t count) const;

private:
    size_t block_;
    int64_t used_;
};

// Divides one piece of memory into consecutive parts. It computes their total size and, if there is memory, their addresses.
class Layout {
public:
    explicit Layout(void* memory) : memory_(static_cast<char*>(memory)) {}

    void* take(int64_t count) {
        void* part = memory_ == nullptr ? nullptr : memory_ + bytes_;
        bytes_ += aligned(count);
        return part;
    }
    float* take_floats(int64_t count) { return static_cast<float*>(take(count * 4)); }
    int64_t bytes() const { return bytes_; }

private:
    char* memory_;
    int64_t bytes_ = 0;
};

}  // namespace mf::kernels
