#include "profile.h"

#include <atomic>
#include <map>
#include <mutex>

namespace mf::profile {
namespace {

std::atomic<bool> on{false};
std::mutex mutex;

std::map<std::string, double>& seconds_of() {
    static auto& seconds = *new std::map<std::string, double>;
    return seconds;
}

}  // namespace

void start() {
    const std::lock_guard<std::mutex> lock(mutex);
    seconds_of().clear();
    on = true;
}

void stop() { on = false; }

bool running() { return on.load(std::memory_order_relaxed); }

void add(const char* name, double seconds) {
    const std::lock_guard<std::mutex> lock(mutex);
    seconds_of()[name] += seconds;
}

std::string read() {
    const std::lock_guard<std::mutex> lock(mutex);
    std::string text;
    for (const auto& [name, seconds] : seconds_of()) {
        // Integers are used because no locale changes how they are written.
        const auto billionths = static_cast<long long>(seconds * 1e9);
        const std::string fraction = std::to_string(billionths % 1000000000);
        text += name + ' ' + std::to_string(billionths / 1000000000) + '.' + std::string(9 - fraction.size(), '0') + fraction + '\n';
    }
    return text;
}

}  // namespace mf::profile
