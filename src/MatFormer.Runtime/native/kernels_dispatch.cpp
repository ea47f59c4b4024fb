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
        if (__builtin_cpu_supports("avx512bf16")) {
            if (allows_amx()) tables.push_back(&table_amx_bf16());
            tables.push_back(&table_avx512_bf16);
        }
        tables.push_back(&table_avx512);
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
    return 4 * (length * (a.depth + 1) + a.keys * row + query_block * (2 * row + 2 * length));
}

int64_t attention_backward_scratch(const Attention& a) {
    const int64_t length = (a.keys + panel) / panel * panel, row = (a.depth + 15) / 16 * 16;
    return 4 * (2 * length * (a.depth + 1) + 3 * a.keys * row + query_block * (5 * row + 2 * length));
}

}  // namespace mf::cpu
