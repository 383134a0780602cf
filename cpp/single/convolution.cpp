#include <algorithm>
#include <numeric>
#include <vector>

#include "single/steps.hpp"

namespace gossamer::single {
namespace {

std::int64_t rounded_up(std::int64_t number, std::int64_t multiple) {
    return (number + multiple - 1) / multiple * multiple;
}

// Distances of the inputs of each column of the weights from the first channel of the group.
std::vector<std::int64_t> column_offsets(const Layer& layer, const Windows& windows) {
    const std::int64_t window = layer.kernel.height * layer.kernel.width;
    std::vector<std::int64_t> offsets(layer.weights.columns);
    for (std::int64_t column = 0; column < layer.weights.columns; ++column) {
        const std::int64_t within = column % window;
        offsets[column] = column / window * windows.channel +
                          window_offset(windows, layer, within / layer.kernel.width,
                                        within % layer.kernel.width);
    }
    return offsets;
}

// Weights of a convolution as the kernels walk them. Channels (or groups of four) come in the order
// of their length: then one loop runs as often as the last, which processors predict. Every other
// one is walked from its end: what the last left in the cache is what the next begins with.
struct Entries {
    std::vector<std::int32_t> order;
    std::vector<std::int64_t> starts{0};
    std::vector<Tap> taps;
    std::vector<BlockTap> block_taps;
};

template <typename Some>
Entries sorted_entries(const std::vector<std::vector<Some>>& rows, std::int64_t channels_of_row,
                       std::vector<Some> Entries::* list) {
    std::vector<std::size_t> order(rows.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t left, std::size_t right) {
        return rows[left].size() > rows[right].size();
    });
    Entries entries;
    for (const std::size_t row : order) {
        const bool backwards = entries.order.size() % 2 == 1;
        entries.order.push_back(static_cast<std::int32_t>(row * channels_of_row));
        if (backwards)
            (entries.*list).insert((entries.*list).end(), rows[row].rbegin(), rows[row].rend());
        else
            (entries.*list).insert((entries.*list).end(), rows[row].begin(), rows[row].end());
        entries.starts.push_back(static_cast<std::int64_t>((entries.*list).size()));
    }
    return entries;
}

// How many numbers of one row are stored together, and where those of a row begin.
struct RowReader {
    const Weights& weights;

    bool dense() const { return weights.kind == WeightsKind::dense; }
    std::int64_t lanes() const { return weights.kind == WeightsKind::block ? block_rows : 1; }
    std::int64_t count(std::int64_t row) const {
        if (dense()) return weights.columns;
        return weights.starts[row / lanes() + 1] - weights.starts[row / lanes()];
    }
    std::int64_t column(std::int64_t row, std::int64_t at) const {
        return dense() ? at : weights.indices[weights.starts[row / lanes()] + at];
    }
    float value(std::int64_t row, std::int64_t at) const {
        if (dense()) return weights.values[row * weights.columns + at];
        return weights.values[(weights.starts[row / lanes()] + at) * lanes() + row % lanes()];
    }
};

Entries single_entries(const Layer& layer, const Windows& windows) {
    const RowReader reader{layer.weights};
    const std::vector<std::int64_t> offsets = column_offsets(layer, windows);
    const std::int64_t rows_of_group = layer.weights.rows / layer.groups;
    const std::int64_t window = layer.kernel.height * layer.kernel.width;
    const std::int64_t channels_of_group = layer.weights.columns / window;
    std::vector<std::vector<Tap>> rows(layer.weights.rows);
    for (std::int64_t row = 0; row < layer.weights.rows; ++row) {
        const std::int64_t group =
            row / rows_of_group * channels_of_group * windows.channel;
        for (std::int64_t at = 0; at < reader.count(row); ++at)
            rows[row].push_back({static_cast<std::int32_t>(group + offsets[reader.column(row, at)]),
                                 reader.value(row, at)});
    }
    return sorted_entries(rows, 1, &Entries::taps);
}

Entries block_entries(const Layer& layer, const Windows& windows) {
    const RowReader reader{layer.weights};
    const std::vector<std::int64_t> offsets = column_offsets(layer, windows);
    const std::int64_t rows_of_group = layer.weights.rows / layer.groups;
    const std::int64_t window = layer.kernel.height * layer.kernel.width;
    const std::int64_t channels_of_group = layer.weights.columns / window;
    std::vector<std::vector<BlockTap>> blocks(rounded_up(layer.weights.rows, block_rows) /
                                              block_rows);
    for (std::size_t block = 0; block < blocks.size(); ++block) {
        const std::int64_t first = static_cast<std::int64_t>(block) * block_rows;
        const std::int64_t group = first / rows_of_group * channels_of_group * windows.channel;
        for (std::int64_t at = 0; at < reader.count(first); ++at) {
            BlockTap tap{};
            tap.offset = static_cast<std::int32_t>(group + offsets[reader.column(first, at)]);
            for (std::int64_t row = 0; row < block_rows && first + row < layer.weights.rows; ++row)
                tap.weights[row] = reader.value(first + row, at);
            blocks[block].push_back(tap);
        }
    }
    return sorted_entries(blocks, block_rows, &Entries::block_taps);
}

// Four rows can share loads where they read the same channels.
bool in_blocks(const Layer& layer) {
    const bool aligned = layer.groups == 1 || layer.weights.rows / layer.groups % block_rows == 0;
    return layer.weights.kind != WeightsKind::sparse && aligned;
}

std::vector<std::uint32_t> mask_of(const Layer& layer, const Windows& windows,
                                   std::int64_t positions) {
    std::vector<std::uint32_t> mask(positions, 0);
    for (std::int64_t row = 0; row < layer.sums.height; ++row)
        std::fill_n(mask.begin() + row * windows.pitch, layer.sums.width, ~std::uint32_t{0});
    return mask;
}

class Convolution final : public Step {
  public:
    explicit Convolution(const Site& site);
    void run(const Worker& worker) const noexcept override;
    double nanoseconds() const override {
        return 0.03 * static_cast<double>(stored_ * shape_.height * shape_.width);
    }
    std::int64_t room() const override { return room_; }

  private:
    void stage_channel(float* scratch, std::int64_t channel) const;
    void stage_residual(float* scratch, std::int64_t channel) const;
    void store_channel(float* scratch, std::int64_t channel) const;
    ConvolutionTask task(float* scratch) const;

    const Kernels& kernels_;
    Layout input_;
    Layout output_;
    Layout residual_;
    bool has_residual_;
    bool residual_staged_;
    bool direct_;
    bool blocks_;
    bool bias_by_position_;
    Shape shape_;  // of the sums
    Pair stride_;
    Pair padding_;
    Windows windows_;
    std::int64_t vectors_;
    std::int64_t stored_;
    std::int64_t staged_place_;
    std::int64_t residual_place_;
    std::int64_t sums_place_;
    std::int64_t rows_place_;
    std::int64_t room_ = 0;
    Entries entries_;
    std::vector<float> bias_;
    std::vector<float> scale_;
    std::vector<float> shift_;
    std::vector<std::uint32_t> mask_;
    Activation activation_;
    std::optional<Pooling> pooling_;
};

Convolution::Convolution(const Site& site)
    : kernels_(site.kernels),
      input_(site.input()),
      output_(site.output()),
      residual_(site.residual() != nullptr ? *site.residual() : Layout{}),
      has_residual_(site.residual() != nullptr),
      blocks_(in_blocks(site.layer())),
      bias_by_position_(site.layer().bias_by_position),
      shape_(site.layer().sums),
      stride_(site.layer().stride),
      padding_(site.layer().padding),
      windows_(windows_of(site.layer(), site.input())),
      vectors_((windows_.run + site.kernels.lanes - 1) / site.kernels.lanes),
      stored_(static_cast<std::int64_t>(site.layer().weights.values.size())),
      entries_(blocks_ ? block_entries(site.layer(), windows_)
                       : single_entries(site.layer(), windows_)),
      bias_(site.layer().bias),
      scale_(site.layer().epilogue.scale),
      shift_(site.layer().epilogue.shift),
      activation_(site.layer().epilogue.activation),
      pooling_(site.layer().epilogue.pooling) {
    const std::int64_t run = vectors_ * kernels_.lanes;
    // A run can be stored as it is where rows are as far apart there and its end finds room.
    direct_ = !pooling_ && output_.pitch == windows_.pitch &&
              output_.plane >= output_.origin + run;
    residual_staged_ = has_residual_ && residual_.pitch != windows_.pitch;
    if (direct_ && (output_.halo.height > 0 || output_.halo.width > 0))
        mask_ = mask_of(site.layer(), windows_, run);
    if (bias_by_position_) {
        bias_.assign(shape_.channels * run, 0.0f);
        for (std::int64_t channel = 0; channel < shape_.channels; ++channel)
            copy_plane(site.layer().bias.data() + channel * shape_.height * shape_.width,
                       shape_.width, bias_.data() + channel * run, windows_.pitch, shape_.height,
                       shape_.width);
    }
    const auto take = [&](bool wanted, std::int64_t floats) {
        const std::int64_t place = site.shared + room_;
        if (wanted) room_ += rounded_up(floats + slack, 16);
        return place;
    };
    staged_place_ = take(windows_.staged, input_.channels * windows_.channel);
    residual_place_ = take(residual_staged_, shape_.channels * run);
    sums_place_ = take(!direct_, shape_.channels * run);
    rows_place_ = take(pooling_.has_value(), shape_.channels * (shape_.width + slack));
}

// Deal one channel of the input out to its phases, with zeros where the padding is.
void Convolution::stage_channel(float* scratch, std::int64_t channel) const {
    const float* image = scratch + input_.place + channel * input_.plane + input_.origin;
    float* to = scratch + staged_place_ + channel * windows_.channel;
    std::fill_n(to, windows_.channel, 0.0f);
    for (std::int64_t down = 0; down < windows_.phases.height; ++down) {
        for (std::int64_t across = 0; across < windows_.phases.width; ++across) {
            for (std::int64_t row = 0; row < windows_.rows; ++row, to += windows_.pitch) {
                const std::int64_t y = row * stride_.height + down - padding_.height;
                if (y < 0 || y >= input_.height) continue;
                const float* from = image + y * input_.pitch;
                const std::int64_t left = padding_.width - across;
                const std::int64_t begin =
                    left > 0 ? (left + stride_.width - 1) / stride_.width : 0;
                const std::int64_t end =
                    std::min(windows_.pitch,
                             (input_.width + left + stride_.width - 1) / stride_.width);
                for (std::int64_t x = begin; x < end; ++x) to[x] = from[x * stride_.width - left];
            }
        }
    }
}

void Convolution::stage_residual(float* scratch, std::int64_t channel) const {
    copy_plane(scratch + residual_.place + channel * residual_.plane + residual_.origin,
               residual_.pitch,
               scratch + residual_place_ + channel * vectors_ * kernels_.lanes, windows_.pitch,
               shape_.height, shape_.width);
}

// Pool or copy the sums of one channel to where they belong.
void Convolution::store_channel(float* scratch, std::int64_t channel) const {
    const float* sums = scratch + sums_place_ + channel * vectors_ * kernels_.lanes;
    float* to = scratch + output_.place + channel * output_.plane + output_.origin;
    const bool halo = output_.halo.height > 0 || output_.halo.width > 0;
    if (!pooling_) {
        if (halo) clear_around(output_, scratch, channel);
        copy_plane(sums, windows_.pitch, to, output_.pitch, shape_.height, shape_.width);
        return;
    }
    if (halo) clear_edges(output_, scratch, channel);
    PoolTask task = pool_task(*pooling_, shape_, windows_.pitch, output_);
    task.row = scratch + rows_place_ + channel * (shape_.width + slack);
    kernels_.pool(task, sums, to);
}

ConvolutionTask Convolution::task(float* scratch) const {
    const std::int64_t run = vectors_ * kernels_.lanes;
    ConvolutionTask task{};
    task.input = scratch + (windows_.staged ? staged_place_ : input_.place + windows_.first);
    task.output = scratch + (direct_ ? output_.place + output_.origin : sums_place_);
    task.output_plane = direct_ ? output_.plane : run;
    if (!bias_.empty() && !bias_by_position_) task.bias = bias_.data();
    if (bias_by_position_) task.bias_map = bias_.data();
    task.bias_map_plane = run;
    if (has_residual_) {
        task.residual = scratch + (residual_staged_ ? residual_place_
                                                    : residual_.place + residual_.origin);
        task.residual_plane = residual_staged_ ? run : residual_.plane;
    }
    task.mask = mask_.empty() ? nullptr : mask_.data();
    task.vectors = vectors_;
    task.order = entries_.order.data();
    task.starts = entries_.starts.data();
    task.taps = entries_.taps.data();
    task.block_taps = entries_.block_taps.data();
    task.channels = shape_.channels;
    task.finish = {activation_.kind, activation_.alpha, scale_.empty() ? nullptr : scale_.data(),
                   shift_.empty() ? nullptr : shift_.data()};
    return task;
}

void Convolution::run(const Worker& worker) const noexcept {
    float* const scratch = worker.scratch;
    if (windows_.staged) {
        const Range channels = worker.part(input_.channels);
        for (std::int64_t channel = channels.first; channel < channels.last; ++channel)
            stage_channel(scratch, channel);
        worker.wait_for_all();
    }
    const Range entries = worker.part_by_cost(entries_.starts);
    const std::int64_t lanes = blocks_ ? block_rows : 1;
    const auto each_channel = [&](auto visit) {
        for (std::int64_t entry = entries.first; entry < entries.last; ++entry)
            for (std::int64_t row = 0; row < lanes; ++row)
                if (entries_.order[entry] + row < shape_.channels)
                    visit(entries_.order[entry] + row);
    };
    if (residual_staged_)
        each_channel([&](std::int64_t channel) { stage_residual(scratch, channel); });
    if (!mask_.empty())
        each_channel([&](std::int64_t channel) { clear_edges(output_, scratch, channel); });
    (blocks_ ? kernels_.convolve_blocks : kernels_.convolve)(task(scratch), entries.first,
                                                             entries.last);
    if (!direct_) each_channel([&](std::int64_t channel) { store_channel(scratch, channel); });
}

}  // namespace

std::unique_ptr<Step> make_convolution(const Site& site) {
    return std::make_unique<Convolution>(site);
}

}  // namespace gossamer::single
