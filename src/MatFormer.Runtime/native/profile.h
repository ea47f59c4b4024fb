// Where time goes: the seconds spent in each operation while someone asks for them.
#pragma once

#include <chrono>
#include <string>

namespace mf::profile {

// Forgets what was measured, and measures from here on or no more.
void start();
void stop();

// "name seconds" a line.
std::string read();

bool running();
void add(const char* name, double seconds);

// Adds the time until the end of its block to that of `name`, a literal. Costs a load where nobody asks.
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
