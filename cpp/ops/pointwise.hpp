// What follows sums, on its own.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

struct PointwiseLoops {
    // output = finish(input + residual) over rows, where residual.data may be null.
    void (*rows)(const Finish&, const View& input, const View& residual, const View& output,
                 Range channels);
    // The same of neighbouring numbers, each of which is a channel; and with a bias, or null.
    void (*features)(const Finish&, const float* input, const float* bias, const float* residual,
                     float* output, std::int64_t count);
};

GOSSAMER_DECLARE(PointwiseLoops, pointwise_loops)

}  // namespace gossamer
