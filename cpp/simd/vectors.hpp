// Vectors of GOSSAMER_WIDTH floats.
//
// Included by units that are compiled once for each instruction set; simd/dispatch.hpp says why
// everything lies in an unnamed namespace, and nothing of the standard library is used.
#pragma once

#if defined(__SSE__)
#include <immintrin.h>
#endif
#include <stddef.h>
#include <stdint.h>

#include "core/plain.hpp"

namespace gossamer {
namespace {

constexpr int width = GOSSAMER_WIDTH;

typedef float Vector __attribute__((vector_size(4 * GOSSAMER_WIDTH), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * GOSSAMER_WIDTH), may_alias));
typedef uint32_t Unsigned __attribute__((vector_size(4 * GOSSAMER_WIDTH), may_alias));
typedef float Quad __attribute__((vector_size(16), may_alias, aligned(4)));

#define GOSSAMER_INLINE inline __attribute__((always_inline))

#define GOSSAMER_LAMBDA_INLINE __attribute__((always_inline))

// Where a vector begins at a multiple of its size.
GOSSAMER_INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
GOSSAMER_INLINE void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

// Anywhere.
template <typename Value, typename Number>
GOSSAMER_INLINE Value load_any(const Number* from) {
    Value value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <typename Value>
GOSSAMER_INLINE void store_any(float* to, const Value& value) {
    __builtin_memcpy(to, &value, sizeof value);
}

// Stores the first `count` numbers, at least 0 and below width: halves, quarters and so on, whose
// branches go the same way for every row of an image.
GOSSAMER_INLINE void store_first(float* to, const Vector& value, int64_t count) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1 << count) - 1), value);
#else
    float numbers[width];
    store_any(numbers, value);
    const float* from = numbers;
#pragma GCC unroll 4
    for (int part = width / 2; part > 0; part /= 2) {
        if ((count & part) == 0) continue;
        __builtin_memcpy(to, from, 4 * part);
        to += part;
        from += part;
    }
#endif
}

// The first `count` numbers, at least 0 and below width, and zeros behind them.
GOSSAMER_INLINE Vector load_first(const float* from, int64_t count) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), from);
#else
    float numbers[width] = {};
    __builtin_memcpy(numbers, from, 4 * static_cast<size_t>(count));
    return load_any<Vector>(numbers);
#endif
}

// The same of numbers that are there.
GOSSAMER_INLINE Vector first_of(const Vector& value, int64_t count) {
    float numbers[width];
    store_any(numbers, value);
    return load_first(numbers, count);
}

// Subtracting 0 leaves every number as it is, -0 too, so that no instruction is left of it.
GOSSAMER_INLINE Vector broadcast(float value) { return value - Vector{}; }

GOSSAMER_INLINE Vector magnitude(Vector value) {
    return reinterpret_cast<Vector>(reinterpret_cast<Integers>(value) & 0x7fffffff);
}

// The larger of two, and b where either is NaN. One instruction on x86, which compilers do not
// find.
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

// The smaller of two, likewise.
GOSSAMER_INLINE Vector fewest(Vector a, Vector b) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX__) && GOSSAMER_WIDTH == 8
    return _mm256_min_ps(a, b);
#elif defined(__SSE__) && GOSSAMER_WIDTH == 4
    return _mm_min_ps(a, b);
#else
    return a < b ? a : b;
#endif
}

// NaN stays NaN in these.

GOSSAMER_INLINE Vector at_least(Vector value, float low) { return most(broadcast(low), value); }

GOSSAMER_INLINE Vector at_most(Vector value, float high) { return fewest(broadcast(high), value); }

GOSSAMER_INLINE Vector larger(Vector a, Vector b) {
    const Vector found = most(a, b);
    return a != a ? a : found;
}

GOSSAMER_INLINE float larger(float a, float b) {
    const float found = a > b ? a : b;
    return a != a ? a : found;
}

GOSSAMER_INLINE Vector root(Vector value) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    return _mm512_maskz_sqrt_ps(0xffff, value);
#else
    for (int lane = 0; lane < width; ++lane) value[lane] = __builtin_sqrtf(value[lane]);
    return value;
#endif
}

GOSSAMER_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
GOSSAMER_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// A list of numbers, of which shuffles are made.
template <int... lane>
struct Lanes {};

template <int count, int... lane>
struct Counted : Counted<count - 1, count - 1, lane...> {};

template <int... lane>
struct Counted<0, lane...> {
    using Type = Lanes<lane...>;
};

using EveryLane = Counted<width>::Type;

// Some vectors that loops which are unrolled keep in registers.
template <int count>
struct Sums {
    Vector at[count];
};

}  // namespace
}  // namespace gossamer
