// Which values of a plan may share memory, because none is needed while another is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/layer.hpp"

namespace gossamer {

// Buffers begin where a line of the cache does, and take whole ones: so many floats.
constexpr std::int64_t line = 16;

// A buffer, and when it is in use: from the first position to the last, both included.
struct Lifetime {
    std::int64_t first;
    std::int64_t last;
    std::int64_t size = 0;
    std::int64_t offset = 0;  // set by `assign_offsets`

    bool used() const { return last >= first; }
    void use(std::int64_t position);
};

// One that is not used yet.
Lifetime unused_lifetime();

// Call use(value, position) where a value is written or read. The first input is taken at position
// 0, layer n runs at n + 1, and the outputs are given away after the last, one after the other.
template <class Use>
void each_use(const Plan& plan, const Use& use) {
    const auto layers = static_cast<std::int64_t>(plan.layers.size());
    use(0, std::int64_t{0});
    for (std::int64_t position = 1; position <= layers; ++position) {
        use(static_cast<int>(position), position);
        for (const int value : plan.layers[static_cast<std::size_t>(position - 1)]->reads)
            use(value, position);
    }
    for (std::size_t which = 0; which < plan.outputs.size(); ++which)
        use(plan.outputs[which], layers + 1 + static_cast<std::int64_t>(which));
}

// Give every buffer the lowest offset that is free during its life; return the size of them all.
// Those that are not used stay where they are.
std::int64_t assign_offsets(std::vector<Lifetime>& lifetimes);

}  // namespace gossamer
