// The loops of simd/peak.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "simd/peak.hpp"

#include "simd/vectors.hpp"

namespace gossamer {
namespace {

double multiply_add(int64_t repeats) {
    constexpr int count = 10;
    Sums<count> sums;
    Vector factor = broadcast(0.999f), term = broadcast(0.001f);
    for (int i = 0; i < count; ++i) sums.at[i] = broadcast(0.1f * i);
    for (int64_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = sums.at[i] * factor + term;
    }
    float total = 0.0f;
    for (int i = 0; i < count; ++i) {
        for (int lane = 0; lane < width; ++lane) total += sums.at[i][lane];
    }
    // The sums are above 0 always; but the compiler cannot know, and must add them up.
    if (total < 0.0f) return 0.0;
    return 2.0 * count * width * static_cast<double>(repeats);
}

float read(const float* data, int64_t size) {
    constexpr int count = 8;
    Sums<count> sums{};
    for (int64_t at = 0; at + count * width <= size; at += count * width) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] += load(data + at + i * width);
    }
    float total = 0;
    for (int i = 0; i < count; ++i) {
        for (int lane = 0; lane < width; ++lane) total += sums.at[i][lane];
    }
    return total;
}

}  // namespace

GOSSAMER_EXPORT(PeakLoops, peak_loops, {multiply_add, read})

}  // namespace gossamer
