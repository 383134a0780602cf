// The loops of single/grid.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "single/grid.hpp"

#include "simd/transpose.hpp"

namespace gossamer::single {
namespace {

// Quad q is of the lanes from 4 q on.
void spread(const float* const* rows, int64_t numbers, float* to) {
    for (int64_t at = 0; at < numbers; at += 4) {
        Vector four[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
            Quad loaded[quads];
#pragma GCC unroll 4
            for (int q = 0; q < quads; ++q)
                loaded[q] = *reinterpret_cast<const Quad*>(rows[4 * q + k] + at);
            four[k] = of_quads(loaded);
        }
        transpose(four);
        const int64_t count = least(numbers - at, 4);
        for (int64_t k = 0; k < count; ++k) store_any(to + (at + k) * width, four[k]);
    }
}

// The end of the rows first, whose last numbers others are written over.
void collect(const float* from, int64_t numbers, float* const* rows) {
    const auto some = [&](int64_t at, int64_t count) GOSSAMER_LAMBDA_INLINE {
        Vector four[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k)
            four[k] = load_any<Vector>(from + (at + least(k, count - 1)) * width);
        transpose(four);
#pragma GCC unroll 4
        for (int q = 0; q < quads; ++q)
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) {
                const Vector& all = four[k];
                const Quad quad = {all[4 * q], all[4 * q + 1], all[4 * q + 2], all[4 * q + 3]};
                *reinterpret_cast<Quad*>(rows[4 * q + k] + at) = quad;
            }
    };
    const int64_t whole = numbers / 4 * 4;
    if (whole < numbers) some(whole, numbers - whole);
    for (int64_t at = 0; at < whole; at += 4) some(at, 4);
}

void move(const Move* moves, int64_t count, const float* from, float* to) {
    for (const Move* one = moves; one != moves + count; ++one, to += width) {
        const float* const source = from + one->from;
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
        const __m512i lanes =
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i order = _mm512_add_epi32(lanes, _mm512_set1_epi32(one->further));
        store_any(to, _mm512_maskz_permutexvar_ps(one->lanes, order, _mm512_loadu_ps(source)));
#else
        for (int lane = 0; lane < width; ++lane)
            to[lane] = one->lanes >> lane & 1 ? source[lane + one->further] : 0.0f;
#endif
    }
}

// Lanes without a bit become less than any number.
void bound(const Move* moves, int64_t count, float* values) {
    for (const Move* one = moves; one != moves + count; ++one)
        for (int lane = 0; lane < width; ++lane)
            if ((one->lanes >> lane & 1) == 0) values[one->from + lane] = -__builtin_inff();
}

}  // namespace

GOSSAMER_EXPORT(GridLoops, grid_loops, {width == 16 ? width : 0, spread, collect, move, bound})

}  // namespace gossamer::single
