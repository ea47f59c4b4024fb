// Measures the seconds spent in each operation while profiling is on.
#pragma once

#include <chrono>
#include <string>

namespace mf::profile {

// `start` discards earlier measurements and starts measuring. `stop` stops it.
void start();
void stop();

// Returns one line "name seconds" for each operation.
std::string read();

bool running();
void add(const char* name, double seconds);

// Adds the time until the end of the enclosing block to the time of `name`, a literal. It costs one load while profiling is off.
class Timed {
public:
    explicit Timed(const char* name) : name_(running() ? name : nullptr) {
        if (name_ != nullptr) start_ = std::chrono::steady_clock::now();
    }
    ~Timed() {
        if (name_ != nullptr) add(name_, std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count());
    }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

private:
    const char* name_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace mf::profile
