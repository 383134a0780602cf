#include "core/lifetimes.hpp"

#include <algorithm>
#include <limits>

namespace gossamer {

void Lifetime::use(std::int64_t position) {
    first = std::min(first, position);
    last = std::max(last, position);
}

Lifetime unused_lifetime() { return {std::numeric_limits<std::int64_t>::max(), -1}; }

std::int64_t assign_offsets(std::vector<Lifetime>& lifetimes) {
    std::vector<const Lifetime*> placed;
    std::int64_t size = 0;
    for (Lifetime& lifetime : lifetimes) {
        if (!lifetime.used()) continue;
        std::int64_t offset = 0;
        for (const Lifetime* other : placed) {  // by offset
            if (other->last < lifetime.first || lifetime.last < other->first) continue;
            if (offset + lifetime.size <= other->offset) break;
            offset = std::max(offset, other->offset + other->size);
        }
        lifetime.offset = offset;
        size = std::max(size, offset + lifetime.size);
        const auto after = std::upper_bound(
            placed.begin(), placed.end(), offset,
            [](std::int64_t value, const Lifetime* other) { return value < other->offset; });
        placed.insert(after, &lifetime);
    }
    return size;
}

}  // namespace gossamer
