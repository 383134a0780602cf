// The loops of single/grid.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "single/grid.hpp"

#include "simd/exact_sum.hpp"
#include "simd/transpose.hpp"

namespace gossamer::single {
namespace {

// Of the first pixel of each lane in an image.
struct Starts {
    ptrdiff_t at[width];

    Starts(ptrdiff_t pitch, const Grid& grid) {
        for (int lane = 0; lane < width; ++lane)
            at[lane] = lane / grid.across * grid.height * pitch + lane % grid.across * grid.width;
    }
};

// Quad q is of the lanes from 4 q on.
template <int q>
GOSSAMER_INLINE void store_quad(const Vector (&four)[4], const Starts& starts, float* to) {
    if constexpr (q < quads) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k)
            *reinterpret_cast<Quad*>(to + starts.at[4 * q + k]) = quad_of<q>(four[k]);
    }
}

void spread(const float* image, ptrdiff_t pitch, const Grid& grid, int64_t rows, int64_t numbers,
            float* to) {
    const Starts starts(pitch, grid);
    for (int64_t row = 0; row < rows; ++row, to += numbers * width) {
        for (int64_t at = 0; at < numbers; at += 4) {
            const float* const from = image + row * pitch + at;
            Vector four[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) {
                Quad loaded[quads];
#pragma GCC unroll 4
                for (int q = 0; q < quads; ++q)
                    loaded[q] = *reinterpret_cast<const Quad*>(from + starts.at[4 * q + k]);
                four[k] = of_quads(loaded);
            }
            transpose(four);
            store_any(to + at * width, four[0]);
            if (at + 1 < numbers) store_any(to + (at + 1) * width, four[1]);
            if (at + 2 < numbers) store_any(to + (at + 2) * width, four[2]);
            if (at + 3 < numbers) store_any(to + (at + 3) * width, four[3]);
        }
    }
}

// The end of rows first, whose last numbers those of the next tile are written over.
void collect(const float* from, const Grid& grid, float* image, ptrdiff_t pitch) {
    const Starts starts(pitch, grid);
    const int64_t numbers = grid.width, whole = numbers / 4 * 4;
    for (int64_t row = 0; row < grid.height; ++row, from += numbers * width) {
        const auto some = [&](int64_t at, int64_t count) GOSSAMER_LAMBDA_INLINE {
            Vector four[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k)
                four[k] = load_any<Vector>(from + (at + least(k, count - 1)) * width);
            transpose(four);
            float* const to = image + row * pitch + at;
            store_quad<0>(four, starts, to);
            store_quad<1>(four, starts, to);
            store_quad<2>(four, starts, to);
            store_quad<3>(four, starts, to);
        };
        if (whole < numbers) some(whole, numbers - whole);
        for (int64_t at = 0; at < whole; at += 4) some(at, 4);
    }
}

void move(const Move* moves, int64_t count, const float* from, float* to) {
    for (const Move* one = moves; one != moves + count; ++one, to += width) {
        const float* const source = from + one->from;
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
        const __m512i lanes =
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i order = _mm512_add_epi32(lanes, _mm512_set1_epi32(one->further));
        store_any(to, _mm512_maskz_permutexvar_ps(one->lanes, order, _mm512_loadu_ps(source)));
#elif defined(__AVX2__) && GOSSAMER_WIDTH == 8
        const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i order = _mm256_add_epi32(lanes, _mm256_set1_epi32(one->further));
        const __m256i bits = _mm256_sllv_epi32(_mm256_set1_epi32(1), lanes);
        const __m256i kept =
            _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(one->lanes), bits), bits);
        store_any(to, _mm256_and_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(source), order),
                                    _mm256_castsi256_ps(kept)));
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

float sum(const Move* moves, int64_t count, const float* values) {
    Sum sums;
    for (const Move* one = moves; one != moves + count; ++one, values += width) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
        sums.add(_mm512_maskz_loadu_ps(one->lanes, values));
#else
        Vector some{};
        for (int lane = 0; lane < width; ++lane)
            some[lane] = one->lanes >> lane & 1 ? values[lane] : 0.0f;
        sums.add(some);
#endif
    }
    return sums.whole(true)[0];
}

}  // namespace

GOSSAMER_EXPORT(GridLoops, grid_loops, {width >= 8 ? width : 0, spread, collect, move, bound, sum})

}  // namespace gossamer::single
