#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "single/steps.hpp"
#include "single/tables.hpp"

namespace gossamer::single {
namespace {

// Columns are counted in 16 bits where these can also name the zero behind the last.
constexpr std::int64_t columns_in_16_bits = 65535;

// Weights as the kernels walk them; `starts` are steps, blocks or nothing.
struct Packed {
    Tables tables;  // of sparse weights, some or all; the rest is in slices
    std::vector<float> values;
    std::vector<std::int64_t> starts;
    std::vector<std::uint16_t> short_indices;
    std::vector<std::int32_t> long_indices;
    std::vector<std::int32_t> rows;  // of the output, for each lane of each slice
    std::int64_t stride = 0;         // of dense rows

    void add_index(std::int64_t columns, std::int32_t column) {
        if (columns <= columns_in_16_bits)
            short_indices.push_back(static_cast<std::uint16_t>(column));
        else
            long_indices.push_back(column);
    }
    const void* indices() const {
        if (!long_indices.empty()) return long_indices.data();
        return short_indices.data();
    }
};

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
    packed.values = weights.values;
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

Packed packed(const Weights& weights, const Kernels& kernels) {
    if (weights.kind == WeightsKind::dense) return packed_densely(weights, kernels.lanes);
    if (weights.kind == WeightsKind::block) return packed_in_blocks(weights);
    if (kernels.tabled == nullptr) return packed_in_slices(weights);
    Tabled tabled = in_tables(weights);
    Packed packed = packed_in_slices(tabled.others);
    packed.tables = std::move(tabled.tables);
    return packed;
}

// With zeros behind, for vectors that read on.
std::vector<float> with_slack(std::vector<float> numbers) {
    if (!numbers.empty()) numbers.resize(numbers.size() + slack, 0.0f);
    return numbers;
}

class Linear final : public Step {
  public:
    explicit Linear(const Site& site)
        : kernels_(site.kernels),
          input_(site.input().place),
          output_(site.output().place),
          residual_(site.residual() != nullptr ? site.residual()->place : -1),
          kind_(site.layer().weights.kind),
          rows_(site.layer().weights.rows),
          stored_(static_cast<std::int64_t>(site.layer().weights.values.size())),
          packed_(packed(site.layer().weights, site.kernels)),
          bias_(with_slack(site.layer().bias)),
          scale_(with_slack(site.layer().epilogue.scale)),
          shift_(with_slack(site.layer().epilogue.shift)),
          activation_(site.layer().epilogue.activation) {}

    double nanoseconds() const override {
        const bool slow = kind_ == WeightsKind::sparse && packed_.tables.bands() == 0;
        return (slow ? 0.4 : 0.15) * static_cast<double>(stored_);
    }

    void run(const Worker& worker) const noexcept override {
        multiply(worker);
        worker.wait_for_all();
        if (worker.member == 0) finish(worker.scratch);
    }

  private:
    void multiply(const Worker& worker) const;
    void finish(float* scratch) const;

    const Kernels& kernels_;
    std::int64_t input_;
    std::int64_t output_;
    std::int64_t residual_;
    WeightsKind kind_;
    std::int64_t rows_;
    std::int64_t stored_;
    Packed packed_;
    std::vector<float> bias_;
    std::vector<float> scale_;
    std::vector<float> shift_;
    Activation activation_;
};

void Linear::multiply(const Worker& worker) const {
    const float* input = worker.scratch + input_;
    float* output = worker.scratch + output_;
    if (kind_ == WeightsKind::dense) {
        // In the fours that the kernel takes at once, so that the cuts change no digit.
        const Range fours = worker.part((rows_ + 3) / 4);
        kernels_.dense({input, output, packed_.values.data(), packed_.stride}, 4 * fours.first,
                       std::min(4 * fours.last, rows_));
        return;
    }
    const Range part = worker.part_by_cost(packed_.starts);
    const bool few_columns = packed_.long_indices.empty();
    const std::int64_t* starts = packed_.starts.data();
    if (kind_ == WeightsKind::block) {
        const BlockedTask task{input, output, starts, packed_.indices(), packed_.values.data()};
        (few_columns ? kernels_.blocked_16 : kernels_.blocked_32)(task, part.first, part.last);
        return;
    }
    const SlicedTask task{input,  output,            packed_.rows.data(),
                          starts, packed_.indices(), packed_.values.data()};
    (few_columns ? kernels_.sliced_16 : kernels_.sliced_32)(task, part.first, part.last);
    if (packed_.tables.bands() == 0) return;
    worker.wait_for_all();  // tables add to rows that another thread may have begun
    const Range bands = worker.part(packed_.tables.bands());
    kernels_.tabled(packed_.tables.task(input, output), bands.first, bands.last);
}

// Few numbers in comparison: one thread turns them all, in whole vectors.
void Linear::finish(float* scratch) const {
    FinishTask task{};
    task.values = scratch + output_;
    task.count = rows_;
    if (!bias_.empty()) task.bias = bias_.data();
    if (residual_ >= 0) task.residual = scratch + residual_;
    task.finish = {activation_.kind, activation_.alpha, scale_.empty() ? nullptr : scale_.data(),
                   shift_.empty() ? nullptr : shift_.data()};
    kernels_.finish(task);
    // The kernels count on zeros behind a vector, where the last block of rows may have written.
    std::fill_n(task.values + rows_, slack / 2, 0.0f);
}

}  // namespace

std::unique_ptr<Step> make_linear(const Site& site) { return std::make_unique<Linear>(site); }

}  // namespace gossamer::single
