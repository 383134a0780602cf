#include "single/matrix_vector.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/scratch.hpp"

namespace gossamer::single {
namespace {

// Columns are counted in 16 bits where these can also name the zero behind the last.
constexpr std::int64_t columns_in_16_bits = 65535;

std::int64_t length(const Weights& weights, std::int64_t row) {
    return row < weights.rows ? weights.starts[row + 1] - weights.starts[row] : 0;
}

// Rows from the longest to the shortest: those of one slice are then nearly as long as another,
// and so are slices that follow one another, which keeps the branches of the kernel predictable.
std::vector<std::int32_t> rows_by_length(const Weights& weights) {
    std::vector<std::int32_t> rows(weights.rows);
    std::iota(rows.begin(), rows.end(), 0);
    std::stable_sort(rows.begin(), rows.end(), [&](std::int32_t left, std::int32_t right) {
        return length(weights, left) > length(weights, right);
    });
    return rows;
}

Packed packed_in_slices(const Weights& weights) {
    Packed packed;
    packed.rows = rows_by_length(weights);
    packed.rows.resize((weights.rows + slice_rows - 1) / slice_rows * slice_rows, -1);
    packed.starts.push_back(0);
    for (std::size_t first = 0; first < packed.rows.size(); first += slice_rows) {
        const std::int64_t steps = length(weights, packed.rows[first]);
        for (std::int64_t step = 0; step < steps; ++step) {
            for (std::size_t lane = 0; lane < slice_rows; ++lane) {
                const std::int32_t row = packed.rows[first + lane];
                const bool held = row >= 0 && step < length(weights, row);
                const std::int64_t at = held ? weights.starts[row] + step : 0;
                packed.values.push_back(held ? weights.values[at] : 0.0f);
                const auto behind = static_cast<std::int32_t>(weights.columns);
                packed.add_index(weights.columns, held ? weights.indices[at] : behind);
            }
        }
        packed.starts.push_back(packed.starts.back() + steps);
    }
    return packed;
}

Packed packed_in_blocks(const Weights& weights) {
    Packed packed;
    packed.values.assign(weights.values.begin(), weights.values.end());
    packed.starts = weights.starts;
    for (const std::int32_t column : weights.indices) packed.add_index(weights.columns, column);
    return packed;
}

Packed packed_densely(const Weights& weights, int lanes) {
    Packed packed;
    const std::int64_t unit = 2 * lanes;
    packed.stride = (weights.columns + unit - 1) / unit * unit;
    packed.values.resize(weights.rows * packed.stride, 0.0f);
    for (std::int64_t row = 0; row < weights.rows; ++row)
        std::copy_n(weights.values.begin() + row * weights.columns, weights.columns,
                    packed.values.begin() + row * packed.stride);
    return packed;
}

Packed packed(const Weights& weights, const LinearLoops& loops) {
    if (weights.kind == WeightsKind::dense) return packed_densely(weights, loops.lanes);
    if (weights.kind == WeightsKind::block) return packed_in_blocks(weights);
    if (loops.tabled == nullptr) return packed_in_slices(weights);
    Tabled tabled = in_tables(weights);
    Packed packed = packed_in_slices(tabled.others);
    packed.tables = std::move(tabled.tables);
    return packed;
}

}  // namespace

void Packed::add_index(std::int64_t columns, std::int32_t column) {
    if (columns <= columns_in_16_bits)
        short_indices.push_back(static_cast<std::uint16_t>(column));
    else
        long_indices.push_back(column);
}

MatrixVector::MatrixVector(const Weights& weights, InstructionSet set)
    : loops_(linear_loops(set)),
      kind_(weights.kind),
      rows_(weights.rows),
      stored_(static_cast<std::int64_t>(weights.values.size())),
      packed_(packed(weights, loops_)) {
    packed_.tables.put_in_large_pages();
    put_in_large_pages(packed_.values);
    put_in_large_pages(packed_.short_indices);
    put_in_large_pages(packed_.long_indices);
}

double MatrixVector::nanoseconds() const {
    const bool slow = kind_ == WeightsKind::sparse && packed_.tables.bands() == 0;
    return (slow ? 0.4 : 0.15) * static_cast<double>(stored_);
}

void MatrixVector::multiply(const Worker& worker, const float* input, float* output) const {
    if (kind_ == WeightsKind::dense) {
        // In the fours that the kernel takes at once, so that the cuts change no digit.
        const Range fours = worker.part((rows_ + 3) / 4);
        loops_.dense({input, output, packed_.values.data(), packed_.stride},
                     {4 * fours.begin, std::min(4 * fours.end, rows_)});
        return;
    }
    const Range part = worker.part_by_cost(packed_.starts);
    const bool few_columns = packed_.long_indices.empty();
    const std::int64_t* starts = packed_.starts.data();
    if (kind_ == WeightsKind::block) {
        const BlockedTask task{input, output, starts, packed_.indices(), packed_.values.data()};
        (few_columns ? loops_.blocked_16 : loops_.blocked_32)(task, part);
        return;
    }
    const SlicedTask task{
        input, output, packed_.rows.data(), starts, packed_.indices(), packed_.values.data()};
    (few_columns ? loops_.sliced_16 : loops_.sliced_32)(task, part);
    if (packed_.tables.bands() == 0) return;
    worker.wait_for_all();  // tables add to rows that another thread may have begun
    const Range bands = worker.part(packed_.tables.bands());
    loops_.tabled(packed_.tables.task(input, output), bands);
}

}  // namespace gossamer::single
