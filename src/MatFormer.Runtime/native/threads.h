// The threads that compute. They are created when first needed, sleep while there is nothing to do, and live until the process ends.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace mf::threads {

// The number of threads that compute, including the calling thread.
void set_count(int64_t count);
int64_t count();

// Calls body(context) on this thread and on up to `most` - 1 other threads that start in time. Returns when all of them are done, and
// rethrows an exception of any of them. If the other threads work for another caller, or if this thread already works on a job, only this
// thread runs the body.
void together(int64_t most, void (*body)(const void*), const void* context);

}  // namespace mf::threads

namespace mf::kernels {

// Calls body(first, last) for parts of 0..count, of at least `grain`. Threads take parts as they become free, because one core may be
// slower than another and the whole step waits for the slowest.
template <class Body>
void share(int64_t count, int64_t grain, const Body& body) {
    if (count <= 0) return;
    const int64_t threads = std::min(threads::count(), (count + grain - 1) / grain);
    if (threads <= 1) return body(0, count);

    struct Job {
        const Body& body;
        const int64_t count, each;
        mutable std::atomic<int64_t> next{0};
    };
    const Job job{body, count, std::max(grain, count / (threads * 8))};
    threads::together(
        threads,
        [](const void* context) {
            const Job& j = *static_cast<const Job*>(context);
            for (int64_t i = j.next.fetch_add(j.each); i < j.count; i = j.next.fetch_add(j.each)) j.body(i, std::min(j.count, i + j.each));
        },
        &job);
}

}  // namespace mf::kernels
