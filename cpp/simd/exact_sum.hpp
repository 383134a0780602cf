// Sums of thousands of numbers, for which a float alone has too few digits.
#pragma once

#include "simd/vectors.hpp"

namespace gossamer {
namespace {

// What many numbers, or vectors of them, add up to, and what rounding added too much (Kahan 1965).
template <typename Number>
struct SumOf {
    Number total{}, lost{};

    GOSSAMER_INLINE void add(Number number) {
        const Number term = number - lost;
        const Number sum = total + term;
        const Number more = sum - total - term;
        lost = more == more ? more : Number{};  // of infinity nothing is lost
        total = sum;
    }
};

struct Sum : SumOf<Vector> {
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
