// Loops of operators that others use, too: what follows sums, on its own, and windows of a pooling.
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

struct PoolLoops {
    // Examples side by side; some rows and pixels of the output.
    void (*batched)(const Pooling&, const View& input, const View& output, Range rows,
                    Range pixels);
    // One, with room for a row of the input and the slack. Between the rows of the output zeros
    // are written.
    void (*single)(const Pooling&, const View& input, const View& output, Range channels,
                   float* room);
};

GOSSAMER_DECLARE(PoolLoops, pool_loops)

}  // namespace gossamer
