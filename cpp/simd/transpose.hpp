// Rows and columns of numbers change places: from [examples][numbers] to [numbers][lanes] and back.
//
// Included by units that are compiled once for each instruction set; simd/dispatch.hpp says why
// everything lies in an unnamed namespace.
#pragma once

#include "simd/vectors.hpp"

namespace gossamer {
namespace {

// A vector is one quad, or two or four side by side.
constexpr int quads = width / 4;

// Each quad takes 4 of the 8 numbers of the same quads of a and b: 0 to 3 are those of a, 4 to 7
// those of b.
template <int... number, int... lane>
GOSSAMER_INLINE Vector mixed(Vector a, Vector b, Lanes<lane...>) {
    constexpr int numbers[] = {number...};
    return __builtin_shufflevector(
        a, b, (lane / 4 * 4 + numbers[lane % 4] % 4 + numbers[lane % 4] / 4 * width)...);
}

template <int... number>
GOSSAMER_INLINE Vector mix(Vector a, Vector b) {
    return mixed<number...>(a, b, EveryLane{});
}

// Rows and columns of 4 by 4 numbers change places, in each quad.
GOSSAMER_INLINE void transpose(Vector (&rows)[4]) {
    const Vector low = mix<0, 4, 1, 5>(rows[0], rows[1]);
    const Vector high = mix<2, 6, 3, 7>(rows[0], rows[1]);
    const Vector more_low = mix<0, 4, 1, 5>(rows[2], rows[3]);
    const Vector more_high = mix<2, 6, 3, 7>(rows[2], rows[3]);
    rows[0] = mix<0, 1, 4, 5>(low, more_low);
    rows[1] = mix<2, 3, 6, 7>(low, more_low);
    rows[2] = mix<0, 1, 4, 5>(high, more_high);
    rows[3] = mix<2, 3, 6, 7>(high, more_high);
}

// A vector of quads.
GOSSAMER_INLINE Vector of_quads(const Quad (&loaded)[quads]) {
#if GOSSAMER_WIDTH == 4
    return loaded[0];
#elif GOSSAMER_WIDTH == 8
    return __builtin_shufflevector(loaded[0], loaded[1], 0, 1, 2, 3, 4, 5, 6, 7);
#elif defined(__AVX512F__)
    // Which compilers do not make of shuffles: GCC 12 takes them through the stack.
    __m512 all = _mm512_castps128_ps512(reinterpret_cast<__m128>(loaded[0]));
    all = _mm512_maskz_insertf32x4(0xffff, all, reinterpret_cast<__m128>(loaded[1]), 1);
    all = _mm512_maskz_insertf32x4(0xffff, all, reinterpret_cast<__m128>(loaded[2]), 2);
    return _mm512_maskz_insertf32x4(0xffff, all, reinterpret_cast<__m128>(loaded[3]), 3);
#else
    const auto pair = [](Quad a, Quad b) GOSSAMER_LAMBDA_INLINE {
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    };
    return __builtin_shufflevector(pair(loaded[0], loaded[1]), pair(loaded[2], loaded[3]), 0, 1, 2,
                                   3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

// Quad q is what lies 4 q `apart`, or 0 where there are no more than 4 q.
GOSSAMER_INLINE Vector load_quads(const float* from, ptrdiff_t apart, int64_t there) {
    Quad loaded[quads];
#pragma GCC unroll 4
    for (int q = 0; q < quads; ++q)
        loaded[q] = 4 * q < there ? *reinterpret_cast<const Quad*>(from + 4 * q * apart) : Quad{};
    return of_quads(loaded);
}

// One of the quads of a vector.
template <int q>
GOSSAMER_INLINE Quad quad_of(const Vector& all) {
#if GOSSAMER_WIDTH == 16 && defined(__AVX512F__)
    return reinterpret_cast<Quad>(_mm512_maskz_extractf32x4_ps(0xf, all, q));
#else
    return Quad{all[4 * q], all[4 * q + 1], all[4 * q + 2], all[4 * q + 3]};
#endif
}

GOSSAMER_INLINE void store_quads(Vector value, float* to, ptrdiff_t apart, int64_t there) {
#pragma GCC unroll 4
    for (int q = 0; q < quads; ++q) {
        if (4 * q >= there) return;
        const Quad quad = {value[4 * q], value[4 * q + 1], value[4 * q + 2], value[4 * q + 3]};
        *reinterpret_cast<Quad*>(to + 4 * q * apart) = quad;
    }
}

// From [examples][numbers], `size` apart, to [numbers][lanes], `apart` apart. Lanes without an
// example are set to 0.
GOSSAMER_INLINE void take_numbers(const float* inputs, int64_t examples, int64_t size,
                                  int64_t numbers, float* values, int64_t lanes, ptrdiff_t apart) {
    for (int64_t lane = 0; lane < lanes; lane += width) {
        const float* const from = inputs + lane * size;
        float* const to = values + lane;
        const auto take = [&](int64_t there) GOSSAMER_LAMBDA_INLINE {
            int64_t i = 0;
            for (; i + 4 <= numbers; i += 4) {
                Vector rows[4];
#pragma GCC unroll 4
                for (int k = 0; k < 4; ++k)
                    rows[k] = load_quads(from + k * size + i, size, there - k);
                transpose(rows);
#pragma GCC unroll 4
                for (int k = 0; k < 4; ++k) store_any(to + (i + k) * apart, rows[k]);
            }
            for (; i < numbers; ++i)
                for (int64_t j = 0; j < width; ++j)
                    to[i * apart + j] = j < there ? from[j * size + i] : 0.0f;
        };
        // Twice the same, the first time without asking which examples there are.
        if (lane + width <= examples)
            take(width);
        else
            take(examples - lane);
    }
}

GOSSAMER_INLINE void give_numbers(const float* values, ptrdiff_t apart, int64_t numbers,
                                  float* outputs, int64_t examples, int64_t size) {
    for (int64_t lane = 0; lane < examples; lane += width) {
        const float* const from = values + lane;
        float* const to = outputs + lane * size;
        const int64_t there = least(width, examples - lane);
        int64_t i = 0;
        for (; i + 4 <= numbers; i += 4) {
            Vector rows[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) rows[k] = load_any<Vector>(from + (i + k) * apart);
            transpose(rows);
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) store_quads(rows[k], to + k * size + i, size, there - k);
        }
        for (; i < numbers; ++i)
            for (int64_t j = 0; j < there; ++j) to[j * size + i] = from[i * apart + j];
    }
}

// So many of an example follow each other that the processor sees where it goes on, and so few that
// those of all lanes stay in the second cache.
constexpr int64_t numbers_at_once = 512;

}  // namespace
}  // namespace gossamer
