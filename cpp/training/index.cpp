#include "training/index.hpp"

#include <algorithm>
#include <stdexcept>

#include "core/caches.hpp"
#include "core/plan.hpp"

namespace gossamer::training {

namespace {

// How many slices the columns are cut into: as few as let the inputs of one fill half of the second
// cache, but no more than leave a row enough non-zeros in each to take sums out of memory for. Or
// more, which fill the first twice and still take much from there, if rows have the more in each.
std::int64_t slices_of(std::int64_t rows, std::int64_t columns, std::int64_t count, int width,
                       bool for_first) {
    const std::int64_t bytes = columns * width * tile_vectors * 4;
    const auto slices = [&](std::int64_t room, std::int64_t least) {
        return std::max<std::int64_t>(1,
                                      std::min((bytes + room - 1) / room, count / (least * rows)));
    };
    const std::int64_t of_second = slices(caches().second / 2, 8);
    return for_first ? std::max(of_second, slices(2 * caches().first, 24)) : of_second;
}

// From where each row begins, [rows + 1], and the columns in it, ascending.
Sorted sorted(std::int64_t rows, std::int64_t columns, const std::vector<std::int32_t>& starts,
              std::vector<std::int32_t> column_of, int width, bool for_first) {
    const auto count = static_cast<std::int64_t>(column_of.size());
    const std::int64_t slices = slices_of(rows, columns, count, width, for_first);
    std::vector<std::int32_t> bounds(static_cast<std::size_t>((slices + 1) * rows));
    for (std::int64_t row = 0; row < rows; ++row) {
        const auto begin = column_of.begin() + starts[static_cast<std::size_t>(row)];
        const auto end = column_of.begin() + starts[static_cast<std::size_t>(row) + 1];
        for (std::int64_t slice = 0; slice <= slices; ++slice) {
            const auto found =
                slice == slices ? end : std::lower_bound(begin, end, columns * slice / slices);
            bounds[static_cast<std::size_t>(slice * rows + row)] =
                static_cast<std::int32_t>(found - column_of.begin());
        }
    }
    return {rows, columns, slices, std::move(bounds), {column_of.begin(), column_of.end()}};
}

}  // namespace

std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& numbers, std::int64_t most) {
    std::vector<std::int32_t> starts(static_cast<std::size_t>(most) + 1);
    for (const std::int32_t number : numbers) ++starts[static_cast<std::size_t>(number) + 1];
    for (std::size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
    return starts;
}

std::vector<std::int32_t> ordered(const std::vector<std::int32_t>& numbers,
                                  const std::vector<std::int32_t>& starts) {
    std::vector<std::int32_t> next(starts.begin(), starts.end() - 1), order(numbers.size());
    for (std::size_t at = 0; at < numbers.size(); ++at) {
        const auto place = static_cast<std::size_t>(next[static_cast<std::size_t>(numbers[at])]++);
        order[place] = static_cast<std::int32_t>(at);
    }
    return order;
}

Sorted whole_rows(const std::vector<std::int32_t>& starts, std::vector<std::int32_t> column_of) {
    const auto rows = static_cast<std::int64_t>(starts.size()) - 1;
    std::vector<std::int32_t> bounds(starts.begin(), starts.end() - 1);
    bounds.insert(bounds.end(), starts.begin() + 1, starts.end());
    return {rows, 0, 1, std::move(bounds), {column_of.begin(), column_of.end()}};
}

void check_positions(const std::int64_t* positions, std::int64_t count, std::int64_t size) {
    std::int64_t last = -1;
    for (std::int64_t at = 0; at < count; ++at) {
        if (positions[at] <= last || positions[at] >= size)
            throw std::invalid_argument("positions must be ascending ones within the weight");
        last = positions[at];
    }
}

Part Sorted::part(std::int64_t slice, Range of) const {
    const std::int32_t* const begins = bounds.data() + slice * rows;
    return {of, begins, begins + rows, column_of.data()};
}

Range Sorted::non_zeros(Range of) const {
    const auto start = [&](std::int64_t row) -> std::int64_t {
        if (row == rows) return static_cast<std::int64_t>(column_of.size());
        return bounds[static_cast<std::size_t>(row)];
    };
    return {start(of.begin), start(of.end)};
}

Range Sorted::share(int member, int members) const {
    // Beginning and ending a row takes about as long as some non-zeros.
    constexpr std::int64_t row_costs = 4;
    const std::int64_t all = static_cast<std::int64_t>(column_of.size()) + row_costs * rows;
    const auto boundary = [&](int number) {
        std::int64_t low = 0, high = rows;
        while (low < high) {
            const std::int64_t row = (low + high) / 2;
            const bool before =
                bounds[static_cast<std::size_t>(row)] + row_costs * row < all * number / members;
            (before ? low : high) = before ? row + 1 : row;
        }
        return low;
    };
    return {boundary(member), member + 1 == members ? rows : boundary(member + 1)};
}

Index::Index(const std::int64_t* positions, std::int64_t count, std::int64_t rows,
             std::int64_t columns, InstructionSet set)
    : set_(set) {
    constexpr std::int64_t most = INT32_MAX;
    if (rows < 1 || columns < 1 || count < 0)
        throw std::invalid_argument("a matrix has at least one row and one column");
    if (count > most || rows > most || columns > most)
        throw std::overflow_error("more than 2^31 - 1 weights, rows or columns");
    check_positions(positions, count, rows * columns);
    std::vector<std::int32_t> row_of(static_cast<std::size_t>(count)), column_of(row_of.size());
    for (std::size_t at = 0; at < row_of.size(); ++at) {
        row_of[at] = static_cast<std::int32_t>(positions[at] / columns);
        column_of[at] = static_cast<std::int32_t>(positions[at] % columns);
    }
    const Loops& loops = training_loops(set);
    const std::vector<std::int32_t> starts = starts_of(column_of, columns);
    order_ = ordered(column_of, starts);
    std::vector<std::int32_t> rows_in(row_of.size());
    for (std::size_t place = 0; place < rows_in.size(); ++place)
        rows_in[place] = row_of[static_cast<std::size_t>(order_[place])];
    by_row_ = sorted(rows, columns, starts_of(row_of, rows), std::move(column_of), loops.width,
                     loops.slices_for_first);
    by_column_ = sorted(columns, rows, starts, std::move(rows_in), loops.width, false);
}

}  // namespace gossamer::training
