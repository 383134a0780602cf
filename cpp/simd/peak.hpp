// What the machine can do at most.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

struct PeakLoops {
    // Multiply and add in registers; returns the floating-point operations done.
    double (*multiply_add)(std::int64_t repeats);
    // Read [size] floats; returns something that depends on them all.
    float (*read)(const float* data, std::int64_t size);
};

GOSSAMER_DECLARE(PeakLoops, peak_loops)

}  // namespace gossamer
