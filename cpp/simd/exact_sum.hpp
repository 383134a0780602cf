// Sums of thousands of numbers, for which a float alone has too few digits.
#pragma once

#include "simd/vectors.hpp"

namespace gossamer {
namespace {

// What many numbers add up to, and what rounding added too much (Kahan 1965).
struct Sum {
    Vector total{}, lost{};

    GOSSAMER_INLINE void add(Vector number) {
        const Vector term = number - lost;
        const Vector sum = total + term;
        const Vector more = sum - total - term;
        lost = more == more ? more : Vector{};  // of infinity nothing is lost
        total = sum;
    }
    // Of each lane; or of all lanes `together`, in each of them.
    GOSSAMER_INLINE Vector whole(bool together) const {
        if (!together) return total - lost;
        double found = 0.0;
        for (int lane = 0; lane < width; ++lane)
            found += static_cast<double>(total[lane]) - static_cast<double>(lost[lane]);
        return broadcast(static_cast<float>(found));
    }
};

}  // namespace
}  // namespace gossamer
