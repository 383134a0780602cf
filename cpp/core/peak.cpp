#include "core/peak.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>

#include "core/scratch.hpp"
#include "simd/peak.hpp"

namespace gossamer {

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
    if (bytes < step || bytes > std::int64_t{1} << 34) {
        throw std::invalid_argument("bytes must be between 512 and 2^34");
    }
    const std::int64_t whole = bytes / step * step;
    const auto size = whole / static_cast<std::int64_t>(sizeof(float));
    const Scratch data(static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(whole))));
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

}  // namespace gossamer
