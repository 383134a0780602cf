#include "single/quad_matrix.hpp"

#include <algorithm>
#include <cmath>

namespace gossamer::single {
namespace {

// Rows are sorted by length within a bunch, which one thread computes through all panels.
constexpr std::int64_t bunch_rows = 64;

// A non-zero of a panel.
struct NonZero {
    std::int64_t place;
    float weight;
};

using Row = std::vector<NonZero>;

// Non-zeros of a row are cut in halves, all of them before any for a second time, until there are
// as many as in others. What they come to stays the same for every input, even if it is no number.
void lengthen(Row& row, std::size_t length) {
    for (std::size_t at = 0, whole = row.size(); row.size() < length; ++at) {
        if (at == whole) {
            at = 0;
            whole = row.size();
        }
        row[at].weight *= 0.5f;
        row.push_back(row[at]);
    }
}

// Four rows of one length; fewer are filled up with the last one, which is computed twice.
void add(PackedPanel& panel, const std::vector<Row>& numbers, const std::int32_t* first,
         std::int64_t count) {
    std::int32_t four[quad_rows];
    for (std::int64_t row = 0; row < quad_rows; ++row) four[row] = first[std::min(row, count - 1)];
    panel.rows.insert(panel.rows.end(), four, four + quad_rows);
    for (std::size_t step = 0; step < numbers[four[0]].size(); ++step) {
        panel.places.push_back(0);
        for (int row = 0; row < quad_rows; ++row) {
            const NonZero& one = numbers[four[row]][step];
            panel.places.back() |= static_cast<std::uint64_t>(one.place) << (16 * row);
            panel.weights.push_back(one.weight);
        }
    }
    panel.starts.push_back(static_cast<std::int64_t>(panel.places.size()));
}

// Of each row the non-zeros of some columns.
std::vector<Row> rows_between(const Weights& weights, Range columns,
                              const std::vector<std::int64_t>& offsets) {
    std::vector<Row> found(weights.rows);
    for (std::int64_t row = 0; row < weights.rows; ++row) {
        for (std::int64_t at = weights.starts[row]; at < weights.starts[row + 1]; ++at) {
            const std::int64_t column = weights.indices[at];
            if (column >= columns.begin && column < columns.end)
                found[row].push_back(
                    {(offsets[column] - offsets[columns.begin]) * 4 / bytes_of_place,
                     weights.values[at]});
        }
    }
    return found;
}

// `outermost`: sums of rows without any non-zero begin or end here.
PackedPanel packed(const Weights& weights, const std::vector<std::int32_t>& order, Range columns,
                   const std::vector<std::int64_t>& offsets, bool outermost) {
    PackedPanel panel;
    panel.input = offsets[columns.begin];
    std::vector<Row> numbers = rows_between(weights, columns, offsets);
    const auto length = [&](std::int32_t row) { return numbers[row].size(); };
    for (std::size_t begin = 0; begin < order.size(); begin += bunch_rows) {
        const auto first = order.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = std::min(first + bunch_rows, order.end());
        std::vector<std::int32_t> bunch(first, last);
        std::stable_sort(bunch.begin(), bunch.end(),
                         [&](auto left, auto right) { return length(left) > length(right); });
        const std::int64_t filled =
            std::count_if(bunch.begin(), bunch.end(), [&](auto row) { return length(row) > 0; });
        const std::int64_t all = outermost ? static_cast<std::int64_t>(bunch.size()) : filled;
        for (std::int64_t at = 0; at < all;) {
            const std::int64_t count =
                std::min<std::int64_t>(quad_rows, (at < filled ? filled : all) - at);
            for (std::int64_t row = at; at < filled && row < at + count; ++row)
                lengthen(numbers[bunch[row]], length(bunch[at]));
            add(panel, numbers, bunch.data() + at, count);
            at += count;
        }
        panel.bunches.push_back(static_cast<std::int64_t>(panel.starts.size()) - 1);
    }
    return panel;
}

std::vector<std::int64_t> multiples(std::int64_t count, std::int64_t of) {
    std::vector<std::int64_t> found(count);
    for (std::int64_t at = 0; at < count; ++at) found[at] = at * of;
    return found;
}

}  // namespace

bool QuadMatrix::can_hold(const Weights& weights) {
    constexpr float least = 0x1p-100f;  // far more halves than a row has numbers are left of it
    return std::all_of(weights.values.begin(), weights.values.end(),
                       [](float weight) { return std::abs(weight) >= least; });
}

std::int64_t QuadMatrix::least_panels(const Weights& weights, std::int64_t plane) {
    return divided_up(weights.columns, bytes_of_place * 65535 / (4 * plane) + 1);
}

QuadMatrix::QuadMatrix(const Weights& weights, std::int64_t plane, std::int64_t panels)
    : QuadMatrix(weights, multiples(weights.columns, plane), 1, panels) {}

QuadMatrix::QuadMatrix(const Weights& weights, const std::vector<std::int64_t>& offsets,
                       std::int64_t taps, std::int64_t panels) {
    std::vector<std::int32_t> order(weights.rows);
    for (std::int64_t row = 0; row < weights.rows; ++row) order[row] = static_cast<int>(row);
    const auto length = [&](auto row) { return weights.starts[row + 1] - weights.starts[row]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](auto left, auto right) { return length(left) > length(right); });
    for (std::int64_t at = 0; at < weights.rows; ++at) {
        if (at % bunch_rows == 0) costs_.push_back(costs_.back());
        costs_.back() += length(order[at]);
    }
    const std::int64_t channels = weights.columns / taps;
    panels = std::clamp<std::int64_t>(panels, 1, channels);
    const auto columns_of = [&](std::int64_t panel) {
        return Range{channels * panel / panels * taps, channels * (panel + 1) / panels * taps};
    };
    const auto fits = [&] {
        for (std::int64_t panel = 0; panel < panels; ++panel) {
            const Range columns = columns_of(panel);
            if (!near(offsets[columns.end - 1] - offsets[columns.begin])) return false;
        }
        return true;
    };
    while (panels < channels && !fits()) ++panels;
    for (std::int64_t panel = 0; panel < panels; ++panel) {
        const Range columns = columns_of(panel);
        panels_.push_back(
            packed(weights, order, columns, offsets, panel == 0 || panel + 1 == panels));
    }
    for (const PackedPanel& panel : panels_) {
        put_in_large_pages(panel.places);
        put_in_large_pages(panel.weights);
    }
}

void QuadMatrix::multiply(const QuadLoops& loops, const QuadTask& given, Range bunches,
                          std::int64_t position, std::int64_t vectors) const {
    QuadTask task = given;
    for (std::size_t at = 0; at < panels_.size(); ++at) {
        const PackedPanel& panel = panels_[at];
        task.begins = at == 0;
        task.ends = at + 1 == panels_.size();
        loops.multiply(task, panel.view(),
                       {panel.bunches[bunches.begin], panel.bunches[bunches.end]}, position,
                       vectors);
    }
}

}  // namespace gossamer::single
