// Memory for what an operation computes on the way.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mf::kernels {

constexpr int64_t alignment = 64;
constexpr int64_t aligned(int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// Memory of this thread, whose contents are undefined, until the end of the block. The thread keeps it for the next one, so that the pages
// are there already. Of two on one thread, the one made later ends first, and nothing may be taken from the other before it does.
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

// Parts of one piece of memory, one after the other: how long they are together, and, if the memory is there, where each is.
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
