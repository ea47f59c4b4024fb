#include "memory.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

namespace mf::kernels {
namespace {

constexpr int64_t least_block = 1 << 20;

// A thread's blocks of memory. The first blocks are in use; `used` bytes of the last of them are taken.
class Arena {
public:
    ~Arena() { clear(); }

    void* take(int64_t count) {
        count = aligned(std::max<int64_t>(count, 1));
        while (block < blocks_.size() && used + count > blocks_[block].size) {
            block++;
            used = 0;
        }
        if (block == blocks_.size()) {
            const int64_t size = std::max({count, least_block, needed_});
            blocks_.reserve(blocks_.size() + 1);
            blocks_.push_back({static_cast<char*>(::operator new(static_cast<size_t>(size), std::align_val_t{alignment})), size});
        }
        void* memory = blocks_[block].data + used;
        used += count;
        return memory;
    }

    void give_back(size_t to_block, int64_t to_used) {
        block = to_block;
        used = to_used;
        if (block > 0 || used > 0 || blocks_.size() <= 1) return;
        // Next time, one block will hold what all these blocks held.
        needed_ = 0;
        for (const Block& b : blocks_) needed_ += b.size;
        clear();
    }

    size_t block = 0;
    int64_t used = 0;

private:
    struct Block {
        char* data;
        int64_t size;
    };

    void clear() {
        for (const Block& b : blocks_) ::operator delete(b.data, std::align_val_t{alignment});
        blocks_.clear();
    }

    std::vector<Block> blocks_;
    int64_t needed_ = 0;
};

Arena& arena() {
    static thread_local Arena mine;
    return mine;
}

}  // namespace

Scratch::Scratch() : block_(arena().block), used_(arena().used) {}

Scratch::~Scratch() { arena().give_back(block_, used_); }

void* Scratch::bytes(int64_t count) const { return arena().take(count); }

float* Scratch::zeros(int64_t count) const {
    float* memory = floats(count);
    std::memset(memory, 0, static_cast<size_t>(count) * 4);
    return memory;
}

}  // namespace mf::kernels
