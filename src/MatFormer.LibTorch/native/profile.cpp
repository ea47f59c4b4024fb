#include "profile.h"

#include <atomic>
#include <map>
#include <mutex>
#include <sstream>

namespace mf::profile {
namespace {

std::atomic<bool> on{false};
std::mutex mutex;

std::map<std::string, double>& seconds_of() {
    static std::map<std::string, double> seconds;
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
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text.precision(9);
    for (const auto& [name, seconds] : seconds_of()) text << name << ' ' << seconds << '\n';
    return text.str();
}

}  // namespace mf::profile
