// Vectors of GOSSAMER_WIDTH floats and the functions of one number over them.
//
// Included by units that are compiled once for each instruction set; simd/dispatch.hpp says why
// everything lies in an unnamed namespace, and nothing of the standard library is used.
#pragma once

#if defined(__SSE__)
#include <immintrin.h>
#endif
#include <stdint.h>

#include "core/kinds.hpp"

namespace gossamer {
namespace {

constexpr int width = GOSSAMER_WIDTH;

typedef float Vector __attribute__((vector_size(4 * GOSSAMER_WIDTH), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * GOSSAMER_WIDTH), may_alias));
typedef float Quad __attribute__((vector_size(16), may_alias, aligned(4)));

#define GOSSAMER_INLINE inline __attribute__((always_inline))

GOSSAMER_INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
GOSSAMER_INLINE void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
// Subtracting 0 leaves every number as it is, -0 too, so that no instruction is left of it.
GOSSAMER_INLINE Vector broadcast(float value) { return value - Vector{}; }

// The larger of two, and b where either is NaN. One instruction on x86, which compilers do not find.
GOSSAMER_INLINE Vector most(Vector a, Vector b) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    return _mm512_maskz_max_ps(0xffff, a, b);  // GCC 12 warns of the plain one
#elif defined(__AVX__) && GOSSAMER_WIDTH == 8
    return _mm256_max_ps(a, b);
#elif defined(__SSE__) && GOSSAMER_WIDTH == 4
    return _mm_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

// ---- functions of one number; NaN stays NaN in all of them

GOSSAMER_INLINE Vector at_least(Vector value, float low) {
    return most(broadcast(low), value);
}

GOSSAMER_INLINE Vector at_most(Vector value, float high) {
    const Vector bound = broadcast(high);
    return bound < value ? bound : value;
}

GOSSAMER_INLINE Vector larger(Vector a, Vector b) {
    const Vector found = most(a, b);
    return a != a ? a : found;
}

GOSSAMER_INLINE Vector magnitude(Vector value) {
    return reinterpret_cast<Vector>(reinterpret_cast<Integers>(value) & 0x7fffffff);
}

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

GOSSAMER_INLINE Vector activated(ActivationKind kind, float alpha, Vector x) {
    switch (kind) {
        case ActivationKind::identity:
            return x;
        case ActivationKind::relu:
            return at_least(x, 0.0f);
        case ActivationKind::relu6:
            return at_most(at_least(x, 0.0f), 6.0f);
        case ActivationKind::leaky_relu:
            return x < 0.0f ? x * alpha : x;
        case ActivationKind::elu:
            return x < 0.0f ? exponential_less_one(x) * alpha : x;
        case ActivationKind::gelu:
            return gelu(x);
        case ActivationKind::gelu_tanh:
            return x * sigmoid(x * (1.595769122f + 0.0713548163f * (x * x)));
        case ActivationKind::silu:
            return x * sigmoid(x);
        case ActivationKind::hardswish:
            return x * at_most(at_least(x + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
        case ActivationKind::sigmoid:
            return sigmoid(x);
        case ActivationKind::tanh:
            return hyperbolic_tangent(x);
    }
    return x;
}

}  // namespace
}  // namespace gossamer
