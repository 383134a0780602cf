// What one core can do at most.
#include "core/peak.hpp"

#include "simd/dispatch.hpp"

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/vectors.hpp"
#else
#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>

#include "core/scratch.hpp"
#endif

namespace gossamer {

struct PeakLoops {
    // Multiply and add in registers; returns the floating-point operations done.
    double (*multiply_add)(std::int64_t repeats);
    // Read [size] floats; returns something that depends on them all.
    float (*read)(const float* data, std::int64_t size);
};

GOSSAMER_DECLARE(PeakLoops, peak_loops)

#ifdef GOSSAMER_INSTRUCTION_SET
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
    for (int i = 0; i < count; ++i)
        for (int lane = 0; lane < width; ++lane) total += sums.at[i][lane];
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
    for (int i = 0; i < count; ++i)
        for (int lane = 0; lane < width; ++lane) total += sums.at[i][lane];
    return total;
}

}  // namespace

GOSSAMER_EXPORT(PeakLoops, peak_loops, {multiply_add, read})

#else
namespace {

// The best rate of `work`, which returns how much it did, within so many seconds.
template <class Work>
double best_rate(double seconds, Work work) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    const auto start = Clock::now();
    double best = 0.0;
    do {
        const auto begin = Clock::now();
        const double done = work();
        best = std::max(best, done / since(begin));
    } while (since(start) < seconds);
    return best;
}

}  // namespace

double multiply_add_peak(InstructionSet set, double seconds) {
    const PeakLoops& loops = peak_loops(set);
    return best_rate(seconds, [&] { return loops.multiply_add(100000); });
}

double read_bandwidth(InstructionSet set, std::int64_t bytes, double seconds) {
    constexpr std::int64_t step = 8 * 16 * sizeof(float);  // what `read` takes at once, at most
    if (bytes < step || bytes > std::int64_t{1} << 34)
        throw std::invalid_argument("bytes must be between 512 and 2^34");
    const std::int64_t whole = bytes / step * step;
    const auto size = whole / static_cast<std::int64_t>(sizeof(float));
    const Scratch data(
        static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(whole))));
    if (!data) throw std::bad_alloc();
    std::fill(data.get(), data.get() + size, 1.0f);
    const PeakLoops& loops = peak_loops(set);
    const std::int64_t rounds = std::max<std::int64_t>(1, (std::int64_t{1} << 24) / whole);
    return best_rate(seconds, [&] {
        float total = 0.0f;
        for (std::int64_t round = 0; round < rounds; ++round) total += loops.read(data.get(), size);
        return total > 0.0f ? static_cast<double>(whole * rounds) : 0.0;
    });
}

#endif
}  // namespace gossamer
