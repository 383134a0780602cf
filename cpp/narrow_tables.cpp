#include "narrow_tables.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace gossamer::narrow {
namespace {

// About how many cycles it takes to look at a table, to read a line of picks or of weights, and to
// add a non-zero that is left to other kernels. Measured on Zen 4, where lines come from the second
// cache or the third.
constexpr double cycles_of_table = 2.0;
constexpr double cycles_of_line = 2.0;
constexpr double cycles_of_other = 0.85;

std::int64_t rounded_up(std::int64_t number, std::int64_t unit) {
    return (number + unit - 1) / unit;
}

// Calls what it is given with each non-zero: its row, its place in the weights, its table, and how
// many non-zeros of the row lie in that table before it.
template <class Each>
void each_nonzero(const Weights& weights, const Each& each) {
    for (std::int64_t row = 0; row < weights.rows; ++row) {
        std::int64_t table = -1;
        int before = 0;
        for (std::int64_t at = weights.starts[row]; at < weights.starts[row + 1]; ++at) {
            const std::int64_t now = weights.indices[at] / table_columns;
            before = now == table ? before + 1 : 0;
            table = now;
            each(row, at, table, before);
        }
    }
}

// The number of steps that takes the least time; 0 for no tables.
int best_steps(const Weights& weights, std::int64_t visits) {
    std::array<std::int64_t, longest_steps + 1> others{};  // by the steps taken
    each_nonzero(weights, [&](std::int64_t, std::int64_t, std::int64_t, int before) {
        for (int steps = 0; steps <= std::min(before, longest_steps); ++steps) ++others[steps];
    });
    const auto cycles = [&](int steps) {
        const int lines = lines_of_picks(steps) + steps;
        const double visit = steps > 0 ? cycles_of_table + lines * cycles_of_line : 0.0;
        return static_cast<double>(visits) * visit +
               static_cast<double>(others[steps]) * cycles_of_other;
    };
    int best = 0;
    for (int steps = 1; steps <= longest_steps; ++steps)
        if (cycles(steps) < cycles(best)) best = steps;
    return best;
}

// Picks of the last number of a table, which is 0.
constexpr std::uint32_t zero_pick = table_columns;

TableLine line_of_zeros() {
    TableLine line{};
    for (int pick = 0; pick < picks_in_line; ++pick)
        for (std::uint32_t& number : line.numbers) number |= zero_pick << (pick_bits * pick);
    return line;
}

}  // namespace

Tables::Tables(Weights& weights) {
    const std::int64_t slices = rounded_up(weights.rows, table_rows);
    const std::int64_t tables = rounded_up(weights.columns, table_columns);
    steps_ = best_steps(weights, slices * tables);
    if (steps_ == 0) return;
    slices_ = slices;
    tables_ = tables;

    const int pick_lines = lines_of_picks(steps_);
    const std::int64_t visit = pick_lines + steps_;
    lines_.resize(slices_ * tables_ * visit);
    for (std::int64_t at = 0; at < slices_ * tables_; ++at)
        std::fill_n(lines_.begin() + at * visit, pick_lines, line_of_zeros());

    Weights others{WeightsKind::sparse, weights.rows, weights.columns, {}, {}, {}};
    others.starts.resize(weights.rows + 1, 0);
    each_nonzero(weights, [&](std::int64_t row, std::int64_t at, std::int64_t table, int step) {
        if (step >= steps_) {
            others.values.push_back(weights.values[at]);
            others.indices.push_back(weights.indices[at]);
            ++others.starts[row + 1];
            return;
        }
        TableLine* const lines = &lines_[(row / table_rows * tables_ + table) * visit];
        const std::int64_t lane = row % table_rows;
        const auto pick = static_cast<std::uint32_t>(weights.indices[at] % table_columns);
        lines[step / picks_in_line].numbers[lane] ^=
            (pick ^ zero_pick) << (pick_bits * (step % picks_in_line));
        std::memcpy(&lines[pick_lines + step].numbers[lane], &weights.values[at], sizeof(float));
    });
    for (std::int64_t row = 0; row < weights.rows; ++row)
        others.starts[row + 1] += others.starts[row];
    weights = std::move(others);
}

}  // namespace gossamer::narrow
