// A sparse matrix as the loops of single/quads.hpp walk it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.hpp"
#include "core/scratch.hpp"
#include "single/quads.hpp"

namespace gossamer::single {

// One of its panels.
struct PackedPanel {
    std::int64_t input = 0;
    std::vector<std::int64_t> bunches{0};  // quads before each bunch
    std::vector<std::int32_t> rows;
    std::vector<std::int64_t> starts{0};
    LongVector<std::uint64_t> places;
    LongVector<float> weights;

    QuadPanel view() const {
        return {input, rows.data(), starts.data(), places.data(), weights.data()};
    }
};

// Rows are taken in bunches, each of which one thread computes.
class QuadMatrix {
  public:
    // Its columns read planes that lie so many floats apart. There are as many panels as places
    // need, if not more.
    QuadMatrix(const Weights& weights, std::int64_t plane, std::int64_t panels);
    // Columns that read so many floats from the first one on. Panels have whole channels, which are
    // of so many columns each; those of a channel are near enough (`near`).
    QuadMatrix(const Weights& weights, const std::vector<std::int64_t>& offsets, std::int64_t taps,
               std::int64_t panels);

    // Whether what lies so many floats apart can be in one panel.
    static bool near(std::int64_t floats) { return 4 * floats <= bytes_of_place * 65535; }

    // Whether no weight is so small that nothing would be left of it when it is halved often.
    static bool can_hold(const Weights& weights);

    // How many panels there are at least.
    static std::int64_t least_panels(const Weights& weights, std::int64_t plane);

    // Non-zeros before each bunch.
    const std::vector<std::int64_t>& costs() const { return costs_; }
    std::int64_t bunches() const { return static_cast<std::int64_t>(costs_.size()) - 1; }

    // Rows of some bunches for so many vectors from a position on.
    void multiply(const QuadLoops& loops, const QuadTask& given, Range bunches,
                  std::int64_t position, std::int64_t vectors) const;

  private:
    std::vector<std::int64_t> costs_{0};
    std::vector<PackedPanel> panels_;
};

}  // namespace gossamer::single
