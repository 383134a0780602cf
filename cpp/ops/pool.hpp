// The windows of a pooling.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

struct PoolLoops {
    // Examples side by side.
    void (*batched)(const Pooling&, const View& input, const View& output);
    // One, with room for a row of the input and the slack. Between the rows of the output zeros
    // are written.
    void (*single)(const Pooling&, const View& input, const View& output, Range channels,
                   float* room);
};

GOSSAMER_DECLARE(PoolLoops, pool_loops)

}  // namespace gossamer
