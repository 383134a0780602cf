#include "single/tables.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace gossamer::single {
namespace {

// About how many cycles it takes to load a table, to read a line of picks or of weights, and to add
// a non-zero that is left to other kernels. Measured on Zen 4 with weights in the second cache and
// in the third; where they come from memory, what counts is bytes, of which tables take a little
// more.
constexpr double cycles_of_table = 2.0;
constexpr double cycles_of_line = 2.0;
constexpr double cycles_of_other = 0.85;

// Picks of the last number of a table, which is 0.
constexpr std::uint32_t zero_pick = table_columns;

int lines_of(int steps) { return lines_of_picks(steps) + steps; }

TableLine line_of_zeros() {
    TableLine line{};
    for (int pick = 0; pick < picks_in_line; ++pick)
        for (std::uint32_t& number : line.numbers) number |= zero_pick << (pick_bits * pick);
    return line;
}

// Calls what it is given with each non-zero: its row, its place in the weights, and how many
// non-zeros of the row lie in the same table before it.
template <class Each>
void each_nonzero(const Weights& weights, const Each& each) {
    for (std::int64_t row = 0; row < weights.rows; ++row) {
        std::int64_t table = -1;
        int before = 0;
        for (std::int64_t at = weights.starts[row]; at < weights.starts[row + 1]; ++at) {
            const std::int64_t now = weights.indices[at] / table_columns;
            before = now == table ? before + 1 : 0;
            table = now;
            each(row, at, before);
        }
    }
}

// The number of steps that takes the least time; 0 for no tables.
int best_steps(const Weights& weights, std::int64_t visits) {
    std::array<std::int64_t, longest_steps + 1> others{};  // by the steps taken
    each_nonzero(weights, [&](std::int64_t, std::int64_t, int before) {
        for (int steps = 0; steps <= std::min(before, longest_steps); ++steps) ++others[steps];
    });
    const auto cycles = [&](int steps) {
        const double visit = steps > 0 ? cycles_of_table + lines_of(steps) * cycles_of_line : 0.0;
        return static_cast<double>(visits) * visit +
               static_cast<double>(others[steps]) * cycles_of_other;
    };
    int best = 0;
    for (int steps = 1; steps <= longest_steps; ++steps)
        if (cycles(steps) < cycles(best)) best = steps;
    return best;
}

}  // namespace

Tables::Tables(std::int64_t bands, std::int64_t tables, int steps)
    : bands_(bands), tables_(tables), steps_(steps) {
    const std::int64_t visits = bands * tables;
    lines_.resize(visits * lines_of(steps));
    for (std::int64_t visit = 0; visit < visits; ++visit)
        std::fill_n(lines_.begin() + visit * lines_of(steps), lines_of_picks(steps),
                    line_of_zeros());
}

void Tables::put(std::int64_t row, std::int64_t column, int step, float value) {
    const std::int64_t visit = row / table_rows * tables_ + column / table_columns;
    TableLine* const lines = &lines_[visit * lines_of(steps_)];
    const std::int64_t lane = row % table_rows;
    const auto pick = static_cast<std::uint32_t>(column % table_columns);
    lines[step / picks_in_line].numbers[lane] ^= (pick ^ zero_pick)
                                                 << (pick_bits * (step % picks_in_line));
    std::memcpy(&lines[lines_of_picks(steps_) + step].numbers[lane], &value, sizeof value);
}

Tabled in_tables(const Weights& weights) {
    const std::int64_t bands = divided_up(weights.rows, table_rows);
    const std::int64_t tables = divided_up(weights.columns, table_columns);
    const int steps = best_steps(weights, bands * tables);
    if (steps == 0) return {{}, weights};
    Tabled found{{bands, tables, steps},
                 {WeightsKind::sparse, weights.rows, weights.columns, {}, {}, {}}};
    Weights& others = found.others;
    others.starts.resize(weights.rows + 1, 0);
    each_nonzero(weights, [&](std::int64_t row, std::int64_t at, int step) {
        const float value = weights.values[at];
        const std::int32_t column = weights.indices[at];
        if (step < steps) return found.tables.put(row, column, step, value);
        others.values.push_back(value);
        others.indices.push_back(column);
        ++others.starts[row + 1];
    });
    for (std::int64_t row = 0; row < weights.rows; ++row)
        others.starts[row + 1] += others.starts[row];
    return found;
}

}  // namespace gossamer::single
