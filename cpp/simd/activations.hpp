// Functions of one number over vectors. NaN stays NaN in all of them.
#pragma once

#include "simd/gelu_pieces.hpp"
#include "simd/vectors.hpp"

namespace gossamer {
namespace {

struct Scaled {
    Vector power;   // 2^n
    Vector excess;  // exp(r) - 1, where the argument is n ln 2 + r and |r| <= ln 2 / 2
};

// The parts of exp(x), with x bounded so that neither overflows nor becomes subnormal.
GOSSAMER_INLINE Scaled exponential_parts(Vector x) {
    x = at_most(at_least(x, -87.0f), 88.0f);
    const Vector magic = broadcast(12582912.0f);  // 1.5 x 2^23: adding it rounds to an integer
    const Vector shifted = x * 1.44269504f + magic;
    const Vector n = shifted - magic;
    Vector r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    Vector p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Integers exponent = reinterpret_cast<Integers>(shifted) + (127 - 0x4b400000);
    return {reinterpret_cast<Vector>(exponent << 23), p * (r * r) + r};
}

GOSSAMER_INLINE Vector exponential(Vector x) {
    const Scaled parts = exponential_parts(x);
    return parts.power * parts.excess + parts.power;
}

// exp(x) - 1, exact near 0 too.
GOSSAMER_INLINE Vector exponential_less_one(Vector x) {
    const Scaled parts = exponential_parts(x);
    return parts.power * parts.excess + (parts.power - 1.0f);
}

GOSSAMER_INLINE Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }

GOSSAMER_INLINE Vector hyperbolic_tangent(Vector x) {
    const Vector e = exponential_less_one(at_most(at_least(x + x, -40.0f), 40.0f));
    return e / (e + 2.0f);
}

// x times the normal distribution function. The complementary error function is that of Numerical
// Recipes (erfcc), whose relative error is below 1.2e-7 everywhere: no cancellation far below 0.
GOSSAMER_INLINE Vector gelu(Vector x) {
#ifdef GOSSAMER_PIECES
    if (__builtin_expect(!leaves_pieces(x), 1)) return gelu_in_pieces(gelu_pieces, x);
#endif
    const Vector z = magnitude(x) * 0.707106781f;
    const Vector t = 1.0f / (1.0f + 0.5f * z);
    Vector p = broadcast(0.17087277f);
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    const Vector half_complement = 0.5f * t * exponential(p - z * z);
    return x * (x < 0.0f ? half_complement : 1.0f - half_complement);
}

GOSSAMER_INLINE Vector gelu_tanh(Vector x) {
#if GOSSAMER_WIDTH == 16 && defined(GOSSAMER_PIECES)  // 8 pieces take longer than the function
    if (__builtin_expect(!leaves_pieces(x), 1)) return gelu_in_pieces(gelu_tanh_pieces, x);
#endif
    return x * sigmoid(x * (1.595769122f + 0.0713548163f * (x * x)));
}

GOSSAMER_INLINE Vector activated(ActivationKind kind, float alpha, Vector x) {
    switch (kind) {
        case ActivationKind::identity: return x;
        case ActivationKind::relu: return at_least(x, 0.0f);
        case ActivationKind::relu6: return at_most(at_least(x, 0.0f), 6.0f);
        case ActivationKind::leaky_relu: return x < 0.0f ? x * alpha : x;
        case ActivationKind::elu: return x < 0.0f ? exponential_less_one(x) * alpha : x;
        case ActivationKind::gelu: return gelu(x);
        case ActivationKind::gelu_tanh: return gelu_tanh(x);
        case ActivationKind::silu: return x * sigmoid(x);
        case ActivationKind::hardswish:
            return x * at_most(at_least(x + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
        case ActivationKind::sigmoid: return sigmoid(x);
        case ActivationKind::tanh: return hyperbolic_tangent(x);
    }
    return x;
}

}  // namespace
}  // namespace gossamer
