// What follows sums that are in registers.
#pragma once

#include "simd/activations.hpp"

namespace gossamer {
namespace {

// Out of line, so that the sums of the loops around it stay in registers.
__attribute__((noinline)) void activate(ActivationKind kind, float alpha, float* values,
                                        int count) {
    const auto each = [&](const auto& function) GOSSAMER_LAMBDA_INLINE {
        for (int i = 0; i < count; ++i)
            store(values + i * width, function(load(values + i * width)));
    };
    // Loops of their own, whose tables stay in registers.
    if (kind == ActivationKind::gelu) return each(gelu);
    if (kind == ActivationKind::gelu_tanh) return each(gelu_tanh);
    each([&](Vector x) GOSSAMER_LAMBDA_INLINE { return activated(kind, alpha, x); });
}

// Whether an activation takes so few instructions that it need not be called.
GOSSAMER_INLINE bool is_short(ActivationKind kind) {
    return kind == ActivationKind::identity || kind == ActivationKind::relu ||
           kind == ActivationKind::relu6;
}

// Sums of one channel become values.
template <int count>
GOSSAMER_INLINE void apply(const Finish& finish, int64_t channel, Sums<count>& sums) {
    if (finish.activation == ActivationKind::relu) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = at_least(sums.at[i], 0.0f);
    } else if (finish.activation == ActivationKind::relu6) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = at_most(at_least(sums.at[i], 0.0f), 6.0f);
    } else if (!is_short(finish.activation)) {
        alignas(64) float values[count * width];
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) store(values + i * width, sums.at[i]);
        activate(finish.activation, finish.alpha, values, count);
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = load(values + i * width);
    }
    if (finish.scale) {
        const Vector scale = broadcast(finish.scale[channel]);
        const Vector shift = broadcast(finish.shift[channel]);
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = sums.at[i] * scale + shift;
    }
}

}  // namespace
}  // namespace gossamer
