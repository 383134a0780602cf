// What the sums of a strip begin with, and what follows them.
#pragma once

#include "batched/strips.hpp"
#include "simd/finish.hpp"

namespace gossamer::batched {
namespace {

enum class Pooled { no, maximum, average };

// The first pixels / 2 sums become those of the windows of 2 by 2.
template <int pixels, Pooled pooled>
GOSSAMER_INLINE void pool_sums(Sums<2 * pixels>& sums) {
#pragma GCC unroll 16
    for (int i = 0; i < pixels / 2; ++i) {
        const Vector a = sums.at[2 * i], b = sums.at[2 * i + 1];
        const Vector c = sums.at[pixels + 2 * i], d = sums.at[pixels + 2 * i + 1];
        sums.at[i] = pooled == Pooled::maximum ? larger(larger(a, b), larger(c, d))
                                               : (a + b + (c + d)) * 0.25f;
    }
}

template <int rows, int pixels, Pooled pooled>
GOSSAMER_INLINE void finish_sums(const Strip& strip, int64_t channel, Sums<rows * pixels>& sums) {
    if (strip.residual) {
        const float* residual = strip.residual + channel * strip.residual_channel;
#pragma GCC unroll 16
        for (int i = 0; i < rows * pixels; ++i)
            sums.at[i] += load(residual + (i / pixels) * strip.residual_row + i % pixels * width);
    }
    constexpr int stored = pooled == Pooled::no ? pixels : pixels / 2;
    const Finish& finish = strip.finish;
    if (pooled == Pooled::maximum && finish.activation == ActivationKind::relu && !finish.scale) {
        // The same, on a quarter of the numbers.
        if constexpr (pooled != Pooled::no) pool_sums<pixels, pooled>(sums);
#pragma GCC unroll 16
        for (int i = 0; i < stored; ++i) sums.at[i] = at_least(sums.at[i], 0.0f);
    } else {
        apply(finish, channel, sums);
        if constexpr (pooled != Pooled::no) pool_sums<pixels, pooled>(sums);
    }
    float* output = strip.output + channel * strip.output_channel;
#pragma GCC unroll 16
    for (int i = 0; i < stored; ++i) store(output + i * width, sums.at[i]);
}

template <int rows, int pixels>
GOSSAMER_INLINE void begin_sums(const Strip& strip, int64_t channel, Sums<rows * pixels>& sums) {
    if (!strip.bias) {
#pragma GCC unroll 16
        for (int i = 0; i < rows * pixels; ++i) sums.at[i] = Vector{};
        return;
    }
    const float* bias = strip.bias + channel * strip.bias_channel;
    if (strip.bias_pixel == 0) {
        const Vector same = broadcast(*bias);
#pragma GCC unroll 16
        for (int i = 0; i < rows * pixels; ++i) sums.at[i] = same;
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * pixels; ++i) {
        sums.at[i] =
            broadcast(bias[(i / pixels) * strip.bias_row + (i % pixels) * strip.bias_pixel]);
    }
}

#define GOSSAMER_STRIPS(KERNEL, STEP)                                        \
    nullptr, KERNEL<1, 1, STEP, Pooled::no>, KERNEL<1, 2, STEP, Pooled::no>, \
        KERNEL<1, 3, STEP, Pooled::no>, KERNEL<1, 4, STEP, Pooled::no>,      \
        KERNEL<1, 5, STEP, Pooled::no>, KERNEL<1, 6, STEP, Pooled::no>,      \
        KERNEL<1, 7, STEP, Pooled::no>, KERNEL<1, 8, STEP, Pooled::no>
#define GOSSAMER_LONG_STRIPS(KERNEL, STEP)                                \
    GOSSAMER_STRIPS(KERNEL, STEP), KERNEL<1, 9, STEP, Pooled::no>,        \
        KERNEL<1, 10, STEP, Pooled::no>, KERNEL<1, 11, STEP, Pooled::no>, \
        KERNEL<1, 12, STEP, Pooled::no>, KERNEL<1, 13, STEP, Pooled::no>, \
        KERNEL<1, 14, STEP, Pooled::no>, KERNEL<1, 15, STEP, Pooled::no>, \
        KERNEL<1, 16, STEP, Pooled::no>
#define GOSSAMER_PAIRS(KERNEL, POOLED) \
    {nullptr,                          \
     nullptr,                          \
     KERNEL<2, 2, 1, POOLED>,          \
     nullptr,                          \
     KERNEL<2, 4, 1, POOLED>,          \
     nullptr,                          \
     KERNEL<2, 6, 1, POOLED>}
// All loops of a kernel<rows, pixels, step, pooled>, whose strips of one row are STRIPS.
#define GOSSAMER_STRIP_LOOPS(KERNEL, LONGEST, STRIPS)                                        \
    {                                                                                        \
        width, LONGEST, {{STRIPS(KERNEL, 1)}, {STRIPS(KERNEL, 2)}, {STRIPS(KERNEL, 0)}}, {   \
            GOSSAMER_PAIRS(KERNEL, Pooled::maximum), GOSSAMER_PAIRS(KERNEL, Pooled::average) \
        }                                                                                    \
    }

}  // namespace
}  // namespace gossamer::batched
