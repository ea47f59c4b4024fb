// Which table of loops this machine gets.
#include "kernels_cpu.h"

#include "kernels.h"

#include <c10/util/Exception.h>

#include <atomic>

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

int64_t attention_forward_scratch(const Attention& a) {
    const int64_t length = (a.keys + panel) / panel * panel, row = (a.depth + 15) / 16 * 16;
    return 4 * (length * (a.depth + 1) + a.keys * row + query_block * (2 * row + 2 * length));
}

int64_t attention_backward_scratch(const Attention& a) {
    const int64_t length = (a.keys + panel) / panel * panel, row = (a.depth + 15) / 16 * 16;
    return 4 * (2 * length * (a.depth + 1) + 3 * a.keys * row + query_block * (5 * row + 2 * length));
}

}  // namespace mf::cpu

namespace mf::kernels {

namespace {

constexpr const char* aten = "aten";

std::atomic<bool>& only_aten() {
    static std::atomic<bool> on{false};
    return on;
}

}  // namespace

bool composed(const at::Tensor& x) { return !x.is_cpu() || only_aten().load(std::memory_order_relaxed); }

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const cpu::Table* table : cpu::tables()) names.emplace_back(table->name);
    return names;
}

void use_instruction_set(const std::string& name) {
    if (name == aten) {
        only_aten() = true;
        return;
    }
    std::vector<const cpu::Table*> tables = cpu::tables();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16")) tables.push_back(&cpu::table_amx_emulated());
#endif
    for (const cpu::Table* table : tables) {
        if (name == table->name) {
            cpu::chosen().store(table);
            only_aten() = false;
            return;
        }
    }
    TORCH_CHECK(false, "instruction set '", name, "' is unknown, or this machine lacks it");
}

}  // namespace mf::kernels
