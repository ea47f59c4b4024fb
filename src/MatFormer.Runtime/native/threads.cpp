#include "threads.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mf::threads {
namespace {

// How long a thread spin-waits for the next job. Waking a sleeping thread takes about as long.
constexpr std::chrono::microseconds patience{50};

int64_t cores() {
    static const int64_t count = std::max<int64_t>(1, std::thread::hardware_concurrency());
    return count;
}

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// True while this thread works on a job.
thread_local bool busy = false;

// A job has `places` for helpers. A helper that takes a place works on the job. When the caller has nothing left to do, it takes back the
// free places and waits for the helpers that took one.
class Pool {
public:
    void run(int64_t helpers, void (*body)(const void*), const void* context) {
        std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
        if (busy || !turn.try_lock()) return body(context);
        helpers = std::min(helpers, hire(helpers));
        body_ = body;
        context_ = context;
        failure_ = nullptr;
        done_.store(0);
        places_.store(helpers);
        jobs_.fetch_add(1);
        // A helper raises `sleeping_` before it checks `jobs_` for the last time, so no wake-up is lost.
        if (sleeping_.load() > 0) {
            { const std::lock_guard<std::mutex> lock(sleep_); }
            for (int64_t i = 0; i < helpers; i++) wake_.notify_one();
        }
        work();
        const int64_t taken = helpers - places_.exchange(0);
        for (int64_t i = 0; done_.load(std::memory_order_acquire) < taken; i++) {
            if (i < 4096) {
                pause();
            } else {
                std::this_thread::yield();
            }
        }
        if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    // Creates threads until there are `helpers`. Returns how many there are.
    int64_t hire(int64_t helpers) {
        try {
            for (; hired_.load() < helpers; hired_++) std::thread([this] { help(); }).detach();
        } catch (const std::system_error&) {
            // The system allows no more threads, so the existing ones do the work.
        }
        return hired_.load();
    }

    void work() {
        busy = true;
        try {
            body_(context_);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(failing_);
            if (failure_ == nullptr) failure_ = std::current_exception();
        }
        busy = false;
    }

    bool take_place() {
        int64_t left = places_.load();
        while (left > 0) {
            if (places_.compare_exchange_weak(left, left - 1)) return true;
        }
        return false;
    }

    [[noreturn]] void help() {
        for (;;) {
            const int64_t seen = jobs_.load();
            while (take_place()) {
                work();
                done_.fetch_add(1, std::memory_order_release);
            }
            if (!comes_soon(seen)) {
                std::unique_lock<std::mutex> lock(sleep_);
                sleeping_++;
                wake_.wait(lock, [&] { return jobs_.load() != seen; });
                sleeping_--;
            }
        }
    }

    // Spin-waits for the next job, unless there are too few cores: then spinning would starve the threads that work.
    bool comes_soon(int64_t seen) const {
        if (hired_.load() >= cores()) return jobs_.load() != seen;
        const auto end = std::chrono::steady_clock::now() + patience;
        do {
            for (int i = 0; i < 64; i++) {
                if (jobs_.load(std::memory_order_acquire) != seen) return true;
                pause();
            }
        } while (std::chrono::steady_clock::now() < end);
        return false;
    }

    std::mutex turn_;  // held by the caller whose job is running
    std::atomic<int64_t> hired_{0};
    void (*body_)(const void*) = nullptr;
    const void* context_ = nullptr;
    std::mutex failing_;
    std::exception_ptr failure_;
    std::atomic<int64_t> places_{0}, done_{0}, jobs_{0}, sleeping_{0};
    std::mutex sleep_;
    std::condition_variable wake_;
};

std::atomic<int64_t>& wanted() {
    static std::atomic<int64_t> count{cores()};
    return count;
}

}  // namespace

void set_count(int64_t count) { wanted() = count; }

int64_t count() { return wanted().load(std::memory_order_relaxed); }

void together(int64_t most, void (*body)(const void*), const void* context) {
    // The pool is never destroyed, because its threads run until the process ends.
    static Pool& pool = *new Pool;
    pool.run(most - 1, body, context);
}

}  // namespace mf::threads
