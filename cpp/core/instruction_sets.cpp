#include "core/instruction_sets.hpp"

#include <stdexcept>

namespace gossamer {

std::vector<InstructionSet> available_instruction_sets() {
    std::vector<InstructionSet> sets;
#ifdef GOSSAMER_X86
    // The compiler's runtime also asks whether the operating system saves the wide registers.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#ifdef GOSSAMER_EMULATE_AVX512
    const bool avx512 = avx2;
#else
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bw");
#endif
    if (avx512) sets.push_back(InstructionSet::avx512);
    if (avx2) sets.push_back(InstructionSet::avx2);
#endif
    sets.push_back(InstructionSet::baseline);
    return sets;
}

std::string name_of(InstructionSet set) {
    if (set == InstructionSet::avx512) return "avx512";
    return set == InstructionSet::avx2 ? "avx2" : "baseline";
}

InstructionSet instruction_set_named(const std::string& name) {
    std::string known;
    for (const InstructionSet set : available_instruction_sets()) {
        if (name_of(set) == name) return set;
        known += (known.empty() ? "" : ", ") + name_of(set);
    }
    throw std::invalid_argument("instruction set \"" + name +
                                "\" is not available on this machine; these are: " + known);
}

}  // namespace gossamer
