// How large the caches of one core are.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace gossamer {

struct Caches {
    std::int64_t first = 32 << 10;  // bytes of data
    std::int64_t second = 512 << 10;
};

inline Caches caches() {
    Caches found;
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
    const long first = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    const long second = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (first > 0) found.first = first;
    if (second > 0) found.second = second;
#endif
    return found;
}

}  // namespace gossamer
