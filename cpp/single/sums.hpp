// What the sums of a convolution of one example begin with, and what follows them.
#pragma once

#include "simd/finish.hpp"
#include "single/convolution.hpp"

namespace gossamer::single {
namespace {

// What the sums of a tile begin with: bias, bias by position, residual.
template <int tile>
GOSSAMER_INLINE Sums<tile> begun(const SumsTask& task, std::int64_t channel,
                                 std::int64_t position) {
    Sums<tile> sums;
    const Vector bias = broadcast(task.bias != nullptr ? task.bias[channel] : 0.0f);
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) sums.at[at] = bias;
    if (task.bias_map != nullptr) {
        const float* map = task.bias_map + channel * task.bias_map_plane + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] = load_any<Vector>(map + at * width);
    }
    if (task.residual != nullptr) {
        const float* map = task.residual + channel * task.residual_plane + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] += load_any<Vector>(map + at * width);
    }
    return sums;
}

// The sums become values: activation, scale, shift, mask.
template <int tile>
GOSSAMER_INLINE void finish_tile(const SumsTask& task, std::int64_t channel, std::int64_t position,
                                 Sums<tile> sums) {
    float* output = task.output + channel * task.output_plane + position;
    apply(task.finish, channel, sums);
    if (task.mask != nullptr) {
        const std::uint32_t* mask = task.mask + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at)
            sums.at[at] = reinterpret_cast<Vector>(reinterpret_cast<Integers>(sums.at[at]) &
                                                   load_any<Integers>(mask + at * width));
    }
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) store_any(output + at * width, sums.at[at]);
}

}  // namespace
}  // namespace gossamer::single
