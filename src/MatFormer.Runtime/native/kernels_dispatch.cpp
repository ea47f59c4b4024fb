// Chooses the table of loops for this machine.
#include <atomic>
#include <stdexcept>
#include <vector>

#include "kernels_common.h"

namespace mf::cpu {
namespace {

std::vector<const Table*> supported() {
    std::vector<const Table*> tables;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl")) {
        // Intel's CPUs multiply pairs of bfloat16 at half the speed of float32: 87 and 155 GFLOP/s on a core of an Emerald Rapids.
        const bool pairs = __builtin_cpu_supports("avx512bf16"), slow = __builtin_cpu_is("intel");
        if (pairs && allows_amx()) tables.push_back(&table_amx_bf16());
        if (pairs && !slow) tables.push_back(&table_avx512_bf16);
        tables.push_back(&table_avx512);
        if (pairs && slow) tables.push_back(&table_avx512_bf16);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(&table_avx2);
#endif
    tables.push_back(&table_portable);
    return tables;
}

const std::vector<const Table*>& tables() {
    static const std::vector<const Table*> all = supported();
    return all;
}

std::atomic<const Table*>& chosen() {
    static std::atomic<const Table*> current{tables().front()};
    return current;
}

}  // namespace

const Table& table() { return *chosen().load(std::memory_order_relaxed); }

std::string instruction_sets() {
    std::string names;
    for (const Table* table : tables()) names += (names.empty() ? "" : ",") + std::string(table->name);
    return names;
}

void use_instruction_set(const std::string& name) {
    std::vector<const Table*> all = tables();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16")) all.push_back(&table_amx_emulated());
#endif
    for (const Table* table : all) {
        if (name == table->name) {
            chosen().store(table);
            return;
        }
    }
    throw std::invalid_argument("instruction set '" + name + "' is unknown, or this machine lacks it");
}

int64_t attention_forward_scratch(const Attention& a) {
    const int64_t length = (a.keys + panel) / panel * panel, row = (a.depth + 15) / 16 * 16;
    return 4 * (length * (2 * row + 1) + most_queries * (2 * row + 2 * length));
}

int64_t attention_backward_scratch(const Attention& a) {
    const int64_t length = (a.keys + panel) / panel * panel, row = (a.depth + 15) / 16 * 16;
    return 4 * (length * (5 * row + 2) + most_queries * (5 * row + 2 * length));
}

}  // namespace mf::cpu
