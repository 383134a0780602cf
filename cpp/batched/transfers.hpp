// Between [examples][numbers] and the lanes.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer::batched {

// Features of all groups of the view, or an image of one group. Lanes without an example are set
// to 0.
struct TransferLoops {
    void (*take_features)(const float* inputs, std::int64_t examples, const View& value);
    void (*take_image)(const float* inputs, std::int64_t examples, const View& value);
    void (*give_features)(const View& value, float* outputs, std::int64_t examples);
    void (*give_image)(const View& value, float* outputs, std::int64_t examples);
};

GOSSAMER_DECLARE(TransferLoops, transfer_loops)

}  // namespace gossamer::batched
