// What GELU keeps of a number below 0, in pieces, where a table is looked up in registers.
//
// The share that is kept of -z is a polynomial in z / h - n, between -1/2 and 1/2, for each n from
// 0 to the number of pieces, with h = 1 / pieces_of_one. Row k has the coefficients of degree k.
#pragma once

#include "simd/vectors.hpp"

#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
#define GOSSAMER_PIECES
#include "simd/gelu_32_pieces.hpp"
#elif defined(__AVX2__) && GOSSAMER_WIDTH == 8
#define GOSSAMER_PIECES
#include "simd/gelu_8_pieces.hpp"
#endif

#ifdef GOSSAMER_PIECES

namespace gossamer {
namespace {

constexpr float end_of_pieces = (pieces_count - 1) / pieces_of_one;

#if GOSSAMER_WIDTH == 16
GOSSAMER_INLINE Vector picked(const float (&from)[32], Vector which) {
    return _mm512_maskz_permutex2var_ps(0xffff, _mm512_loadu_ps(from), _mm512_castps_si512(which),
                                        _mm512_loadu_ps(from + 16));
}

// Whether one of the numbers lies so far below 0 that there is no piece for it.
GOSSAMER_INLINE bool leaves_pieces(Vector x) {
    return _mm512_cmp_ps_mask(x, _mm512_set1_ps(-end_of_pieces), _CMP_LT_OQ) != 0;
}
#else
GOSSAMER_INLINE Vector picked(const float (&from)[8], Vector which) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), _mm256_castps_si256(which));
}

GOSSAMER_INLINE bool leaves_pieces(Vector x) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-end_of_pieces), _CMP_LT_OQ)) != 0;
}
#endif

// Of numbers that do not. Far above 0 all is kept, as it is at the end of the pieces.
GOSSAMER_INLINE Vector gelu_in_pieces(const Pieces& pieces, Vector x) {
    const Vector z = at_most(magnitude(x), end_of_pieces);
    const Vector magic = broadcast(12582912.0f);       // see `exponential_parts`
    const Vector shifted = z * pieces_of_one + magic;  // its lowest bits are the piece
    const Vector r = z * pieces_of_one - (shifted - magic);
    Vector kept = picked(pieces[pieces_degree], shifted);
#pragma GCC unroll 9
    for (int degree = pieces_degree - 1; degree >= 0; --degree)
        kept = kept * r + picked(pieces[degree], shifted);
    return x * (x < 0.0f ? kept : 1.0f - kept);
}

}  // namespace
}  // namespace gossamer

#endif
